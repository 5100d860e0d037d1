"""Many readers of one stream: python3 -m harness.readers ADDRESS UPSTREAM READERS EVENTS

Follows the stream through ADDRESS, says `ready` when every reader does, waits for a line, then sends
EVENTS events to the stream server itself, each when everybody has the one before, and says how many
arrived.
"""

import asyncio
import os
import sys

from .streams import PATH

# As a small chat message would come: the data, and where it ends.
EVENT = (
    b'event: data\ndata: [{"role":"user","text":"hello, this is a line of chat"}]\n\n'
    b'event: control\ndata: {"streamNextOffset":"0000000000000001_0000000000000200","upToDate":true}\n\n'
)
ENDS = EVENT.count(b"\n\n")


class Reader(asyncio.Protocol):
    """Counts the events that come."""

    def __init__(self, count):
        self.count = count
        self.head = b""
        self.following = False
        self.last = b""

    def data_received(self, data):
        if not self.following:
            self.head += data
            head, end, data = self.head.partition(b"\r\n\r\n")
            if not end:
                return
            if b" 200 " not in head.split(b"\r\n", 1)[0]:
                sys.exit(f"a reader was refused: {head.decode(errors='replace')}")
            self.following = True
            self.count(0, followers=1)
        # An event's end may be split over two reads.
        ends = (self.last + data).count(b"\n\n")
        self.last = data[-1:]
        if ends:
            self.count(ends)

    def connection_lost(self, why):
        sys.exit(f"a reader's connection ended: {why}")


class Crowd:
    """What all readers have seen."""

    def __init__(self):
        self.followers = 0
        self.ends = 0
        self.changed = asyncio.Event()

    def count(self, ends, followers=0):
        self.ends += ends
        self.followers += followers
        self.changed.set()

    async def until(self, holds):
        while not holds():
            self.changed.clear()
            await self.changed.wait()


async def main(address, upstream, readers, events):
    loop, crowd = asyncio.get_running_loop(), Crowd()
    host, port = address.split(":")
    lines = [f"GET {PATH}?offset=now&live=sse HTTP/1.1", f"Host: {address}"]
    lines += [f"Authorization: Bearer {os.environ['BENCH_TOKEN']}"]
    lines += [f"Origin: {os.environ['BENCH_ORIGIN']}", "Accept: text/event-stream"]
    request = "\r\n".join([*lines, "\r\n"]).encode()
    for _ in range(readers):
        transport, _ = await loop.create_connection(lambda: Reader(crowd.count), host, int(port))
        transport.write(request)
    await crowd.until(lambda: crowd.followers == readers)
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    answers, writer = await asyncio.open_connection(*upstream.split(":"))
    for number in range(1, events + 1):
        head = f"POST {PATH} HTTP/1.1\r\nContent-Length: {len(EVENT)}\r\n\r\n"
        writer.write(head.encode() + EVENT)
        await answers.readuntil(b"\r\n\r\n")
        await crowd.until(lambda: crowd.ends >= number * readers * ENDS)
    print(crowd.ends // ENDS, flush=True)
    # The harness has looked at the clock by then.
    await loop.run_in_executor(None, sys.stdin.readline)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
