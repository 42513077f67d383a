"""run_in_executor, the default executor and its shutdown; asynchronous generators and theirs."""

import asyncio
import concurrent.futures
import contextvars
import gc
import os
import sys
import threading
import time
import warnings
import weakref

import impl
import pytest
from impl import beyond_stdlib


@pytest.fixture
def pool():
    with concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix="mine") as pool:
        yield pool


@pytest.fixture
def blocked(pool):
    """Two jobs that hold both of the pool's threads until the event is set."""
    event = threading.Event()
    jobs = [pool.submit(event.wait) for _ in range(2)]
    yield event
    event.set()
    for job in jobs:
        job.result()


# ---- Results


def test_result(loop, run, pool):
    async def main():
        future = loop.run_in_executor(pool, divmod, 17, 5)
        assert asyncio.isfuture(future)
        assert isinstance(future, impl.Future)
        assert future.get_loop() is loop
        assert await future == (3, 2)
        assert await loop.run_in_executor(pool, list) == []
        assert await loop.run_in_executor(pool, max, *range(10)) == 9
        assert await loop.run_in_executor(executor=pool, func=dict) == {}

    run(main())


def test_default_executor(loop, run):
    async def main():
        names = await asyncio.gather(
            *(loop.run_in_executor(None, lambda: threading.current_thread().name) for _ in range(5))
        )
        assert all(name.startswith("asyncio_") for name in names)

    run(main())


def test_exceptions(loop, run, pool):
    async def main():
        for exc in (ValueError("x"), OSError(2, "y"), KeyError(1), SystemExit(3)):

            def job(exc=exc):
                raise exc

            with pytest.raises(type(exc)) as caught:
                await loop.run_in_executor(pool, job)
            assert caught.value is exc

    run(main())


def test_stop_iteration(loop, run, pool):
    """set_exception(StopIteration()) raised inside the callback that copies an executor result, so the awaiting task was
    never resumed (PITFALLS, scheduler)."""
    error = StopIteration(1)

    def job():
        raise error

    async def main():
        if sys.version_info < (3, 13) and not impl.IS_COROLLA:
            pytest.skip("beyond asyncio before 3.13")
        with pytest.raises(RuntimeError) as caught:
            await loop.run_in_executor(pool, job)
        assert caught.value.__cause__ is error

    run(main())


def test_exceptions_of_concurrent_futures(loop, run, pool):
    def cancelled():
        raise concurrent.futures.CancelledError("words")

    def invalid():
        raise concurrent.futures.InvalidStateError("words")

    async def main():
        with pytest.raises(asyncio.CancelledError):
            await loop.run_in_executor(pool, cancelled)
        with pytest.raises(asyncio.InvalidStateError, match="words"):
            await loop.run_in_executor(pool, invalid)

    run(main())


def test_many_from_many_threads(loop, run):
    """A worker-thread completion scheduled when the loop had parked did not wake it (PITFALLS, threads): completions at any
    time around the park point always do."""

    async def main():
        for round_ in range(300):
            assert await asyncio.wait_for(loop.run_in_executor(None, abs, -round_), 30) == round_
        found = await asyncio.gather(*(loop.run_in_executor(None, abs, -i) for i in range(1000)))
        assert found == list(range(1000))

    run(main())


def test_completions_after_random_delays(loop, run):
    """The same row: the waiting loop sees each within milliseconds; asleep, it would see none before the guard."""

    async def main():
        guard = loop.call_later(50, loop.stop)
        worst = 0.0
        for step in range(100):
            done = await loop.run_in_executor(
                None, lambda step=step: (time.sleep(step % 10 * 0.0001), time.monotonic())[1]
            )
            worst = max(worst, time.monotonic() - done)
        guard.cancel()
        assert worst < 5

    run(main())


def test_context_of_the_waiter_is_its_own(loop, run, pool):
    var = contextvars.ContextVar("var", default=0)

    async def main():
        var.set(1)
        assert await loop.run_in_executor(pool, var.get) == 0
        assert var.get() == 1

    run(main())


# ---- Cancelling


