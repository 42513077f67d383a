"""add_signal_handler and remove_signal_handler, and how signals get to a loop."""

import asyncio
import contextvars
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
import weakref

import impl
import pytest
from impl import beyond_stdlib

USR1 = signal.SIGUSR1
USR2 = signal.SIGUSR2


@pytest.fixture(autouse=True)
def dispositions():
    """Every test finds the defaults and leaves them."""
    watched = (USR1, USR2, signal.SIGINT)
    before = [signal.getsignal(sig) for sig in watched]
    assert signal.set_wakeup_fd(-1) == -1
    yield
    after = [signal.getsignal(sig) for sig in watched]
    fd = signal.set_wakeup_fd(-1)
    for sig, handler in zip(watched, before, strict=True):
        signal.signal(sig, handler)
    assert after == before
    assert fd == -1


def me(sig):
    """Send this process a signal."""
    os.kill(os.getpid(), sig)


def spin(loop, condition):
    async def main():
        while not condition():
            await asyncio.sleep(0)

    loop.run_until_complete(asyncio.wait_for(main(), 30))


def unused(*args):
    raise AssertionError("not to be called")


def test_handler(loop):
    seen = []
    assert loop.add_signal_handler(USR1, lambda *args: seen.append(args), 1, "a") is None
    me(USR1)
    assert seen == []
    spin(loop, lambda: seen)
    me(USR1)
    spin(loop, lambda: len(seen) == 2)
    assert seen == [(1, "a"), (1, "a")]
    assert loop.remove_signal_handler(USR1) is True
    assert loop.remove_signal_handler(USR1) is False
    assert signal.getsignal(USR1) is signal.SIG_DFL


def test_plain_number_and_names(loop):
    seen = []
    loop.add_signal_handler(sig=int(USR1), callback=lambda: seen.append(1))
    me(USR1)
    spin(loop, lambda: seen)
    assert loop.remove_signal_handler(sig=int(USR1))


def test_second_add_replaces_the_first(loop):
    seen = []
    loop.add_signal_handler(USR1, unused)
    loop.add_signal_handler(USR1, seen.append, 2)
    me(USR1)
    spin(loop, lambda: seen)
    assert loop.remove_signal_handler(USR1)
    assert not loop.remove_signal_handler(USR1)


def test_it_wakes_a_loop_that_sleeps(loop):
    async def main():
        told = asyncio.Event()
        loop.add_signal_handler(USR1, told.set)
        timer = threading.Timer(0.05, me, (USR1,))
        timer.start()
        await asyncio.wait_for(told.wait(), 30)
        timer.join()
        loop.remove_signal_handler(USR1)

    before = time.monotonic()
    loop.run_until_complete(main())
    assert time.monotonic() - before < 10


def test_received_by_another_thread(loop):
    """The kernel gives it to a thread that waits for nothing: the one that runs the loop has to be woken."""

    async def main():
        told = asyncio.Event()
        loop.add_signal_handler(USR1, told.set)
        thread = threading.Thread(target=lambda: signal.pthread_kill(threading.get_ident(), USR1))
        loop.call_later(0.05, thread.start)
        await asyncio.wait_for(told.wait(), 30)
        thread.join()
        loop.remove_signal_handler(USR1)

    before = time.monotonic()
    loop.run_until_complete(main())
    assert time.monotonic() - before < 10


@beyond_stdlib("asyncio listens only while it has signal handlers of its own")
def test_a_python_handler_runs_though_another_thread_received(loop):
    """Ctrl-C, with a program that has threads: no handler of the loop's is needed."""
    seen = []

    async def main():
        told = asyncio.Event()

        def handler(number, frame):
            seen.append(number)
            loop.call_soon(told.set)

        signal.signal(USR1, handler)
        thread = threading.Thread(target=lambda: signal.pthread_kill(threading.get_ident(), USR1))
        loop.call_later(0.05, thread.start)
        await asyncio.wait_for(told.wait(), 30)
        thread.join()
        signal.signal(USR1, signal.SIG_DFL)

    before = time.monotonic()
    loop.run_until_complete(main())
    assert time.monotonic() - before < 10
    assert seen == [USR1]


