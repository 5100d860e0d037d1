"""An app's server with OpenAI's library: a client secret for a browser, minted by keygate.

The server holds a proxy token that may mint. What comes back goes to the page, which opens its own
realtime session with it: see converse() in tests/browser/app.js.

Environment: KEYGATE_URL (such as http://127.0.0.1:8080), KEYGATE_TOKEN.
Prints one line of JSON: what the page is given.
"""

import json
import os

import openai

client = openai.OpenAI(
    base_url=os.environ["KEYGATE_URL"] + "/v1", api_key=os.environ["KEYGATE_TOKEN"]
)
secret = client.realtime.client_secrets.create(
    expires_after={"anchor": "created_at", "seconds": 120},
    session={"type": "realtime", "model": "gpt-realtime", "output_modalities": ["text"]},
)
print(
    json.dumps(
        {
            "value": secret.value,
            "expires_at": secret.expires_at,
            "type": secret.session.type,
            "model": secret.session.model,
            "output_modalities": secret.session.output_modalities,
        }
    )
)
