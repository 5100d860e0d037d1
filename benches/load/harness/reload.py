"""Reloads of many static tokens while requests pass: how long, and does one fail?"""

import re
import time

from . import keygate, nginx, request, settings, wrk
from .process import Failed, Group

CONNECTIONS = 16
PAUSE_MS = 15  # sixteen connections at this pace ask about a thousand times a second
BETWEEN_SECONDS = 2
_PARSED = re.compile(r"pars\w*\D{0,20}?([\d.]+)\s*(µs|us|ms|s)\b")
_MS = {"µs": 0.001, "us": 0.001, "ms": 1, "s": 1000}


def measure(state):
    """Parsing and whole reloads in milliseconds, requests passed and failed."""
    with Group(state) as group:
        upstream = nginx.start_upstream(group)
        gateway = keygate.Gateway(group, upstream, upstream, _tokens(0))
        request.expect("keygate, before the reload", gateway.address, _marker(0), 200)
        seconds = BETWEEN_SECONDS * (settings.RELOADS + 1)
        load = wrk.start(gateway.address, gateway.token, CONNECTIONS, seconds, PAUSE_MS)
        parsed, whole = [], []
        try:
            for number in range(1, settings.RELOADS + 1):
                time.sleep(BETWEEN_SECONDS)
                gateway.write_config(_tokens(number))
                took, output = gateway.reload()
                whole.append(took * 1000)
                parsed.append(_parsed_ms(output))
                _prove_in_effect(gateway, number)
            report = wrk.finish(load)
        finally:
            load.kill()
        return {
            "tokens": settings.STATIC_TOKENS,
            "parsed_ms": parsed,
            "whole_ms": whole,
            "requests": report.requests,
            "rate": report.rate,
            "failed": report.failed,
            "p99_us": report.p99_us,
        }


def _tokens(number):
    """The same tokens each time, but for one."""
    same = [f"ptk_{n:032}" for n in range(1, settings.STATIC_TOKENS)]
    return [*same, _marker(number)]


def _marker(number):
    return f"ptk_marker{number:026}"


def _prove_in_effect(gateway, number):
    request.expect("keygate, a token of the new file", gateway.address, _marker(number), 200)
    request.expect("keygate, a token no longer there", gateway.address, _marker(number - 1), 401)


def _parsed_ms(output):
    found = _PARSED.search(output)
    if not found:
        raise Failed(f"keygate reload doesn't say how long it parsed: {output.strip()!r}")
    return float(found[1]) * _MS[found[2]]
