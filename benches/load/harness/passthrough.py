"""The bare Pingora passthrough."""

from . import build, settings
from .process import free_address

BINARIES = {"pingora-default": build.DEFAULT_PEER, "pingora-tuned": build.TUNED_PEER}


def start(group, name, upstream, pair=()):
    """Starts one by its name in the settings; returns the process and its address. With a
    certificate and its key it has TLS and HTTP/2."""
    address = free_address()
    command = [BINARIES[name], "passthrough", address, upstream, *pair]
    process = group.start(name, settings.PROXY_CORE, command)
    process.wait_listening(address)
    return process, address


def start_streaming_upstream(group):
    """What answers with SSE and WebSocket; returns its address."""
    address = free_address()
    command = [build.DEFAULT_PEER, "streaming-upstream", address]
    group.start("streaming-upstream", settings.LOAD_CORE, command).wait_listening(address)
    return address
