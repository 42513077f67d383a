"""Primitive cases: what a coroutine waits on. loop_cases.py says what a case is.

Each takes its names from the implementation: corolla's on corolla, the standard library's on asyncio and on uvloop,
which has none. A case in which somebody waits has tasks that wake each other, and its figure is the time for one
acquisition, item or turn. What a case awaits where a program would do its work is the implementation's own sleep(0).
"""

from __future__ import annotations

import asyncio
import time

from suite.implementations import Implementation
from suite.loop_cases import Cases, Stopwatch, nothing

case = Cases("primitives")


@case("queue put and get, unbounded", unit=100)
async def queue_unbounded(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    # In bursts of a hundred: neither side waits but at their ends.
    create_task = asyncio.get_running_loop().create_task
    sleep = implementation.sleep
    queue = implementation.Queue()

    async def produce() -> None:
        for _ in range(repetitions):
            for item in range(100):
                await queue.put(item)
            await sleep(0)

    async def consume() -> None:
        for _ in range(repetitions * 100):
            await queue.get()

    with watch:
        consumer = create_task(consume())
        await create_task(produce())
        await consumer


@case("queue put and get, 10 at most", unit=100)
async def queue_bounded(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    create_task = asyncio.get_running_loop().create_task
    queue = implementation.Queue(10)

    async def produce() -> None:
        for item in range(repetitions * 100):
            await queue.put(item)

    async def consume() -> None:
        for _ in range(repetitions * 100):
            await queue.get()

    with watch:
        consumer = create_task(consume())
        await create_task(produce())
        await consumer


@case("queue put and get, each item waited for", unit=100)
async def queue_ping_pong(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    # A request on one queue, its answer on the other: two items in one round.
    create_task = asyncio.get_running_loop().create_task
    requests, answers = implementation.Queue(), implementation.Queue()

    async def serve() -> None:
        for _ in range(repetitions * 50):
            await answers.put(await requests.get())

    with watch:
        server = create_task(serve())
        for item in range(repetitions * 50):
            await requests.put(item)
            await answers.get()
        await server


@case("lock, uncontended", unit=100)
async def lock_uncontended(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    lock = implementation.Lock()
    with watch:
        for _ in range(repetitions * 100):
            async with lock:
                pass


@case("lock, 10 tasks", unit=100)
async def lock_contended(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    create_task = asyncio.get_running_loop().create_task
    sleep = implementation.sleep
    lock = implementation.Lock()

    async def contend() -> None:
        for _ in range(repetitions * 10):
            async with lock:
                await sleep(0)

    with watch:
        for task in [create_task(contend()) for _ in range(10)]:
            await task


@case("semaphore of 5, 20 tasks", unit=100)
async def semaphore_contended(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    create_task = asyncio.get_running_loop().create_task
    sleep = implementation.sleep
    semaphore = implementation.Semaphore(5)

    async def contend() -> None:
        for _ in range(repetitions * 5):
            async with semaphore:
                await sleep(0)

    with watch:
        for task in [create_task(contend()) for _ in range(20)]:
            await task


@case("event, two tasks in turn", unit=100)
async def event_ping_pong(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    create_task = asyncio.get_running_loop().create_task
    ping, pong = implementation.Event(), implementation.Event()

    async def partner() -> None:
        for _ in range(repetitions * 50):
            await ping.wait()
            ping.clear()
            pong.set()

    with watch:
        task = create_task(partner())
        for _ in range(repetitions * 50):
            ping.set()
            await pong.wait()
            pong.clear()
        await task


@case("condition, two tasks in turn", unit=100)
async def condition_turns(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    create_task = asyncio.get_running_loop().create_task
    condition = implementation.Condition()
    turn = 0

    async def play(mine: int) -> None:
        nonlocal turn
        for _ in range(repetitions * 50):
            async with condition:
                while turn != mine:
                    await condition.wait()
                turn = 1 - mine
                condition.notify()

    with watch:
        players = [create_task(play(0)), create_task(play(1))]
        for player in players:
            await player


@case("TaskGroup of 100, each", unit=100)
async def task_group(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    task_group_type = implementation.TaskGroup
    with watch:
        for _ in range(repetitions):
            async with task_group_type() as group:
                for _ in range(100):
                    group.create_task(nothing())


@case("timeout context", unit=100)
async def timeout_context(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    timeout = implementation.timeout
    with watch:
        for _ in range(repetitions * 100):
            async with timeout(60):
                await nothing()


@case("wait_for a coroutine that yields", unit=100)
async def wait_for_coroutine(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    wait_for, sleep = implementation.wait_for, implementation.sleep

    async def work() -> None:
        await sleep(0)

    with watch:
        for _ in range(repetitions * 100):
            await wait_for(work(), 60)


@case("wait_for a future that is done", unit=100)
async def wait_for_done(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    wait_for = implementation.wait_for
    future = asyncio.get_running_loop().create_future()
    future.set_result(None)
    with watch:
        for _ in range(repetitions * 100):
            await wait_for(future, 60)


@case("shield a coroutine that yields", unit=100)
async def shield(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    shield_it, sleep = implementation.shield, implementation.sleep

    async def work() -> None:
        await sleep(0)

    with watch:
        for _ in range(repetitions * 100):
            await shield_it(work())


@case("wait for 100 tasks, each", unit=100)
async def wait(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    create_task = asyncio.get_running_loop().create_task
    wait_all = implementation.wait
    with watch:
        for _ in range(repetitions):
            await wait_all([create_task(nothing()) for _ in range(100)])


@case("as_completed of 100, each", unit=100)
async def as_completed(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    completed = implementation.as_completed
    with watch:
        for _ in range(repetitions):
            for next_one in completed([nothing() for _ in range(100)]):
                await next_one


@case("tasks that sleep, 1,000 at once", unit=1_000)
async def sleep_timers(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    # Falling asleep and waking up are timed, the sleep is not: as in timers_fire, the thread sleeps through it.
    create_task = asyncio.get_running_loop().create_task
    sleep = implementation.sleep
    delays = [0.002 + index * 3_919 % 1_000 * 1e-6 for index in range(1_000)]
    for _ in range(repetitions):
        with watch:
            tasks = [create_task(sleep(delay)) for delay in delays]
            await sleep(0)
        time.sleep(0.005)  # noqa: ASYNC251 (the loop is to find the timers late)
        with watch:
            await sleep(0)  # uvloop would go by the time before the sleep, and wait
            for task in tasks:
                await task
