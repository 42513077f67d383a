"""wait(): the same behaviour from asyncio's and from ours, on any loop."""

import asyncio
import gc
import weakref

import corolla
import pytest
from primitives.waiting import Awaitable, Oops, OwnFuture, fail, forever, give, turns

from primitives import waiting

lib, loop, run = waiting.lib, waiting.loop, waiting.run


def tasks(*coros):
    return [asyncio.ensure_future(coro) for coro in coros]


async def cancel_all(*futures):
    for future in futures:
        future.cancel()
    await turns(3)


# ---- Which are done ----


def test_all_completed(lib, run):
    async def main():
        given = tasks(give(1, after=3), give(2), fail(Oops(), after=1))
        for wanted in ({}, {"return_when": lib.ALL_COMPLETED}, {"timeout": 1000}):
            done, pending = await lib.wait(given, **wanted)
            assert (done, pending) == (set(given), set())
            assert type(done) is set
            assert type(pending) is set
        assert isinstance(given[2].exception(), Oops)

    run(main())


def test_first_completed(lib, run):
    async def main():
        given = tasks(give(1, after=10), give(2, after=3), forever())
        done, pending = await lib.wait(given, return_when=lib.FIRST_COMPLETED)
        assert done == {given[1]}
        assert pending == {given[0], given[2]}
        await cancel_all(*pending)

    run(main())


def test_first_exception(lib, run):
    async def main():
        given = tasks(give(1), fail(Oops(), after=4), forever())
        done, pending = await lib.wait(given, return_when=lib.FIRST_EXCEPTION)
        assert done == {given[0], given[1]}
        assert pending == {given[2]}
        await cancel_all(given[2])
        given = tasks(give(1), forever())
        asyncio.get_running_loop().call_soon(given[1].cancel)
        done, pending = await lib.wait(given, return_when=lib.FIRST_EXCEPTION)
        assert done == set(given)
        given[1].cancelled()

    run(main())


def test_first_exception_is_not_a_cancellation(lib, run, loop):
    async def main():
        given = [loop.create_future(), loop.create_future()]
        loop.call_soon(given[0].cancel)
        loop.call_later(0.002, given[1].set_result, None)
        done, pending = await lib.wait(given, return_when=lib.FIRST_EXCEPTION)
        assert done == set(given)

    run(main())


@pytest.mark.parametrize("timeout", [0.001, 0, -1])
def test_timeout(lib, run, timeout):
    async def main():
        given = tasks(give(1), forever())
        await turns(3)
        done, pending = await lib.wait(given, timeout=timeout)
        assert done == {given[0]}
        assert pending == {given[1]}
        assert not given[1].cancelled()
        await cancel_all(given[1])

    run(main())


def test_timeout_that_never_comes(lib, run):
    async def main():
        given = tasks(give(1, after=2))
        assert (await lib.wait(given, timeout=1000))[0] == set(given)

    run(main())


def test_every_kind_of_future(lib, run, loop):
    async def main():
        given = [loop.create_future(), asyncio.Future(loop=loop), corolla.Future(loop=loop), OwnFuture(loop=loop)]
        given += [corolla.Task(give(1), loop=loop), asyncio.Task(give(2), loop=loop)]
        for future in given[:4]:
            loop.call_soon(future.set_result, None)
        done, pending = await lib.wait(given)
        assert done == set(given)
        assert not pending

    run(main())


@pytest.mark.parametrize("container", [list, tuple, set, frozenset, dict.fromkeys, iter])
def test_every_kind_of_iterable(lib, run, container):
    async def main():
        given = tasks(give(1), give(2))
        done, pending = await lib.wait(container(given))
        assert done == set(given)

    run(main())


def test_duplicates(lib, run):
    async def main():
        (task,) = tasks(give(1, after=2))
        done, pending = await lib.wait([task, task, task])
        assert done == {task}

    run(main())


def test_many(lib, run):
    async def main():
        given = tasks(*(give(i, after=i % 7) for i in range(1000)))
        done, pending = await lib.wait(given)
        assert sum(task.result() for task in done) == 499500

    run(main())


def test_answer_that_is_there_already(run, loop):
    """Nothing is queued, no future is made."""

    async def main():
        done, pending = [loop.create_future() for _ in range(2)], [loop.create_future()]
        done[0].set_result(1)
        done[1].set_exception(Oops())
        log = []
        loop.call_soon(log.append, "turn")
        assert await corolla.wait(done) == (set(done), set())
        for when in (corolla.FIRST_COMPLETED, corolla.FIRST_EXCEPTION):
            assert await corolla.wait(done + pending, return_when=when) == (set(done), set(pending))
        assert not log
        done[1].exception()
        await turns(1)
        assert log

    run(main())


# ---- Cancelled ----


def test_cancel(lib, run, loop):
    async def main():
        given = tasks(forever(), forever())
        waiting = asyncio.ensure_future(lib.wait(given, timeout=1000))
        await turns(3)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not any(task.done() for task in given)
        await cancel_all(*given)

    run(main())


