"""A stream server of the fewest words: python3 -m harness.fanout ADDRESS

A `GET` follows the one stream that there is, a `POST` sends its body to everybody who does, and a
`PUT` creates. Nothing is kept.
"""

import asyncio
import sys

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


class Caller(asyncio.Protocol):
    """One connection; requests come whole, and one at a time."""

    followers = set()

    def connection_made(self, transport):
        self.transport = transport
        self.buffer = b""

    def connection_lost(self, _why):
        self.followers.discard(self.transport)

    def data_received(self, data):
        self.buffer += data
        head, end, body = self.buffer.partition(b"\r\n\r\n")
        if not end or len(body) < _length(head):
            return
        self.buffer = b""
        method = head.split(b" ", 1)[0]
        if method == b"GET":
            self.transport.write(HEAD)
            self.followers.add(self.transport)
        elif method == b"PUT":
            self.transport.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        else:
            chunk = b"%x\r\n%b\r\n" % (len(body), body)
            for follower in self.followers:
                follower.write(chunk)
            self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


def _length(head):
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def main(address):
    host, port = address.split(":")
    server = await asyncio.get_running_loop().create_server(Caller, host, int(port), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
