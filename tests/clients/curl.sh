#!/usr/bin/env bash
# keygate with curl, where nothing but the address can be changed: the token as ?key=.
#
# Environment: KEYGATE_URL (such as http://127.0.0.1:8080), KEYGATE_TOKEN.
# Prints one line of JSON: what came back. Fails if anything is amiss.
set -euo pipefail

models=$KEYGATE_URL/v1beta/models
json='content-type: application/json'
said() { printf '{"contents":[{"role":"user","parts":[{"text":"%s"}]}]}' "$1"; }

# Plain.
plain=$(curl -sS --fail-with-body -H "$json" -d "$(said 'curl plain')" \
    "$models/gemini-2.5-flash:generateContent?key=$KEYGATE_TOKEN")

# Streaming (-N: print what comes as it comes). Other parameters stay what they are.
stream=$(curl -sSN --fail-with-body -H "$json" -d "$(said 'curl streaming')" \
    "$models/gemini-2.5-flash:streamGenerateContent?alt=sse&key=$KEYGATE_TOKEN")

# A token that keygate does not know.
denied=$(curl -sS -o /dev/null -w '%{http_code} %header{x-keygate-error}' \
    "$models?key=ptk_nobody_has_this_token")

# From here on nothing is about keygate: one line of JSON out of what was received.
PLAIN=$plain STREAM=$stream DENIED=$denied python3 - <<'EOP'
import json, os

def text(answer):
    return answer["candidates"][0]["content"]["parts"][0]["text"]

chunks = [
    json.loads(line.removeprefix("data: "))
    for line in os.environ["STREAM"].splitlines()
    if line.startswith("data: ")
]
status, _, error = os.environ["DENIED"].partition(" ")
print(json.dumps({
    "content": text(json.loads(os.environ["PLAIN"])),
    "stream": "".join(map(text, chunks)),
    "stream_pieces": len(chunks),
    "denied": {"status": int(status), "error": error},
}))
EOP