def test_cancelling_the_future_cancels_the_work(loop, run, pool, blocked):
    async def main():
        ran = []
        futures = [loop.run_in_executor(pool, ran.append, i) for i in range(3)]
        futures[1].cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        blocked.set()
        await asyncio.wait(futures)
        assert ran == [0, 2]
        assert futures[1].cancelled()

    run(main())


def test_cancelling_work_that_runs(loop, run, pool):
    """It cannot be stopped; what it comes to is dropped."""

    async def main():
        event = threading.Event()
        future = loop.run_in_executor(pool, event.wait)
        await asyncio.sleep(0.01)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future
        event.set()
        await loop.run_in_executor(pool, int)
        await asyncio.sleep(0)

    run(main())


def test_cancelling_the_work_cancels_the_future(loop, run):
    class Executor(concurrent.futures.Executor):
        def submit(self, func, /, *args):
            self.future = concurrent.futures.Future()
            return self.future

    async def main():
        executor = Executor()
        future = loop.run_in_executor(executor, int)
        await asyncio.sleep(0)
        executor.future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future

    run(main())


def test_loop_closed_before_the_work_is_done(loop, pool):
    """Calls from threads racing with close either run the callback or do nothing; never crash (PITFALLS, threads)."""
    event = threading.Event()
    jobs = []

    async def main():
        jobs.append(pool.submit(event.wait))
        jobs.append(loop.run_in_executor(pool, event.wait))

    loop.run_until_complete(main())
    loop.close()
    event.set()
    assert jobs[0].result()
    pool.shutdown()
    assert not jobs[1].done()


# ---- Executors of every kind


def test_executor_that_returns_something_else(loop, run):
    class Executor:
        def __init__(self, answer):
            self.answer = answer

        def submit(self, func, *args):
            return self.answer

    async def main():
        given = loop.create_future()
        assert loop.run_in_executor(Executor(given), int) is given
        with pytest.raises(AssertionError, match=r"concurrent\.futures\.Future is expected, got 5"):
            loop.run_in_executor(Executor(5), int)
        done = concurrent.futures.Future()
        done.set_result(7)
        assert await loop.run_in_executor(Executor(done), int) == 7
        with pytest.raises(AttributeError):
            loop.run_in_executor(5, int)

    run(main())


def test_submit_raises(loop, run, pool):
    async def main():
        pool.shutdown()
        with pytest.raises(RuntimeError, match="cannot schedule new futures"):
            loop.run_in_executor(pool, int)

    run(main())


def test_arguments(loop):
    with pytest.raises(TypeError):
        loop.run_in_executor()
    with pytest.raises(TypeError):
        loop.run_in_executor(None)
    with pytest.raises(TypeError):
        loop.run_in_executor(None, int, nothing=1)


def test_debug_checks(loop, run, pool):
    async def coroutine():
        pass

    loop.set_debug(True)
    with pytest.raises(TypeError, match=r"coroutines cannot be used with run_in_executor\(\)"):
        loop.run_in_executor(pool, coroutine)
    coro = coroutine()
    with pytest.raises(TypeError, match=r"coroutines cannot be used with run_in_executor\(\)"):
        loop.run_in_executor(pool, coro)
    coro.close()
    with pytest.raises(TypeError, match=r"a callable object was expected by run_in_executor\(\), got 5"):
        loop.run_in_executor(pool, 5)
    assert run(wait_for(loop, pool)) == 3


async def wait_for(loop, pool):
    return await loop.run_in_executor(pool, abs, -3)


def test_closed_loop(loop, pool):
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.run_in_executor(pool, int)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.run_in_executor(None, int)


def test_set_default_executor(loop, run):
    pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="mine")
    assert loop.set_default_executor(pool) is None
    assert run(name_of_thread(loop)).startswith("mine")
    loop.close()
    with pytest.raises(RuntimeError, match="cannot schedule new futures"):
        pool.submit(int)


async def name_of_thread(loop):
    return await loop.run_in_executor(None, lambda: threading.current_thread().name)


