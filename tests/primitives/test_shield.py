"""shield(): the same behaviour from asyncio's and from ours, on any loop."""

import asyncio
import gc
import weakref

import corolla
import pytest
from primitives.waiting import Awaitable, Oops, OwnFuture, fail, give, since, turns

from primitives import waiting

lib, loop, run = waiting.lib, waiting.loop, waiting.run


def futures(loop):
    return [loop.create_future(), asyncio.Future(loop=loop), corolla.Future(loop=loop), OwnFuture(loop=loop)]


def test_result(lib, run, loop):
    async def main():
        assert await lib.shield(give(1)) == 1
        assert await lib.shield(give(2, after=5)) == 2
        assert await lib.shield(arg=Awaitable(3)) == 3
        assert await lib.shield(lib.shield(asyncio.ensure_future(give(4, after=2)))) == 4
        for inner in futures(loop):
            loop.call_soon(inner.set_result, 5)
            assert await lib.shield(inner) == 5
        with pytest.raises(Oops):
            await lib.shield(fail(Oops(), after=2))
        for inner in futures(loop):
            loop.call_soon(inner.set_exception, Oops())
            with pytest.raises(Oops):
                await lib.shield(inner)

    run(main())


def test_done_already(lib, run, loop):
    async def main():
        for inner in futures(loop):
            inner.set_result(1)
            assert lib.shield(inner) is inner

    run(main())


def test_outer_is_a_future_of_the_loop(lib, run, loop):
    async def main():
        inner = loop.create_future()
        outer = lib.shield(inner)
        assert type(outer) is type(inner)
        assert outer is not inner
        assert outer.get_loop() is loop
        inner.set_result(None)
        await outer

    run(main())


def test_cancel_outer(lib, run, loop):
    async def main():
        for inner in [*futures(loop), asyncio.ensure_future(give(1, after=20))]:
            outer = lib.shield(inner)
            assert outer.cancel("why")
            with pytest.raises(asyncio.CancelledError):
                await outer
            assert not inner.done()
            if isinstance(inner, (asyncio.Task, corolla.Task)):
                assert await inner == 1
            else:
                inner.set_result(1)
                await turns(2)

    run(main())


def test_cancel_the_task_that_waits(lib, run, loop):
    async def main():
        inner = asyncio.ensure_future(give("inner", after=8))

        async def wait():
            return await lib.shield(inner)

        task = asyncio.ensure_future(wait())
        await turns(3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not inner.cancelled()
        assert await inner == "inner"

    run(main())


def test_cancel_inner(lib, run, loop):
    async def main():
        for inner in futures(loop):
            outer = lib.shield(inner)
            inner.cancel()
            with pytest.raises(asyncio.CancelledError):
                await outer
            assert outer.cancelled()

    run(main())


def test_both_cancelled(lib, run, loop):
    async def main():
        for inner in futures(loop):
            outer = lib.shield(inner)
            outer.cancel()
            inner.cancel()
            await turns(3)
            outer = lib.shield(inner)
            assert outer is inner

    run(main())


def test_callbacks_are_taken_back(lib, run, loop):
    """bpo-35125: shields of one future, each cancelled, leave nothing with it that grows."""

    async def main():
        for inner in (corolla.Future(loop=loop), asyncio.Future(loop=loop)):
            for _ in range(10):
                lib.shield(inner).cancel()
                await turns(2)
            assert len(inner._callbacks or ()) <= 1
            inner.set_result(None)
            await turns(2)

    run(main())


def test_exception_after_the_outer_was_cancelled(lib, run, loop, reports):
    """python/cpython PR 134331: nobody waits for it any more, so it goes to the exception handler; once."""
    since(lib, 3, 14)

    async def main():
        for inner in futures(loop):
            for _ in range(3):
                lib.shield(inner).cancel()
                await turns(2)
            inner.set_exception(Oops("late"))
            await turns(3)
            (report,) = reports
            reports.clear()
            assert report["message"] == "Oops exception in shielded future"
            assert isinstance(report["exception"], Oops)
            assert report["future"] is inner
            assert "source_traceback" not in report

    run(main())


def test_source_traceback_in_that_report(run, loop, reports):
    async def main():
        loop.set_debug(True)
        inner = asyncio.ensure_future(fail(Oops("late"), after=4))
        corolla.shield(inner).cancel()
        await turns(6)
        (report,) = reports
        reports.clear()
        assert report["source_traceback"] == inner._source_traceback

    run(main())


def test_no_report_while_somebody_waits(run, loop, reports):
    async def main():
        inner = loop.create_future()
        corolla.shield(inner).cancel()
        await turns(2)
        inner.set_result(1)
        await turns(2)
        inner = loop.create_future()
        corolla.shield(inner).cancel()
        await turns(2)
        inner.cancel()
        await turns(2)
        assert not reports

    run(main())


def test_outer_done_by_somebody_else(run, loop, reports):
    async def main():
        inner = loop.create_future()
        outer = corolla.shield(inner)
        outer.set_result("mine")
        await turns(2)
        inner.set_result("theirs")
        await turns(2)
        assert outer.result() == "mine"

    run(main())


def test_exception_that_nobody_retrieves(run, loop, reports):
    async def main():
        corolla.shield(fail(Oops(), after=1))
        await turns(5)

    run(main())
    gc.collect()
    (report,) = reports
    reports.clear()
    assert "exception was never retrieved" in report["message"]


def test_misuse(lib, run, loop):
    async def main():
        for wrong in (None, 1, "x", object()):
            with pytest.raises(TypeError):
                lib.shield(wrong)
        with pytest.raises(TypeError):
            lib.shield()

    run(main())


def test_outside_a_running_loop(lib, loop):
    inner = loop.create_future()
    outer = lib.shield(inner)
    assert outer.get_loop() is loop
    inner.set_result(1)
    assert loop.run_until_complete(outer) == 1


def test_eager_inner(run, loop):
    async def main():
        inner = corolla.Task(give(1), loop=loop, eager_start=True)
        assert corolla.shield(inner) is inner

    run(main())


def test_both_are_collected_pending():
    loop = corolla.new_event_loop()
    inner = corolla.Future(loop=loop)
    outer = corolla.shield(inner)
    dead = weakref.ref(inner), weakref.ref(outer)
    del inner, outer
    gc.collect()
    assert [ref() for ref in dead] == [None, None]
    loop.close()


def test_nothing_is_kept(run, loop):
    async def main():
        gc.disable()
        try:
            for cancel in (False, True):
                inner = corolla.Future(loop=loop)
                outer = corolla.shield(inner)
                if cancel:
                    outer.cancel()
                else:
                    inner.set_result(None)
                await turns(3)
                dead = weakref.ref(inner), weakref.ref(outer)
                del inner, outer
                assert [ref() for ref in dead] == [None, None]
        finally:
            gc.enable()

    run(main())
