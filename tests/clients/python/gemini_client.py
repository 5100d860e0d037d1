"""keygate with Google's library (google-genai): set the base URL, give the token as the key.

The host alone is enough to generate. The list of models has the same path as OpenAI's in the
version of the API that the library asks for, `/v1/models`: the prefix `/gemini` says whose is meant.

Environment: KEYGATE_URL (such as http://127.0.0.1:8080), KEYGATE_TOKEN.
Prints one line of JSON: what came back.
"""

import json
import os

from google import genai
from google.genai import types

MODEL = "gemini-2.5-flash"
results = {}


def connect(token, prefix=""):
    """A client of keygate with this token."""
    options = types.HttpOptions(base_url=os.environ["KEYGATE_URL"] + prefix)
    return genai.Client(api_key=token, http_options=options)


token = os.environ["KEYGATE_TOKEN"]
client = connect(token)

# Plain.
answer = client.models.generate_content(model=MODEL, contents="gemini plain")
results["content"] = answer.text
results["tokens"] = answer.usage_metadata.total_token_count

# Streaming.
pieces = [
    chunk.text
    for chunk in client.models.generate_content_stream(model=MODEL, contents="gemini streaming")
]
results["stream"] = "".join(pieces)
results["stream_pieces"] = len(pieces)

# The models that may be used.
prefixed = connect(token, "/gemini")
results["models"] = [model.name for model in prefixed.models.list()]

print(json.dumps(results))
