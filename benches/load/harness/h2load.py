"""h2load: runs it, reads its report, accepts no failed request."""

import re
import subprocess

from . import request, settings
from .process import Failed, pinned

REQUESTS = re.compile(r"^requests: (\d+) total, .* (\d+) succeeded, (\d+) failed", re.MULTILINE)
STATUS = re.compile(r"^status codes: (\d+) 2xx", re.MULTILINE)
PROTOCOL = re.compile(r"^Application protocol: h2$", re.MULTILINE)

# Requests by which the speed is found out.
WARM = 2_000


def run(name, address, token, seconds, body):
    """How many requests were answered in about that time; each must have succeeded."""
    # By number, not by time: what is under way at the end of a time counts as failed.
    warm = _run(name, address, token, WARM, body)
    count = max(WARM, int(WARM / warm * seconds))
    took = _run(name, address, token, count, body)
    return count, took


def _run(name, address, token, count, body):
    command = ["h2load", "-t1", f"-c{settings.H2_CONNECTIONS}", f"-m{settings.H2_STREAMS}"]
    command += [f"-n{count}", "-d", body, "-H", "content-type: application/json"]
    command += ["-H", f"authorization: Bearer {token}", "-H", f"origin: {settings.ORIGIN}"]
    command += [f"https://{address}{request.PATH}"]
    command = pinned(settings.LOAD_CORE, command)
    output = subprocess.run(command, capture_output=True, text=True).stdout
    requests, status = REQUESTS.search(output), STATUS.search(output)
    if not requests or not status or not PROTOCOL.search(output):
        raise Failed(f"{name}: h2load gave no report:\n{output}")
    if not int(requests[2]) == int(status[1]) == count:
        raise Failed(f"{name}: failed requests:\n{output}")
    finished = re.search(r"^finished in ([\d.]+)(ms|s|us),", output, re.MULTILINE)
    return float(finished[1]) * {"s": 1, "ms": 1e-3, "us": 1e-6}[finished[2]]
