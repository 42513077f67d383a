"""Echo over TLS: the servers of echo_servers.py with ssl=, and one that sends its answer in pieces."""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

from suite.echo_servers import READ_SIZE, EchoBufferedProtocol, EchoProtocol
from suite.hosting import Host, Start
from suite.processes import BENCHMARKS
from suite.sockets import BACKLOG

# A key that everybody knows, and its certificate: ECDSA on P-256, the cheapest there is to shake hands with.
CERTIFICATE = BENCHMARKS / "tls.pem"
# How many pieces a message is sent in, and a message's least size for that.
PIECES = 16


class EchoPieces(asyncio.Protocol):
    """Returns what it gets with writelines(), cut into pieces, as a protocol that frames its messages does."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        step = max(1, len(data) // PIECES)
        self.transport.writelines([data[begin : begin + step] for begin in range(0, len(data), step)])


def context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(CERTIFICATE)
    return made


async def start_protocol(host: Host) -> object:
    return await host.loop.create_server(EchoProtocol, sock=host.listener, backlog=BACKLOG, ssl=context())


async def start_buffered(host: Host) -> object:
    return await host.loop.create_server(EchoBufferedProtocol, sock=host.listener, backlog=BACKLOG, ssl=context())


async def start_pieces(host: Host) -> object:
    return await host.loop.create_server(EchoPieces, sock=host.listener, backlog=BACKLOG, ssl=context())


async def start_streams(host: Host) -> object:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(READ_SIZE):
            writer.write(data)
            await writer.drain()
        writer.close()

    server: object = await host.implementation.start_server(serve, sock=host.listener, backlog=BACKLOG, ssl=context())
    return server


SERVERS: dict[str, Start] = {
    "tls-protocol": start_protocol,
    "tls-buffered": start_buffered,
    "tls-pieces": start_pieces,
    "tls-streams": start_streams,
}
