"""keygate with `websockets`: OpenAI's realtime sessions without OpenAI's library.

A program puts the token into the Authorization header. Where no header can be set it goes into a
subprotocol, either the one that OpenAI's own library for browsers uses, or keygate's.

Environment: KEYGATE_URL (such as http://127.0.0.1:8080), KEYGATE_TOKEN.
Prints one line of JSON: what came back.
"""

import json
import os

from websockets.sync.client import connect

url = os.environ["KEYGATE_URL"].replace("http", "ws", 1) + "/v1/realtime?model=gpt-realtime"
token = os.environ["KEYGATE_TOKEN"]


def converse(text, **how):
    """Opens a session, says one thing, gives what was chosen and what was answered."""
    said = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    with connect(url, **how) as socket:
        socket.send(json.dumps({"type": "conversation.item.create", "item": said}))
        socket.send(json.dumps({"type": "response.create"}))
        pieces = []
        for message in socket:
            event = json.loads(message)
            if event["type"] == "response.output_text.delta":
                pieces.append(event["delta"])
            elif event["type"] == "response.done":
                break
    return {
        "protocol": socket.subprotocol,
        "text": "".join(pieces),
        "pieces": len(pieces),
        "total_tokens": event["response"]["usage"]["total_tokens"],
        "close": socket.close_code,
    }


print(
    json.dumps(
        {
            "header": converse(
                "header",
                additional_headers={"Authorization": f"Bearer {token}"},
                subprotocols=["realtime"],
            ),
            "openai_subprotocol": converse(
                "openai subprotocol", subprotocols=["realtime", f"openai-insecure-api-key.{token}"]
            ),
            "keygate_subprotocol": converse(
                "keygate subprotocol", subprotocols=["keygate", f"keygate.{token}"]
            ),
        }
    )
)
