"""A TLS connection of the loop's whose other end is an SSLObject of ours, driven step by step: what it sends, and in which
pieces, is the test's."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncGenerator, Callable
from typing import Any

from certificates import NAME, client_context, server_context
from transports.support import Recorder, settled


class Peer:
    """The server's end. sock is non-blocking."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.loop = asyncio.get_running_loop()
        self.ended = False

    def records(self) -> bytes:
        """What is to be sent, and has not been."""
        return self.outgoing.read()

    async def send(self, data: bytes | None = None) -> None:
        data = self.records() if data is None else data
        if data:
            await self.loop.sock_sendall(self.sock, data)

    async def more(self) -> None:
        data = await self.loop.sock_recv(self.sock, 65536)
        if data:
            self.incoming.write(data)
        else:
            self.ended = True
            self.incoming.write_eof()

    async def drive(self, function: Callable[..., Any], *args: Any) -> Any:
        """Calls it until it needs nothing more from the other side."""
        while True:
            try:
                result = function(*args)
            except ssl.SSLWantReadError:
                await self.send()
                await self.more()
            else:
                await self.send()
                return result

    async def shake_hands(self) -> None:
        await self.drive(self.tls.do_handshake)

    async def write(self, data: bytes) -> None:
        self.tls.write(data)
        await self.send()

    async def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += await self.drive(self.tls.read, size - len(data))
        return data

    async def read_to_end(self) -> tuple[bytes, bool]:
        """What comes, and whether a close_notify came behind it."""
        data = b""
        while True:
            try:
                some = await self.drive(self.tls.read, 65536)
            except ssl.SSLEOFError:
                return data, False
            except ssl.SSLZeroReturnError:
                some = b""
            if not some:
                return data, True
            data += some

    def close_notify(self) -> bytes:
        """The record of it."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self.records()


async def make_pair(
    factory: Callable[[], Any] = Recorder,
    client: ssl.SSLContext | None = None,
    server: ssl.SSLContext | None = None,
    small: bool = False,
    **kwargs: Any,
) -> tuple[Any, Any, Peer]:
    """(transport, protocol, peer) after the handshake. small: with small kernel buffers."""
    loop = asyncio.get_running_loop()
    one, other = socket.socketpair()
    if small:
        for sock in (one, other):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    peer = Peer(other, server or server_context())
    connecting = asyncio.ensure_future(
        loop.create_connection(factory, sock=one, ssl=client or client_context(), server_hostname=NAME, **kwargs)
    )
    try:
        await peer.shake_hands()
        transport, protocol = await connecting
    except BaseException:
        other.close()
        raise
    return transport, protocol, peer


@contextlib.asynccontextmanager
async def tls_pair(*args: Any, **kwargs: Any) -> AsyncGenerator[tuple[Any, Any, Peer]]:
    """The same, closed at the end."""
    transport, protocol, peer = await make_pair(*args, **kwargs)
    with peer.sock:
        try:
            yield transport, protocol, peer
        finally:
            transport.abort()
            await settled()


async def turns(count: int = 5) -> None:
    """As many turns of the loop, for what must not happen in them."""
    for _ in range(count):
        await asyncio.sleep(0)
