"""as_completed(): plain and asynchronous iteration, the same from asyncio's and from ours, on any loop."""

import asyncio
import gc
import weakref

import corolla
import pytest
from primitives.waiting import Awaitable, Oops, OwnFuture, fail, forever, give, since, turns

from primitives import waiting

lib, loop, run = waiting.lib, waiting.loop, waiting.run


# ---- Plain iteration ----


def test_results_as_they_come(lib, run):
    async def main():
        results = []
        for nearest in lib.as_completed([give("c", after=6), give("a", after=1), give("b", after=3)]):
            assert asyncio.iscoroutine(nearest)
            results.append(await nearest)
        assert results == ["a", "b", "c"]

    run(main())


def test_every_kind_of_awaitable(lib, run, loop):
    async def main():
        given = [loop.create_future(), asyncio.Future(loop=loop), corolla.Future(loop=loop), OwnFuture(loop=loop)]
        for number, future in enumerate(given):
            loop.call_soon(future.set_result, number)
        given += [Awaitable(4), give(5), corolla.sleep(0, 6), asyncio.ensure_future(give(7))]
        assert sorted([await nearest for nearest in lib.as_completed(given)]) == list(range(8))

    run(main())


@pytest.mark.parametrize("container", [list, tuple, set, frozenset, dict.fromkeys, iter])
def test_every_kind_of_iterable(lib, run, container):
    async def main():
        coros = [give(i, after=i) for i in range(3)]
        assert [await nearest for nearest in lib.as_completed(container(coros))] == [0, 1, 2]

    run(main())


def test_errors(lib, run):
    async def main():
        results = []
        for nearest in lib.as_completed([give(1, after=2), fail(Oops(), after=1), give(3, after=5)]):
            try:
                results.append(await nearest)
            except Oops:
                results.append("oops")
        assert results == ["oops", 1, 3]

    run(main())


def test_duplicates(lib, run):
    runs = []

    async def note():
        runs.append(1)
        await turns(2)
        return "noted"

    async def main():
        coro, future = note(), asyncio.ensure_future(give("future"))
        results = [await nearest for nearest in lib.as_completed([coro, future, coro, future])]
        assert sorted(results) == ["future", "noted"]

    run(main())
    assert runs == [1]


def test_nothing(lib, run):
    async def main():
        assert list(lib.as_completed([])) == []
        assert list(lib.as_completed(iter([]), timeout=1)) == []

    run(main())


def test_several_wait_at_once(lib, run):
    async def main():
        coros = [give(i, after=3 * i) for i in range(5)]
        waiting = [asyncio.ensure_future(nearest) for nearest in lib.as_completed(coros)]
        assert await asyncio.gather(*waiting) == [0, 1, 2, 3, 4]

    run(main())


def test_results_in_any_order_of_awaiting(lib, run):
    async def main():
        first, second = lib.as_completed([give("a"), give("b", after=4)])
        assert await second == "a"
        assert await first == "b"

    run(main())


def test_who_is_cancelled_takes_no_result(lib, run, loop):
    """As with a queue: what a waiter was woken for goes to the next."""

    async def main():
        futures = [loop.create_future() for _ in range(2)]
        one, two = [asyncio.ensure_future(nearest) for nearest in lib.as_completed(futures)]
        await turns(2)
        futures[0].set_result("first")
        await turns(1)  # `one` is woken, and has not run
        one.cancel()
        assert await two == "first"
        with pytest.raises(asyncio.CancelledError):
            await one
        futures[1].cancel()

    run(main())


def test_cancelled_child(lib, run, loop):
    async def main():
        future = loop.create_future()
        loop.call_soon(future.cancel)
        (nearest,) = lib.as_completed([future])
        with pytest.raises(asyncio.CancelledError):
            await nearest

    run(main())


# ---- Asynchronous iteration ----


def test_futures_as_they_come(lib, run, loop):
    since(lib, 3, 13)

    async def main():
        given = [asyncio.ensure_future(give(i, after=i)) for i in (6, 1, 3)]
        seen = [future async for future in lib.as_completed(given)]
        assert seen == [given[1], given[2], given[0]]
        seen = [future async for future in lib.as_completed([give(1, after=3), given[0], OwnFuture(loop=loop)][:2])]
        assert seen[0] is given[0]
        assert seen[1].result() == 1
        assert isinstance(seen[1], (asyncio.Task, corolla.Task))

    run(main())


def test_asynchronous_errors(lib, run):
    since(lib, 3, 13)

    async def main():
        async for future in lib.as_completed([fail(Oops(), after=1)]):
            with pytest.raises(Oops):
                await future
        async for _ in lib.as_completed([]):
            pytest.fail("nothing was given")

    run(main())


def test_both_iterations_of_one(lib, run):
    since(lib, 3, 13)

    async def main():
        iterator = lib.as_completed([give(i, after=i) for i in range(4)])
        assert iter(iterator) is iterator
        assert aiter(iterator) is iterator
        assert await next(iterator) == 0
        assert (await anext(iterator)).result() == 1
        assert await next(iterator) == 2
        assert (await anext(iterator)).result() == 3
        with pytest.raises(StopIteration):
            next(iterator)
        with pytest.raises(StopAsyncIteration):
            await anext(iterator)
        with pytest.raises(StopAsyncIteration):
            await anext(iterator)

    run(main())


# ---- The time is up ----


