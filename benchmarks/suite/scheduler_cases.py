"""Scheduler cases: no descriptor involved, but for the wakeup of the two cases with threads. loop_cases.py says what a case is."""

from __future__ import annotations

import asyncio
import threading
import time

from suite.implementations import Implementation
from suite.loop_cases import Cases, Stopwatch, nothing

case = Cases("scheduler")


@case("await sleep(0)", unit=100)
async def sleep_zero(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    sleep = implementation.sleep
    with watch:
        for _ in range(repetitions * 100):
            await sleep(0)


@case("create_task and await it", unit=100)
async def create_task_await(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    create_task = asyncio.get_running_loop().create_task
    with watch:
        for _ in range(repetitions * 100):
            await create_task(nothing())


@case("spawn 10,000 tasks, await all", unit=10_000)
async def spawn_burst(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    create_task = asyncio.get_running_loop().create_task
    with watch:
        for _ in range(repetitions):
            for task in [create_task(nothing()) for _ in range(10_000)]:
                await task


@case("gather of 100, each", unit=100)
async def gather(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    gather_all = implementation.gather
    with watch:
        for _ in range(repetitions):
            await gather_all(*[nothing() for _ in range(100)])


@case("call_soon chain", unit=100)
async def call_soon_chain(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    loop = asyncio.get_running_loop()
    call_soon = loop.call_soon
    done = loop.create_future()
    left = repetitions * 100

    def link() -> None:
        nonlocal left
        left -= 1
        if left:
            call_soon(link)
        else:
            done.set_result(None)

    with watch:
        call_soon(link)
        await done


@case("call_soon burst of 10,000", unit=10_000)
async def call_soon_burst(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    loop = asyncio.get_running_loop()
    call_soon = loop.call_soon
    with watch:
        for _ in range(repetitions):
            done = loop.create_future()
            for _ in range(9_999):
                call_soon(callback)
            call_soon(done.set_result, None)
            await done


def callback() -> None:
    pass


@case("call_later and cancel", unit=100)
async def call_later_cancel(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    # A hundred deadlines that are not reached, then a turn of the loop: what a server does with its timeouts.
    sleep = implementation.sleep
    call_later = asyncio.get_running_loop().call_later
    with watch:
        for _ in range(repetitions):
            for _ in range(100):
                call_later(60, callback).cancel()
            await sleep(0)


@case("timers that fire, 2,000 at once", unit=2_000)
async def timers_fire(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    # Scheduling and firing are timed, the wait for the deadlines is not: the thread sleeps through it, so the loop
    # finds all of them due, however coarse its clock. The deadlines come in no order and are all different.
    loop = asyncio.get_running_loop()
    call_later = loop.call_later
    delays = [0.002 + index * 7_919 % 2_000 * 1e-6 for index in range(2_000)]
    left = 0

    def fire() -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set_result(None)

    for _ in range(repetitions):
        left = 2_000
        done = loop.create_future()
        with watch:
            for delay in delays:
                call_later(delay, fire)
        time.sleep(0.006)  # noqa: ASYNC251 (the loop is to find the timers late)
        with watch:
            await done


@case("future: set in one task, awaited in another", unit=100)
async def future_set_await(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    # Two tasks in turn: each makes the future that it awaits next, and sets the one the other waits for.
    loop = asyncio.get_running_loop()
    create_future = loop.create_future
    rounds = repetitions * 50
    ping: asyncio.Future[asyncio.Future[None]] = create_future()

    async def partner() -> None:
        nonlocal ping
        for _ in range(rounds):
            pong = await ping
            ping = create_future()
            pong.set_result(None)

    with watch:
        task = loop.create_task(partner())
        for _ in range(rounds):
            pong = create_future()
            ping.set_result(pong)
            await pong
        await task


@case("call_soon_threadsafe from a thread", unit=10_000)
async def call_soon_threadsafe(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    start = threading.Event()

    def send() -> None:
        start.wait()
        call = loop.call_soon_threadsafe
        for _ in range(repetitions * 10_000 - 1):
            call(callback)
        call(done.set_result, None)

    thread = threading.Thread(target=send)
    thread.start()
    with watch:
        start.set()
        await done
    thread.join()


@case("run_in_executor", unit=100)
async def run_in_executor(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    run = asyncio.get_running_loop().run_in_executor
    await run(None, callback)  # the worker's thread is there before the clock runs
    with watch:
        for _ in range(repetitions * 100):
            await run(None, callback)
