"""CPU per request beside as many idle WebSockets as descriptors allow, and without them.

Each takes three descriptors of keygate's. What a hundred thousand cost, which no process can hold here,
`cargo bench --bench sessions` measures with entries of the registry that have no socket.
"""

import re
import resource
import select
import socket

from . import keygate, load, nginx, passthrough, request, settings
from .process import Failed, Group, wait_until

# Of one address keygate takes a thousand connections.
PER_ADDRESS = 900
# For the load, the log, the listeners.
SPARE = 1_000
_IN_FLIGHT = re.compile(r"^keygate_requests_in_flight (\d+)", re.MULTILINE)


def measure(state):
    """`{"sockets": n, "alone": [Sample, …], "beside": [Sample, …]}`"""
    # What is started inherits it.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(settings.SESSIONS, (hard - SPARE) // 3)
    with Group(state) as group:
        upstream = nginx.start_upstream(group)
        streaming = passthrough.start_streaming_upstream(group)
        gateway = keygate.Gateway(group, upstream, streaming)
        gateway.prove_everything_is_on()
        target = load.Target("keygate", gateway.process, gateway.address, gateway.token)
        results = {"sockets": count, "alone": [], "beside": []}
        load.run(target, load.CONNECTIONS, state)
        for number in range(settings.ROUNDS):
            results["alone"].append(_run(target, state, number, "alone"))
            sockets = [_open(gateway, place) for place in range(count)]
            _expect_open(gateway, count)
            results["beside"].append(_run(target, state, number, f"beside {count:,} sockets"))
            _expect_open(gateway, count)
            _expect_silent(sockets)
            for each in sockets:
                each.close()
            _expect_open(gateway, 0)
        return results


def _run(target, state, number, what):
    sample = load.run(target, load.CONNECTIONS, state)
    print(f"round {number + 1}  {what:22} {sample.cpu_us:7.2f} µs/request", flush=True)
    return sample


def _open(gateway, place):
    """An open WebSocket on which nobody says anything."""
    # So many at once may find the upstream's queue full; what is measured comes later.
    for _ in range(3):
        connection, answer = _upgrade(gateway, place)
        if answer.startswith(b"HTTP/1.1 101 "):
            return connection
        connection.close()
    raise Failed(f"socket {place}: 101 was expected, this came: {answer[:200]!r}")


def _upgrade(gateway, place):
    host, port = gateway.address.split(":")
    source = f"127.0.1.{1 + place // PER_ADDRESS}"
    connection = socket.create_connection((host, int(port)), 20, (source, 0))
    head = (
        "GET /streaming/v1/realtime?model=gpt-realtime HTTP/1.1\r\n"
        f"Host: {gateway.address}\r\nOrigin: {settings.ORIGIN}\r\n"
        f"Authorization: Bearer {gateway.token}\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    connection.sendall(head.encode())
    return connection, connection.recv(4096)


def _expect_open(gateway, count):
    def told():
        found = _IN_FLIGHT.search(gateway.scrape("/metrics") or "")
        return found is not None and int(found[1]) == count

    wait_until(f"{count} sessions in keygate's own count", told)


def _expect_silent(sockets):
    """None may have been closed, or hear anything."""
    poll = select.poll()
    for each in sockets:
        poll.register(each, select.POLLIN | select.POLLHUP)
    heard = poll.poll(0)
    if heard:
        raise Failed(f"{len(heard)} of {len(sockets)} idle sockets did not stay open")
