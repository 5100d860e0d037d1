"""keygate with Decart's library: an image, a video job, client tokens and a realtime session.

Decart answers at the provider's name: its paths are OpenAI's otherwise. A client token has inference
alone: jobs are asked after by whoever has a token for that.

Realtime media goes over LiveKit, beside the gateway. Here its library is left out: what matters is
the signalling, which passes.

Environment: KEYGATE_URL (such as http://127.0.0.1:8080), KEYGATE_TOKEN, KEYGATE_MINTER (a token that
may mint), KEYGATE_ISSUER (`client_tokens.issuer`).
Prints one line of JSON: what came back.
"""

import asyncio
import json
import os
import sys
import types
from unittest.mock import MagicMock

URL, ISSUER = os.environ["KEYGATE_URL"], os.environ["KEYGATE_ISSUER"]


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


def connect(token):
    """A client of keygate with this token."""
    return DecartClient(
        api_key=token,
        base_url=f"{URL}/decart",
        realtime_base_url=f"{URL}/decart".replace("http", "ws", 1),
    )


async def session(token, model):
    """A realtime session: opened, spoken to, closed."""
    client = connect(token)
    options = RealtimeConnectOptions(model=models.realtime(model), on_remote_stream=print)
    realtime = await RealtimeClient.connect(
        base_url=client.realtime_base_url,
        api_key=client.api_key,
        local_track=None,
        options=options,
    )
    ticks = asyncio.Queue()
    realtime.on("generation_tick", ticks.put_nowait)
    await realtime.set_prompt("decart realtime")
    tick = await ticks.get()
    await realtime.disconnect()
    return {"session_id": realtime.session_id, "seconds": tick.seconds}


async def main():
    results = {}
    async with connect(os.environ["KEYGATE_TOKEN"]) as client:
        # An image, at once.
        image = await client.process(
            {"model": models.image("lucy-image-2"), "prompt": "decart image", "data": b"pixels"}
        )
        results["image"] = image.decode()

        # A video, in a job.
        asked = {"model": models.video("lucy-2.5"), "prompt": "decart job", "data": b"frames"}
        job = await client.queue.submit(asked)
        status = await client.queue.status(job.job_id)
        result = await client.queue.result(job.job_id)
        results["job"] = [job.job_id, job.status, status.status, result.decode()]

    async with connect(os.environ["KEYGATE_MINTER"]) as server:
        # A token without any option, one for each option, and one with all of them.
        minted = {
            "plain": {},
            "expiry": {"expires_in": 120},
            "models": {"allowed_models": ["lucy-2.5"]},
            "origins": {"allowed_origins": ["https://app.test"]},
            "length": {"constraints": {"realtime": {"maxSessionDuration": 300}}},
            "metadata": {"metadata": {"role": "viewer"}},
        }
        minted["all"] = {name: value for one in minted.values() for name, value in one.items()}
        tokens = {name: await server.tokens.create(**asked) for name, asked in minted.items()}
        results["tokens"] = {name: token.model_dump() for name, token in tokens.items()}

        # Anybody can verify the signed form.
        claims = await server.tokens.verify(
            tokens["all"].token,
            jwks_url=f"{URL}/.well-known/jwks.json",
            issuer=ISSUER,
            audience=ISSUER,
        )
        results["verified"] = {
            "models": claims.allowed_models,
            "origins": claims.allowed_origins,
            "constraints": claims.constraints,
            "metadata": claims.claims["metadata"],
        }

    # The browser's part, with either form.
    for form in ["api_key", "token"]:
        token = getattr(tokens["models"], form)
        results[f"session by {form}"] = await session(token, "lucy-2.5")
    print(json.dumps(results))


asyncio.run(main())
