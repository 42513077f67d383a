"""asyncio's gather, wait, wait_for, shield, as_completed, timeout and TaskGroup, on our loop."""

import asyncio
import contextvars
import random
import sys

import pytest
from impl import beyond_stdlib, sleep


async def returns(value=None):
    return value


async def after(turns, value=None):
    for _ in range(turns):
        await sleep(0)
    return value


async def fails(error, turns=0):
    for _ in range(turns):
        await asyncio.sleep(0)
    raise error


# ---- gather ---------------------------------------------------------------------------------------------------------


def test_gather(run):
    async def main():
        assert await asyncio.gather() == []
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, "future")
        results = await asyncio.gather(after(3, 1), returns(2), future, asyncio.create_task(after(1, 4)))
        assert results == [1, 2, "future", 4]
        coro = after(1, "same")
        assert await asyncio.gather(coro, coro) == ["same", "same"]

    run(main())


def test_gather_of_many(run):
    async def main():
        assert await asyncio.gather(*(after(i % 5, i) for i in range(5000))) == list(range(5000))

    run(main())


def test_gather_errors(run):
    async def main():
        slow = asyncio.create_task(asyncio.sleep(1000))
        with pytest.raises(LookupError):
            await asyncio.gather(slow, fails(LookupError(), 2))
        assert not slow.done()
        slow.cancel()
        results = await asyncio.gather(slow, fails(LookupError()), returns(1), return_exceptions=True)
        assert [type(result) for result in results] == [asyncio.CancelledError, LookupError, int]

    run(main())


@pytest.mark.parametrize("return_exceptions", [False, True])
def test_gather_is_cancelled(run, return_exceptions):
    async def main():
        children = [asyncio.create_task(asyncio.sleep(1000)) for _ in range(3)]

        async def gatherer():
            await asyncio.gather(*children, return_exceptions=return_exceptions)

        task = asyncio.create_task(gatherer())
        await after(2)
        task.cancel("outer")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert all(child.cancelled() for child in children)

    run(main())


def test_gather_outside_the_loop(loop):
    async def make():
        return asyncio.gather(returns(1), returns(2))

    async def main():
        return await (await make())

    assert loop.run_until_complete(main()) == [1, 2]


# ---- wait, wait_for, as_completed, shield ---------------------------------------------------------------------------


@pytest.mark.parametrize("when", [asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION, asyncio.ALL_COMPLETED])
def test_wait(run, when):
    async def main():
        tasks = [
            asyncio.create_task(after(1, "first")),
            asyncio.create_task(fails(LookupError(), 4)),
            asyncio.create_task(after(8, "last")),
        ]
        done, pending = await asyncio.wait(tasks, return_when=when)
        expected = {asyncio.FIRST_COMPLETED: 1, asyncio.FIRST_EXCEPTION: 2, asyncio.ALL_COMPLETED: 3}[when]
        assert done == set(tasks[:expected])
        assert pending == set(tasks[expected:])
        if pending:
            await asyncio.wait(pending)
        assert isinstance(tasks[1].exception(), LookupError)

    run(main())


def test_wait_with_a_timeout(run):
    async def main():
        slow = asyncio.create_task(asyncio.sleep(1000))
        quick = asyncio.create_task(returns(1))
        done, pending = await asyncio.wait([slow, quick], timeout=0.001)
        assert (done, pending) == ({quick}, {slow})
        slow.cancel()
        done, pending = await asyncio.wait([slow])
        assert done == {slow}

    run(main())


def test_wait_for(run):
    async def main():
        assert await asyncio.wait_for(after(3, "in time"), 10) == "in time"
        assert await asyncio.wait_for(returns("no limit"), None) == "no limit"
        future = asyncio.get_running_loop().create_future()
        future.set_result("done")
        assert await asyncio.wait_for(future, 0) == "done"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(1000), 0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(1000), 0.001)
        with pytest.raises(LookupError):
            await asyncio.wait_for(fails(LookupError(), 1), 10)

    run(main())


def test_wait_for_waits_for_the_cleanup(run):
    order = []

    async def inner():
        try:
            await asyncio.sleep(1000)
        finally:
            await after(3)
            order.append("cleaned up")

    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(inner(), 0.001)
        order.append("timed out")

    run(main())
    assert order == ["cleaned up", "timed out"]


def test_wait_for_lets_go_of_a_condition(run):
    async def main():
        condition = asyncio.Condition()
        async with condition:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(condition.wait(), 0.001)
            assert condition.locked()
        assert not condition.locked()

    run(main())


