"""What keygate's refusals become in Decart's library: the exceptions to expect and to handle.

Over HTTP the library never retries. A realtime session that is refused is tried five times in all,
unless the refusal is a 401; here without the pauses between the tries. Its error then holds the
session's address, and the log of the library does: whoever keeps either keeps the token in it.

Environment: KEYGATE_URL, KEYGATE_TOKENS (JSON: what each token of the cases below is).
Prints one line of JSON: by case, the exception's class, the status it tells and its message.
"""

import asyncio
import json
import logging
import os
import re
import sys
import types
from unittest.mock import MagicMock

URL, TOKENS = os.environ["KEYGATE_URL"], json.loads(os.environ["KEYGATE_TOKENS"])


class Room:
    """Stands for LiveKit's room: connecting succeeds, nothing is carried."""

    def on(self, _event):
        return lambda handler: handler

    async def connect(self, *_place):
        pass

    async def disconnect(self):
        pass


livekit = types.ModuleType("livekit")
livekit.rtc = MagicMock(Room=Room)
sys.modules["livekit"] = livekit

from decart import DecartClient, models  # noqa: E402
from decart.realtime import RealtimeClient, RealtimeConnectOptions  # noqa: E402
from decart.realtime.livekit_manager import LiveKitManager  # noqa: E402


async def at_once(_seconds):
    pass


LiveKitManager.connect.retry.sleep = at_once
logging.disable()


def connect(token, provider="decart"):
    return DecartClient(
        api_key=TOKENS[token],
        base_url=f"{URL}/{provider}",
        realtime_base_url=f"{URL}/{provider}".replace("http", "ws", 1),
    )


async def image(token, provider="decart", data=b"pixels"):
    async with connect(token, provider) as client:
        asked = {"model": models.image("lucy-image-2"), "prompt": "hello", "data": data}
        await client.process(asked)


async def twice(token):
    await image(token)
    await image(token)


async def submit(token):
    async with connect(token) as client:
        asked = {"model": models.video("lucy-2.5"), "prompt": "hello", "data": b"frames"}
        await client.queue.submit(asked)


async def status(token):
    async with connect(token) as client:
        await client.queue.status("job_1")


async def mint(token, **asked):
    async with connect(token) as client:
        await client.tokens.create(**asked)


async def session(token, provider="decart"):
    client = connect(token, provider)
    options = RealtimeConnectOptions(model=models.realtime("lucy-2.5"), on_remote_stream=print)
    return await RealtimeClient.connect(
        base_url=client.realtime_base_url,
        api_key=client.api_key,
        local_track=None,
        options=options,
    )


async def second_session(token):
    first = await session(token)
    try:
        await session(token)
    finally:
        await first.disconnect()


async def long_message(token):
    realtime = await session(token)
    try:
        await realtime.set_prompt("long " * 40_000)
    finally:
        await realtime.disconnect()


CASES = {
    "401": lambda: image("nobody"),
    "403": lambda: image("other_model"),
    "404": lambda: image("any", "nowhere"),
    "413": lambda: image("any", data=b"long " * 400_000),
    "429": lambda: twice("once_a_minute"),
    "502, key rejected": lambda: image("any", "decart-rejects"),
    "502, connection cut": lambda: image("any", "decart-drops"),
    "502, unreachable": lambda: image("any", "decart-gone"),
    "submit": lambda: submit("other_model"),
    "status": lambda: status("any"),
    "mint, not allowed": lambda: mint("any"),
    "mint, out of range": lambda: mint("minter", expires_in=0),
    "mint, wrong origin": lambda: mint("minter", allowed_origins=["https://app.test/path"]),
    "session, 401": lambda: session("nobody"),
    "session, 403": lambda: session("other_model"),
    "session, 404": lambda: session("any", "nowhere"),
    "session, too big": lambda: long_message("any"),
    "session, 429": lambda: second_session("one_at_a_time"),
    "session, 502": lambda: session("any", "decart-rejects"),
}


async def main():
    results = {}
    for case, attempt in CASES.items():
        try:
            await attempt()
            results[case] = {"class": None}
        except Exception as error:
            told = re.search(r"\b([45]\d\d)\b", str(error))
            results[case] = {
                "class": type(error).__name__,
                "status": int(told[1]) if told else None,
                # What the library goes by, wherever in the text it is.
                "final": "401" in str(error),
                "message": re.sub("api_key=[^&]*", "api_key=", str(error)),
            }
    print(json.dumps(results))


asyncio.run(main())
