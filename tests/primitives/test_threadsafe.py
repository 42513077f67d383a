"""run_coroutine_threadsafe(), wrap_future(), to_thread(): between threads, on any loop."""

import asyncio
import concurrent.futures
import contextvars
import gc
import threading
import weakref

import corolla
import pytest
from primitives.waiting import Awaitable, Oops, OwnFuture, fail, forever, give, since, turns

from primitives import waiting

lib, loop, run = waiting.lib, waiting.loop, waiting.run


@pytest.fixture
def aside(loop):
    """Runs a function on another thread while the loop runs; its result is returned."""

    def run_aside(function):
        async def main():
            outcome = loop.create_future()

            def work():
                try:
                    result = function()
                except BaseException as error:
                    loop.call_soon_threadsafe(outcome.set_exception, error)
                else:
                    loop.call_soon_threadsafe(outcome.set_result, result)

            thread = threading.Thread(target=work)
            thread.start()
            try:
                return await outcome
            finally:
                thread.join()

        return loop.run_until_complete(main())

    return run_aside


# ---- run_coroutine_threadsafe ----


def test_result(lib, loop, aside):
    assert aside(lambda: lib.run_coroutine_threadsafe(give(1, after=3), loop).result(10)) == 1
    assert aside(lambda: lib.run_coroutine_threadsafe(corolla.sleep(0, 2), loop=loop).result(10)) == 2
    with pytest.raises(Oops):
        aside(lambda: lib.run_coroutine_threadsafe(fail(Oops(), after=2), loop).result(10))


def test_it_is_a_concurrent_future(lib, loop, run):
    async def main():
        work = lib.run_coroutine_threadsafe(give(1), loop)
        assert type(work) is concurrent.futures.Future
        await turns(4)
        assert work.result(0) == 1

    run(main())


def test_context_is_the_callers(lib, loop, aside):
    var = contextvars.ContextVar("var", default="none")

    async def read():
        return var.get()

    def caller():
        var.set("caller")
        return lib.run_coroutine_threadsafe(read(), loop).result(10)

    assert aside(caller) == "caller"


def test_cancel_from_the_other_thread(lib, loop, aside):
    """python/cpython issue 105836: the task hears of it."""
    ended, begun = threading.Event(), threading.Event()

    async def child():
        begun.set()
        try:
            await forever()
        finally:
            ended.set()

    def caller():
        work = lib.run_coroutine_threadsafe(child(), loop)
        assert begun.wait(10)
        assert work.cancel()
        assert ended.wait(10)
        with pytest.raises(concurrent.futures.CancelledError):
            work.result(10)

    aside(caller)


def test_cancel_before_it_has_begun(lib, loop, run):
    since(lib, 3, 15)
    started = []

    async def child():
        started.append(1)

    async def main():
        work = lib.run_coroutine_threadsafe(child(), loop)
        work.cancel()
        await turns(4)
        assert work.cancelled()

    run(main())
    assert not started


def test_cancel_while_the_loop_is_busy(lib, loop, run):
    """python/cpython issue 105836."""
    log = []

    async def child():
        try:
            await forever()
        except asyncio.CancelledError:
            log.append("cancelled")
            raise

    async def main():
        work = lib.run_coroutine_threadsafe(child(), loop)
        await turns(3)
        thread = threading.Thread(target=work.cancel)
        thread.start()
        thread.join()  # the loop does nothing meanwhile
        await turns(3)
        assert log == ["cancelled"]

    run(main())


def test_cancel_as_the_loop_closes(loop):
    """python/cpython issue 105836: on the loop's own thread it is told at once, and needs no further turn."""
    tasks = []

    async def child():
        tasks.append(asyncio.current_task())
        await forever()

    async def main():
        work = corolla.run_coroutine_threadsafe(child(), loop)
        await turns(3)
        work.cancel()
        assert tasks[0].cancelling() == 1

    loop.run_until_complete(main())
    loop.run_until_complete(turns(3))
    assert tasks[0].cancelled()


