"""keygate with Google's library (google-genai): a file in a resumable upload.

The address of the upload's second leg comes from the provider; keygate leads it back to itself, with
a ticket in it that is good for this upload alone.

Environment: KEYGATE_URL (such as http://127.0.0.1:8080), KEYGATE_TOKEN.
Prints one line of JSON: what came back.
"""

import io
import json
import os

from google import genai

client = genai.Client(
    api_key=os.environ["KEYGATE_TOKEN"],
    http_options={"base_url": os.environ["KEYGATE_URL"]},
)

# More than the library sends at once.
content = io.BytesIO(b"0123456789" * 900_000)
file = client.files.upload(file=content, config={"mime_type": "text/plain"})

answer = client.models.generate_content(
    model="gemini-2.5-flash", contents=[file, "what is in it"]
)
print(json.dumps({"size": file.size_bytes, "state": file.state.name, "content": answer.text}))
