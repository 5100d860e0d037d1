"""CPU per request over TLS with HTTP/2: keygate beside the bare Pingora of the same profile."""

import collections
import statistics
import subprocess

from . import h2load, keygate, nginx, passthrough, request, settings
from .process import Failed, Group, pinned

Sample = collections.namedtuple("Sample", "cpu_us rate")
NAMES = ("pingora-tuned", "keygate")


def measure(state):
    """`{name: [Sample, …]}`"""
    pair, body = _pair(state), state / "body.json"
    body.write_text(request.BODY)
    with Group(state) as group:
        upstream = nginx.start_upstream(group)
        targets = [_start(group, n, upstream, pair) for n in NAMES if n in settings.TARGETS]
        samples = {name: [] for name, *_ in targets}
        for number in range(settings.ROUNDS):
            # Nobody always comes first.
            for target in targets[:: 1 if number % 2 else -1]:
                sample = _run(*target, body)
                samples[target[0]].append(sample)
                for log in state.glob("*.access.log"):
                    log.open("wb").close()
                print(
                    f"round {number + 1}  {target[0]:22} TLS, HTTP/2     "
                    f"{sample.cpu_us:7.2f} µs/request  {sample.rate:9.0f} requests/s",
                    flush=True,
                )
        return samples


def medians(samples):
    """The median of each figure."""
    return Sample(*(statistics.median(values) for values in zip(*samples)))


def _pair(state):
    """A certificate of its own, and its key."""
    cert, key = state / "cert.pem", state / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", key, "-out", cert]
    done = subprocess.run(pinned(settings.LOAD_CORE, command), capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"openssl: {done.stderr.strip()}")
    return cert, key


def _start(group, name, upstream, pair):
    if name == "keygate":
        gateway = keygate.Gateway(group, upstream, streaming=upstream, pair=pair)
        gateway.prove_everything_is_on()
        return name, gateway.process, gateway.tls_address, gateway.token
    process, address = passthrough.start(group, name, upstream, pair)
    return name, process, address, "not-looked-at"


def _run(name, process, address, token, body):
    before = process.cpu_us()
    count, seconds = h2load.run(name, address, token, settings.SECONDS_EACH, body)
    # The run that finds out how many to send is counted on both sides.
    used = process.cpu_us() - before
    return Sample(cpu_us=used / (count + h2load.WARM), rate=count / seconds)
