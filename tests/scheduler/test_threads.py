"""The loop and other threads: call_soon_threadsafe, executors, wakeups."""

import asyncio
import concurrent.futures
import errno
import os
import random
import signal
import threading
import time

import impl
import pytest
from impl import beyond_stdlib


def test_wakes_a_waiting_loop(loop):
    thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(loop.stop))
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()


def test_from_many_threads_in_order(loop):
    per_thread, threads = 2000, 4
    got = [[] for _ in range(threads)]
    left = [per_thread * threads]

    def receive(index, i):
        got[index].append(i)
        left[0] -= 1
        if not left[0]:
            loop.stop()

    def send(index):
        for i in range(per_thread):
            loop.call_soon_threadsafe(receive, index, i)

    workers = [threading.Thread(target=send, args=(index,)) for index in range(threads)]
    for worker in workers:
        worker.start()
    loop.run_forever()
    for worker in workers:
        worker.join()
    assert got == [list(range(per_thread))] * threads


def test_at_random_points_around_the_park(loop):
    """Seen in RustedBytes/rsloop commit 5de6b38: a call that came between the last look at the inbox and the poll did not
    wake the loop."""
    # A call that comes while the loop is between its last look at the inbox and its poll must still wake it.
    rng = random.Random(5)

    async def main():
        for _ in range(300):
            future = loop.create_future()
            spin = rng.randrange(400)

            def complete(future=future, spin=spin):
                for _ in range(spin):
                    pass
                loop.call_soon_threadsafe(future.set_result, None)

            thread = threading.Thread(target=complete)
            thread.start()
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
            await future
            thread.join()

    loop.run_until_complete(main())


def test_before_the_loop_runs(loop, turn):
    calls = []
    thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(calls.append, 1))
    thread.start()
    thread.join()
    assert calls == []
    turn()
    turn()
    assert calls == [1]


def test_a_burst_that_is_larger_than_any_queue(loop):
    count = 50_000
    seen = []

    def burst():
        for i in range(count):
            loop.call_soon_threadsafe(seen.append, i)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=burst)
    thread.start()
    thread.join()
    loop.run_forever()
    assert seen == list(range(count))


def test_the_handle_can_be_cancelled(loop, turn):
    calls = []
    handle = loop.call_soon_threadsafe(calls.append, 1)
    assert isinstance(handle, asyncio.Handle)
    handle.cancel()
    turn()
    turn()
    assert calls == []


def test_cancelled_by_another_thread(loop):
    calls = []

    async def main():
        for _ in range(100):
            handle = loop.call_later(1000, calls.append, 1)
            await loop.run_in_executor(None, loop.call_soon_threadsafe, handle.cancel)
            while not handle.cancelled():
                await asyncio.sleep(0)

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())
    assert calls == []


@pytest.mark.parametrize("rounds", [60])
def test_racing_with_close(rounds):
    """Seen in uvloop commit 4b803b1: it touched what is the loop's thread's alone. Either the callback is queued or
    RuntimeError raised."""
    for _ in range(rounds):
        loop = impl.new_event_loop()
        started = threading.Event()
        errors = []

        def hammer(loop=loop, started=started, errors=errors):
            started.set()
            try:
                while True:
                    loop.call_soon_threadsafe(int)
            except RuntimeError as error:
                errors.append(str(error))

        thread = threading.Thread(target=hammer)
        thread.start()
        started.wait()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        thread.join()
        assert errors == ["Event loop is closed"]


def test_no_recycled_descriptor_is_written_to():
    """Seen in python/cpython PR 22197 (bpo-39651): after close() the number of its wakeup descriptor may be anybody's."""
    # After close() its wakeup descriptor may be anybody's.
    for _ in range(50):
        loop = impl.new_event_loop()
        loop.run_until_complete(asyncio.sleep(0))
        errors = []

        def hammer(loop=loop, errors=errors):
            try:
                while True:
                    loop.call_soon_threadsafe(int)
            except RuntimeError:
                errors.append(1)

        thread = threading.Thread(target=hammer)
        thread.start()
        loop.close()
        pipes = [os.pipe() for _ in range(8)]
        thread.join()
        for read, write in pipes:
            os.close(write)
            assert os.read(read, 100) == b""
            os.close(read)


def test_from_a_signal_handler(loop):
    calls = []

    def handler(signum, frame):
        loop.call_soon_threadsafe(calls.append, signum)
        loop.call_soon_threadsafe(loop.stop)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
        loop.run_forever()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert calls == [signal.SIGUSR1]


