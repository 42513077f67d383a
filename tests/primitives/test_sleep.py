"""sleep(): on a timer of its own, which keeps the order and the life that call_later() gives."""

import asyncio
import gc
import time
import weakref

import corolla
import pytest
from primitives.waiting import Oops, since, turns

from primitives import waiting

lib, loop, run = waiting.lib, waiting.loop, waiting.run


def test_result(lib, run):
    async def main():
        assert await lib.sleep(0.001) is None
        assert await lib.sleep(0.001, "result") == "result"
        assert await lib.sleep(delay=0, result="result") == "result"
        assert await lib.sleep(-1, "result") == "result"

    run(main())


def test_never_too_short(lib, run):
    async def main():
        loop = asyncio.get_running_loop()
        for delay in (0.0001, 0.001, 0.003):
            began = loop.time()
            await lib.sleep(delay)
            # asyncio's own loop is early by what its clock resolves
            assert loop.time() - began >= delay - time.get_clock_info("monotonic").resolution * 2

    run(main())


def test_order_among_timers(run, loop):
    """By deadline; of equal ones, the first made is the first due, be it a sleep or a callback."""
    if isinstance(loop, asyncio.SelectorEventLoop):
        pytest.skip("asyncio keeps no order among equal deadlines")
    log = []
    now = [0.0]

    class Clock(type(loop)):
        def time(self):
            return now[0]

    async def sleeper(name, delay):
        await corolla.sleep(delay)
        log.append(name)

    clocked = Clock()
    for number in range(4):
        clocked.create_task(sleeper(f"sleep {number}", 1.0))
        clocked.create_task(sleeper("early", 0.5))
    clocked.call_soon(clocked.stop)
    clocked.run_forever()
    for number in range(4):
        clocked.call_later(1.0, log.append, f"later {number}")
    now[0] = 2.0
    clocked.run_until_complete(turns(3))
    clocked.close()
    assert [name for name in log if name == "early"] == ["early"] * 4
    assert [name for name in log if name.startswith("sleep")] == [f"sleep {i}" for i in range(4)]
    # A callback is run as it is due, a sleeper one turn after that.
    assert log[:4] == [f"later {i}" for i in range(4)]
    assert log[4:8] == ["early"] * 4


def test_order_of_many():
    """Of their deadlines, however late the loop looks."""
    log = []
    now = [0.0]

    class Clock(corolla.EventLoop):
        def time(self):
            return now[0]

    async def sleeper(delay):
        await corolla.sleep(delay)
        log.append(delay)

    loop = Clock()
    delays = [1 + index * 37 % 50 for index in range(50)]
    for delay in delays:
        loop.create_task(sleeper(delay))
    loop.run_until_complete(turns(1))
    now[0] = 100.0
    loop.run_until_complete(turns(3))
    loop.close()
    assert log == sorted(delays)


def test_cancel(lib, run):
    async def main():
        task = asyncio.ensure_future(lib.sleep(1000))
        await turns(2)
        task.cancel("why")
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


def test_cancelled_as_it_is_due(lib, run, loop):
    async def main():
        task = asyncio.ensure_future(lib.sleep(0.001))
        await turns(2)
        time.sleep(0.002)  # noqa: ASYNC251 (the timer is due before the loop looks again)
        loop.call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


def test_cancelled_once_it_is_woken(run, loop):
    async def main():
        task = asyncio.ensure_future(corolla.sleep(0.001))
        while not (task._fut_waiter is not None and task._fut_waiter.done()):
            await turns(1)
            if task.done():
                pytest.skip("woken and run between two looks")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


@pytest.mark.parametrize("delay", [float("nan"), "x", None, []])
def test_misuse(lib, run, delay):
    if isinstance(delay, float):
        since(lib, 3, 13)

    async def main():
        with pytest.raises((TypeError, ValueError)):
            await lib.sleep(delay)

    run(main())


