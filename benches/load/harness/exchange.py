"""Callers and an upstream in this process, for what wrk can't send. What they cost themselves is
not counted: only the proxy's CPU time is, by exchange."""

import os
import socket
import threading
import time

from . import settings
from .process import Failed, free_address

# RFC 6455's own example.
_KEY, _ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
_ACCEPTED = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Accept: {_ACCEPT}\r\n\r\n"
).encode()
_ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}'
# A text frame that says `{}`.
_FRAME = b"\x81\x02{}"


class Upstream:
    """Answers each request when it has all of it; on a socket, each frame of one known size."""

    def __init__(self, frame_size=0):
        self.address = free_address()
        self._frame_size = frame_size
        host, port = self.address.split(":")
        self._listener = socket.create_server((host, int(port)))
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        """Accepts nobody any more."""
        self._listener.close()

    def _accept(self):
        stay_on_the_load_core()
        while True:
            try:
                stream, _ = self._listener.accept()
            except OSError:
                return
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, stream):
        with stream:
            try:
                while self._answer(stream):
                    pass
            except OSError:
                # The proxy has ended the connection.
                return

    def _answer(self, stream):
        head, rest = _read_head(stream)
        if not head:
            return False
        lines = [line.split(b":", 1) for line in head.lower().split(b"\r\n")[1:]]
        fields = {line[0]: line[1].strip() for line in lines if len(line) == 2}
        if b"upgrade" in fields:
            stream.sendall(_ACCEPTED)
            while _skip(stream, self._frame_size - len(rest)):
                rest = b""
                stream.sendall(_FRAME)
            return False
        if not _skip(stream, int(fields.get(b"content-length", b"0")) - len(rest)):
            return False
        stream.sendall(_ANSWER)
        return True


class Caller:
    """A connection on which the same bytes are sent over and over, and answered."""

    def __init__(self, address, token, path):
        self._head = (
            f"{{}} {path} HTTP/1.1\r\nHost: {address}\r\nOrigin: {settings.ORIGIN}\r\n"
            f"Authorization: Bearer {token}\r\n"
        )
        host, port = address.split(":")
        self._stream = socket.create_connection((host, int(port)), timeout=20)
        self._stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._send = self._expected = b""

    def posts(self, body):
        """From now on an exchange is a request with this body."""
        head = self._head.format("POST")
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._send, self._expected = head.encode() + body, b"{}"
        return self

    def says(self, frame):
        """Opens a socket; from now on an exchange is this frame."""
        handshake = (
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {_KEY}\r\n\r\n"
        )
        self._stream.sendall((self._head.format("GET") + handshake).encode())
        head, _ = _read_head(self._stream)
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise Failed(f"the socket was not opened: {head[:300]!r}")
        self._send, self._expected = frame, _FRAME
        return self

    def exchange(self):
        """Once there and back."""
        self._stream.sendall(self._send)
        if self._expected == _FRAME:
            got = self._stream.recv(1024)
        else:
            head, got = _read_head(self._stream)
            if b" 200 " not in head.split(b"\r\n")[0]:
                raise Failed(f"200 was expected: {head[:300]!r}")
            while len(got) < len(self._expected):
                got += self._stream.recv(1024)
        if got != self._expected:
            raise Failed(f"another answer was expected than {got[:300]!r}")

    def close(self):
        """Ends the connection."""
        self._stream.close()


def cpu_us(process, caller, seconds):
    """The proxy's CPU time per exchange, over so many seconds of them."""
    before, count = process.cpu_us(), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        caller.exchange()
        count += 1
    return (process.cpu_us() - before) / count


def stay_on_the_load_core():
    """Binds this thread."""
    os.sched_setaffinity(0, {settings.LOAD_CORE})


def frame(payload):
    """A masked text frame; a mask of zeros is as valid as any."""
    if len(payload) < 126:
        size = bytes([0x80 | len(payload)])
    elif len(payload) < 65_536:
        size = bytes([0x80 | 126]) + len(payload).to_bytes(2, "big")
    else:
        size = bytes([0x80 | 127]) + len(payload).to_bytes(8, "big")
    return b"\x81" + size + bytes(4) + payload


def _read_head(stream):
    """The head, without its end, and what came behind it; nothing where the connection ends."""
    read = b""
    while b"\r\n\r\n" not in read:
        piece = stream.recv(65_536)
        if not piece:
            return b"", b""
        read += piece
    head, _, rest = read.partition(b"\r\n\r\n")
    return head, rest


def _skip(stream, size):
    """Reads so many bytes; whether they came."""
    while size > 0:
        piece = stream.recv(min(size, 262_144))
        if not piece:
            return False
        size -= len(piece)
    return True
