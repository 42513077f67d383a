"""asyncio's locks, events, conditions, semaphores, barriers and queues, on our loop."""

import asyncio
import random
import sys

import pytest
from impl import sleep


async def turns(count):
    for _ in range(count):
        await sleep(0)


def test_lock(run):
    order = []

    async def worker(lock, i):
        async with lock:
            order.append(i)
            await sleep(0)
            order.append(i)

    async def main():
        lock = asyncio.Lock()
        await asyncio.gather(*(worker(lock, i) for i in range(5)))
        assert not lock.locked()

    run(main())
    assert order == [i for i in range(5) for _ in range(2)]


def test_lock_with_a_cancelled_waiter(run):
    async def main():
        lock = asyncio.Lock()
        await lock.acquire()
        waiters = [asyncio.create_task(lock.acquire()) for _ in range(3)]
        await turns(2)
        lock.release()
        waiters[0].cancel()  # just woken
        await turns(4)
        assert waiters[0].cancelled() or waiters[0].done()
        if waiters[0].done() and not waiters[0].cancelled():
            lock.release()
            await turns(3)
        assert waiters[1].done()
        lock.release()
        await waiters[2]
        lock.release()

    run(main())


def test_event(run):
    async def main():
        event = asyncio.Event()
        waiters = [asyncio.create_task(event.wait()) for _ in range(5)]
        await turns(2)
        assert not any(waiter.done() for waiter in waiters)
        event.set()
        assert await asyncio.gather(*waiters) == [True] * 5
        assert await event.wait() is True
        event.clear()
        assert not event.is_set()

    run(main())


def test_condition(run):
    async def main():
        condition = asyncio.Condition()
        got = []

        async def consumer(i):
            async with condition:
                await condition.wait_for(lambda: len(items) > 0)
                got.append((i, items.pop()))

        items = []
        consumers = [asyncio.create_task(consumer(i)) for i in range(3)]
        await turns(3)
        for item in "abc":
            async with condition:
                items.append(item)
                condition.notify()
            await turns(4)
        await asyncio.gather(*consumers)
        assert sorted(got) == [(0, "a"), (1, "b"), (2, "c")]

    run(main())


def test_semaphore(run):
    async def main():
        semaphore = asyncio.BoundedSemaphore(3)
        running, most = [0], [0]

        async def worker():
            async with semaphore:
                running[0] += 1
                most[0] = max(most[0], running[0])
                await turns(2)
                running[0] -= 1

        await asyncio.gather(*(worker() for _ in range(20)))
        assert most == [3]
        with pytest.raises(ValueError):
            semaphore.release()

    run(main())


def test_barrier(run):
    async def main():
        barrier = asyncio.Barrier(3)
        positions = await asyncio.gather(*(barrier.wait() for _ in range(3)))
        assert sorted(positions) == [0, 1, 2]

    run(main())


@pytest.mark.parametrize("kind", [asyncio.Queue, asyncio.LifoQueue, asyncio.PriorityQueue])
def test_queue(run, kind):
    async def main():
        queue = kind(maxsize=3)
        got = []

        async def producer():
            for i in range(50):
                await queue.put(i)

        async def consumer():
            while True:
                got.append(await queue.get())
                queue.task_done()

        consumers = [asyncio.create_task(consumer()) for _ in range(2)]
        await producer()
        await queue.join()
        for task in consumers:
            task.cancel()
        await asyncio.wait(consumers)
        assert sorted(got) == list(range(50))
        with pytest.raises(asyncio.QueueEmpty):
            queue.get_nowait()

    run(main())


@pytest.mark.parametrize("seed", range(3))
def test_queue_loses_nothing_under_cancels(run, seed):
    # A getter is cancelled while it waits: what it would have got goes to another one.
    rng = random.Random(seed)

    async def main():
        queue = asyncio.Queue(maxsize=2)
        got = []

        async def consumer():
            item = await queue.get()
            got.append(item)

        async def producer():
            for i in range(300):
                await queue.put(i)

        task = asyncio.create_task(producer())
        consumers = set()
        while len(got) < 300:
            consumers.add(asyncio.create_task(consumer()))
            await turns(rng.randrange(3))
            if consumers and rng.random() < 0.3:
                rng.choice(sorted(consumers, key=lambda task: task.get_name())).cancel()
            consumers = {task for task in consumers if not task.done()}
        await task
        for consumer_task in consumers:
            consumer_task.cancel()
        if consumers:
            await asyncio.wait(consumers)
        assert got == list(range(300))

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Queue.shutdown came with 3.13")
def test_queue_shutdown(run):
    async def main():
        queue = asyncio.Queue()
        getters = [asyncio.create_task(queue.get()) for _ in range(3)]
        await turns(2)
        queue.shutdown()
        results = await asyncio.gather(*getters, return_exceptions=True)
        assert all(isinstance(result, asyncio.QueueShutDown) for result in results)

    run(main())
