"""A protocol that writes down what it is told, and connections whose other end is a plain blocking socket."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncGenerator, Callable
from typing import Any

HOST = "127.0.0.1"


class Recorder(asyncio.Protocol):
    """events: the callbacks in order, ("data_received", b"...") and so on."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.keep_open = False
        self._waiters: list[asyncio.Future[None]] = []

    def note(self, *event: Any) -> None:
        self.events.append(event if len(event) > 1 else event[0])
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def until(self, condition: Callable[[], Any]) -> None:
        """Comes back at the first event after which the condition holds."""
        while not condition():
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    async def lost(self) -> BaseException | None:
        await self.until(lambda: "connection_lost" in self.names())
        exc: BaseException | None = next(e[1] for e in self.events if e[0] == "connection_lost")
        return exc

    def names(self) -> list[str]:
        return [event if isinstance(event, str) else event[0] for event in self.events]

    @property
    def data(self) -> bytes:
        return b"".join(event[1] for event in self.events if event[0] == "data_received")

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.note("connection_made")

    def data_received(self, data: bytes) -> None:
        self.note("data_received", data)

    def eof_received(self) -> bool:
        self.note("eof_received")
        return self.keep_open

    def connection_lost(self, exc: BaseException | None) -> None:
        self.note("connection_lost", exc)

    def pause_writing(self) -> None:
        self.note("pause_writing")

    def resume_writing(self) -> None:
        self.note("resume_writing")


class BufferedRecorder(asyncio.BufferedProtocol):
    """The same for a BufferedProtocol; what came is recorded as data_received."""

    def __init__(self, size: int = 65536) -> None:
        self.recorder = Recorder()
        self.buffer = bytearray(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.recorder, name)

    def connection_made(self, transport: Any) -> None:
        self.recorder.connection_made(transport)

    def get_buffer(self, sizehint: int) -> Any:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.recorder.data_received(bytes(self.buffer[:nbytes]))

    def eof_received(self) -> bool:
        return self.recorder.eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.recorder.connection_lost(exc)


def listener(backlog: int = 10) -> socket.socket:
    sock = socket.socket()
    sock.bind((HOST, 0))
    sock.listen(backlog)
    sock.settimeout(30)
    return sock


def reset(sock: socket.socket) -> None:
    """Closes with a RST in place of a FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@contextlib.asynccontextmanager
async def connection(
    factory: Callable[[], Any] = Recorder, small: bool = False
) -> AsyncGenerator[tuple[Any, Any, socket.socket]]:
    """(transport, protocol, peer): a client's connection, its other end a blocking socket. small: with small kernel
    buffers, so that little is taken at once."""
    loop = asyncio.get_running_loop()
    with listener() as server:
        if small:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        transport, protocol = await loop.create_connection(factory, *server.getsockname())
        peer, _ = server.accept()
    peer.settimeout(30)
    if small:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with peer:
        try:
            yield transport, protocol, peer
        finally:
            transport.abort()
    await settled()


async def settled() -> None:
    """Lets what is queued run, and what that queues: enough for an abort() to be told."""
    for _ in range(3):
        await asyncio.sleep(0)


async def receive_all(peer: socket.socket) -> bytes:
    """What comes until the end of the stream, read in a thread so that the loop goes on."""

    def read() -> bytes:
        chunks = []
        while chunk := peer.recv(65536):
            chunks.append(chunk)
        return b"".join(chunks)

    return await asyncio.get_running_loop().run_in_executor(None, read)


async def receive(peer: socket.socket, size: int) -> bytes:
    def read() -> bytes:
        data = bytearray()
        while len(data) < size and (chunk := peer.recv(size - len(data))):
            data += chunk
        return bytes(data)

    return await asyncio.get_running_loop().run_in_executor(None, read)


class Service:
    """A server and the protocols it has made."""

    def __init__(self, base=Recorder):
        self.protocols = []
        self.base = base
        self._changed = asyncio.Event()

    def factory(self):
        protocol = self.base()
        self.protocols.append(protocol)
        self._changed.set()
        return protocol

    async def accepted(self, count):
        while len(self.protocols) < count:
            self._changed.clear()
            await self._changed.wait()
        for protocol in self.protocols[:count]:
            await protocol.until(lambda: protocol.events)

    async def start(self, **kwargs):
        self.server = await asyncio.get_running_loop().create_server(self.factory, HOST, 0, **kwargs)
        return self.server

    def connect(self):
        sock = socket.create_connection(self.server.sockets[0].getsockname())
        sock.settimeout(30)
        return sock


@contextlib.asynccontextmanager
async def serving(base=Recorder, **kwargs):
    service = Service(base)
    server = await service.start(**kwargs)
    try:
        yield service, server
    finally:
        server.close()
        server.abort_clients()
        await server.wait_closed()
    await settled()