def test_between_runs(loop):
    seen = []
    loop.add_signal_handler(USR1, seen.append, 1)
    me(USR1)
    me(USR1)
    spin(loop, lambda: seen)
    loop.remove_signal_handler(USR1)


def test_handler_that_removes_itself(loop, no_gc):
    seen = []
    loop.add_signal_handler(USR1, lambda: seen.append(loop.remove_signal_handler(USR1)))
    me(USR1)
    spin(loop, lambda: seen)
    assert seen == [True]


def test_sigint(loop):
    seen = []
    loop.add_signal_handler(signal.SIGINT, seen.append, 1)
    me(signal.SIGINT)
    spin(loop, lambda: seen)
    assert loop.remove_signal_handler(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_keyboard_interrupt_out_of_a_sleeping_loop(loop):
    timer = threading.Timer(0.05, me, (signal.SIGINT,))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    timer.join()
    assert not loop.is_running()
    loop.run_until_complete(asyncio.sleep(0))


@pytest.mark.parametrize("exc", [KeyboardInterrupt, SystemExit])
def test_exits_leave_the_loop(loop, exc):
    def handler():
        raise exc

    loop.add_signal_handler(USR1, handler)
    loop.call_soon(me, USR1)
    with pytest.raises(exc):
        loop.run_forever()
    loop.remove_signal_handler(USR1)


def test_exceptions_are_reported(loop, reports):
    error = ValueError("boom")

    def handler():
        raise error

    loop.add_signal_handler(USR1, handler)
    me(USR1)
    spin(loop, lambda: reports)
    assert reports.pop()["exception"] is error
    loop.remove_signal_handler(USR1)


def test_context(loop):
    var = contextvars.ContextVar("var", default=0)
    seen = []
    var.set(1)
    loop.add_signal_handler(USR1, lambda: seen.append(var.get()))
    var.set(2)
    me(USR1)
    spin(loop, lambda: seen)
    assert seen == [1]
    loop.remove_signal_handler(USR1)


def test_bad_arguments(loop):
    async def coroutine():
        pass

    with pytest.raises(TypeError, match=r"coroutines cannot be used with add_signal_handler\(\)"):
        loop.add_signal_handler(USR1, coroutine)
    coro = coroutine()
    with pytest.raises(TypeError, match=r"coroutines cannot be used with add_signal_handler\(\)"):
        loop.add_signal_handler(USR1, coro)
    coro.close()
    for call in (lambda sig: loop.add_signal_handler(sig, print), loop.remove_signal_handler):
        with pytest.raises(TypeError, match="sig must be an int, not 'x'"):
            call("x")
        with pytest.raises(TypeError, match="sig must be an int, not None"):
            call(None)
        with pytest.raises(ValueError, match="invalid signal number 1000"):
            call(1000)
        with pytest.raises(ValueError, match="invalid signal number -1"):
            call(-1)
    with pytest.raises(TypeError):
        loop.add_signal_handler()
    with pytest.raises(TypeError):
        loop.add_signal_handler(USR1)


def test_uncatchable(loop):
    with pytest.raises(RuntimeError, match=f"sig {int(signal.SIGKILL)} cannot be caught"):
        loop.add_signal_handler(signal.SIGKILL, unused)
    assert loop.remove_signal_handler(signal.SIGKILL) is False


def test_closed_loop(loop):
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.add_signal_handler(USR1, unused)
    assert loop.remove_signal_handler(USR1) is False


def test_other_threads_may_not(loop):
    """Seen in Kludex/zuvloop commit 49a8b5b: all or nothing, a registration that fails leaves no state behind."""
    caught = []

    def target():
        with pytest.raises(RuntimeError, match="only works in main thread") as info:
            loop.add_signal_handler(USR1, unused)
        caught.append(info)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    assert caught
    assert signal.getsignal(USR1) is signal.SIG_DFL
    assert loop.remove_signal_handler(USR1) is False


def test_a_failed_add_keeps_the_handler_there_was(loop):
    seen = []
    loop.add_signal_handler(USR1, seen.append, 1)

    def target():
        with pytest.raises(RuntimeError):
            loop.add_signal_handler(USR1, unused)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    if impl.IS_COROLLA:
        with_handler = seen
        me(USR1)
        spin(loop, lambda: with_handler)
    loop.remove_signal_handler(USR1)


# ---- Owners


def test_close_restores(loop):
    loop.add_signal_handler(USR1, unused)
    loop.add_signal_handler(USR2, unused)
    loop.add_signal_handler(signal.SIGINT, unused)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert signal.getsignal(USR1) is signal.SIG_DFL
    assert signal.getsignal(USR2) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@beyond_stdlib("asyncio resets what is another's")
def test_close_leaves_what_is_anothers(loop):
    """Seen in Kludex/zuvloop commits 8467b98, 49a8b5b and 647642d, and uvloop commit c32c703 (issue 295): one loop's close
    reset handlers of another. They are restored only by their owner."""
    other = impl.new_event_loop()
    seen = []
    loop.add_signal_handler(USR1, unused)
    loop.add_signal_handler(USR2, unused)
    other.add_signal_handler(USR1, seen.append, 1)

    def users(number, frame):
        seen.append(number)

    signal.signal(USR2, users)
    loop.close()
    assert signal.getsignal(USR2) is users
    me(USR2)
    me(USR1)
    spin(other, lambda: 1 in seen)
    assert seen == [USR2, 1]
    other.close()
    signal.signal(USR2, signal.SIG_DFL)


def test_the_users_wakeup_fd_stays(loop):
    """Seen in Kludex/zuvloop commit 8467b98 and uvloop issue 295: one loop's close reset the process's wakeup fd. It is put
    back, and left alone."""
    if not impl.IS_COROLLA:
        pytest.skip("asyncio takes it over")
    r, w = os.pipe()
    os.set_blocking(w, False)
    signal.set_wakeup_fd(w)
    seen = []

    async def main():
        assert current_wakeup_fd() == w
        loop.add_signal_handler(USR1, seen.append, 1)
        me(USR1)
        while not seen:
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert current_wakeup_fd() == w
    loop.close()
    assert signal.set_wakeup_fd(-1) == w
    assert os.read(r, 10) == bytes([USR1])
    os.close(r)
    os.close(w)


def current_wakeup_fd():
    fd = signal.set_wakeup_fd(-1)
    if fd != -1:
        signal.set_wakeup_fd(fd)
    return fd


def test_a_wakeup_fd_set_during_the_run_stays(loop):
    r, w = os.pipe()
    os.set_blocking(w, False)
    loop.call_soon(signal.set_wakeup_fd, w)
    loop.run_until_complete(asyncio.sleep(0))
    assert signal.set_wakeup_fd(-1) == w
    os.close(r)
    os.close(w)


def test_no_wakeup_fd_outside_a_run(loop):
    for _ in range(3):
        loop.run_until_complete(asyncio.sleep(0))
        assert current_wakeup_fd() == -1


def test_a_loop_in_another_thread_leaves_them_alone(loop):
    seen = []
    loop.add_signal_handler(USR1, seen.append, 1)
    fds = []

    def target():
        other = impl.new_event_loop()
        other.run_until_complete(asyncio.sleep(0))
        fds.append(other)
        other.close()

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    assert fds
    me(USR1)
    spin(loop, lambda: seen)
    loop.remove_signal_handler(USR1)


@beyond_stdlib("asyncio raises from close(), and the handlers stay")
def test_closed_on_another_thread():
    """Seen in Kludex/zuvloop commit 647642d: finalization off the main thread leaves no stale state."""
    loop = impl.new_event_loop()
    loop.add_signal_handler(USR1, unused)
    thread = threading.Thread(target=loop.close)
    thread.start()
    thread.join()
    deadline = time.monotonic() + 30
    while signal.getsignal(USR1) is not signal.SIG_DFL:
        assert time.monotonic() < deadline  # done by the main thread, between two of these lines


@beyond_stdlib("asyncio's close() fails here, and the handlers stay")
def test_collected_on_another_thread():
    loop = impl.new_event_loop()
    loop.add_signal_handler(USR1, unused)
    gone = weakref.ref(loop)
    cycle = [loop]
    cycle.append(cycle)
    del loop, cycle

    def target():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    assert gone() is None
    deadline = time.monotonic() + 30
    while signal.getsignal(USR1) is not signal.SIG_DFL:
        assert time.monotonic() < deadline


def test_signal_after_close(loop):
    """A handler left in the interpreter's tables by hand finds nobody, and does nothing."""
    loop.add_signal_handler(USR1, unused)
    handler = signal.getsignal(USR1)
    loop.close()
    signal.signal(USR1, handler)
    me(USR1)
    time.sleep(0)
    signal.signal(USR1, signal.SIG_DFL)


# ---- Many at once


def test_full_pipe_drops_no_signal(loop):
    """Seen in python/cpython issue 74224: signal numbers travel as bytes in the wakeup pipe, so a full one drops signals.
    Ours depend on no byte."""
    seen = []

    async def main():
        loop.add_signal_handler(USR1, seen.append, "usr1")
        loop.add_signal_handler(USR2, seen.append, "usr2")
        # Nothing is drained while the loop does not turn: 100,000 wakeups are more than any pipe holds.
        fd = signal.set_wakeup_fd(-1)
        if fd != -1:
            signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
            fill_to_the_brim(fd)
        thread = threading.Thread(target=lambda: [loop.call_soon_threadsafe(int) for _ in range(1000)])
        thread.start()
        thread.join()
        me(USR1)
        me(USR2)
        while len(seen) < 2:
            await asyncio.sleep(0)

    if not impl.IS_COROLLA:
        pytest.skip("beyond asyncio: it depends on one byte each")
    loop.run_until_complete(asyncio.wait_for(main(), 30))
    assert sorted(seen) == ["usr1", "usr2"]
    loop.remove_signal_handler(USR1)
    loop.remove_signal_handler(USR2)


def fill_to_the_brim(fd):
    for size in (65536, 1):
        try:
            while True:
                os.write(fd, bytes(size))
        except BlockingIOError:
            pass


def test_a_storm(loop):
    """Deliveries may be merged, and the last one never gets lost."""
    seen = []
    sent = 2000
    ready = threading.Event()

    def target():
        ready.wait()
        for _ in range(sent):
            signal.pthread_kill(threading.main_thread().ident, USR1)

    thread = threading.Thread(target=target)
    thread.start()
    loop.add_signal_handler(USR1, seen.append, 1)

    async def main():
        ready.set()
        while thread.is_alive():
            await asyncio.sleep(0)
        before = len(seen)
        me(USR1)
        while len(seen) == before:
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    thread.join()
    assert 1 <= len(seen) <= sent + 1
    loop.remove_signal_handler(USR1)


@beyond_stdlib("asyncio's pipe stays dead")
def test_a_dead_wakeup_pipe(loop):
    """Seen in python/cpython issue 156344 and Kludex/zuvloop commit 31d01ac: a pipe at its end stayed readable, and the loop
    spun. It is unregistered and made anew."""
    seen = []
    loop.add_signal_handler(USR1, seen.append, 1)

    async def kill():
        fd = signal.set_wakeup_fd(-1)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, fd)  # the pipe's only writer: its reader is at the end
        os.close(null)
        before = time.process_time()
        await asyncio.sleep(0.2)
        assert time.process_time() - before < 0.1
        return fd

    fd = loop.run_until_complete(kill())

    async def use():
        told = asyncio.Event()
        loop.add_signal_handler(USR1, told.set)
        thread = threading.Thread(target=lambda: signal.pthread_kill(threading.get_ident(), USR1))
        loop.call_later(0.02, thread.start)
        await asyncio.wait_for(told.wait(), 30)
        thread.join()

    loop.run_until_complete(use())
    loop.remove_signal_handler(USR1)
    os.close(fd)


