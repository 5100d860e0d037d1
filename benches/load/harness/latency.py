"""First SSE event and WebSocket echo, through each target in turn, by the peer's own client."""

import json
import os
import subprocess

from . import build, keygate, passthrough, settings
from .process import Failed, Group, pinned


def measure(state):
    """`{target: {"first_event"|"transit"|"echo": {"p50_us", "p99_us", "count"}}}`"""
    with Group(state) as group:
        upstream = passthrough.start_streaming_upstream(group)
        targets = [f"direct={upstream}"]
        token = "not-looked-at"
        if "pingora-tuned" in settings.TARGETS:
            _, address = passthrough.start(group, "pingora-tuned", upstream)
            targets.append(f"pingora-tuned={address}")
        if "keygate" in settings.TARGETS:
            gateway = keygate.Gateway(group, upstream, upstream)
            token = gateway.token
            targets.append(f"keygate={gateway.address}/streaming")
        command = [build.DEFAULT_PEER, "latency", settings.STREAMS, *targets]
        env = {**os.environ, "BENCH_TOKEN": token, "BENCH_ORIGIN": settings.ORIGIN}
        done = subprocess.run(
            pinned(settings.LOAD_CORE, command), env=env, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise Failed(f"the latency client: {done.stderr.strip()}")
        return json.loads(done.stdout)
