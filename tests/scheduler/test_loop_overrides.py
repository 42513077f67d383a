"""The loop: methods that a Python subclass, or an attribute of the instance, replaces are the ones that run."""

import asyncio
import math

import impl
import pytest
from impl import EventLoop, Future, Task


class Recorder(EventLoop):
    def __init__(self):
        super().__init__()
        self.calls = []

    def seen(self, name):
        return self.calls.count(name)


@pytest.fixture
def make():
    loops = []

    def make(kind):
        loop = kind()
        loops.append(loop)
        return loop

    yield make
    for loop in loops:
        loop.close()


async def returns(value=None):
    return value


async def work(loop):
    """Something that needs call_soon for every purpose there is."""
    future = loop.create_future()
    future.add_done_callback(lambda f: None)
    loop.call_soon(future.set_result, 1)
    await future
    await asyncio.sleep(0)
    await loop.create_task(returns())


def test_call_soon(make):
    class Loop(Recorder):
        def call_soon(self, callback, *args, context=None):
            self.calls.append(callback)
            return super().call_soon(callback, *args, context=context)

    loop = make(Loop)
    loop.run_until_complete(work(loop))
    # The first step, set_result, a done callback, two wakeups, a pause, the child's step, run_until_complete's own.
    assert len(loop.calls) >= 8
    assert all(callable(callback) for callback in loop.calls)


def test_call_soon_gets_the_right_contexts(make):
    import contextvars

    class Loop(Recorder):
        def call_soon(self, callback, *args, context=None):
            self.calls.append(context)
            return super().call_soon(callback, *args, context=context)

    loop = make(Loop)
    context = contextvars.copy_context()
    task = Task(work(loop), loop=loop, context=context)
    loop.run_until_complete(task)
    assert any(seen is context for seen in loop.calls)


def test_call_soon_that_defers(make):
    # A loop that queues elsewhere: what it queues are ordinary handles.
    class Loop(Recorder):
        held = None

        def call_soon(self, callback, *args, context=None):
            handle = impl.Handle(callback, args, self, context)
            super().call_soon(handle._run)
            return handle

    loop = make(Loop)
    assert loop.run_until_complete(returns(5)) == 5
    loop.run_until_complete(work(loop))


def test_call_soon_that_fails(make, reports):
    class Loop(Recorder):
        broken = False

        def call_soon(self, *args, **kwargs):
            if self.broken:
                raise LookupError("in call_soon")
            return super().call_soon(*args, **kwargs)

    loop = make(Loop)
    loop.broken = True
    coro = returns()
    with pytest.raises(LookupError):
        loop.create_task(coro)
    with pytest.raises(LookupError):
        loop.run_until_complete(returns_later(coro))
    coro.close()
    loop.broken = False
    assert loop.run_until_complete(returns(1)) == 1


def returns_later(coro):
    return coro


def test_call_soon_on_the_instance(loop):
    calls = []
    original = loop.call_soon

    def call_soon(callback, *args, context=None):
        calls.append(callback)
        return original(callback, *args, context=context)

    loop.call_soon = call_soon
    loop.run_until_complete(work(loop))
    assert len(calls) >= 8
    del loop.call_soon
    count = len(calls)
    loop.run_until_complete(work(loop))
    assert len(calls) == count


def test_call_soon_on_the_class(make):
    class Loop(Recorder):
        pass

    def call_soon(self, callback, *args, context=None):
        self.calls.append(callback)
        return EventLoop.call_soon(self, callback, *args, context=context)

    loop = make(Loop)
    loop.run_until_complete(work(loop))
    assert loop.calls == []
    Loop.call_soon = call_soon
    later = make(Loop)
    later.run_until_complete(work(later))
    assert len(later.calls) >= 8


def test_call_at(make):
    class Loop(Recorder):
        def call_at(self, when, callback, *args, context=None):
            self.calls.append(when)
            return super().call_at(when, callback, *args, context=context)

    loop = make(Loop)
    fired = []
    loop.call_later(0, fired.append, 1)
    loop.run_until_complete(asyncio.sleep(0.0001))
    assert fired == [1]
    assert len(loop.calls) == 2


def test_call_later(make):
    class Loop(Recorder):
        def call_later(self, delay, callback, *args, context=None):
            self.calls.append(delay)
            return super().call_later(delay, callback, *args, context=context)

    loop = make(Loop)
    loop.run_until_complete(asyncio.sleep(0.0001))
    loop.run_until_complete(impl.sleep(0.0002))
    assert loop.calls == [0.0001, 0.0002]


def test_time(make):
    class Loop(Recorder):
        now = 0.0

        def time(self):
            self.now += 0.25
            return self.now

    loop = make(Loop)
    fired = []
    handle = loop.call_later(10, fired.append, "later")
    assert handle.when() == 10.25

    async def main():
        # Real time is no concern of this clock: it moves only when asked.
        for _ in range(100):
            loop.time()
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert fired == ["later"]


def test_a_clock_that_jumps(make):
    class Loop(Recorder):
        offset = 0.0

        def time(self):
            return super().time() + self.offset

    loop = make(Loop)
    order = []

    async def sleeper(seconds):
        await asyncio.sleep(seconds)
        order.append(seconds)

    async def main():
        tasks = [loop.create_task(sleeper(seconds)) for seconds in (3600, 60, 86400)]
        for _ in range(3):
            await asyncio.sleep(0)
        for hours in (0.5, 2, 30):
            loop.offset = hours * 3600
            for _ in range(5):
                await asyncio.sleep(0)
        await asyncio.gather(*tasks)

    loop.run_until_complete(main())
    assert order == [60, 3600, 86400]