# ---- Whole programs


def python(program, **more):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([p for p in sys.path if p] + [os.path.dirname(impl.__file__)])}
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(program)],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **more,
    )


def test_exit_with_handlers_in_place():
    """asyncio warns that it is too late; the loop was never closed."""
    done = python(
        """
        import impl, signal
        loop = impl.new_event_loop()
        loop.add_signal_handler(signal.SIGUSR1, print)
        """
    )
    assert done.returncode == 0, done.stderr
    assert "Fatal" not in done.stderr


def test_fork_leaves_the_parents_signals_alone():
    """Seen in python/cpython issues 66285 (bpo-22087) and 75155, and PR 404 (bpo-29703): a forked child still saw the
    parent's running loop. In it asyncio.run() works and signals are its own; the parent's are untouched."""
    done = python(
        """
        import asyncio, impl, os, signal, sys

        loop = impl.new_event_loop()
        loop.set_debug(False)

        async def child():
            told = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, told.set)
            os.kill(os.getpid(), signal.SIGUSR2)
            await asyncio.wait_for(told.wait(), 10)

        async def main():
            told = asyncio.Event()
            loop.add_signal_handler(signal.SIGUSR1, told.set)
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    try:
                        asyncio.get_running_loop()
                        code = 2
                    except RuntimeError:
                        new = impl.new_event_loop()
                        new.run_until_complete(child())
                        new.close()
                        code = 0
                finally:
                    os._exit(code)
            _, status = os.waitpid(pid, 0)
            assert os.waitstatus_to_exitcode(status) == 0, status
            os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.wait_for(told.wait(), 10)

        import warnings
        warnings.simplefilter("ignore")
        loop.run_until_complete(main())
        loop.close()
        print("done")
        """
    )
    assert done.stdout == "done\n", done.stderr


