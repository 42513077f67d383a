"""Exceptions that leave a callback are reported with where the callback was made."""

import asyncio
import functools
import os
import signal
import socket


def fails(*args):
    raise ValueError("no")


def schedules(loop):
    loop.call_soon(fails, 1)


def turn():
    return asyncio.sleep(0.001)


async def main():
    loop = asyncio.get_running_loop()
    schedules(loop)
    await turn()
    loop.call_later(0, fails, "later")
    await turn()
    loop.call_at(loop.time(), functools.partial(fails, "at"))
    await turn()
    loop.call_soon_threadsafe(fails)
    await turn()
    future = loop.create_future()
    future.add_done_callback(fails)
    future.set_result(5)
    await turn()
    task = asyncio.create_task(asyncio.sleep(0), name="mine")
    task.add_done_callback(fails)
    await task
    await turn()
    a, b = socket.socketpair()
    with a, b:
        b.send(b"x")
        loop.add_reader(a, lambda: (loop.remove_reader(a), fails()))
        await turn()
    loop.add_signal_handler(signal.SIGUSR1, fails, "signal")
    os.kill(os.getpid(), signal.SIGUSR1)
    await turn()
    loop.remove_signal_handler(signal.SIGUSR1)


asyncio.run(main())
