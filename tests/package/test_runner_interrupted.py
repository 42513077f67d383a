"""Ctrl-C at every line of Runner and of the program it runs, and at any moment of the C below it.

Seen in python/cpython PR 97765 (issue 94732) and PRs 18628 and 32105 (bpo-39622): KeyboardInterrupt at an unlucky point left
the thread's id, its hooks or a handler in place, or lost handles inside the loop.
"""

import asyncio
import contextlib
import gc
import os
import signal
import sys
import threading
import time
import warnings

import corolla
import corolla._run
import pytest

pytestmark = pytest.mark.timeout(120)

OURS = (corolla._run.__file__, __file__)


class Interrupter:
    """Traces the lines of _run.py and of the functions below marked as `traced`; SIGINT before the nth."""

    def __init__(self, nth):
        self.left = nth
        self.at = None

    def trace(self, frame, event, arg):
        name = frame.f_code.co_filename
        if name == OURS[0] or (name == OURS[1] and frame.f_code.co_name.startswith("traced")):
            return self.line
        return None

    def line(self, frame, event, arg):
        if event == "line":
            self.left -= 1
            if self.left == 0:
                self.at = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)
        return self.line

    def __enter__(self):
        sys.settrace(self.trace)
        return self

    def __exit__(self, *exc):
        sys.settrace(None)
        return False


async def traced_child(results):
    try:
        await corolla.sleep(0)
        results.append("child")
    finally:
        results.append("child ended")


async def traced_main(results):
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(traced_child(results))
    loop.call_later(0, results.append, "timer")
    await asyncio.to_thread(int)
    try:
        await task
        await corolla.sleep(0.0001)
    finally:
        results.append("main ended")
    return "result"


def state():
    wakeup = signal.set_wakeup_fd(-1)
    return (
        asyncio._get_running_loop(),
        sys.get_asyncgen_hooks(),
        sys.get_coroutine_origin_tracking_depth(),
        signal.getsignal(signal.SIGINT),
        wakeup,
    )


def descriptors():
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def quiet():
    """What was interrupted before it was begun warns that it was never awaited, or never closed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
        gc.collect()


def interrupt_each_line(action, check):
    """Calls action() again and again, interrupted one line later each time, until it comes through. The lines."""
    lines = []
    before = None
    while True:
        kept = state(), descriptors()
        before = before or kept
        assert kept == before, lines[-1:]
        interrupter = Interrupter(len(lines) + 1)
        outcome = None
        try:
            with interrupter:
                outcome = action()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        if interrupter.at is None:
            assert outcome is not None
            return lines
        lines.append(interrupter.at)
        assert outcome in (None, "result"), lines[-1]
        check(lines[-1])


@pytest.mark.parametrize("debug", [False, True])
def test_run_at_every_line(debug):
    results = []

    def action():
        results.clear()
        return corolla.run(traced_main(results), debug=debug)

    def check(line):
        assert ("child" in results) <= ("child ended" in results), line
        asyncio.set_event_loop(None)
        assert corolla.run(traced_main([])) == "result", line
        asyncio.set_event_loop(None)

    lines = interrupt_each_line(action, check)
    assert len(lines) > 60, lines
    assert {name.partition(":")[0] for name in lines} == {"_run.py", os.path.basename(__file__)}


def test_runner_is_used_again():
    """The same Runner, whatever line of its run() was interrupted."""
    with corolla.Runner() as runner:
        assert runner.run(traced_main([])) == "result"
        loop = runner.get_loop()

        def check(line):
            assert not loop.is_running(), line
            assert not loop.is_closed(), line
            assert runner.run(traced_main([])) == "result", line
            assert runner.get_loop() is loop, line

        lines = interrupt_each_line(lambda: runner.run(traced_main([])), check)
        assert len(lines) > 30, lines


def test_close_can_be_called_again():
    def action():
        nonlocal runner
        runner = corolla.Runner()
        assert runner.run(traced_main([])) == "result"
        loop = runner.get_loop()
        task = loop.create_task(corolla.sleep(100))
        loop.run_until_complete(corolla.sleep(0))
        assert not task.done()
        runner.close()
        return "result"

    def check(line):
        if runner is not None:
            runner.close()

    runner = None
    interrupt_each_line(action, check)


@pytest.mark.parametrize("how", ["run", "runner"])
def test_at_any_moment(how):
    """SIGINT by another thread, at moments that no line marks: in the loop's own C, in a poll, in the end of a run."""
    main_thread = threading.get_ident()
    done = threading.Event()
    armed = False
    seen = {"result": 0, "interrupted": 0}

    def handler(number, frame):
        nonlocal armed
        if armed:  # once each round, and nowhere outside
            armed = False
            before_handler(number, frame)

    def fire():
        pause = 1
        while not done.is_set():
            pause = pause * 48271 % 2147483647
            time.sleep(pause % 1000 / 1e6)
            signal.pthread_kill(main_thread, signal.SIGINT)

    before_handler = signal.default_int_handler
    signal.signal(signal.SIGINT, handler)
    before = state(), descriptors()
    thread = threading.Thread(target=fire)
    runner = corolla.Runner() if how == "runner" else None
    thread.start()
    try:
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            results = []
            try:
                armed = True
                outcome = runner.run(traced_main(results)) if runner else corolla.run(traced_main(results))
                armed = False
                seen[outcome] += 1
            except KeyboardInterrupt:
                seen["interrupted"] += 1
            assert asyncio._get_running_loop() is None
    finally:
        done.set()
        thread.join()
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if runner:
        # A task that was interrupted leaves one that awaits it, which raises what it was given when it runs next: once for
        # each on the way up.
        for _ in range(3):
            with contextlib.suppress(KeyboardInterrupt):
                runner.run(corolla.sleep(0.001))
        assert runner.run(traced_main([])) == "result"
        runner.close()
    asyncio.set_event_loop(None)
    signal.signal(signal.SIGINT, handler)
    assert (state(), descriptors()) == before
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert seen["interrupted"] > 0
