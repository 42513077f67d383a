"""Between two steps no task is current and no task's context is entered: no code of others may find them there."""

import asyncio
import contextvars
import gc
import logging
import sys
import weakref

import impl
import pytest
from impl import EventLoop, Future, beyond_stdlib

var = contextvars.ContextVar("var", default="outside")


async def stepper(loop, steps=3):
    """A task that is between steps: it has run, set the variable, and waits for its next turn."""
    var.set("inside")
    for _ in range(steps):
        await asyncio.sleep(0)


def sight(loop):
    return asyncio.current_task(loop), var.get()


OUTSIDE = (None, "outside")


@pytest.fixture
def sees():
    """What code that runs between steps saw."""
    return []


def test_repr_in_the_report_of_a_timer_that_comes_too_late(loop, reports, turn, sees):
    class Shown:
        def __repr__(self):
            sees.append(sight(loop))
            return "shown"

    future = Future(loop=loop)
    future.set_result(Shown())
    loop.create_task(stepper(loop))
    loop.call_soon(future.set_result, 1)
    turn()
    assert type(reports.pop()["exception"]) is asyncio.InvalidStateError
    for _ in range(4):
        turn()
    assert set(sees) <= {OUTSIDE}


def test_invalid_state_is_reported_as_of_the_handle(loop, reports, turn):
    future = Future(loop=loop)
    future.set_result(1)
    handle = loop.call_soon(future.set_result, 2)
    turn()
    report = reports.pop()
    assert report["handle"] is handle
    assert report["message"].startswith("Exception in callback ")
    assert future.result() == 1


def test_call_soon_of_a_subclass(sees):
    class Loop(EventLoop):
        def call_soon(self, callback, *args, context=None):
            def wrapper(*args):
                callback(*args)
                sees.append(asyncio.current_task(self))

            return super().call_soon(wrapper, *args, context=context)

    loop = Loop()
    loop.run_until_complete(stepper(loop))
    loop.close()
    assert len(sees) >= 4
    assert set(sees) == {None}


def test_call_soon_of_a_subclass_called_for_a_handle(sees):
    class Loop(EventLoop):
        def call_soon(self, callback, *args, context=None):
            if callback is told:
                sees.append(sight(self))
            return super().call_soon(callback, *args, context=context)

    def told(future): ...

    loop = Loop()
    future = loop.create_future()
    future.add_done_callback(told)
    loop.create_task(stepper(loop))
    loop.call_soon(future.set_result, 1)
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()
    assert sees == [OUTSIDE]


def test_time_of_a_subclass(sees):
    class Loop(EventLoop):
        def time(self):
            if self.is_running() and self.watching:
                sees.append(sight(self))
            return super().time()

    loop = Loop()
    loop.watching = False
    loop.call_later(1000, int)

    async def main():
        loop.watching = True
        await stepper(loop)
        loop.watching = False

    loop.run_until_complete(main())
    loop.close()
    assert set(sees) <= {OUTSIDE}
    assert sees


def test_the_report_of_a_slow_step(loop, caplog, sees):
    class Look(logging.Handler):
        def emit(self, record):
            if "took" in record.getMessage():
                sees.append(sight(loop))

    logger = logging.getLogger("asyncio")
    look = Look()
    logger.addHandler(look)
    try:
        loop.set_debug(True)
        loop.slow_callback_duration = 0.0
        loop.run_until_complete(stepper(loop))
    finally:
        logger.removeHandler(look)
    assert sees
    assert set(sees) == {OUTSIDE}


def test_a_clock_set_on_the_loop(loop):
    now = 1000.0
    loop.time = lambda: now
    fired = []
    loop.call_later(10, fired.append, "later")

    async def pauses():
        for _ in range(3):
            await asyncio.sleep(0)

    loop.run_until_complete(pauses())
    assert fired == []
    now = 1011.0
    loop.run_until_complete(pauses())
    assert fired == ["later"]
    del loop.time
    loop.call_at(loop.time(), fired.append, "real")
    loop.run_until_complete(asyncio.sleep(0.0001))
    assert fired == ["later", "real"]


def test_methods_set_on_the_loop_before_init(sees):
    class Loop(EventLoop):
        def __init__(self):
            self.call_soon = self.noted
            super().__init__()

        def noted(self, callback, *args, context=None):
            sees.append(callback)
            return EventLoop.call_soon(self, callback, *args, context=context)

    loop = Loop()
    loop.run_until_complete(stepper(loop))
    loop.close()
    assert len(sees) >= 4


def test_result_of_a_subclass_is_what_a_waiting_task_gets(loop):
    class Mine(Future):
        def result(self):
            raise LookupError

    future = Mine(loop=loop)

    class Wait:
        def __await__(self):
            future._asyncio_future_blocking = True
            yield future

    async def main():
        with pytest.raises(LookupError):
            await Wait()

    loop.call_later(0.0001, future.set_result, 1)
    loop.run_until_complete(main())


def test_all_tasks_does_not_raise_the_dead():
    # A subclass with a finalizer of its own: when its attributes go, the task is dead but not yet off the list.
    class Last:
        def __del__(self):
            seen.append(asyncio.all_tasks(loop))

    class Mine(impl.Task):
        __slots__ = ("last",)

        def __del__(self): ...

    seen = []
    loop = impl.new_event_loop()
    Mine(stepper(loop), loop=loop).last = Last()
    loop.stop()
    loop.run_forever()
    loop.close()
    assert seen == [set()]


TAKEN_OUT = {
    "leave": lambda loop, task: asyncio._leave_task(loop, task),
    "pop": lambda loop, task: asyncio.tasks._current_tasks.pop(loop),
    "clear": lambda loop, task: asyncio.tasks._current_tasks.clear(),
    "another": lambda loop, task: (asyncio._leave_task(loop, task), asyncio._enter_task(loop, object())),
}


@beyond_stdlib("there leaving a task that is not the current one is an error of the step")
@pytest.mark.skipif(sys.version_info >= (3, 14), reason="the dict is private to C there")
@pytest.mark.parametrize("how", TAKEN_OUT)
@pytest.mark.parametrize("ends", [False, True])
def test_a_task_that_takes_itself_out_of_asyncios_dict(loop, run, how, ends):
    """The loop remembers whom it has put there, who may be gone by then."""
    alive = weakref.WeakSet()

    async def hides(futures):
        task = asyncio.current_task()
        alive.add(task)
        if not ends:
            task._log_destroy_pending = False
            future = loop.create_future()
            futures.append(future)
            TAKEN_OUT[how](loop, task)
            del task
            await future
        else:
            TAKEN_OUT[how](loop, task)

    async def main():
        futures = []
        for _ in range(3):
            loop.create_task(hides(futures))
        me = asyncio.current_task()
        for _ in range(3):
            await asyncio.sleep(0)
            assert asyncio.current_task() is me
            loop.call_soon(gc.collect)
            loop.call_soon(futures.clear)
        await asyncio.sleep(0)
        assert asyncio.current_task() is me
        return 5

    assert run(main()) == 5
    assert asyncio.current_task(loop) is None
    gc.collect()
    assert not alive