def test_a_signal_from_another_thread_interrupts_the_wait(loop):
    class Interrupt(BaseException):
        pass

    def handler(signum, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, handler)
    main = threading.main_thread().ident
    try:
        for _ in range(20):
            thread = threading.Thread(target=lambda: signal.pthread_kill(main, signal.SIGUSR1))
            loop.call_soon(thread.start)
            with pytest.raises(KeyboardInterrupt):
                loop.run_forever()
            thread.join()
            assert not loop.is_running()
        assert loop.run_until_complete(asyncio.sleep(0, "usable")) == "usable"
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_the_lock_of_the_interpreter_is_free_while_it_waits(loop):
    progress = []

    def work():
        for i in range(1000):
            progress.append(i)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=work)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert len(progress) == 1000


def test_other_threads_get_on_while_the_loop_is_busy(loop):
    done = threading.Event()

    def spin():
        if done.is_set():
            loop.stop()
        else:
            loop.call_soon(spin)

    thread = threading.Thread(target=done.set)
    loop.call_soon(thread.start)
    loop.call_soon(spin)
    loop.run_forever()
    thread.join()


def test_timers_and_io_get_on_while_the_loop_is_busy(loop):
    # Polls may be put off while jobs are ready, but not for long.
    read, write = os.pipe()
    seen = []

    def spin():
        if len(seen) < 2:
            loop.call_soon(spin)
        else:
            loop.stop()

    def readable():
        os.read(read, 10)
        loop.remove_reader(read)
        seen.append("io")

    loop.add_reader(read, readable)
    loop.call_later(0.0005, seen.append, "timer")
    os.write(write, b"x")
    loop.call_soon(spin)
    start = time.monotonic()
    loop.run_forever()
    assert sorted(seen) == ["io", "timer"]
    assert time.monotonic() - start < 5
    os.close(read)
    os.close(write)


# ---- executors --------------------------------------------------------------------------------------------------------


def test_run_in_executor(loop):
    async def main():
        return await asyncio.gather(
            loop.run_in_executor(None, threading.get_ident),
            loop.run_in_executor(None, int, "5"),
        )

    ident, five = loop.run_until_complete(main())
    assert ident != threading.get_ident()
    assert five == 5
    loop.run_until_complete(loop.shutdown_default_executor())


def test_run_in_executor_gives_a_future_of_ours(loop):
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        future = loop.run_in_executor(executor, int)
        assert type(future) is impl.Future
        assert loop.run_until_complete(future) == 0


def test_exceptions_of_the_job(loop):
    def job():
        raise LookupError("in the job")

    with pytest.raises(LookupError, match="in the job"):
        loop.run_until_complete(loop.run_in_executor(None, job))
    loop.run_until_complete(loop.shutdown_default_executor())


def test_set_default_executor(loop):
    executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="mine")
    loop.set_default_executor(executor)
    name = loop.run_until_complete(loop.run_in_executor(None, lambda: threading.current_thread().name))
    assert name.startswith("mine")
    for bad in (None, 5, object()):
        with pytest.raises(TypeError, match="executor must be ThreadPoolExecutor instance"):
            loop.set_default_executor(bad)
    loop.run_until_complete(loop.shutdown_default_executor())


def test_after_shutdown_default_executor(loop):
    loop.run_until_complete(loop.shutdown_default_executor())
    with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
        loop.run_in_executor(None, int)
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        assert loop.run_until_complete(loop.run_in_executor(executor, int)) == 0


def test_cancelling_a_job_not_yet_begun(loop):
    started, go_on = threading.Event(), threading.Event()

    def block():
        started.set()
        go_on.wait()

    with concurrent.futures.ThreadPoolExecutor(1) as executor:

        async def main():
            blocked = loop.run_in_executor(executor, block)
            waiting = loop.run_in_executor(executor, int)
            await asyncio.to_thread(started.wait)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            go_on.set()
            await blocked

        loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())


def test_close_does_not_wait_for_jobs():
    loop = impl.new_event_loop()
    go_on, done = threading.Event(), threading.Event()

    def job():
        go_on.wait()
        done.set()

    future = loop.run_in_executor(None, job)
    loop.close()
    assert not done.is_set()
    go_on.set()
    done.wait()
    assert not future.done()


def test_shutdown_waits_for_jobs(loop):
    go_on = threading.Event()
    order = []

    def job():
        go_on.wait()
        order.append("job")

    async def main():
        future = loop.run_in_executor(None, job)
        shutdown = asyncio.ensure_future(loop.shutdown_default_executor())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not shutdown.done()
        go_on.set()
        await shutdown
        order.append("shut down")
        await future

    loop.run_until_complete(main())
    assert order == ["job", "shut down"]


def test_completions_against_many_short_jobs(loop):
    async def main():
        for i in range(300):
            assert await loop.run_in_executor(None, lambda i=i: i) == i
        results = await asyncio.gather(*(loop.run_in_executor(None, int, i) for i in range(500)))
        assert results == list(range(500))

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())


