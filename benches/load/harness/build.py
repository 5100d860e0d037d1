"""Builds what is measured."""

import os
import subprocess

from . import settings
from .process import Failed

PEERS = settings.OUT / "peer"
DEFAULT_PEER = PEERS / "release" / "peer"
TUNED_PEER = PEERS / "tuned" / "peer"
KEYGATE = settings.TARGET / "release" / "keygate"


def peers():
    """The Pingora passthrough twice: cargo's default release settings, and keygate's own."""
    manifest = ["--manifest-path", settings.LOAD / "peer" / "Cargo.toml"]
    _cargo(["--release", *manifest], PEERS)
    _cargo(["--profile", "tuned", "--features", "mimalloc", *manifest], PEERS)


def keygate():
    """keygate as it is released."""
    _cargo(["--release", "--bin", "keygate"], settings.TARGET)


def _cargo(arguments, target):
    command = ["cargo", "build", "--locked", *(str(word) for word in arguments)]
    print("$", *command, flush=True)
    env = {**os.environ, "CARGO_TARGET_DIR": str(target)}
    if subprocess.run(command, cwd=settings.ROOT, env=env).returncode != 0:
        raise Failed("cargo failed; see above")
