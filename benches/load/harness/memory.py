"""What keygate holds in memory while it idles."""

import time

from . import keygate, nginx
from .process import Group

SETTLE_SECONDS = 5


def measure(state):
    """VmRSS and RssAnon in KiB, some seconds after the start, before any request."""
    with Group(state) as group:
        upstream = nginx.start_upstream(group)
        gateway = keygate.Gateway(group, upstream, upstream)
        time.sleep(SETTLE_SECONDS)
        return gateway.process.memory_kib()
