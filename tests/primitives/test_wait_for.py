"""wait_for(): as `async with timeout(t): return await fut`, on any loop."""

import asyncio
import gc
import types
import weakref

import corolla
import pytest
from primitives.waiting import Awaitable, Oops, OwnFuture, fail, forever, give, since, turns

from primitives import waiting

lib, loop, run = waiting.lib, waiting.loop, waiting.run

# ---- Results ----


@pytest.mark.parametrize("timeout", [None, 1000, 1000.5])
def test_result(lib, run, loop, timeout):
    since(lib, 3, 12)

    async def main():
        assert await lib.wait_for(give(1), timeout) == 1
        assert await lib.wait_for(give(2, after=3), timeout) == 2
        assert await lib.wait_for(fut=asyncio.ensure_future(give(3, after=2)), timeout=timeout) == 3
        assert await lib.wait_for(Awaitable(4), timeout) == 4
        assert await lib.wait_for(corolla.sleep(0, 5), timeout) == 5
        for make in (loop.create_future, lambda: asyncio.Future(loop=loop), lambda: OwnFuture(loop=loop)):
            future = make()
            loop.call_soon(future.set_result, 6)
            assert await lib.wait_for(future, timeout) == 6
            assert await lib.wait_for(future, timeout) == 6
        with pytest.raises(Oops):
            await lib.wait_for(fail(Oops(), after=2), timeout)
        with pytest.raises(Oops):
            await lib.wait_for(asyncio.ensure_future(fail(Oops())), timeout)

    run(main())


def test_generator_based_coroutine(lib, run):
    since(lib, 3, 12)

    @types.coroutine
    def yields():
        yield
        return "value"

    async def main():
        assert await lib.wait_for(yields(), 1000) == "value"

    run(main())


def test_coroutine_runs_in_the_same_task(lib, run):
    """python/cpython PR 98518: no task is made for a coroutine."""
    since(lib, 3, 12)

    async def who():
        await turns(1)
        return asyncio.current_task()

    async def main():
        assert await lib.wait_for(who(), 1000) is asyncio.current_task()
        assert await lib.wait_for(who(), None) is asyncio.current_task()

    run(main())


def test_answer_that_is_there_already(run, loop):
    """Nothing is queued, no timer is made."""
    future = loop.create_future()
    future.set_result("there")
    failed = loop.create_future()
    failed.set_exception(Oops())

    async def main():
        log = []
        loop.call_soon(log.append, "turn")
        for timeout in (None, 1000, 0, -1):
            assert await corolla.wait_for(future, timeout) == "there"
            with pytest.raises(Oops):
                await corolla.wait_for(failed, timeout)
        assert await corolla.wait_for(give("at once"), 1000) == "at once"
        assert log == []
        await turns(1)
        assert log == ["turn"]

    run(main())


# ---- The time is up ----


def test_times_out(lib, run, loop):
    since(lib, 3, 12)

    async def main():
        inner = asyncio.ensure_future(forever())
        for awaitable in (forever(), inner, loop.create_future(), asyncio.Future(loop=loop), OwnFuture(loop=loop)):
            with pytest.raises(TimeoutError) as caught:
                await lib.wait_for(awaitable, 0.001)
            assert isinstance(caught.value.__cause__, asyncio.CancelledError)
            if asyncio.isfuture(awaitable):
                assert awaitable.cancelled()
        assert asyncio.current_task().cancelling() == 0

    run(main())


def test_inner_task_is_finished_first(lib, run):
    """python/cpython PR 7216: the inner task has ended, finally-blocks and all, before TimeoutError is raised."""
    log = []

    async def inner():
        try:
            await forever()
        finally:
            await turns(5)
            log.append("inner")

    async def main():
        for awaitable in (asyncio.ensure_future(inner()), inner()):
            with pytest.raises(TimeoutError):
                await lib.wait_for(awaitable, 0.001)
            log.append("outer")
        condition = asyncio.Condition()
        async with condition:
            with pytest.raises(TimeoutError):
                await lib.wait_for(condition.wait(), 0.001)
            assert condition.locked()

    run(main())
    assert log == ["inner", "outer"] * 2


def test_inner_task_that_refuses(lib, run):
    async def stubborn():
        try:
            await forever()
        except asyncio.CancelledError:
            await turns(2)
        return "stayed"

    async def main():
        assert await lib.wait_for(asyncio.ensure_future(stubborn()), 0.001) == "stayed"
        assert await lib.wait_for(stubborn(), 0.001) == "stayed"
        assert asyncio.current_task().cancelling() == 0

    run(main())


def test_inner_task_that_fails_on_cancel(lib, run):
    async def failing():
        try:
            await forever()
        finally:
            raise Oops

    async def main():
        for awaitable in (asyncio.ensure_future(failing()), failing()):
            with pytest.raises(Oops):
                await lib.wait_for(awaitable, 0.001)

    run(main())


