"""nginx: the upstream of the load test, and three of the proxies it is compared with."""

import json

from . import settings
from .process import free_address

_usage = {"prompt_tokens": 8, "completion_tokens": 9, "total_tokens": 17}
_message = {"role": "assistant", "content": "Hello! How can I help you today?"}
ANSWER = json.dumps(
    {
        "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
        "object": "chat.completion",
        "created": 1741569952,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "message": _message, "finish_reason": "stop"}],
        "usage": _usage,
    },
    separators=(",", ":"),
)


def start_upstream(group):
    """The provider's stand-in; returns its address."""
    address = free_address()
    (group.state / "file").write_text("never sent\n")
    config = _fill("upstream", group.state, LISTEN=address, ANSWER=ANSWER)
    _start(group, "upstream", settings.LOAD_CORE, config).wait_listening(address)
    return address


def start_proxy(group, name, upstream):
    """A passthrough by its name in the settings; returns the process and its address."""
    address = free_address()
    kept = ("provider", 'proxy_http_version 1.1; proxy_set_header Connection "";')
    # nginx unless told otherwise: HTTP/1.0, and a new connection every time.
    reconnect = (upstream, "")
    peer, keepalive = reconnect if name == "nginx-auth-stock" else kept
    auth_peer, auth_keepalive = kept if name == "nginx-auth" else reconnect
    config = _fill(
        "passthrough",
        group.state,
        NAME=name,
        LISTEN=address,
        UPSTREAM=upstream,
        PEER=peer,
        KEEPALIVE=keepalive,
        AUTH="" if name == "nginx" else "auth_request /auth;",
        AUTH_PEER=auth_peer,
        AUTH_KEEPALIVE=auth_keepalive,
    )
    process = _start(group, name, settings.PROXY_CORE, config)
    process.wait_listening(address)
    return process, address


def _fill(template, state, **values):
    text = (settings.LOAD / "nginx" / f"{template}.conf").read_text()
    for key, value in {"STATE": str(state), **values}.items():
        text = text.replace(f"@{key}@", value)
    path = state / f"{values.get('NAME', template)}.conf"
    path.write_text(text)
    return path


def _start(group, name, core, config):
    return group.start(name, core, ["nginx", "-e", "stderr", "-p", group.state, "-c", config])