def test_cancel_after_the_loop_was_closed(caplog):
    loop = corolla.new_event_loop()
    works = []

    async def main():
        works.append(corolla.run_coroutine_threadsafe(forever(), loop))
        await turns(3)
        for task in asyncio.all_tasks():
            task._log_destroy_pending = False

    loop.run_until_complete(main())
    loop.close()
    works[0].cancel()
    assert not caplog.records
    works.clear()
    gc.collect()


def test_task_is_cancelled(lib, loop, run):
    async def main():
        work = lib.run_coroutine_threadsafe(forever(), loop)
        await turns(2)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await turns(3)
        assert work.cancelled()

    run(main())


def test_errors_in_beginning(lib, loop, run, reports):
    def factory(loop, coro, **options):
        coro.close()
        raise Oops

    if isinstance(loop, waiting.SubclassedLoop):
        pytest.skip("makes its own tasks")

    async def main():
        loop.set_task_factory(factory)
        work = lib.run_coroutine_threadsafe(give(1), loop)
        await turns(3)
        loop.set_task_factory(None)
        assert isinstance(work.exception(0), Oops)

    run(main())
    (report,) = reports
    reports.clear()
    assert isinstance(report["exception"], Oops)


def test_interrupt_in_beginning(loop):
    def factory(loop, coro, **options):
        coro.close()
        raise KeyboardInterrupt

    our_loop = corolla.new_event_loop()
    our_loop.set_task_factory(factory)
    work = corolla.run_coroutine_threadsafe(give(1), our_loop)
    with pytest.raises(KeyboardInterrupt):
        our_loop.run_forever()
    assert not work.done()
    our_loop.close()


def test_exceptions_of_concurrent_futures_are_converted(lib, loop, run):
    async def main():
        work = lib.run_coroutine_threadsafe(fail(concurrent.futures.InvalidStateError("why")), loop)
        await turns(4)
        assert type(work.exception(0)) is asyncio.InvalidStateError
        assert work.exception(0).args == ("why",)

    run(main())


def test_misuse(lib, loop):
    future = loop.create_future()
    for wrong in (None, 1, future, Awaitable(1), give):
        with pytest.raises(TypeError, match="^A coroutine object is required$"):
            lib.run_coroutine_threadsafe(wrong, loop)
    coro = give(1)
    with pytest.raises(AttributeError):
        lib.run_coroutine_threadsafe(coro, None)
    with pytest.raises(TypeError):
        lib.run_coroutine_threadsafe(coro)
    coro.close()


def test_closed_loop(lib):
    loop = corolla.new_event_loop()
    loop.close()
    coro = give(1)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        lib.run_coroutine_threadsafe(coro, loop)
    coro.close()


def test_results_are_not_kept(loop, run):
    class Result:
        pass

    async def main():
        work = corolla.run_coroutine_threadsafe(make(), loop)
        await turns(4)
        dead = weakref.ref(work.result(0))
        del work
        assert dead() is None

    async def make():
        return Result()

    run(main())


# ---- wrap_future ----


def test_wrap_result(lib, loop, run):
    async def main():
        for settle, args in (("set_result", (1,)), ("set_exception", (Oops(),))):
            for early in (False, True):
                work = concurrent.futures.Future()
                if early:
                    getattr(work, settle)(*args)
                future = lib.wrap_future(work)
                assert future.get_loop() is loop
                if not early:
                    threading.Thread(target=getattr(work, settle), args=args).start()
                if settle == "set_result":
                    assert await future == 1
                else:
                    with pytest.raises(Oops):
                        await future

    run(main())


def test_wrap_cancelled_work(lib, loop, run):
    async def main():
        work = concurrent.futures.Future()
        future = lib.wrap_future(work, loop=loop)
        work.cancel()
        work.set_running_or_notify_cancel()
        with pytest.raises(asyncio.CancelledError):
            await future
        assert future.cancelled()

    run(main())


