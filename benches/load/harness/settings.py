"""What may be chosen by environment variables, and where things are."""

import os
import pathlib

LOAD = pathlib.Path(__file__).resolve().parent.parent
ROOT = LOAD.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()
OUT = TARGET / "bench"

ROUNDS = int(os.environ.get("ROUNDS", "5"))
SECONDS_EACH = int(os.environ.get("SECONDS_EACH", "5"))
CONNECTIONS = (64, 16)
STREAMS = int(os.environ.get("STREAMS", "2000"))
# Idle WebSockets beside the load; fewer where descriptors do not suffice.
SESSIONS = int(os.environ.get("SESSIONS", "9000"))
RELOADS = 5
STATIC_TOKENS = 10_000

# Connections with TLS and HTTP/2, and requests at a time on each.
H2_CONNECTIONS, H2_STREAMS = 16, 4

# The proxy under test has one core for itself; upstream and load share another.
PROXY_CORE = int(os.environ.get("PROXY_CORE", "0"))
LOAD_CORE = int(os.environ.get("LOAD_CORE", "1"))

ORIGIN = "https://app.example.com"
MODEL = "gpt-4o-mini"

ALL_TARGETS = (
    "pingora-default",
    "pingora-tuned",
    "nginx",
    "nginx-auth",
    "nginx-auth-reconnect",
    "nginx-auth-stock",
    "keygate",
    "keygate-jwt",
)
ALL_PARTS = (
    "load",
    "http2",
    "latency",
    "streams",
    "bodies",
    "sockets",
    "memory",
    "reload",
    "sessions",
)


def _chosen(variable, allowed):
    """The names in a variable such as `ONLY=nginx,keygate`; all of them if it is not set."""
    names = [name for name in os.environ.get(variable, "").split(",") if name]
    unknown = [name for name in names if name not in allowed]
    if unknown:
        raise SystemExit(f"{variable}: {unknown[0]!r} is none of {', '.join(allowed)}")
    return tuple(name for name in allowed if not names or name in names)


TARGETS = _chosen("ONLY", ALL_TARGETS)
PARTS = _chosen("PARTS", ALL_PARTS)