def test_cancelled_as_the_last_is_done(lib, run, loop):
    async def main():
        future = loop.create_future()
        waiting = asyncio.ensure_future(lib.wait([future]))
        await turns(3)
        future.set_result(None)
        await turns(1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    run(main())


def test_callbacks_are_taken_back(lib, run, loop):
    async def main():
        for make in (corolla.Future, asyncio.Future):
            future = make(loop=loop)
            for _ in range(3):
                await lib.wait([future], timeout=0)
                waiting = asyncio.ensure_future(lib.wait([future]))
                await turns(2)
                waiting.cancel()
                await turns(2)
            assert not future._callbacks

    run(main())


# ---- Misuse ----


def test_misuse(lib, run, loop):
    async def main():
        (task,) = tasks(give(1))
        coro = give(1)
        future = asyncio.Future(loop=loop)
        for wrong, name in ((task, type(task).__name__), (future, "Future"), (coro, "coroutine")):
            with pytest.raises(TypeError, match=f"^expect a list of futures, not {name}$"):
                await lib.wait(wrong)
        with pytest.raises(ValueError, match=r"^Set of Tasks/Futures is empty\.$"):
            await lib.wait([])
        with pytest.raises(ValueError, match="^Invalid return_when value: -1$"):
            await lib.wait([task], return_when=-1)
        with pytest.raises(ValueError, match="^Invalid return_when value: SOON$"):
            await lib.wait([task], return_when="SOON")
        with pytest.raises(TypeError, match="^Passing coroutines is forbidden, use tasks explicitly\\.$"):
            await lib.wait([task, coro])
        with pytest.raises(TypeError):
            await lib.wait(5)
        for wrong in ([1], [Awaitable(1)], ["x"]):
            with pytest.raises(AttributeError):
                await lib.wait(wrong)
        with pytest.raises(TypeError):
            lib.wait()
        with pytest.raises(TypeError):
            lib.wait([task], 5)
        with pytest.raises(TypeError):
            await lib.wait([asyncio.get_running_loop().create_future()], timeout="soon")
        coro.close()
        await task

    run(main())


def test_nothing_from_an_iterator(run):
    async def main():
        with pytest.raises(ValueError, match="empty"):
            await corolla.wait(iter([]))

    run(main())


def test_a_wrong_one_among_them(run, loop):
    """Those before it are let go."""

    async def main():
        futures = [corolla.Future(loop=loop) for _ in range(3)]
        with pytest.raises(AttributeError):
            await corolla.wait([*futures, 1])
        assert not any(future._callbacks for future in futures)

    run(main())


def test_awaited_twice_closed_dropped(run, loop):
    async def main():
        future = loop.create_future()
        coro = corolla.wait([future])
        coro.send(None)
        coro.close()
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await coro
        coro = corolla.wait([future], timeout=1000)
        coro.send(None)
        with pytest.raises(Oops):
            coro.throw(Oops)
        with pytest.warns(RuntimeWarning, match="coroutine 'wait' was never awaited"):
            corolla.wait([future])
        coro = corolla.wait([future], timeout=1000)
        coro.send(None)
        dead = weakref.ref(coro)
        del coro
        gc.collect()
        assert dead() is None or future._callbacks  # what it waits on holds it, as it does asyncio's
        future.cancel()
        await turns(2)

    run(main())


def test_dropped_with_what_it_waits_on(run, loop):
    async def main():
        future = corolla.Future(loop=loop)
        coro = corolla.wait([future])
        coro.send(None)
        dead = weakref.ref(coro), weakref.ref(future)
        del coro, future
        gc.collect()
        assert [ref() for ref in dead] == [None, None]

    run(main())


def test_outside_a_loop(loop):
    future = corolla.Future(loop=loop)
    coro = corolla.wait([future])
    with pytest.raises(RuntimeError, match="no running event loop"):
        coro.send(None)
    assert not future._callbacks


def test_debug_mode(lib, run, loop):
    loop.set_debug(True)

    async def main():
        given = tasks(give(1, after=2), forever())
        done, pending = await lib.wait(given, timeout=0.001)
        assert done == {given[0]}
        await cancel_all(given[1])

    run(main())


def test_future_whose_methods_raise(run, loop, reports):
    class Bad(corolla.Future):
        def remove_done_callback(self, callback):
            raise Oops

    async def main():
        with pytest.raises(Oops):
            await corolla.wait([Bad(loop=loop), Bad(loop=loop)], timeout=0)

    run(main())


@pytest.mark.parametrize("first_done", [True, False])
def test_subclassed_future_that_is_done_counts_once(lib, run, loop, first_done):
    class Own(asyncio.Future if lib is asyncio else corolla.Future):
        pass

    async def main():
        given = [Own(loop=loop), Own(loop=loop), loop.create_future()]
        for future in given[: 1 + first_done]:
            future.set_result(1)
        for future in given:
            loop.call_later(0.002, lambda future=future: future.done() or future.set_result(2))
        done, pending = await lib.wait(given)
        assert (done, pending) == (set(given), set())

    run(main())


@pytest.mark.parametrize("when", ["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"])
def test_completed_by_code_of_others_that_it_runs(run, loop, when):
    """The timeout is asked for its value after the futures were looked at."""

    class Completes:
        def __float__(self):
            future.set_exception(Oops())
            return 1000.0

    future = loop.create_future()

    async def main():
        others = [] if when == "ALL_COMPLETED" else [loop.create_future()]
        outcome = await corolla.wait([future, *others], timeout=Completes(), return_when=when)
        assert outcome == ({future}, set(others))
        assert isinstance(future.exception(), Oops)

    run(main())