def test_wrap_cancel(lib, loop, run):
    async def main():
        work = concurrent.futures.Future()
        future = lib.wrap_future(future=work)
        future.cancel()
        await turns(2)
        assert work.cancelled()
        running = concurrent.futures.Future()
        running.set_running_or_notify_cancel()
        future = lib.wrap_future(running)
        future.cancel()
        await turns(2)
        assert not running.cancelled()
        running.set_result("late")
        await turns(2)
        assert future.cancelled()

    run(main())


def test_wrap_what_is_wrapped(lib, loop, run):
    async def main():
        for future in (
            loop.create_future(),
            asyncio.Future(loop=loop),
            corolla.Future(loop=loop),
            OwnFuture(loop=loop),
        ):
            assert lib.wrap_future(future) is future

    run(main())


def test_wrap_misuse(lib, loop, run):
    async def main():
        coro = give(1)
        for wrong in (None, 1, coro):
            with pytest.raises(AssertionError, match="concurrent.futures.Future is expected, got"):
                lib.wrap_future(wrong)
        coro.close()
        with pytest.raises(TypeError):
            lib.wrap_future()

    run(main())


def test_wrap_exceptions_of_concurrent_futures(lib, loop, run):
    async def main():
        for theirs, ours in (
            (concurrent.futures.InvalidStateError, asyncio.InvalidStateError),
            (concurrent.futures.CancelledError, asyncio.CancelledError),
        ):
            work = concurrent.futures.Future()
            work.set_exception(theirs("why"))
            try:
                await lib.wrap_future(work)
            except BaseException as error:
                assert type(error) is ours
                assert error.args == ("why",)

    run(main())


def test_wrap_and_the_loop_is_closed(lib):
    for make in (asyncio.SelectorEventLoop, corolla.EventLoop):
        loop = make()
        work = concurrent.futures.Future()
        future = lib.wrap_future(work, loop=loop)
        loop.close()
        work.set_result(1)
        assert not future.done()


def test_wrap_a_result_that_a_future_refuses(loop, run):
    async def main():
        work = concurrent.futures.Future()
        work.set_exception(StopIteration("never"))
        future = corolla.wrap_future(work)
        with pytest.raises((RuntimeError, TypeError)):
            await future

    run(main())


# ---- to_thread ----


def test_to_thread(lib, loop, run):
    var = contextvars.ContextVar("var", default="none")

    def work(*args, **kwargs):
        seen = var.get()
        var.set("changed there")
        return threading.get_ident(), args, kwargs, seen

    async def main():
        var.set("caller")
        ident, args, kwargs, seen = await lib.to_thread(work, 1, 2, a=3, func=4)
        assert ident != threading.get_ident()
        assert (args, kwargs) == ((1, 2), {"a": 3, "func": 4})
        assert seen == "caller"
        assert var.get() == "caller"
        with pytest.raises(Oops):
            await lib.to_thread(raise_oops)
        await loop.shutdown_default_executor()

    def raise_oops():
        raise Oops

    run(main())


def test_to_thread_context_is_that_of_the_await(lib, loop, run):
    var = contextvars.ContextVar("var", default="none")

    async def main():
        coro = lib.to_thread(var.get)
        var.set("by now")
        assert await coro == "by now"
        await loop.shutdown_default_executor()

    run(main())


def test_to_thread_misuse(lib, loop, run):
    with pytest.raises(TypeError):
        lib.to_thread()
    with pytest.raises(TypeError):
        lib.to_thread(func=print)
    coro = corolla.to_thread(print)
    with pytest.raises(RuntimeError, match="no running event loop"):
        coro.send(None)
    with pytest.warns(RuntimeWarning, match="coroutine 'to_thread' was never awaited"):
        corolla.to_thread(print)


def test_to_thread_cancelled(lib, loop, run):
    begun, go_on = threading.Event(), threading.Event()

    def work():
        begun.set()
        go_on.wait(10)

    async def main():
        task = asyncio.ensure_future(lib.to_thread(work))
        while not begun.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        await loop.shutdown_default_executor()

    run(main())