@pytest.mark.parametrize("delay", [1e300, float("inf"), 10**18])
def test_huge(run, delay):
    """RustedBytes/rsloop commit 233e231; uvloop issue 259."""

    async def main():
        task = asyncio.ensure_future(corolla.sleep(delay))
        await turns(3)
        assert not task.done()
        task.cancel()
        await turns(2)

    our_loop = corolla.new_event_loop()
    our_loop.run_until_complete(main())
    our_loop.close()


def test_a_task_that_nobody_holds_sleeps_on(run, loop):
    """The loop's timer holds the future, and that the task."""
    log = []

    async def sleeper():
        await corolla.sleep(0.001)
        log.append("woke")

    async def main():
        loop.create_task(sleeper())
        await turns(2)
        gc.collect()
        await corolla.sleep(0.01)
        assert log == ["woke"]

    run(main())


def test_by_hand(run, loop):
    async def main():
        coro = corolla.sleep(1000)
        coro.send(None)
        with pytest.raises(Oops):
            coro.throw(Oops)
        coro = corolla.sleep(1000)
        coro.send(None)
        coro.close()
        coro = corolla.sleep(1000)
        coro.send(None)
        dead = weakref.ref(coro)
        del coro
        assert dead() is None

    run(main())


def test_dropped_loop_lets_it_go():
    with pytest.warns(ResourceWarning):
        loop = corolla.new_event_loop()
        task = loop.create_task(corolla.sleep(1000))
        loop.call_soon(loop.stop)
        loop.run_forever()
        task._log_destroy_pending = False
        dead = weakref.ref(task), weakref.ref(loop)
        del task, loop
        gc.collect()
    assert [ref() for ref in dead] == [None, None]


def test_closed_loop_lets_it_go():
    loop = corolla.new_event_loop()
    task = loop.create_task(corolla.sleep(1000))
    due = loop.create_task(corolla.sleep(0.001))
    loop.call_soon(loop.stop)
    loop.run_forever()
    time.sleep(0.002)
    loop.call_soon(loop.stop)
    task._log_destroy_pending = due._log_destroy_pending = False
    loop.close()
    del task, due
    gc.collect()


def test_closed_between_due_and_run():
    """What a timer's job holds is let go when the loop closes before it has run."""
    loop = corolla.new_event_loop()
    coro = corolla.sleep(0.0005)

    def interrupt():
        raise KeyboardInterrupt

    async def main():
        coro.send(None)
        time.sleep(0.002)  # noqa: ASYNC251 (due now)
        loop.call_soon(interrupt)

    loop.create_task(main())
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    loop.close()
    coro.close()


def test_overridden_methods_are_called():
    called = []

    class Noting(corolla.EventLoop):
        def call_later(self, delay, callback, *args, context=None):
            called.append("call_later")
            return super().call_later(delay, callback, *args, context=context)

        def create_future(self):
            called.append("create_future")
            return asyncio.Future(loop=self)

    loop = Noting()
    loop.run_until_complete(corolla.sleep(0.001))
    loop.close()
    assert called == ["create_future", "call_later"]


def test_call_at_of_one_loop_is_replaced(loop):
    our_loop = corolla.new_event_loop()
    called = []
    call_at = our_loop.call_at

    def noting(when, *args, **kwargs):
        called.append(when)
        return call_at(when, *args, **kwargs)

    our_loop.call_at = noting
    our_loop.run_until_complete(corolla.sleep(0.001))
    del our_loop.call_at
    our_loop.run_until_complete(corolla.sleep(0.001))
    our_loop.close()
    assert len(called) == 1


def test_overridden_clock():
    class Slow(corolla.EventLoop):
        def time(self):
            return super().time() / 2

    loop = Slow()
    began = time.monotonic()
    loop.run_until_complete(corolla.sleep(0.005))
    assert time.monotonic() - began >= 0.0099
    loop.close()


def test_debug_mode(lib, run, loop):
    loop.set_debug(True)
    run(lib.sleep(0.001))
