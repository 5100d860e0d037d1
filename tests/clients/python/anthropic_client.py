"""keygate with Anthropic's library: the host is enough, the paths are the same.

Current versions send `Authorization: Bearer` whether the token is given as `api_key` or as
`auth_token`; older ones sent `x-api-key` for the first. keygate takes either.

Environment: KEYGATE_URL (such as http://127.0.0.1:8080), KEYGATE_TOKEN.
Prints one line of JSON: what came back.
"""

import json
import os

import anthropic

url, token = os.environ["KEYGATE_URL"], os.environ["KEYGATE_TOKEN"]
MODEL = "claude-sonnet-5-5"
results = {}

for way, client in {
    "api_key": anthropic.Anthropic(base_url=url, api_key=token),
    "auth_token": anthropic.Anthropic(base_url=url, auth_token=token),
}.items():
    # Plain.
    message = client.messages.create(
        model=MODEL,
        max_tokens=100,
        messages=[{"role": "user", "content": f"anthropic plain {way}"}],
    )
    # Streaming.
    with client.messages.stream(
        model=MODEL,
        max_tokens=100,
        messages=[{"role": "user", "content": f"anthropic streaming {way}"}],
    ) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    results[way] = {
        "message": message.content[0].text,
        "tokens": message.usage.output_tokens,
        "stream": "".join(pieces),
        "stream_pieces": len(pieces),
        "stream_tokens": final.usage.output_tokens,
        "stream_stop": final.stop_reason,
    }

results["api_version"] = client.default_headers["anthropic-version"]
results["models"] = [model.id for model in client.models.list()]

print(json.dumps(results))