def test_wait_for_is_cancelled(run):
    async def main():
        inner = asyncio.create_task(asyncio.sleep(1000))
        task = asyncio.create_task(asyncio.wait_for(inner, 500))
        await after(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert inner.cancelled()

    run(main())


@beyond_stdlib("3.11 swallows the cancellation: python/cpython 86296", until=(3, 12))
def test_wait_for_cancelled_as_its_inner_completes(run):
    if sys.version_info < (3, 12):
        pytest.skip("wait_for is still asyncio's own here, and 3.11's swallows it")

    async def main():
        future = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(asyncio.wait_for(future, 100))
        await after(2)
        future.set_result("late")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


def test_shield(run):
    async def main():
        inner = asyncio.create_task(after(5, "inner"))
        outer = asyncio.create_task(wait_shielded(inner))
        await after(2)
        outer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outer
        assert not inner.cancelled()
        assert await inner == "inner"
        assert await asyncio.shield(returns(1)) == 1

    async def wait_shielded(inner):
        return await asyncio.shield(inner)

    run(main())


def test_as_completed(run):
    async def main():
        results = []
        for next_done in asyncio.as_completed([after(6, "c"), after(1, "a"), after(3, "b")]):
            results.append(await next_done)
        assert results == ["a", "b", "c"]
        with pytest.raises(TimeoutError):
            for next_done in asyncio.as_completed([asyncio.sleep(1000)], timeout=0.001):
                await next_done
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await after(2)

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="as_completed became an async iterator in 3.13")
def test_as_completed_as_an_async_iterator(run):
    async def main():
        tasks = [asyncio.create_task(after(turns, turns)) for turns in (5, 1, 3)]
        seen = [task async for task in asyncio.as_completed(tasks)]
        assert [task.result() for task in seen] == [1, 3, 5]
        assert set(seen) == set(tasks)

    run(main())


# ---- timeout --------------------------------------------------------------------------------------------------------


def test_timeout(run):
    async def main():
        async with asyncio.timeout(10) as scope:
            await after(2)
        assert not scope.expired()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001) as scope:
                await asyncio.sleep(1000)
        assert scope.expired()
        assert asyncio.current_task().cancelling() == 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.sleep(1000)
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout_at(loop.time() - 1):
                await asyncio.sleep(1000)

    run(main())


def test_timeout_rescheduled(run):
    async def main():
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(0.0005) as scope:
            scope.reschedule(loop.time() + 1000)
            await asyncio.sleep(0.001)
        assert not scope.expired()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as scope:
                scope.reschedule(loop.time() + 0.001)
                await asyncio.sleep(1000)

    run(main())


def test_timeouts_nested(run):
    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1000) as outer:
                async with asyncio.timeout(0.001) as inner:
                    await asyncio.sleep(1000)
        assert inner.expired()
        assert not outer.expired()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001) as outer:
                async with asyncio.timeout(1000) as inner:
                    await asyncio.sleep(1000)
        assert outer.expired()
        assert not inner.expired()

    run(main())


def test_timeout_and_a_cancel_from_outside(run):
    async def child():
        async with asyncio.timeout(1000):
            await asyncio.sleep(1000)

    async def main():
        task = asyncio.create_task(child())
        await after(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelling() == 1

    run(main())


# ---- TaskGroup ------------------------------------------------------------------------------------------------------


def test_task_group(run):
    async def main():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(after(i, i), name=f"task {i}") for i in range(5)]
        assert [task.result() for task in tasks] == list(range(5))
        assert tasks[3].get_name() == "task 3"

    run(main())


def test_task_group_context(run):
    var = contextvars.ContextVar("var", default="outside")
    context = contextvars.copy_context()
    context.run(var.set, "given")

    async def child():
        return var.get()

    async def main():
        async with asyncio.TaskGroup() as group:
            own = group.create_task(child())
            given = group.create_task(child(), context=context)
        assert (own.result(), given.result()) == ("outside", "given")

    run(main())


def test_task_group_error(run):
    cancelled = []

    async def victim():
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    async def main():
        with pytest.raises(BaseExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(victim())
                group.create_task(fails(LookupError("a"), 2))
                await asyncio.sleep(1000)
        assert [type(error) for error in caught.value.exceptions] == [LookupError]
        assert asyncio.current_task().cancelling() == 0
        await sleep(0)

    run(main())
    assert cancelled == [1]


def test_task_group_body_error(run):
    async def main():
        with pytest.raises(BaseExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(1000))
                raise ZeroDivisionError
        assert asyncio.current_task().cancelling() == 0

    run(main())


def test_task_group_cancelled_from_outside(run):
    async def child():
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(asyncio.sleep(1000))

    async def main():
        task = asyncio.create_task(child())
        await after(3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())


def test_task_groups_nested(run):
    async def main():
        with pytest.raises(BaseExceptionGroup) as caught:
            async with asyncio.TaskGroup() as outer:
                outer.create_task(asyncio.sleep(1000))
                async with asyncio.TaskGroup() as inner:
                    inner.create_task(fails(LookupError(), 2))
        assert caught.value.subgroup(LookupError) is not None

    run(main())


def test_random_structures_end_clean(run):
    rng = random.Random(6)

    async def node(depth):
        match rng.randrange(6):
            case 0:
                await asyncio.sleep(0)
            case 1 if depth:
                await asyncio.gather(node(depth - 1), node(depth - 1), return_exceptions=True)
            case 2 if depth:
                async with asyncio.TaskGroup() as group:
                    for _ in range(2):
                        group.create_task(node(depth - 1))
            case 3 if depth:
                try:
                    await asyncio.wait_for(node(depth - 1), rng.choice([0, 0.0001, 10]))
                except TimeoutError:
                    pass
            case 4 if depth:
                try:
                    async with asyncio.timeout(rng.choice([0, 0.0001, 10])):
                        await node(depth - 1)
                except TimeoutError:
                    pass
            case 5:
                if rng.random() < 0.2:
                    raise LookupError

    async def main():
        for _ in range(150):
            task = asyncio.create_task(node(4))
            if rng.random() < 0.3:
                await after(rng.randrange(4))
                task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()
        for _ in range(3):
            await sleep(0)
        assert asyncio.current_task().cancelling() == 0

    run(main())
