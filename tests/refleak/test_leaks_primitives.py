"""Locks, queues, groups, timeouts: a thousand rounds leave blocks, objects, descriptors and malloc'ed bytes alone."""

import asyncio
import concurrent.futures
import contextvars

import corolla
import impl
import pytest

pytestmark = pytest.mark.timeout(240)


async def returns(value=None):
    return value


async def fails():
    raise LookupError("expected")


@pytest.mark.parametrize("kind", ["Lock", "Semaphore", "BoundedSemaphore"])
def test_locks(loop, leaks_nothing, kind):
    async def worker(lock):
        async with lock:
            await impl.sleep(0)

    class Mine(getattr(impl.api, kind)):
        pass

    async def operation():
        for lock in (getattr(impl.api, kind)(), Mine()):
            lock.attribute = lock
            tasks = [loop.create_task(worker(lock)) for _ in range(4)]
            await impl.sleep(0)
            tasks[1].cancel()
            repr(lock)
            await asyncio.wait(tasks)
            try:
                async with lock:
                    waiting = loop.create_task(lock.acquire())
                    await impl.sleep(0)
                    list(lock._waiters)
                    coro = lock.acquire()
                    coro.send(None)
                    coro.close()
                    raise LookupError
            except LookupError:
                await waiting
            lock.release()
            try:
                lock.release()
            except (RuntimeError, ValueError):
                pass

    leaks_nothing(operation, rounds=500)


def test_conditions(loop, leaks_nothing):
    async def wait(condition):
        async with condition:
            await condition.wait_for(iter([False, True]).__next__)

    class Mine(impl.api.Condition):
        pass

    async def operation():
        for condition in (impl.api.Condition(), Mine(asyncio.Lock()), impl.api.Condition(lock=Mine())):
            condition.attribute = condition
            tasks = [loop.create_task(wait(condition)) for _ in range(4)]
            await impl.sleep(0)
            await impl.sleep(0)
            async with condition:
                condition.notify(2)
                tasks[0].cancel()
                tasks[3].cancel()
                await impl.sleep(0)
                tasks[0].cancel()
                repr(condition)
                condition.notify_all()
            await asyncio.wait(tasks)
            try:
                condition.notify()
            except RuntimeError:
                pass

    leaks_nothing(operation, rounds=300)


def test_barriers(loop, leaks_nothing):
    async def operation():
        barrier = impl.api.Barrier(3)
        barrier.attribute = barrier
        tasks = [loop.create_task(barrier.wait()) for _ in range(5)]
        await impl.sleep(0)
        tasks[0].cancel()
        for _ in range(5):
            await impl.sleep(0)
        repr(barrier)
        await barrier.reset()
        tasks.append(loop.create_task(barrier.wait()))
        await impl.sleep(0)
        await barrier.abort()
        await asyncio.wait(tasks)
        for task in tasks:
            task.cancelled() or task.exception()

    leaks_nothing(operation, rounds=300)


def test_events(loop, leaks_nothing):
    async def operation():
        event = impl.api.Event()
        tasks = [loop.create_task(event.wait()) for _ in range(4)]
        await impl.sleep(0)
        tasks[1].cancel()
        list(event._waiters)
        event.set()
        await asyncio.wait(tasks)
        await event.wait()
        event.attribute = event.wait
        repr(event)

    leaks_nothing(operation)


@pytest.mark.parametrize("kind", ["Queue", "PriorityQueue", "LifoQueue"])
def test_queues(loop, leaks_nothing, kind):
    async def operation():
        queue = getattr(impl, kind)(2)
        putters = [loop.create_task(queue.put(item)) for item in (3, 1, 2, 4)]
        joiner = loop.create_task(queue.join())
        await impl.sleep(0)
        putters[3].cancel()
        for _ in range(3):
            await queue.get()
            queue.task_done()
        await joiner
        getters = [loop.create_task(queue.get()) for _ in range(3)]
        await impl.sleep(0)
        repr(queue)
        queue.put_nowait(1)
        getters[0].cancel()
        await impl.sleep(0)
        await impl.sleep(0)
        assert len(queue._getters) == 1
        assert not queue._queue
        queue.put_nowait(queue)
        await impl.sleep(0)
        await impl.sleep(0)
        queue.put_nowait(queue)
        for call in (queue.get_nowait, queue.get_nowait, lambda: getattr(impl, kind)(1, 2), queue.task_done):
            try:
                call()
            except (asyncio.QueueEmpty, TypeError):
                pass
        assert queue._finished is queue._finished
        queue.put_nowait(queue)

    leaks_nothing(operation)


