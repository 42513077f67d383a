"""A server and a client that speak something like DNS: small questions, answers that repeat them. Both count."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path
from typing import Any, cast

from suite.hosting import Host, Start
from suite.implementations import Implementation

HEADER = struct.Struct("!HHHHHH")  # id, flags, and how many questions, answers, authorities, additional records
QUESTION = b"\7example\3com\0\0\1\0\1"
ANSWER = b"\xc0\x0c\0\1\0\1\0\0\1\x2c\0\4\x7f\0\0\1"
HOW_MANY = 0xFFFF  # as flags: not a question, but for how many there were
COUNTS = struct.Struct("!QQ")  # questions received, answers sent


class DnsServer(asyncio.DatagramProtocol):
    transport: asyncio.DatagramTransport

    def __init__(self) -> None:
        self.received = 0
        self.sent = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        number, flags, *_ = HEADER.unpack_from(data)
        if flags == HOW_MANY:
            self.transport.sendto(COUNTS.pack(self.received, self.sent), addr)
            return
        self.received += 1
        self.transport.sendto(HEADER.pack(number, 0x8180, 1, 1, 0, 0) + data[HEADER.size :] + ANSWER, addr)
        self.sent += 1


class DnsClient(asyncio.DatagramProtocol):
    """Keeps so many questions on their way; those that are lost are found missing when nothing comes any more."""

    transport: asyncio.DatagramTransport

    def __init__(self, window: int) -> None:
        self.window = window
        self.sent = 0
        self.received = 0
        self.wrong = 0
        self.errors = 0
        self.counts: asyncio.Future[tuple[int, int]] | None = None
        self.stopping = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def ask(self) -> None:
        self.transport.sendto(HEADER.pack(self.sent & 0xFFFF, 0x0100, 1, 0, 0, 0) + QUESTION)
        self.sent += 1

    def ask_how_many(self) -> None:
        self.transport.sendto(HEADER.pack(0, HOW_MANY, 0, 0, 0, 0))

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if len(data) == COUNTS.size:
            if self.counts is not None and not self.counts.done():
                self.counts.set_result(COUNTS.unpack(data))
            return
        self.received += 1
        self.wrong += data[2:4] != b"\x81\x80" or data[HEADER.size :] != QUESTION + ANSWER
        if not self.stopping:
            self.ask()

    def error_received(self, exc: Exception) -> None:
        self.errors += 1


def dropped_at(port: int) -> int:
    """How many datagrams the kernel has dropped for want of room at the UDP socket on that local port."""
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].partition(":")[2], 16) == port:
            return int(fields[-1])
    raise RuntimeError(f"no UDP socket on port {port}")


async def ask_for(implementation: Implementation, port: int, window: int, seconds: float) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: DnsClient(window), remote_addr=("127.0.0.1", port)
    )
    own_port = transport.get_extra_info("sockname")[1]
    end = loop.time() + seconds
    while loop.time() < end:
        before = protocol.received
        if protocol.sent == 0:
            missing = window
        else:
            # Whatever is still on its way when nothing has come for a while is lost, and is replaced.
            await implementation.sleep(0.02)
            missing = 0 if protocol.received != before else window
        for _ in range(missing):
            protocol.ask()
    protocol.stopping = True
    while True:
        before = protocol.received
        await implementation.sleep(0.2)
        if protocol.received == before:
            break
    protocol.counts = loop.create_future()
    protocol.ask_how_many()
    server_received, server_sent = await protocol.counts
    report = {
        "sent": protocol.sent,
        "received": protocol.received,
        "wrong": protocol.wrong,
        "errors": protocol.errors,
        "server_received": server_received,
        "server_sent": server_sent,
        "server_dropped": dropped_at(port),
        "client_dropped": dropped_at(own_port),
    }
    transport.close()
    await implementation.sleep(0)
    return report


async def start(host: Host) -> object:
    return await host.loop.create_datagram_endpoint(DnsServer, local_addr=host.listener.getsockname())


SERVERS: dict[str, Start] = {"dns": start}
