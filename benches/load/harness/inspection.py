"""What looking for models costs: bodies of 1 MiB and messages of sockets, of a token with models
beside one without."""

import json

from . import exchange, keygate, settings
from .process import Group, wait_until

BODY_BYTES = 1 << 20
CHAT, REALTIME = "/v1/chat/completions", "/v1/realtime?model=gpt-realtime"
# By name: the size of what stands in for sound, in base64. 20 ms and 200 ms of it.
MESSAGES = {"an event": 0, "20 ms of audio": 1_280, "200 ms of audio": 12_800}


def bodies(state):
    """`{case: [CPU µs per request, …]}`, the first case being the one to compare with."""
    cases = {
        "not searched": ("open", _body(first=True)),
        "model first": ("bench", _body(first=True)),
        "model last": ("bench", _body(first=False)),
    }
    with Group(state) as group:
        upstream = exchange.Upstream()
        gateway, tokens = _start(group, upstream)
        try:
            callers = {
                name: exchange.Caller(gateway.address, tokens[policy], CHAT).posts(body)
                for name, (policy, body) in cases.items()
            }
            return _rounds("bodies", gateway, callers)
        finally:
            upstream.close()


def sockets(state):
    """`{message: {"not read"|"read": [CPU µs per message, …]}}`"""
    results = {}
    for name, size in MESSAGES.items():
        event = {"type": "input_audio_buffer.append", "audio": "UklG" * (size // 4)}
        frame = exchange.frame(json.dumps(event).encode())
        with Group(state) as group:
            upstream = exchange.Upstream(len(frame))
            gateway, tokens = _start(group, upstream)
            try:
                callers = {
                    case: exchange.Caller(gateway.address, tokens[policy], REALTIME).says(frame)
                    for case, policy in (("not read", "open"), ("read", "bench"))
                }
                results[name] = _rounds(f"sockets, {name}", gateway, callers)
            finally:
                upstream.close()
        # The next one makes its own.
        for left in state.iterdir():
            left.unlink()
    return results


def _start(group, upstream):
    exchange.stay_on_the_load_core()
    gateway = keygate.Gateway(group, upstream.address, upstream.address)
    tokens = {"bench": gateway.token, "open": gateway.create_token("open")}
    for token in tokens.values():
        wait_until("the token to be known", lambda token=token: _is_known(gateway, token))
    return gateway, tokens


def _is_known(gateway, token):
    caller = exchange.Caller(gateway.address, token, CHAT).posts(_body(first=True, size=200))
    try:
        caller.exchange()
        return True
    except exchange.Failed:
        return False
    finally:
        caller.close()


def _rounds(part, gateway, callers):
    samples = {name: [] for name in callers}
    for caller in callers.values():
        exchange.cpu_us(gateway.process, caller, 0.5)
    names = list(callers)
    for number in range(settings.ROUNDS):
        # Nobody always comes first.
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            used = exchange.cpu_us(gateway.process, callers[name], settings.SECONDS_EACH)
            samples[name].append(used)
            print(f"round {number + 1}  {part:24} {name:14} {used:9.2f} µs", flush=True)
    for caller in callers.values():
        caller.close()
    return samples


def _body(first, size=BODY_BYTES):
    line = "the quick brown fox jumps over the lazy dog " * 2 + "\n"
    messages = [{"role": "user", "content": line * (size // len(line))}]
    members = [("model", settings.MODEL), ("messages", messages)]
    return json.dumps(dict(members if first else members[::-1])).encode()
