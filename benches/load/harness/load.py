"""CPU per request, requests per second and latencies, target after target, round after round."""

import collections
import statistics

from . import keygate, nginx, passthrough, request, settings, wrk
from .process import Group, core_busy_us

Sample = collections.namedtuple("Sample", "cpu_us rate p50_us p99_us busy others")
Target = collections.namedtuple("Target", "name process address token")
CONNECTIONS = settings.CONNECTIONS[0]


def measure(state):
    """`{connections: {target: [Sample, …]}}`"""
    with Group(state) as group:
        upstream = nginx.start_upstream(group)
        targets = []
        for name in settings.TARGETS:
            targets.append(_start(group, name, upstream, targets))
        for target in targets:
            request.expect(target.name, target.address, target.token, 200)
            wrk.run(target.name, target.address, target.token, settings.CONNECTIONS[0], 1)
        samples = {count: {t.name: [] for t in targets} for count in settings.CONNECTIONS}
        for number in range(settings.ROUNDS):
            # Nobody always comes first, or always behind the same one.
            turn = number % len(targets)
            for target in targets[turn:] + targets[:turn]:
                for count in settings.CONNECTIONS:
                    sample = run(target, count, state)
                    samples[count][target.name].append(sample)
                    print(
                        f"round {number + 1}  {target.name:22} {count:3} connections "
                        f"{sample.cpu_us:7.2f} µs/request  {sample.rate:9.0f} requests/s",
                        flush=True,
                    )
        return samples


def medians(samples):
    """The median of each figure."""
    return Sample(*(statistics.median(values) for values in zip(*samples)))


def _start(group, name, upstream, started):
    if name in passthrough.BINARIES:
        process, address = passthrough.start(group, name, upstream)
    elif name == "keygate":
        gateway = keygate.Gateway(group, upstream, streaming=upstream)
        gateway.prove_everything_is_on()
        return Target(name, gateway.process, gateway.address, gateway.token)
    elif name == "keygate-jwt":
        # The same process where there is one: nothing differs but the token.
        known = [target for target in started if target.name == "keygate"]
        if known:
            token = keygate.signed(known[0].address, known[0].token)
            return known[0]._replace(name=name, token=token)
        gateway = keygate.Gateway(group, upstream, streaming=upstream)
        token = keygate.signed(gateway.address, gateway.token)
        return Target(name, gateway.process, gateway.address, token)
    else:
        process, address = nginx.start_proxy(group, name, upstream)
    return Target(name, process, address, "not-looked-at")


def run(target, connections, state):
    """One sample."""
    before, busy_before = target.process.cpu_us(), core_busy_us(settings.PROXY_CORE)
    report = wrk.run(
        target.name, target.address, target.token, connections, settings.SECONDS_EACH
    )
    used = target.process.cpu_us() - before
    busy = core_busy_us(settings.PROXY_CORE) - busy_before
    for log in state.glob("*.access.log"):
        # Appended to by their writers; emptied, or a long run fills the disk.
        log.open("wb").close()
    return Sample(
        cpu_us=used / report.requests,
        rate=report.rate,
        p50_us=report.p50_us,
        p99_us=report.p99_us,
        busy=used / report.duration_us,
        others=max(0, busy - used) / report.duration_us,
    )