def test_inner_that_raises_its_own_timeout_error(lib, run):
    async def main():
        mine = TimeoutError("mine")
        with pytest.raises(TimeoutError, match="mine") as caught:
            await lib.wait_for(fail(mine, after=1), 1000)
        assert caught.value is mine

    run(main())


# ---- No time at all ----


@pytest.mark.parametrize("timeout", [0, -1, -0.5, 0.0])
def test_no_time(lib, run, loop, timeout):
    since(lib, 3, 12)
    started = []

    async def inner():
        started.append(1)

    async def main():
        with pytest.raises(TimeoutError) as caught:
            await lib.wait_for(inner(), timeout)
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
        assert not started
        for future in (loop.create_future(), asyncio.Future(loop=loop), OwnFuture(loop=loop)):
            with pytest.raises(TimeoutError):
                await lib.wait_for(future, timeout)
            assert future.cancelled()
        with pytest.raises(TimeoutError):
            await lib.wait_for(Awaitable(1), timeout)
        future = loop.create_future()
        future.set_result("done")
        assert await lib.wait_for(future, timeout) == "done"
        future = asyncio.Future(loop=loop)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await lib.wait_for(future, timeout)

    run(main())


def test_no_time_and_a_task_that_cleans_up(lib, run):
    log = []

    async def inner():
        try:
            await forever()
        finally:
            await turns(3)
            log.append("cleaned up")

    async def main():
        task = asyncio.ensure_future(inner())
        await turns(1)
        with pytest.raises(TimeoutError):
            await lib.wait_for(task, 0)
        assert log == ["cleaned up"]

        async def stubborn():
            try:
                await forever()
            except asyncio.CancelledError:
                return "stayed"

        task = asyncio.ensure_future(stubborn())
        await turns(1)
        assert await lib.wait_for(task, 0) == "stayed"

        async def failing():
            try:
                await forever()
            finally:
                raise Oops

        task = asyncio.ensure_future(failing())
        await turns(1)
        with pytest.raises(Oops):
            await lib.wait_for(task, 0)

    run(main())


def test_no_time_and_a_cancel_from_outside(lib, run):
    """Whoever waits for the inner task to end can itself be cancelled."""
    log = []

    async def inner():
        try:
            await forever()
        finally:
            await turns(20)
            log.append("cleaned up")

    async def main():
        task = asyncio.ensure_future(inner())
        await turns(1)
        outer = asyncio.ensure_future(lib.wait_for(task, 0))
        await turns(3)
        outer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outer
        assert not log
        assert not task.done()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert log

    run(main())


# ---- Cancellation ----


def test_cancel(lib, run, loop):
    async def main():
        for make in (forever, lambda: asyncio.ensure_future(forever()), loop.create_future):
            for timeout in (None, 1000):
                awaitable = make()
                task = asyncio.ensure_future(lib.wait_for(awaitable, timeout))
                await turns(2)
                task.cancel("why")
                with pytest.raises(asyncio.CancelledError):
                    await task
                if asyncio.isfuture(awaitable):
                    assert awaitable.cancelled()

    run(main())


@pytest.mark.parametrize("timeout", [None, 1000])
@pytest.mark.parametrize("cancel_first", [True, False])
def test_cancelled_as_its_inner_completes(lib, run, loop, timeout, cancel_first):
    """python/cpython issue 86296: a cancellation that arrives with the result is not swallowed."""
    since(lib, 3, 12)

    async def main():
        for make in (loop.create_future, lambda: asyncio.Future(loop=loop), lambda: OwnFuture(loop=loop)):
            inner = make()
            task = asyncio.ensure_future(lib.wait_for(inner, timeout))
            await turns(2)
            if cancel_first:
                task.cancel()
                assert inner.cancelled()
            else:
                inner.set_result("late")
                task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task.cancelled()

    run(main())


def test_cancelled_as_its_inner_task_completes(lib, run):
    since(lib, 3, 12)

    async def main():
        inner = asyncio.ensure_future(give("late", after=3))
        task = asyncio.ensure_future(lib.wait_for(inner, 1000))
        inner.add_done_callback(lambda _: task.cancel())
        with pytest.raises(asyncio.CancelledError):
            await task
        assert inner.result() == "late"

    run(main())


def test_cancelled_before_it_starts(lib, run):
    started = []

    async def inner():
        started.append(1)

    async def main():
        coro = inner()
        task = asyncio.ensure_future(lib.wait_for(coro, 1000))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        coro.close()

    run(main())
    assert not started


def test_cancelled_as_the_time_is_up(lib, run, loop):
    since(lib, 3, 12)

    async def main():
        inner = loop.create_future()
        task = asyncio.ensure_future(lib.wait_for(inner, 0.001))
        inner.add_done_callback(lambda _: task.cancel())
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


