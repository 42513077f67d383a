"""Event: the same behaviour from asyncio's and from ours, on our loop and on asyncio's; and what is ours alone."""

import asyncio
import gc
import random
import re
import weakref

import corolla
import pytest
from primitives.sync import Marked, Oops, at_once, ended, ours_only, started, turns

EVERYWHERE = True


def test_set_and_clear(library):
    event = library.Event()
    assert event.is_set() is False
    assert event.set() is None
    assert event.is_set() is True
    assert at_once(event.wait()) is True
    event.set()
    assert event.clear() is None
    event.clear()
    assert event.is_set() is False


def test_everybody_is_woken_in_order(library, run):
    order = []

    async def wait(event, name):
        assert await event.wait() is True
        order.append(name)

    async def main():
        event = library.Event()
        tasks = await started(*(wait(event, name) for name in range(10)))
        assert len(event._waiters) == 10
        event.set()
        assert not order
        await ended(tasks)
        assert not event._waiters

    run(main())
    assert order == list(range(10))


def test_cleared_before_they_run(library, run):
    """Whoever was woken goes on, though the flag is not set any more; whoever comes later waits."""

    async def main():
        event = library.Event()
        (early,) = await started(event.wait())
        event.set()
        event.clear()
        (late,) = await started(event.wait())
        assert await early is True
        assert not late.done()
        event.set()
        assert await late is True

    run(main())


def test_cancelled_waiter(library, run):
    async def main():
        event = library.Event()
        first, second = await started(event.wait(), event.wait())
        first.cancel()
        event.set()
        assert await second is True
        assert first.cancelled()
        assert not event._waiters

    run(main())


def test_woken_and_cancelled(library, run):
    async def main():
        event = library.Event()
        (task,) = await started(event.wait())
        event.set()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not event._waiters

    run(main())


@pytest.mark.parametrize("seed", range(5))
def test_storm(library, run, seed):
    async def main():
        rng = random.Random(seed)
        event = library.Event()

        async def worker():
            for _ in range(10):
                await event.wait()
                await turns(rng.randrange(2))

        tasks = [asyncio.ensure_future(worker()) for _ in range(30)]
        for _ in range(100):
            await turns(1)
            rng.choice([event.set, event.clear, rng.choice(tasks).cancel])()
        event.set()
        results = await ended(tasks)
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
        assert not event._waiters

    run(main())


# ---- coroutines, used badly ----------------------------------------------------------------------------------------------


def test_coroutine(library, run):
    event = library.Event()
    coro = event.wait()
    assert asyncio.iscoroutine(coro)
    with pytest.warns(RuntimeWarning, match=r"coroutine 'Event\.wait' was never awaited"):
        del coro
        gc.collect()

    async def main():
        coro = event.wait()
        coro.send(None)
        with pytest.raises(Oops):
            coro.throw(Oops())
        assert not event._waiters
        coro = event.wait()
        coro.send(None)
        coro.close()
        assert not event._waiters
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            coro.send(None)

    run(main())


# ---- loops -------------------------------------------------------------------------------------------------------------


def test_used_from_another_loop(library, loop):
    event = library.Event()

    async def wait():
        (task,) = await started(event.wait())
        task.cancel()
        await turns(2)

    loop.run_until_complete(wait())
    assert event._loop is loop
    other = asyncio.new_event_loop()
    try:
        with pytest.raises(RuntimeError, match=r"<.*Event object at .* \[unset\]> is bound to a different event loop"):
            other.run_until_complete(event.wait())
        event.set()
        assert other.run_until_complete(event.wait()) is True
    finally:
        other.close()


def test_no_loop_argument(library):
    with pytest.raises(TypeError, match=r"Event\.__init__\(\) got an unexpected keyword argument 'loop'"):
        library.Event(loop=None)


def test_set_after_the_loop_was_closed(library):
    event = library.Event()
    loop = corolla.EventLoop()
    task = loop.create_task(event.wait())
    loop.run_until_complete(turns(2))
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        event.set()
    task._log_destroy_pending = False
    assert event.is_set()


def test_waiting_with_no_loop(library):
    ours_only(library, "asyncio: AttributeError: 'NoneType' object has no attribute 'create_future'")
    coro = library.Event().wait()
    with pytest.raises(RuntimeError, match="no running event loop"):
        coro.send(None)


# ---- subclasses and attributes --------------------------------------------------------------------------------------------


def test_subclass(library, run):
    class Mine(library.Event):
        def __init__(self, name):
            super().__init__()
            self.name = name

        async def wait(self):
            return await super().wait(), self.name

    async def main():
        mine = Mine("x")
        (task,) = await started(mine.wait())
        mine.set()
        assert await task == (True, "x")

    run(main())


def test_attributes(library):
    event = library.Event()
    event.itself = event
    assert event._value is False
    event._value = True
    assert event.is_set()
    reference = weakref.ref(event)
    del event
    gc.collect()
    assert reference() is None


def test_repr(library, run):
    async def main():
        event = library.Event()
        name = re.escape(f"{library.Event.__module__}.Event")
        assert re.fullmatch(rf"<{name} object at 0x[0-9a-f]+ \[unset\]>", repr(event))
        (task,) = await started(event.wait())
        assert repr(event).endswith(" [unset, waiters:1]>")
        event.set()
        assert repr(event).endswith(" [set, waiters:1]>")
        await task
        assert repr(event).endswith(" [set]>")

    run(main())


def test_half_initialised():
    event = corolla.Event.__new__(corolla.Event)
    assert repr(event).endswith(" [unset]>")
    event.set()
    assert at_once(event.wait()) is True


def test_waiters_that_call_back(library):
    event = library.Event()
    waiters = [Marked(lambda: None, done=False) for _ in range(3)]
    event._waiters.extend(waiters)
    event.set()
    assert all(waiter.answer for waiter in waiters)

    def fail():
        raise Oops

    event.clear()
    event._waiters.append(Marked(fail, done=False))
    with pytest.raises(Oops):
        event.set()
    assert event.is_set()


def test_a_loop_that_calls_back_at_once():
    """Coroutines that go on within set(), and so leave the line while it is walked: each is woken."""

    class Loop(corolla.EventLoop):
        eager = False

        def call_soon(self, callback, *args, context=None):
            if self.eager:
                callback(*args)
            return super().call_soon(int)

    loop = Loop()
    gone = []

    async def main():
        event = corolla.Event()
        for name in range(7):
            coro = event.wait()
            future = coro.send(None)
            future._asyncio_future_blocking = False

            def go_on(_, coro=coro, name=name):
                with pytest.raises(StopIteration):
                    coro.send(None)
                gone.append(name)

            future.add_done_callback(go_on)
        loop.eager = True
        event.set()
        loop.eager = False
        assert not event._waiters

    asyncio._set_running_loop(loop)
    try:
        at_once(main())
    finally:
        asyncio._set_running_loop(None)
        loop.close()
    assert gone == list(range(7))