@pytest.mark.parametrize("wrong", [None, 5, concurrent.futures.Executor()])
def test_set_default_executor_of_another_kind(loop, wrong):
    with pytest.raises(TypeError, match="executor must be ThreadPoolExecutor instance"):
        loop.set_default_executor(wrong)
    with pytest.raises(TypeError):
        loop.set_default_executor()


# ---- Shutting down


def test_shutdown_default_executor(loop, run):
    finished = []

    async def main():
        loop.run_in_executor(None, lambda: (time.sleep(0.05), finished.append(1)))
        assert await loop.shutdown_default_executor() is None
        assert finished == [1]
        with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
            loop.run_in_executor(None, int)
        await loop.shutdown_default_executor()

    run(main())
    assert not [t for t in threading.enumerate() if t.name.startswith("asyncio_")]


def test_shutdown_without_an_executor(loop, run):
    run(loop.shutdown_default_executor())
    with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
        loop.run_in_executor(None, int)


@beyond_stdlib("asyncio waits for the threads all the same", until=(3, 13))
def test_shutdown_with_a_timeout(loop, run):
    event = threading.Event()

    async def main():
        loop.run_in_executor(None, event.wait)
        with pytest.warns(
            RuntimeWarning, match=r"The executor did not finishing joining its threads within 0\.05 seconds\."
        ) as caught:
            await loop.shutdown_default_executor(0.05)
        assert caught[0].filename == __file__
        event.set()

    run(main())
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join()


@beyond_stdlib("asyncio of 3.11 knows no timeout", until=(3, 12))
@pytest.mark.parametrize(
    "timeout", [10, 10.0, None, pytest.param(float("inf"), marks=beyond_stdlib("it overflows in the selector"))]
)
def test_shutdown_in_time(loop, run, timeout):
    async def main():
        await loop.run_in_executor(None, int)
        await loop.shutdown_default_executor(timeout=timeout)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(main())


@beyond_stdlib("asyncio of 3.11 knows no timeout", until=(3, 12))
def test_shutdown_with_a_bad_timeout(loop, run):
    async def main():
        await loop.run_in_executor(None, int)
        with pytest.raises(TypeError):
            await loop.shutdown_default_executor("soon")

    run(main())
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join()


@beyond_stdlib("asyncio waits for the threads all the same", until=(3, 13))
def test_cancelled_shutdown(loop, run):
    event = threading.Event()

    async def main():
        loop.run_in_executor(None, event.wait)
        task = asyncio.ensure_future(loop.shutdown_default_executor())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        event.set()

    run(main())
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join()


def test_shutdown_that_fails(loop, run):
    class Failing(concurrent.futures.ThreadPoolExecutor):
        fail = True

        def shutdown(self, wait=True, **more):
            if self.fail:
                raise ZeroDivisionError
            super().shutdown(wait, **more)

    pool = Failing(1)
    loop.set_default_executor(pool)
    with pytest.raises(ZeroDivisionError):
        run(loop.shutdown_default_executor())
    pool.fail = False


def test_nothing_is_leaked(loop, run, pool):
    class Thing:
        pass

    async def main():
        thing = Thing()
        gone = weakref.ref(thing)
        assert await loop.run_in_executor(pool, id, thing) == id(thing)
        await loop.run_in_executor(pool, int)  # the worker thread lets go of the last
        del thing
        for _ in range(5):
            await asyncio.sleep(0)
        gc.collect()
        assert gone() is None

    run(main())


# ---- call_soon_threadsafe, which completions are handed in by