@pytest.mark.parametrize("repeat", range(5))
def test_shared_future_and_a_lock(lib, run, repeat):
    """A wait_for() that times out on a lock does not take it along."""

    async def main():
        lock = asyncio.Lock()
        await lock.acquire()
        waiting = [asyncio.ensure_future(lib.wait_for(lock.acquire(), 0.001)) for _ in range(5)]
        for task in waiting:
            with pytest.raises(TimeoutError):
                await task
        lock.release()
        await lib.wait_for(lock.acquire(), 1000)
        assert lock.locked()

    run(main())


# ---- Misuse ----


def test_misuse(lib, run):
    since(lib, 3, 12)

    async def main():
        for wrong in (None, 1, "x", object()):
            with pytest.raises(TypeError):
                await lib.wait_for(wrong, 1000)
            with pytest.raises(TypeError):
                await lib.wait_for(wrong, 0)
        inner = forever()
        with pytest.raises(TypeError):
            await lib.wait_for(inner, "soon")
        inner.close()
        with pytest.raises(TypeError):
            lib.wait_for(1)
        with pytest.raises(TypeError):
            lib.wait_for()
        assert asyncio.current_task().cancelling() == 0

    run(main())


def test_awaited_twice(run):
    async def main():
        coro = corolla.wait_for(give(1), 1000)
        assert await coro == 1
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await coro
        inner = forever()
        task = asyncio.ensure_future(inner)
        await turns(1)
        for timeout in (1000, None):
            with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
                await corolla.wait_for(inner, timeout)
        task.cancel()
        await turns()

    run(main())


def test_never_awaited(run):
    async def main():
        inner = forever()
        with pytest.warns(RuntimeWarning, match="coroutine 'wait_for' was never awaited"):
            corolla.wait_for(inner, 1)
        inner.close()

    run(main())


def test_outside_a_task(loop):
    future = loop.create_future()
    coro = corolla.wait_for(future, 1000)
    with pytest.raises(RuntimeError, match="no running event loop"):
        coro.send(None)


@pytest.mark.parametrize("timeout", [None, 1000])
def test_closed_thrown_into_and_dropped(run, loop, timeout):
    log = []

    async def inner():
        try:
            await forever()
        except BaseException as error:
            log.append(type(error))
            raise

    async def main():
        coro = corolla.wait_for(inner(), timeout)
        coro.send(None)
        coro.close()
        assert log.pop() is GeneratorExit
        coro = corolla.wait_for(inner(), timeout)
        coro.send(None)
        with pytest.raises(Oops):
            coro.throw(Oops)
        assert log.pop() is Oops
        coro = corolla.wait_for(inner(), timeout)
        coro.send(None)
        dead = weakref.ref(coro)
        del coro
        assert dead() is None
        assert log.pop() is GeneratorExit
        coro = corolla.wait_for(loop.create_future(), timeout)
        coro.send(None)
        del coro
        assert asyncio.current_task().cancelling() == 0

    run(main())


def test_thrown_into_with_no_time(run):
    async def inner():
        try:
            await forever()
        finally:
            await turns(3)

    async def main():
        task = asyncio.ensure_future(inner())
        await turns(1)
        coro = corolla.wait_for(task, 0)
        coro.send(None)
        with pytest.raises(Oops):
            coro.throw(Oops)
        await turns()
        assert task.cancelled()

    run(main())


def test_comparison_that_raises(run):
    class Odd:
        def __le__(self, other):
            raise Oops

    async def main():
        inner = forever()
        with pytest.raises(Oops):
            await corolla.wait_for(inner, Odd())
        inner.close()

    run(main())


def test_future_of_another_loop(run, lib):
    since(lib, 3, 12)
    other = asyncio.SelectorEventLoop()

    async def main():
        with pytest.raises(RuntimeError, match="attached to a different loop"):
            await lib.wait_for(other.create_future(), 1000)

    run(main())
    other.close()


def test_debug_mode(lib, run, loop):
    loop.set_debug(True)

    async def main():
        assert await lib.wait_for(give(1, after=2), 1000) == 1
        for timeout in (0.001, 0):
            with pytest.raises(TimeoutError):
                await lib.wait_for(forever(), timeout)

    run(main())


def test_nothing_is_kept(lib, run, loop):
    """uvloop issue 239: neither results, nor futures, nor timers stay."""

    class Result:
        pass

    async def main():
        gc.collect()
        gc.disable()
        try:
            future = loop.create_future()
            result = Result()
            dead = [weakref.ref(result), weakref.ref(future)]
            loop.call_soon(future.set_result, result)
            del result
            await lib.wait_for(future, 1000)
            del future
            await turns(2)
            assert [ref() for ref in dead] == [None, None]
        finally:
            gc.enable()

    run(main())
