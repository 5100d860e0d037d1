"""keygate with Google's library (google-genai): Live, sessions over a WebSocket.

The library makes the WebSocket's address of the base URL: https:// becomes wss://. A test CA is
named with SSL_CERT_FILE, as for everything in Python. The model is in the first message.

Environment: KEYGATE_URL (such as http://127.0.0.1:8080), KEYGATE_TOKEN.
Prints one line of JSON: what came back.
"""

import asyncio
import json
import os

from google import genai
from google.genai import types


async def main():
    client = genai.Client(
        api_key=os.environ["KEYGATE_TOKEN"],
        http_options=types.HttpOptions(base_url=os.environ["KEYGATE_URL"]),
    )
    results = {}
    config = {"response_modalities": ["TEXT"]}
    async with client.aio.live.connect(model="gemini-2.5-flash", config=config) as session:
        said = types.Content(role="user", parts=[types.Part(text="gemini live")])
        await session.send_client_content(turns=said, turn_complete=True)
        pieces = []
        async for message in session.receive():
            if message.text:
                pieces.append(message.text)
    results["live"] = {"text": "".join(pieces), "pieces": len(pieces)}
    print(json.dumps(results))


asyncio.run(main())
