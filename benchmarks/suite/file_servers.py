"""Servers that send a file to each connection and close it. uvloop has neither call."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import cast

from suite.hosting import Host, Start

FILE = Path(__file__).resolve().parents[2] / "build" / "bench" / "file-to-send"
SIZE = 1 << 30

# The tasks that send; nothing else refers to them.
alive: set[asyncio.Task[None]] = set()


def make_file() -> Path:
    """Made once, with holes in place of bytes: what is sent are pages of the cache all the same."""
    if not FILE.exists() or FILE.stat().st_size != SIZE:
        FILE.parent.mkdir(parents=True, exist_ok=True)
        FILE.touch()
        os.truncate(FILE, SIZE)
    return FILE


def keep(task: asyncio.Task[None]) -> None:
    alive.add(task)
    task.add_done_callback(alive.discard)


async def start_sendfile(host: Host) -> object:
    class SendProtocol(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            keep(host.loop.create_task(self.send(cast(asyncio.Transport, transport))))

        async def send(self, transport: asyncio.Transport) -> None:
            with make_file().open("rb") as file:
                await host.loop.sendfile(transport, file)
            transport.close()

    return await host.loop.create_server(SendProtocol, sock=host.listener)


async def start_sock_sendfile(host: Host) -> object:
    async def serve() -> None:
        while True:
            connection, _ = await host.loop.sock_accept(host.listener)
            with connection, make_file().open("rb") as file:
                await host.loop.sock_sendfile(connection, file)

    keep(host.loop.create_task(serve()))
    return None


SERVERS: dict[str, Start] = {"sendfile": start_sendfile, "sock_sendfile": start_sock_sendfile}
