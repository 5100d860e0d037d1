"""Builds, measures part by part, and writes target/bench/report.md.

The exit status says whether everything could be measured; whether the figures are what they must
be, the report says.
"""

import json
import pathlib
import shutil
import signal
import sys
import tempfile

from . import build, http2, inspection, latency, load, machine, memory, reload, report
from . import sessions, settings, streams
from .process import Failed

PARTS = {
    "load": load.measure,
    "http2": http2.measure,
    "latency": latency.measure,
    "streams": streams.measure,
    "bodies": inspection.bodies,
    "sockets": inspection.sockets,
    "memory": memory.measure,
    "reload": reload.measure,
    "sessions": sessions.measure,
}
# These look at keygate alone.
NEED_KEYGATE = ("bodies", "sockets", "memory", "reload", "sessions")


def main():
    machine.check()
    if any(name not in NEED_KEYGATE for name in settings.PARTS):
        build.peers()
    if {"keygate", "keygate-jwt"} & set(settings.TARGETS):
        build.keygate()
    results = {}
    for name in settings.PARTS:
        if name in NEED_KEYGATE and "keygate" not in settings.TARGETS:
            continue
        print(f"== {name}", flush=True)
        # Short, because a socket lives in it, and its path is limited to 107 bytes.
        state = pathlib.Path(tempfile.mkdtemp(prefix="keygate-bench-"))
        try:
            results[name] = PARTS[name](state)
        finally:
            shutil.rmtree(state, ignore_errors=True)
    text = report.render(machine.facts(), results)
    settings.OUT.mkdir(parents=True, exist_ok=True)
    (settings.OUT / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (settings.OUT / "report.md").write_text(text)
    print(f"\n{text}\nThis is {settings.OUT / 'report.md'}; every sample: results.json beside it.")


def stop(number, _frame):
    """Turns a signal into an exception, so that everything started is stopped."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        main()
    except Failed as failure:
        sys.exit(f"bench: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
