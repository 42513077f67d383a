"""Echo, written in each of the ways asyncio offers. The same code runs on every implementation."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

from suite.hosting import Host, Start
from suite.sockets import BACKLOG

READ_SIZE = 65_536
# The longest line of the matrix is 100 KiB, more than a StreamReader's default limit.
LINE_LIMIT = 1_048_576

# The tasks that serve connections with sock_*; nothing else refers to them.
alive: set[asyncio.Task[None]] = set()


class EchoProtocol(asyncio.Protocol):
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class EchoBufferedProtocol(asyncio.BufferedProtocol):
    transport: asyncio.Transport

    def __init__(self) -> None:
        self.buffer = bytearray(READ_SIZE)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        # A copy, as the buffer is overwritten by the next read and a transport may keep what it was given.
        self.transport.write(self.buffer[:nbytes])


async def start_protocol(host: Host) -> object:
    return await host.loop.create_server(EchoProtocol, sock=host.listener, backlog=BACKLOG)


async def start_unix(host: Host) -> object:
    return await host.loop.create_unix_server(EchoProtocol, sock=host.listener, backlog=BACKLOG)


async def start_buffered(host: Host) -> object:
    return await host.loop.create_server(EchoBufferedProtocol, sock=host.listener, backlog=BACKLOG)


class EchoDatagrams(asyncio.DatagramProtocol):
    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)


async def start_udp(host: Host) -> object:
    # Beside the listener, whose port is the one that clients are told.
    return await host.loop.create_datagram_endpoint(EchoDatagrams, local_addr=host.listener.getsockname())


async def start_streams(host: Host) -> object:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(READ_SIZE):
            writer.write(data)
            await writer.drain()
        writer.close()

    server: object = await host.implementation.start_server(serve, sock=host.listener, backlog=BACKLOG)
    return server


async def start_stream(host: Host) -> object:
    async def serve(stream: Any) -> None:
        while data := await stream.read(READ_SIZE):
            await stream.write(data)

    server = host.implementation.StreamServer(serve, sock=host.listener, backlog=BACKLOG)
    await server.start_serving()
    return server


async def start_readline(host: Host) -> object:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
        writer.close()

    server: object = await host.implementation.start_server(
        serve, sock=host.listener, backlog=BACKLOG, limit=LINE_LIMIT
    )
    return server


async def start_sock(host: Host) -> object:
    loop = host.loop

    async def serve(connection: socket.socket) -> None:
        with connection:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := await loop.sock_recv(connection, READ_SIZE):
                await loop.sock_sendall(connection, data)

    async def accept() -> None:
        while True:
            connection, _ = await loop.sock_accept(host.listener)
            task = loop.create_task(serve(connection))
            alive.add(task)
            task.add_done_callback(alive.discard)

    return loop.create_task(accept())


SERVERS: dict[str, Start] = {
    "protocol": start_protocol,
    "buffered": start_buffered,
    "streams": start_streams,
    "stream": start_stream,
    "readline": start_readline,
    "sock": start_sock,
    "udp": start_udp,
    "unix": start_unix,
}
# Those that listen on a Unix socket.
LOCAL = frozenset({"unix"})
