"""Two thousand TLS connections, half of them cut in the middle of something (python/cpython issue 109534, uvloop issue 565).
benchmarks/tls_leak.py does it with 200,000, and reads the server's memory."""

import asyncio
import contextlib
import os
import socket
import ssl
import struct

import certificates
import pytest

pytestmark = pytest.mark.timeout(240)

CUTS = ("silent", "half a hello", "hello", "garbage", "unfinished", "no notify", "reset", "half a record")
# Each round has as many whole connections as cut ones.
ROUNDS = 2000 // (2 * len(CUTS))
TURNS = 4


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Visitor:
    """A client whose every byte is in hand, on the server's own loop."""

    def __init__(self, path, context):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.setblocking(False)
        self.sock.connect(path)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=certificates.NAME)

    async def turn(self):
        """Lets the server have what was sent, and takes what it answers."""
        for _ in range(TURNS):
            await asyncio.sleep(0)
        with contextlib.suppress(BlockingIOError, ConnectionError):
            self.incoming.write(self.sock.recv(65536))

    def begin(self):
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()

    async def do(self, operation):
        """As often as it takes."""
        for _ in range(10):
            with contextlib.suppress(ssl.SSLWantReadError):
                return operation()
            await self.flush()
        raise TimeoutError(f"{operation} waits for ever")

    async def flush(self):
        self.sock.send(self.outgoing.read())
        await self.turn()

    async def echo(self):
        await self.do(self.tls.do_handshake)
        self.tls.write(b"a line")
        assert await self.do(lambda: self.tls.read(100)) == b"a line"

    async def close(self, reset=False):
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def whole(self):
        await self.echo()
        await self.do(self.tls.unwrap)
        await self.close()

    async def cut(self, how):
        if how == "garbage":
            self.sock.send(b"GET / HTTP/1.1\r\n\r\n")
        elif how in ("half a hello", "hello", "unfinished"):
            self.begin()
            hello = self.outgoing.read()
            self.sock.send(hello[: len(hello) // 2] if how == "half a hello" else hello)
            if how == "unfinished":
                await self.turn()
        elif how != "silent":
            await self.echo()
        if how == "half a record":
            self.tls.write(b"another line")
            self.sock.send(self.outgoing.read()[:-5])
        await self.close(reset=how in ("reset", "unfinished"))


def test_connections_that_are_cut(loop, leaks_nothing, tmp_path):
    path = str(tmp_path / "socket")
    context = certificates.client_context()

    async def serve():
        return await loop.create_unix_server(Echo, path, ssl=certificates.server_context())

    async def visits():
        for how in CUTS:
            await Visitor(path, context).whole()
            await Visitor(path, context).cut(how)

    server = loop.run_until_complete(serve())
    rounds = ROUNDS // 4 if os.environ.get("COROLLA_SANITIZED") else ROUNDS
    try:
        leaks_nothing(visits, rounds)
    finally:
        server.close()
        loop.run_until_complete(server.wait_closed())
