"""keygate with OpenAI's library: change the base URL, give the token instead of the key.

Environment: KEYGATE_URL (such as http://127.0.0.1:8080), KEYGATE_TOKEN.
Prints one line of JSON: what came back.
"""

import json
import os

import openai

client = openai.OpenAI(
    base_url=os.environ["KEYGATE_URL"] + "/v1", api_key=os.environ["KEYGATE_TOKEN"]
)
MODEL = "gpt-4o-mini"
results = {}

# Chat, plain.
completion = client.chat.completions.create(
    model=MODEL, messages=[{"role": "user", "content": "openai plain chat"}]
)
results["chat"] = completion.choices[0].message.content
results["chat_tokens"] = completion.usage.total_tokens

# Chat, streaming, with the usage at the end.
pieces = []
stream = client.chat.completions.create(
    model=MODEL,
    messages=[{"role": "user", "content": "openai streaming chat"}],
    stream=True,
    stream_options={"include_usage": True},
)
for chunk in stream:
    if chunk.choices:
        pieces.append(chunk.choices[0].delta.content or "")
    if chunk.usage:
        results["chat_stream_tokens"] = chunk.usage.total_tokens
results["chat_stream"] = "".join(pieces)
results["chat_stream_pieces"] = len([piece for piece in pieces if piece])

# Responses, plain and streaming.
response = client.responses.create(model=MODEL, input="openai plain response")
results["response"] = response.output_text

with client.responses.stream(model=MODEL, input="openai streaming response") as events:
    kinds = [event.type for event in events]
    results["response_stream"] = events.get_final_response().output_text
results["response_stream_ends"] = [kinds[0], kinds[-1]]

# The models that may be used.
results["models"] = [model.id for model in client.models.list()]

print(json.dumps(results))