def test_closing_the_inherited_loop_in_a_child():
    """The same row: the child gives up its copies and touches nothing that the parent shares."""
    done = python(
        """
        import asyncio, impl, os, signal, socket

        loop = impl.new_event_loop()
        one, other = socket.socketpair()
        one.setblocking(False)
        seen = []
        loop.add_reader(one, lambda: seen.append(one.recv(1)))
        loop.add_signal_handler(signal.SIGUSR1, seen.append, "signal")
        loop.run_until_complete(asyncio.sleep(0))
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                loop.close()
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0, status

        async def main():
            other.send(b"x")
            os.kill(os.getpid(), signal.SIGUSR1)
            while len(seen) < 2:
                await asyncio.sleep(0)

        loop.run_until_complete(asyncio.wait_for(main(), 10))
        loop.close()
        one.close()
        other.close()
        print("done")
        """
    )
    if not impl.IS_COROLLA:
        pytest.skip("beyond asyncio: its close() takes the parent's readers out of the shared epoll set")
    assert done.stdout == "done\n", done.stderr


@beyond_stdlib("its close() takes the parent's descriptors out of the shared epoll set")
def test_closing_the_inherited_loop_with_transports_in_a_child():
    done = python(
        """
        import asyncio, gc, impl, os, warnings

        warnings.simplefilter("ignore")
        loop = impl.new_event_loop()
        got = []

        class Protocol(asyncio.Protocol):
            def data_received(self, data):
                got.append(data)

        async def connect():
            server = await loop.create_server(Protocol, "127.0.0.1", 0)
            transport, _ = await loop.create_connection(Protocol, *server.sockets[0].getsockname())
            return server, transport

        server, transport = loop.run_until_complete(connect())
        loop.call_later(100, print)
        loop.run_in_executor(None, int)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                loop.close()
                del server, transport
                gc.collect()
                new = impl.new_event_loop()
                new.run_until_complete(asyncio.sleep(0.001))
                new.close()
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0, status

        async def use():
            transport.write(b"x")
            while not got:
                await asyncio.sleep(0)
            transport.close()
            server.close()
            for _ in range(5):
                await asyncio.sleep(0)

        loop.run_until_complete(asyncio.wait_for(use(), 10))
        loop.close()
        print("done")
        """
    )
    assert done.stdout == "done\n", done.stderr