@pytest.mark.parametrize("debug", [False, True])
def test_threads_hammering_a_loop_that_closes(debug):
    """Calls from threads racing with run and close either run the callback or raise RuntimeError; never crash, never write to
    a recycled descriptor. Seen in uvloop commit 4b803b1, python/cpython PR 22197 (bpo-39651)."""
    for _ in range(20):
        loop = impl.new_event_loop()
        loop.set_debug(debug)
        ran = []
        accepted = []
        go = threading.Event()

        def hammer(loop=loop, ran=ran, accepted=accepted, go=go):
            go.wait()
            try:
                while True:
                    loop.call_soon_threadsafe(ran.append, 1)
                    accepted.append(1)
            except RuntimeError as exc:
                assert str(exc) == "Event loop is closed"

        threads = [threading.Thread(target=hammer) for _ in range(3)]
        for thread in threads:
            thread.start()
        loop.call_later(0.005, loop.stop)
        loop.call_soon(go.set)
        loop.run_forever()
        loop.close()
        # What the loop closed is given to others at once: a late wakeup would be written there.
        r, w = os.pipe()
        os.set_blocking(r, False)
        for thread in threads:
            thread.join()
        with pytest.raises(BlockingIOError):
            os.read(r, 1)
        os.close(r)
        os.close(w)
        assert len(ran) <= len(accepted)


def test_idle_loop_sleeps(loop, run):
    """A wake-up channel that stays readable spins (PITFALLS, threads): after wakeups from threads, an idle loop uses no CPU."""

    async def main():
        for _ in range(10):
            await loop.run_in_executor(None, int)
        before = time.process_time()
        await asyncio.sleep(0.3)
        assert time.process_time() - before < 0.15

    run(main())


def test_run_coroutine_threadsafe_cancelled_from_a_thread(loop, run):
    """Cancelling the future from run_coroutine_threadsafe returned with the inner task not told (PITFALLS, threads)."""

    async def main():
        told = asyncio.Event()
        began = threading.Event()

        async def inner():
            began.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                told.set()
                raise

        def target():
            future = asyncio.run_coroutine_threadsafe(inner(), loop)
            began.wait()
            future.cancel()

        thread = threading.Thread(target=target)
        thread.start()
        await asyncio.wait_for(told.wait(), 30)
        await loop.run_in_executor(None, thread.join)

    run(main())


# ---- Asynchronous generators


async def agen(closed):
    try:
        yield 1
        yield 2
    finally:
        await asyncio.sleep(0)
        closed.append(1)


def test_shutdown_asyncgens(loop, run):
    closed = []

    async def main():
        kept = [agen(closed) for _ in range(3)]
        for each in kept:
            assert await anext(each) == 1
        finished = agen([])
        async for _ in finished:
            pass
        assert await loop.shutdown_asyncgens() is None
        assert closed == [1, 1, 1]
        await loop.shutdown_asyncgens()

    run(main())


def test_shutdown_asyncgens_without_any(loop, run):
    assert run(loop.shutdown_asyncgens()) is None


def test_shutdown_asyncgens_reports(loop, run, reports):
    error = ZeroDivisionError("words")

    async def bad():
        try:
            yield 1
        finally:
            raise error

    async def main():
        generator = bad()
        await anext(generator)
        await loop.shutdown_asyncgens()
        report = reports.pop()
        assert report["exception"] is error
        assert report["asyncgen"] is generator
        assert report["message"] == f"an error occurred during closing of asynchronous generator {generator!r}"

    run(main())


def test_a_dropped_generator_is_closed(loop, run):
    closed = []

    async def main():
        generator = agen(closed)
        await anext(generator)
        del generator
        gc.collect()
        while not closed:
            await asyncio.sleep(0)

    run(main())


def test_a_generator_dropped_on_another_thread(loop, run):
    closed = []

    async def main():
        box = [agen(closed)]
        await anext(box[0])
        await loop.run_in_executor(None, box.clear)
        while not closed:
            await asyncio.sleep(0)

    run(main())


def test_a_generator_begun_after_the_shutdown(loop, run):
    closed = []

    async def main():
        await loop.shutdown_asyncgens()
        generator = agen(closed)
        with pytest.warns(
            ResourceWarning, match=r"asynchronous generator .* was scheduled after loop\.shutdown_asyncgens\(\) call"
        ):
            await anext(generator)
        await generator.aclose()

    run(main())
    assert closed == [1]


def test_hooks_are_put_back(loop, run):
    before = sys.get_asyncgen_hooks()

    async def main():
        assert sys.get_asyncgen_hooks() != before

    run(main())
    assert sys.get_asyncgen_hooks() == before