def test_time_that_fails(make):
    class Loop(Recorder):
        broken = False

        def time(self):
            if self.broken:
                raise LookupError("in time")
            return super().time()

    loop = make(Loop)
    loop.broken = True
    with pytest.raises(LookupError):
        loop.call_later(1, print)
    loop.broken = False
    assert loop.run_until_complete(returns(1)) == 1


@pytest.mark.parametrize("value", ["x", None, math.nan])
def test_time_that_gives_nonsense(make, value):
    class Loop(Recorder):
        broken = False

        def time(self):
            return value if self.broken else super().time()

    loop = make(Loop)
    loop.broken = True
    if impl.IS_COROLLA or not isinstance(value, float):
        with pytest.raises((TypeError, ValueError)):
            loop.call_later(1, print)
    loop.broken = False
    assert loop.run_until_complete(returns(1)) == 1


def test_create_task(make):
    class Loop(Recorder):
        def create_task(self, coro, **kwargs):
            self.calls.append(coro.__name__)
            return super().create_task(coro, **kwargs)

    loop = make(Loop)

    async def main():
        await asyncio.gather(returns(1), returns(2))
        await asyncio.wait_for(returns(3), 10)
        async with asyncio.TaskGroup() as group:
            group.create_task(returns(4))

    loop.run_until_complete(main())
    assert loop.calls[0] == "main"
    assert loop.seen("returns") >= 3


def test_create_future(make):
    class Mine(Future):
        pass

    class Loop(Recorder):
        def create_future(self):
            self.calls.append("create_future")
            return Mine(loop=self)

    loop = make(Loop)
    loop.run_until_complete(asyncio.sleep(0.0001))
    assert loop.calls == ["create_future"]
    loop.run_until_complete(loop.run_in_executor(None, int))
    assert len(loop.calls) >= 2
    loop.run_until_complete(loop.shutdown_default_executor())


def test_call_soon_threadsafe(make):
    # What the standard library sends through it: run_in_executor() and the rest may take shorter ways.
    class Loop(Recorder):
        def call_soon_threadsafe(self, callback, *args, context=None):
            self.calls.append(callback)
            return super().call_soon_threadsafe(callback, *args, context=context)

    loop = make(Loop)

    async def main():
        return await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(returns(5), loop).result())

    assert loop.run_until_complete(main()) == 5
    assert len(loop.calls) >= 1
    loop.run_until_complete(loop.shutdown_default_executor())


def test_default_exception_handler(make):
    class Loop(Recorder):
        def default_exception_handler(self, context):
            self.calls.append(context["message"])

    loop = make(Loop)
    loop.call_soon(int, "x")
    loop.run_until_complete(asyncio.sleep(0))
    assert loop.calls == ["Exception in callback int(" + ("'x')" if "'x'" in loop.calls[0] else ")")]


def test_run_forever_and_stop(make):
    class Loop(Recorder):
        def run_forever(self):
            self.calls.append("run_forever")
            super().run_forever()

        def stop(self):
            self.calls.append("stop")
            super().stop()

        def close(self):
            self.calls.append("close")
            super().close()

    loop = make(Loop)
    loop.run_until_complete(returns())
    assert loop.calls == ["run_forever", "stop"]
    loop.close()
    assert loop.calls[-1] == "close"


def test_get_debug(make):
    class Loop(Recorder):
        def get_debug(self):
            return True

    loop = make(Loop)
    future = Future(loop=loop)
    if not impl.IS_COROLLA:
        assert future._source_traceback is not None
    future.cancel()


def test_getattr_of_a_subclass(make):
    class Loop(Recorder):
        def __getattr__(self, name):
            if name == "dreamt_up":
                return 5
            raise AttributeError(name)

    loop = make(Loop)
    assert loop.dreamt_up == 5
    assert loop.run_until_complete(returns(1)) == 1
    with pytest.raises(AttributeError):
        loop.nothing_of_the_kind


def test_a_subclass_with_other_bases(make):
    class Mixin:
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.mixed_in = True

        def call_soon(self, *args, **kwargs):
            self.counted = getattr(self, "counted", 0) + 1
            return super().call_soon(*args, **kwargs)

    class Loop(Mixin, EventLoop):
        pass

    loop = make(Loop)
    loop.run_until_complete(work(loop))
    assert loop.mixed_in
    assert loop.counted >= 8


def test_a_subclass_with_slots(make):
    class Loop(EventLoop):
        __slots__ = ("slot",)

    loop = make(Loop)
    loop.slot = 5
    assert loop.run_until_complete(returns(1)) == 1


def test_a_subclass_whose_class_is_changed(make):
    class First(EventLoop):
        pass

    class Second(EventLoop):
        def call_soon(self, callback, *args, context=None):
            calls.append(callback)
            return super().call_soon(callback, *args, context=context)

    calls = []
    loop = make(First)
    try:
        loop.__class__ = Second
    except TypeError:
        return
    loop.run_until_complete(work(loop))
    assert calls
