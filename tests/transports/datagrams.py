"""A datagram protocol that writes down what it is told, and endpoints to try it on."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator
from typing import Any

from transports.support import HOST, Recorder, settled


class DatagramRecorder(Recorder):
    """events as a Recorder's: ("datagram_received", data, addr), ("error_received", exc) and so on."""

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.note("datagram_received", data, addr)

    def error_received(self, exc: OSError) -> None:
        self.note("error_received", exc)

    @property
    def received(self) -> list[bytes]:
        return [event[1] for event in self.events if event[0] == "datagram_received"]

    @property
    def senders(self) -> list[Any]:
        return [event[2] for event in self.events if event[0] == "datagram_received"]

    @property
    def errors(self) -> list[OSError]:
        return [event[1] for event in self.events if event[0] == "error_received"]

    async def receive(self, count: int) -> list[bytes]:
        """As soon as so many datagrams have come, all that have."""
        await self.until(lambda: len(self.received) >= count)
        return self.received


@contextlib.asynccontextmanager
async def endpoint(factory: Any = DatagramRecorder, **kwargs: Any) -> AsyncGenerator[tuple[Any, Any]]:
    """(transport, protocol): bound to 127.0.0.1 unless told otherwise."""
    if not kwargs:
        kwargs = {"local_addr": (HOST, 0)}
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(factory, **kwargs)
    try:
        yield transport, protocol
    finally:
        transport.abort()
        await settled()


def udp_socket(family: int = socket.AF_INET, host: str = HOST) -> socket.socket:
    """Bound, blocking, with a timeout."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    sock.settimeout(30)
    return sock


@contextlib.asynccontextmanager
async def full_endpoint(factory: Any = DatagramRecorder) -> AsyncGenerator[tuple[Any, Any, socket.socket, int]]:
    """(transport, protocol, peer, count): connected to a Unix socket that takes no more; count datagrams are in it."""
    one, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    peer.setblocking(False)
    with peer:
        async with endpoint(factory, sock=one) as (transport, protocol):
            count = 0
            while transport.get_write_buffer_size() == 0:
                transport.sendto(b"fill")
                count += 1
            yield transport, protocol, peer, count - 1


def take_all(peer: socket.socket) -> list[bytes]:
    """All that is there now."""
    taken = []
    with contextlib.suppress(BlockingIOError):
        while True:
            taken.append(peer.recv(65536))
    return taken