@pytest.mark.parametrize("timeout", [0.001, 0, -1])
def test_timeout(lib, run, timeout):
    async def main():
        slow = [asyncio.ensure_future(forever()) for _ in range(2)]
        iterator = iter(lib.as_completed([give("quick"), *slow], timeout=timeout))
        if timeout > 0:
            assert await next(iterator) == "quick"
        else:
            await turns(1)
            left = list(iterator)
            for nearest in left[:-2]:
                try:
                    assert await nearest == "quick"
                except TimeoutError:
                    pass
            iterator = iter(left[-2:])
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await next(iterator)
        with pytest.raises(StopIteration):
            next(iterator)
        for task in slow:
            assert not task.done()
            assert not [cb for cb in task._callbacks or () if "andle" in repr(cb)]
            task.cancel()
        await turns(2)

    run(main())


def test_asynchronous_timeout(lib, run):
    since(lib, 3, 13)

    async def main():
        slow, seen = asyncio.ensure_future(forever()), []
        with pytest.raises(TimeoutError):
            async for future in lib.as_completed([give("quick"), slow], timeout=0.001):
                seen.append(future.result())
        assert seen == ["quick"]
        slow.cancel()
        await turns(2)

    run(main())


def test_timeout_that_never_comes(lib, run, loop):
    async def main():
        assert [await nearest for nearest in lib.as_completed([give(1)], timeout=1000)] == [1]

    run(main())


def test_done_as_the_time_is_up(lib, run, loop):
    async def main():
        future = loop.create_future()
        (nearest,) = lib.as_completed([future], timeout=0.001)
        task = asyncio.ensure_future(nearest)
        with pytest.raises(TimeoutError):
            await task
        future.set_result("late")
        await turns(2)

    run(main())


# ---- And more ----


def test_answer_that_is_there_already(run, loop):
    """Nothing is queued, no future is made."""

    async def main():
        done = [loop.create_future() for _ in range(3)]
        for number, future in enumerate(done):
            future.set_result(number)
        log = []
        loop.call_soon(log.append, "turn")
        assert [await nearest for nearest in corolla.as_completed(done)] == [0, 1, 2]
        assert [future async for future in corolla.as_completed(done, timeout=1)] == done
        assert not log
        await turns(1)
        assert log

    run(main())


def test_misuse(lib, run, loop):
    since(lib, 3, 13)

    async def main():
        coro = give(1)
        for wrong in (coro, loop.create_future(), Awaitable(1)):
            with pytest.raises(TypeError):
                lib.as_completed(wrong)
        coro.close()
        with pytest.raises(TypeError):
            list(lib.as_completed(5))
        with pytest.raises(TypeError):
            list(lib.as_completed([5]))
        with pytest.raises(TypeError):
            list(lib.as_completed([[]]))
        with pytest.raises(TypeError):
            lib.as_completed()
        future = loop.create_future()
        with pytest.raises(TypeError):
            list(lib.as_completed([future], timeout="soon"))
        with pytest.raises(TypeError):
            lib.as_completed([], 5)

    run(main())


def test_message(run):
    async def main():
        coro = give(1)
        with pytest.raises(TypeError, match="^expects an iterable of awaitables, not coroutine$"):
            corolla.as_completed(coro)
        coro.close()

    run(main())


def test_futures_of_another_loop(lib, run):
    other = asyncio.SelectorEventLoop()
    future = other.create_future()

    async def main():
        with pytest.raises(ValueError, match="different loop"):
            list(lib.as_completed([future]))

    run(main())
    other.close()


def test_outside_a_running_loop():
    loop = corolla.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        future = loop.create_future()
        (nearest,) = corolla.as_completed([future])
        future.set_result(1)
        assert loop.run_until_complete(nearest) == 1
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def test_coroutines_awaited_twice_closed_and_dropped(run, loop):
    async def main():
        futures = [loop.create_future() for _ in range(4)]
        nearest = list(corolla.as_completed(futures))
        nearest[0].send(None)
        nearest[0].close()
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await nearest[0]
        nearest[1].send(None)
        with pytest.raises(Oops):
            nearest[1].throw(Oops)
        futures[3].set_result("fourth")
        await turns(1)
        assert await nearest[2] == "fourth"
        with pytest.warns(RuntimeWarning, match="_wait_for_one' was never awaited"):
            del nearest[3]
        for future in futures:
            future.cancel()
        await turns(2)

    run(main())


def test_half_made():
    loop = corolla.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        kind = type(corolla.as_completed([]))
        with pytest.raises(TypeError, match="cannot create"):
            kind()
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def test_debug_mode(lib, run, loop):
    loop.set_debug(True)

    async def main():
        slow = asyncio.ensure_future(forever())
        with pytest.raises(TimeoutError):
            for nearest in lib.as_completed([slow], timeout=0.001):
                await nearest
        slow.cancel()
        await turns(2)

    run(main())


def test_abandoned(run, loop):
    async def main():
        future = corolla.Future(loop=loop)
        iterator = corolla.as_completed([future], timeout=1000)
        coro = next(iterator)
        coro.send(None)
        coro.close()
        iterator_dead, dead = weakref.ref(coro), weakref.ref(future)
        del iterator, coro
        assert iterator_dead() is None
        future.cancel()
        await turns(2)
        del future
        gc.collect()
        assert dead() is None

    run(main())


def test_what_is_done_is_let_go(lib, run, loop):
    since(lib, 3, 13)

    async def main():
        class Result:
            pass

        result = Result()
        dead = weakref.ref(result)
        futures = [loop.create_future() for _ in range(2)]
        iterator = iter(lib.as_completed(futures))
        futures[0].set_result(result)
        assert await next(iterator) is result
        del futures[0], result
        await turns(2)
        gc.collect()
        assert dead() is None
        futures[0].set_result(None)
        await next(iterator)

    run(main())
