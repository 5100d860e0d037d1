"""wrk: runs it, reads its report, accepts no failed request."""

import dataclasses
import json
import os
import subprocess

from . import request, settings
from .process import Failed, pinned


@dataclasses.dataclass(frozen=True)
class Report:
    """What `wrk/post.lua` prints."""

    requests: int
    duration_us: int
    p50_us: int
    p99_us: int
    refused: int
    connect: int
    read: int
    write: int
    timeout: int

    @property
    def rate(self):
        """Requests per second."""
        return self.requests * 1e6 / self.duration_us

    @property
    def failed(self):
        """Answers above 399, and socket errors of all sorts."""
        return self.refused + self.connect + self.read + self.write + self.timeout


def start(address, token, connections, seconds, pause_ms=None):
    """Starts it in the background."""
    url = f"http://{address}{request.PATH}"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
    command += ["-s", settings.LOAD / "wrk" / "post.lua", url]
    env = {**os.environ, "BENCH_TOKEN": token, "BENCH_ORIGIN": settings.ORIGIN}
    if pause_ms is not None:
        env["BENCH_PAUSE_MS"] = str(pause_ms)
    return subprocess.Popen(
        pinned(settings.LOAD_CORE, command),
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(process):
    """Waits for its report."""
    try:
        output, _ = process.communicate()
    finally:
        process.kill()
    for line in output.splitlines():
        if line.startswith("REPORT "):
            return Report(**json.loads(line.removeprefix("REPORT ")))
    raise Failed(f"wrk gave no report:\n{output}")


def run(name, address, token, connections, seconds):
    """One run in which every request must have succeeded."""
    report = finish(start(address, token, connections, seconds))
    if report.failed or not report.requests:
        raise Failed(f"{name} with {connections} connections: failed requests: {report}")
    return report