def test_closing_the_loop_in_a_child_of_its_own_callback():
    """The same row: forked in the middle of a turn, and the child goes back into it."""
    done = python(
        """
        import impl, os, warnings

        warnings.simplefilter("ignore")
        loop = impl.new_event_loop()
        loop.set_debug(False)

        def callback():
            global pid
            pid = os.fork()
            if pid == 0:
                try:
                    loop.close()
                except BaseException:
                    os._exit(3)
            else:
                loop.stop()

        loop.call_soon(callback)
        loop.call_soon(int)
        try:
            loop.run_forever()
        except RuntimeError:
            os._exit(7)  # the child
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status))
        loop.close()
        """
    )
    if not impl.IS_COROLLA:
        pytest.skip("beyond asyncio: the child cannot close it")
    assert done.stdout == "7\n", done.stderr


def test_runner_and_ctrl_c():
    """Ctrl-C cancels the main task once, under a Runner (PITFALLS, signals)."""
    done = python(
        """
        import asyncio, impl, os, signal, threading

        async def main():
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                print("cancelled", asyncio.current_task().cancelling())
                raise

        try:
            with asyncio.Runner(loop_factory=impl.new_event_loop) as runner:
                runner.run(main())
        except KeyboardInterrupt:
            print("interrupted")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        """
    )
    assert done.stdout == "cancelled 1\ninterrupted\n", done.stderr


