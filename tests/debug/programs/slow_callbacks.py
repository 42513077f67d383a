"""What takes longer than slow_callback_duration is named."""

import asyncio
import functools
import os
import signal
import socket
import time


def be_slow():
    time.sleep(0.2)


def slow(*args):
    time.sleep(0.2)


class Named:
    def slow(self, *args):
        time.sleep(0.2)


async def slow_at_first():
    be_slow()
    await asyncio.sleep(0)


async def slow_after_a_sleep():
    await asyncio.sleep(0.001)
    be_slow()


async def slow_after_a_yield():
    await asyncio.sleep(0)
    be_slow()


async def slow_after_a_future(future):
    await future
    be_slow()


def turn():
    return asyncio.sleep(0.001)


async def main():
    loop = asyncio.get_running_loop()
    loop.slow_callback_duration = 0.15

    loop.call_soon(slow)
    await turn()
    loop.call_soon(slow, 1, "two")
    await turn()
    loop.call_soon(functools.partial(slow, 3), 4)
    await turn()
    loop.call_soon(Named().slow, 5)
    await turn()
    loop.call_soon_threadsafe(slow, "threadsafe")
    await turn()
    loop.call_later(0.001, slow, "later")
    await asyncio.sleep(0.005)

    handle = loop.call_soon(lambda: (handle.cancel(), slow()))
    await turn()

    await asyncio.create_task(slow_at_first(), name="first")
    await asyncio.create_task(slow_after_a_sleep(), name="sleep")
    await asyncio.create_task(slow_after_a_yield(), name="yield")
    future = loop.create_future()
    task = asyncio.create_task(slow_after_a_future(future), name="future")
    await turn()
    future.set_result(1)
    await task

    future = loop.create_future()
    future.add_done_callback(slow)
    future.set_result("done")
    await turn()
    future.add_done_callback(slow)
    await turn()

    task = asyncio.create_task(asyncio.sleep(0), name="with a callback")
    task.add_done_callback(slow)
    await task
    await turn()

    a, b = socket.socketpair()
    with a, b:
        loop.add_reader(a, lambda: (loop.remove_reader(a), slow()))
        b.send(b"x")
        await turn()
        loop.add_writer(a, lambda: (loop.remove_writer(a), slow()))
        await turn()

    loop.add_signal_handler(signal.SIGUSR1, slow, "signal")
    os.kill(os.getpid(), signal.SIGUSR1)
    await turn()
    loop.remove_signal_handler(signal.SIGUSR1)

    loop.slow_callback_duration = 60
    loop.call_soon(slow, "not that slow")
    await turn()


asyncio.run(main())
