"""CPU per request, requests per second and latencies, target after target, round after round."""

import collections
import statistics

from . import keygate, nginx, passthrough, request, settings, wrk
from .process import Group, core_busy_us

Sample = collections.namedtuple("Sample", "cpu_us rate p50_us p99_us busy others")
Target = collections.namedtuple("Target", "name process address token")


def measure(state):
    """`{connections: {target: [Sample, …]}}`"""
    with Group(state) as group:
        upstream = nginx.start_upstream(group)
        targets = [_start(group, name, upstream) for name in settings.TARGETS]
        for target in targets:
            request.expect(target.name, target.address, target.token, 200)
            wrk.run(target.name, target.address, target.token, settings.CONNECTIONS[0], 1)
        samples = {count: {t.name: [] for t in targets} for count in settings.CONNECTIONS}
        for number in range(settings.ROUNDS):
            # Nobody always comes first, or always behind the same one.
            turn = number % len(targets)
            for target in targets[turn:] + targets[:turn]:
                for count in settings.CONNECTIONS:
                    sample = _run(target, count, state)
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


def _start(group, name, upstream):
    if name in passthrough.BINARIES:
        process, address = passthrough.start(group, name, upstream)
    elif name == "keygate":
        gateway = keygate.Gateway(group, upstream, streaming=upstream)
        gateway.prove_everything_is_on()
        return Target(name, gateway.process, gateway.address, gateway.token)
    else:
        process, address = nginx.start_proxy(group, name, upstream)
    return Target(name, process, address, "not-looked-at")


def _run(target, connections, state):
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
