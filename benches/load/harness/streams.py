"""CPU per delivered event of one durable stream with many readers, round after round."""

import collections
import http.client
import os
import resource
import statistics
import subprocess
import sys

from . import keygate, passthrough, settings
from .process import Failed, Group, free_address, pinned

PATH = "/v1/stream/user-42/chat"
READERS = 1_000
EVENTS = int(os.environ.get("STREAM_EVENTS", "200"))
NAMES = ("pingora-default", "pingora-tuned", "keygate")

Sample = collections.namedtuple("Sample", "cpu_us")
Target = collections.namedtuple("Target", "process address token")


def measure(state):
    """`{target: [Sample, …]}`"""
    # A proxy has two descriptors for each reader.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with Group(state) as group:
        upstream = free_address()
        command = _python("fanout", upstream)
        group.start("fanout", settings.LOAD_CORE, command).wait_listening(upstream)
        names = [name for name in NAMES if name in settings.TARGETS]
        targets = {name: _start(group, name, upstream) for name in names}
        samples = {name: [] for name in names}
        for number in range(settings.ROUNDS):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                sample = _run(targets[name], upstream)
                samples[name].append(sample)
                print(f"round {number + 1}  {name:22} {sample.cpu_us:6.2f} µs/event", flush=True)
        return samples


def medians(samples):
    """The median of each figure."""
    return Sample(*(statistics.median(values) for values in zip(*samples)))


def _start(group, name, upstream):
    if name != "keygate":
        process, address = passthrough.start(group, name, upstream)
        return Target(process, address, "not-looked-at")
    gateway = keygate.Gateway(group, upstream, upstream)
    # With a policy of its own to be held to, as a stream of somebody's has.
    _create(gateway)
    return Target(gateway.process, gateway.address, gateway.tokens["reader"])


def _create(gateway):
    connection = http.client.HTTPConnection(gateway.address, timeout=5)
    headers = {"Authorization": f"Bearer {gateway.tokens['writer']}"}
    headers["Stream-Allowed-Origins"] = settings.ORIGIN
    try:
        connection.request("PUT", PATH, headers=headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 201 or answer.getheader("Stream-Allowed-Origins") != settings.ORIGIN:
            raise Failed(f"the stream could not be created: {answer.status}")
        headers = {"Authorization": headers["Authorization"], "Origin": "https://evil.example"}
        connection.request("GET", PATH, headers=headers)
        if connection.getresponse().status != 403:
            raise Failed("another origin may read the stream")
    finally:
        connection.close()


def _run(target, upstream):
    command = _python("readers", target.address, upstream, READERS, EVENTS)
    env = {**os.environ, "BENCH_TOKEN": target.token, "BENCH_ORIGIN": settings.ORIGIN}
    readers = subprocess.Popen(
        pinned(settings.LOAD_CORE, command),
        cwd=settings.LOAD,
        env=env,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with readers:
        if readers.stdout.readline() != "ready\n":
            raise Failed("the readers could not follow; see above")
        before = target.process.cpu_us()
        readers.stdin.write("go\n")
        readers.stdin.flush()
        delivered = readers.stdout.readline()
        used = target.process.cpu_us() - before
        readers.stdin.close()
    if delivered != f"{READERS * EVENTS}\n":
        raise Failed(f"of {READERS * EVENTS} events {delivered.strip() or 'an unknown number'} came")
    return Sample(cpu_us=used / (READERS * EVENTS))


def _python(module, *arguments):
    return [sys.executable, "-B", "-m", f"harness.{module}", *arguments]
