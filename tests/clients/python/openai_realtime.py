"""keygate with OpenAI's library: realtime, and responses over a WebSocket.

The library makes the WebSocket's address of the base URL: https:// becomes wss://. A test CA is
named with SSL_CERT_FILE, as for everything in Python.

Environment: KEYGATE_URL (such as http://127.0.0.1:8080), KEYGATE_TOKEN.
Prints one line of JSON: what came back.
"""

import json
import os

import openai

client = openai.OpenAI(
    base_url=os.environ["KEYGATE_URL"] + "/v1", api_key=os.environ["KEYGATE_TOKEN"]
)
results = {}

# Realtime: the model is in the URL.
with client.realtime.connect(model="gpt-realtime") as connection:
    connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
    connection.conversation.item.create(
        item={
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "openai realtime"}],
        }
    )
    connection.response.create()
    pieces = []
    for event in connection:
        if event.type == "response.output_text.delta":
            pieces.append(event.delta)
        elif event.type == "response.done":
            break
        elif event.type == "error":
            raise RuntimeError(event.error.message)
results["realtime"] = {"text": "".join(pieces), "pieces": len(pieces)}

# Responses: the model is in every message.
with client.responses.connect() as connection:
    connection.response.create(model="gpt-4o-mini", input="openai responses socket")
    pieces = []
    for event in connection:
        if event.type == "response.output_text.delta":
            pieces.append(event.delta)
        elif event.type == "response.completed":
            break
        elif event.type == "error":
            raise RuntimeError(event.error.message)
results["responses"] = {"text": "".join(pieces), "pieces": len(pieces)}

print(json.dumps(results))
