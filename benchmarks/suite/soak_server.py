"""An echo server that does all the rest at the same time: timers, tasks, futures, threads, while it echoes."""

from __future__ import annotations

import asyncio
import threading
import time

from suite.echo_servers import EchoProtocol
from suite.hosting import Host, Start
from suite.implementations import Implementation
from suite.sockets import BACKLOG


async def nothing() -> None:
    pass


async def wait_forever(loop: asyncio.AbstractEventLoop) -> None:
    await loop.create_future()


def callback() -> None:
    pass


async def churn(implementation: Implementation, loop: asyncio.AbstractEventLoop) -> None:
    """Makes one of each thing that is made and dropped by the million in a long life, then lets the loop turn."""
    while True:
        await loop.create_task(nothing())
        abandoned = loop.create_task(wait_forever(loop))
        loop.call_later(60, callback).cancel()
        loop.call_later(0.001, callback)
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future
        abandoned.cancel()
        await implementation.gather(abandoned, nothing(), return_exceptions=True)
        try:
            await implementation.wait_for(loop.create_future(), 0.0005)
        except TimeoutError:
            pass
        await loop.run_in_executor(None, callback)
        await implementation.sleep(0.001)


def call_from_thread(loop: asyncio.AbstractEventLoop) -> None:
    while True:
        loop.call_soon_threadsafe(callback)
        time.sleep(0.001)


async def start(host: Host) -> object:
    server = await host.loop.create_server(EchoProtocol, sock=host.listener, backlog=BACKLOG)
    threading.Thread(target=call_from_thread, args=(host.loop,), daemon=True).start()
    return server, [host.loop.create_task(churn(host.implementation, host.loop)) for _ in range(8)]


SERVERS: dict[str, Start] = {"soak": start}
