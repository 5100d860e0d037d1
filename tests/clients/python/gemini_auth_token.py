"""google-genai with keygate: an app's server mints an auth token, a device opens Live with it.

The server holds a proxy token that may mint; the device has the token's name and nothing else.

Arguments: a model to bind the token to, if it is to be bound.
Environment: KEYGATE_URL (such as https://127.0.0.1:8443), KEYGATE_TOKEN.
Prints one line of JSON: the token, what came back, and what a second session got.
"""

import asyncio
import datetime
import json
import os
import sys
import warnings

from google import genai
from google.genai import types

# The library calls all of this experimental.
warnings.simplefilter("ignore")
OPTIONS = types.HttpOptions(base_url=os.environ["KEYGATE_URL"], api_version="v1alpha")


async def live(client, model="gemini-2.5-flash"):
    config = {"response_modalities": ["TEXT"]}
    async with client.aio.live.connect(model=model, config=config) as session:
        said = types.Content(role="user", parts=[types.Part(text="an auth token")])
        await session.send_client_content(turns=said, turn_complete=True)
        pieces = []
        async for message in session.receive():
            if message.text:
                pieces.append(message.text)
    return {"text": "".join(pieces), "pieces": len(pieces)}


async def refused(client):
    try:
        await live(client)
    except Exception as error:  # What it is, differs between the versions of what is below.
        return getattr(getattr(error, "response", None), "status_code", None) or str(error)


async def main():
    server = genai.Client(api_key=os.environ["KEYGATE_TOKEN"], http_options=OPTIONS)
    now = datetime.datetime.now(tz=datetime.timezone.utc)
    bound = {"live_connect_constraints": {"model": model} for model in sys.argv[1:]}
    token = server.auth_tokens.create(
        config={
            "uses": 1,
            "expire_time": now + datetime.timedelta(minutes=20),
            "new_session_expire_time": now + datetime.timedelta(minutes=2),
            **bound,
        }
    )
    device = genai.Client(api_key=token.name, http_options=OPTIONS)
    results = {"name": token.name, "live": await live(device), "again": await refused(device)}
    print(json.dumps(results))


asyncio.run(main())