def test_order_across_threads(loop):
    """What a thread posted before comes before: call_soon_threadsafe() from a thread that has ended, then call_soon()."""
    ran = []

    def post_from_a_thread_then_here():
        poster = threading.Thread(target=loop.call_soon_threadsafe, args=(ran.append, "thread"))
        poster.start()
        poster.join()
        loop.call_soon(ran.append, "here")
        loop.call_soon_threadsafe(ran.append, "here, threadsafe")
        loop.call_soon(loop.stop)

    loop.call_soon(post_from_a_thread_then_here)
    loop.run_forever()
    assert ran == ["thread", "here", "here, threadsafe"]


@beyond_stdlib("its handles came to wait with 3.14", until=(3, 14))
def test_cancel_waits_for_a_callback_that_runs(loop):
    """Seen in Kludex/zuvloop commits 664c29d and 0c4f613: the cancelling thread went on while the callback was still
    using what it was about to take away."""
    order = []
    running, cancelling, hurried = threading.Event(), threading.Event(), threading.Event()

    def callback():
        running.set()
        cancelling.wait()
        hurried.wait(0.05)  # time enough for a cancel() that does not wait
        order.append("ran")

    def cancel():
        for _ in range(2):
            handle.cancel()
        order.append("cancelled")
        hurried.set()
        loop.call_soon_threadsafe(loop.stop)

    def canceller():
        running.wait()
        cancelling.set()
        cancel()

    handle = loop.call_soon_threadsafe(callback)
    thread = threading.Thread(target=canceller)
    thread.start()
    loop.run_forever()
    thread.join()
    assert order == ["ran", "cancelled"]
    assert handle.cancelled()


def test_cancel_from_inside_its_callback(loop):
    """The same: a lock of its own would have it wait for itself."""
    calls = []

    def callback():
        handle.cancel()
        calls.append(handle.cancelled())
        loop.stop()

    handle = loop.call_soon_threadsafe(callback)
    loop.run_forever()
    assert calls == [True]


@beyond_stdlib("its handles came to wait with 3.14", until=(3, 14))
def test_many_threads_cancel_the_same(loop):
    ran, begun, seen = [], threading.Event(), []
    barrier = threading.Barrier(5)

    def callback():
        begun.set()
        barrier.wait()
        time.sleep(0.01)
        ran.append(1)

    def canceller():
        begun.wait()
        barrier.wait()
        handle.cancel()
        seen.append(list(ran))

    for _ in range(5):
        begun.clear()
        ran.clear()
        threads = [threading.Thread(target=canceller) for _ in range(4)]
        handle = loop.call_soon_threadsafe(callback)
        for thread in threads:
            thread.start()
        loop.call_later(0.02, loop.stop)
        loop.run_forever()
        for thread in threads:
            thread.join()
    assert seen == [[1]] * 20


def test_cancel_that_waits_can_be_interrupted(loop):
    """By a signal handler that raises: the loop may be in a thread, and stuck."""

    class Interrupt(Exception):
        pass

    def handler(signum, frame):
        raise Interrupt

    main_thread = threading.get_ident()
    begun, go_on = threading.Event(), threading.Event()

    def callback():
        begun.set()
        time.sleep(0.05)
        signal.pthread_kill(main_thread, signal.SIGUSR1)
        go_on.wait()
        loop.stop()

    old = signal.signal(signal.SIGUSR1, handler)
    try:
        handle = loop.call_soon_threadsafe(callback)
        thread = threading.Thread(target=loop.run_forever)
        with pytest.raises(Interrupt):
            thread.start()
            begun.wait()
            handle.cancel()
            time.sleep(60)
    finally:
        go_on.set()
        thread.join()
        signal.signal(signal.SIGUSR1, old)


@beyond_stdlib("it swallows the error, and the loop sleeps on")
def test_a_wakeup_that_fails_is_told():
    """Seen in python/cpython issue 156054: an error in writing the wakeup byte was swallowed, and work that an executor had
    done never woke the loop. EAGAIN means that a wakeup is pending already; whatever else is raised."""

    def eventfds():
        return {
            int(name)
            for name in os.listdir("/proc/self/fd")
            if os.path.islink(f"/proc/self/fd/{name}") and "eventfd" in os.readlink(f"/proc/self/fd/{name}")
        }

    errors, calls = [], []

    def post(sleeping):
        sleeping.wait()
        for _ in range(3):
            try:
                loop.call_soon_threadsafe(calls.append, 1)
            except OSError as exc:
                errors.append(exc.errno)

    before = eventfds()
    loop = impl.new_event_loop()
    (wakeup,) = eventfds() - before
    os.close(wakeup)
    sleeping = threading.Event()
    thread = threading.Thread(target=post, args=(sleeping,))
    thread.start()
    loop.call_soon(sleeping.set)
    loop.call_later(0.1, loop.stop)
    loop.run_forever()
    thread.join()
    assert set(errors) <= {errno.EBADF}
    assert len(errors) + len(calls) == 3
    # By now it has another.
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(loop.stop,))
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    loop.close()
