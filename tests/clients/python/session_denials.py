"""What keygate's refusals become in sessions over a WebSocket: the exceptions to expect.

    session_denials.py openai|responses|gemini|websockets

Before the session is open a refusal is an HTTP status, afterwards a close code.
Environment: KEYGATE_URL, KEYGATE_TOKENS (JSON: what each token of the cases below is).
Prints one line of JSON: by case, the exception's class, its status or close code, its message.
"""

import asyncio
import contextlib
import json
import os
import sys

URL, TOKENS = os.environ["KEYGATE_URL"], json.loads(os.environ["KEYGATE_TOKENS"])

# Case: whose token, what is put before the path, what is said.
CASES = {
    "401": ("nobody", "", "hello"),
    "403": ("other_model", "", "hello"),
    "404": ("any", "/nowhere", "hello"),
    # The socket is open when the message turns out to be too big.
    "413": ("unscoped", "", "long " * 40_000),
    # The second session is one too many.
    "429": ("one_at_a_time", "", "hello"),
    "502": ("unscoped", "/{}-rejects", "hello"),
}


@contextlib.asynccontextmanager
async def openai(url, token):
    """A realtime session by OpenAI's library."""
    import openai

    client = openai.AsyncOpenAI(base_url=url + "/v1", api_key=token)
    async with client.realtime.connect(model="gpt-realtime") as connection:
        await connection.recv()

        async def say(text):
            part = {"type": "input_text", "text": text}
            item = {"type": "message", "role": "user", "content": [part]}
            await connection.conversation.item.create(item=item)
            await connection.recv()

        yield say


@contextlib.asynccontextmanager
async def responses(url, token):
    """Responses over a WebSocket by OpenAI's library."""
    import openai

    client = openai.AsyncOpenAI(base_url=url + "/v1", api_key=token)
    async with client.responses.connect() as connection:

        async def say(text):
            await connection.response.create(model="gpt-4o-mini", input=text)
            await connection.recv()

        yield say


@contextlib.asynccontextmanager
async def gemini(url, token):
    """A Live session by Google's library."""
    from google import genai

    client = genai.Client(api_key=token, http_options={"base_url": url})
    config = {"response_modalities": ["TEXT"]}
    async with client.aio.live.connect(model="gemini-2.5-flash", config=config) as session:

        async def say(text):
            await session.send_realtime_input(text=text)
            async for _ in session.receive():
                break

        yield say


@contextlib.asynccontextmanager
async def websockets(url, token):
    """A realtime session without OpenAI's library."""
    from websockets.asyncio.client import connect

    url = url.replace("http", "ws", 1) + "/v1/realtime?model=gpt-realtime"
    headers = {"Authorization": f"Bearer {token}"}
    async with connect(url, additional_headers=headers) as socket:
        await socket.recv()

        async def say(text):
            await socket.send(json.dumps({"type": "session.update", "session": {"x": text}}))
            await socket.recv()

        yield say


async def main(name):
    """Prints what came of every case."""
    clients = {
        "openai": openai, "responses": responses, "gemini": gemini, "websockets": websockets
    }
    connect = clients[name]
    vendor = "gemini" if name == "gemini" else "openai"
    results = {}
    for case, (token, prefix, text) in CASES.items():
        async with contextlib.AsyncExitStack() as open_sessions:
            if case == "429":
                await open_sessions.enter_async_context(connect(URL, TOKENS[token]))
            try:
                async with connect(URL + prefix.format(vendor), TOKENS[token]) as say:
                    await say(text)
                results[case] = {"class": None}
            except Exception as error:
                results[case] = described(error)
    print(json.dumps(results))


def described(error):
    """The class, what was answered or how the session was closed, and the message."""
    response, close = getattr(error, "response", None), getattr(error, "rcvd", None)
    answered = getattr(response, "status_code", None) or getattr(close, "code", None)
    return {
        "class": type(error).__name__,
        "status": answered or getattr(error, "code", None),
        "message": str(error),
        "error": response.headers.get("x-keygate-error") if response else None,
    }


asyncio.run(main(sys.argv[1]))