def test_task_groups(loop, leaks_nothing):
    async def forever():
        await loop.create_future()

    async def body(how):
        async with impl.TaskGroup() as group:
            group.create_task(impl.sleep(0), name="named")
            group.create_task(returns(), context=contextvars.copy_context())
            if how == "error in a task":
                group.create_task(forever())
                group.create_task(fails())
                await forever()
            if how == "error in the body":
                group.create_task(forever())
                await fails()
            if how == "cancelled":
                await forever()
            if how == "misused":
                group.create_task(1)
            repr(group)
        group.create_task(returns())

    async def operation():
        for how in ("finished", "error in a task", "error in the body", "cancelled", "misused"):
            task = loop.create_task(body(how))
            await impl.sleep(0)
            await impl.sleep(0)
            if how == "cancelled":
                task.cancel()
            try:
                await task
            except (ExceptionGroup, RuntimeError, asyncio.CancelledError):
                pass

    leaks_nothing(operation)


def test_sleep_timeout_and_wait_for(loop, leaks_nothing):
    async def forever():
        await loop.create_future()

    async def operation():
        await corolla.sleep(0.00001)
        for timeout in (1000, 0, -1):
            try:
                async with corolla.timeout(timeout) as scope:
                    await corolla.sleep(0)
                    scope.reschedule(0)
                    await forever()
            except TimeoutError:
                pass
            try:
                await corolla.wait_for(loop.create_task(forever()), min(timeout, 0.00001))
            except TimeoutError:
                pass
        task = loop.create_task(corolla.wait_for(forever(), 1000))
        await corolla.sleep(0)
        task.cancel()
        await corolla.sleep(0)
        await corolla.wait_for(returns(), None)
        corolla.Timeout(1)

    leaks_nothing(operation, rounds=500)


def test_wait_shield_and_as_completed(loop, leaks_nothing):
    async def operation():
        futures = [loop.create_future() for _ in range(2)]
        await corolla.wait(futures, timeout=0)
        loop.call_soon(futures[0].set_result, None)
        await corolla.wait(futures, return_when=corolla.FIRST_COMPLETED)
        async for _ in corolla.as_completed(futures[:1]):
            pass
        for nearest in corolla.as_completed([returns(), futures[1]], timeout=0.00001):
            try:
                await nearest
            except TimeoutError:
                pass
        waiting = corolla.wait(futures)
        waiting.send(None)
        waiting.close()
        shielded = corolla.shield(futures[1])
        shielded.cancel()
        await corolla.shield(returns())
        corolla.shield(futures[1])
        await corolla.ensure_future(Awaitable())
        futures[1].cancel()
        await corolla.sleep(0)

    leaks_nothing(operation, rounds=500)


class Awaitable:
    def __await__(self):
        yield


def test_between_threads(loop, leaks_nothing):
    async def operation():
        work = corolla.run_coroutine_threadsafe(returns(), loop)
        await corolla.wrap_future(work)
        await corolla.to_thread(int, "5", base=10)
        work = corolla.run_coroutine_threadsafe(asyncio.Event().wait(), loop)
        await corolla.sleep(0)
        work.cancel()
        corolla.wrap_future(concurrent.futures.Future()).cancel()
        await corolla.sleep(0)
        await corolla.sleep(0)

    leaks_nothing(operation, rounds=300)
    loop.run_until_complete(loop.shutdown_default_executor())
