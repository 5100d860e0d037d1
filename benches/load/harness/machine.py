"""What the figures were measured on."""

import os
import pathlib
import re
import subprocess

from . import settings
from .process import Failed


def check():
    """Fails unless proxy and load can have a core each."""
    usable = os.sched_getaffinity(0)
    if settings.PROXY_CORE == settings.LOAD_CORE or not usable >= {
        settings.PROXY_CORE,
        settings.LOAD_CORE,
    }:
        raise Failed(
            f"two different cores of {sorted(usable)} are needed: set PROXY_CORE and LOAD_CORE"
        )


def facts():
    """Name and value of each, in the order in which they are told."""
    found = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return {
        "Processor": f"{found[1] if found else 'unknown'}, {os.cpu_count()} cores",
        "Kernel": os.uname().release,
        "rustc": _first_line("rustc", "--version"),
        "nginx": _first_line("nginx", "-v").removeprefix("nginx version: "),
        "wrk": " ".join(_first_line("wrk", "-v").split()[:2]),
        "Commit": _first_line("git", "-C", str(settings.ROOT), "describe", "--always", "--dirty"),
    }


def _first_line(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return "not there"
    return ((done.stdout or done.stderr).splitlines() or ["unknown"])[0]