@beyond_stdlib("asyncio is Python itself, and can be interrupted anywhere")
def test_sigint_at_every_stage_of_a_run():
    """Seen in python/cpython PR 97765 (issue 94732), PRs 18628 and 32105 (bpo-39622): KeyboardInterrupt at an unlucky point
    left the thread id and the hooks in place, or lost handles inside the loop. Whenever it comes, the loop is reusable, and
    what was queued is run."""
    done = python(
        """
        import asyncio, impl, signal, sys, threading, time

        loop = impl.new_event_loop()
        main_thread = threading.get_ident()
        ran, queued, hits, armed, stop = [], 0, 0, False, False

        def interrupt(number, frame):
            global armed
            if armed:  # once a run, and nowhere outside
                armed = False
                raise KeyboardInterrupt

        def fire():
            while not stop:
                time.sleep(0.0001)
                signal.pthread_kill(main_thread, signal.SIGINT)

        def callback(number):
            ran.append(number)

        hooks = sys.get_asyncgen_hooks()
        signal.signal(signal.SIGINT, interrupt)
        thread = threading.Thread(target=fire)
        thread.start()
        end = time.monotonic() + 1
        while time.monotonic() < end:
            for _ in range(5):
                loop.call_soon(callback, queued)
                queued += 1
            loop.call_soon(loop.stop)
            try:
                armed = True
                loop.run_forever()
                armed = False
            except KeyboardInterrupt:
                hits += 1
            assert not loop.is_running()
            assert asyncio._get_running_loop() is None
            assert sys.get_asyncgen_hooks() == hooks
        stop = True
        thread.join()
        for _ in range(2):
            loop.call_soon(loop.stop)  # and what interrupted rounds have left
            loop.run_forever()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        missing = set(range(queued)) - set(ran)
        # One that was interrupted before it did anything has run all the same.
        print(hits > 0, len(missing) <= hits, ran == sorted(ran))
        """
    )
    assert done.stdout == "True True True\n", done.stderr
