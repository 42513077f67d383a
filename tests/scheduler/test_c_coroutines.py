"""Coroutines written in C, with sleep() as the example: they pass for ordinary coroutines everywhere."""

import asyncio
import collections.abc
import gc
import inspect
import itertools
import sys
import types
import warnings
import weakref

import corolla
import impl
import pytest
from impl import beyond_stdlib, sleep


@pytest.fixture
def driven(loop):
    """driven(steps): runs a function inside the running loop, outside any task, for coroutines moved by hand."""

    def driven(fn):
        outcome = []

        def call():
            try:
                outcome.append((True, fn()))
            except BaseException as error:
                outcome.append((False, error))
            loop.stop()

        loop.call_soon(call)
        loop.run_forever()
        ((fine, value),) = outcome
        if not fine:
            raise value
        return value

    return driven


@pytest.mark.parametrize("delay", [0, 0.0, -1, 0.0001, 1e-9])
def test_sleep(loop, delay):
    assert loop.run_until_complete(sleep(delay)) is None
    assert loop.run_until_complete(sleep(delay, "result")) == "result"
    assert loop.run_until_complete(sleep(delay=delay, result=(1,))) == (1,)


def test_sleep_takes_its_time(loop):
    start = loop.time()
    loop.run_until_complete(sleep(0.005))
    assert loop.time() - start >= 0.005


def test_sleep_zero_takes_one_turn(loop, turn):
    order = []

    async def main():
        order.append(1)
        await sleep(0)
        order.append(2)

    task = loop.create_task(main())
    turn()
    assert order == [1]
    turn()
    assert order == [1, 2]
    assert task.done()


def test_sleep_arguments(loop):
    for args, kwargs in (((), {}), ((0, 1, 2), {}), ((0,), {"loop": loop}), ((0,), {"unknown": 1})):
        with pytest.raises(TypeError):
            sleep(*args, **kwargs)


@pytest.mark.parametrize("bad", ["x", None, [], object()])
def test_sleep_of_what_is_no_number(loop, bad):
    async def main():
        await sleep(bad)

    with pytest.raises(TypeError):
        loop.run_until_complete(main())


@beyond_stdlib("3.13 began to refuse it", until=(3, 13))
def test_sleep_nan(loop):
    async def main():
        await sleep(float("nan"))

    with pytest.raises(ValueError):
        loop.run_until_complete(main())


def test_sleep_without_a_loop():
    coro = sleep(1)
    with pytest.raises(RuntimeError, match="no running event loop"):
        coro.send(None)


def test_sleep_is_cancelled(loop, turn):
    task = loop.create_task(sleep(1000))
    turn()
    task.cancel("message")
    with pytest.raises(asyncio.CancelledError, match="message"):
        loop.run_until_complete(task)


def test_sleep_order(loop):
    order = []

    async def sleeper(delay):
        await sleep(delay)
        order.append(delay)

    async def main():
        await asyncio.gather(*(sleeper(delay) for delay in (0.003, 0.001, 0, 0.002)))

    loop.run_until_complete(main())
    assert order == [0, 0.001, 0.002, 0.003]


def test_sleep_on_the_stdlibs_loop():
    loop = asyncio.SelectorEventLoop()
    try:
        assert loop.run_until_complete(sleep(0.0001, "foreign")) == "foreign"
        assert loop.run_until_complete(sleep(0, "foreign")) == "foreign"
        task = loop.create_task(sleep(1000))
        loop.call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
    finally:
        loop.close()


def test_is_a_coroutine():
    coro = sleep(0)
    assert isinstance(coro, collections.abc.Coroutine)
    assert isinstance(coro, collections.abc.Awaitable)
    assert asyncio.iscoroutine(coro)
    assert inspect.iscoroutine(coro)
    assert isinstance(coro, types.CoroutineType)
    assert inspect.isawaitable(coro)
    assert coro.__name__ == "sleep"
    assert coro.__qualname__ == "sleep"
    weakref.ref(coro)
    assert "sleep" in repr(coro)
    coro.close()


def test_attributes_of_a_coroutine(loop, turn):
    coro = sleep(1000)
    assert coro.cr_await is None
    assert coro.cr_running is False
    assert inspect.getcoroutinestate(coro) == "CORO_CREATED" if not impl.IS_COROLLA else True
    task = loop.create_task(coro)
    turn()
    assert coro.cr_await is not None
    assert coro.cr_running is False
    task.cancel()
    turn()
    assert coro.cr_await is None


def test_works_everywhere_a_coroutine_does(loop):
    async def main():
        assert await sleep(0, 1) == 1
        assert await asyncio.create_task(sleep(0, 2)) == 2
        assert await asyncio.gather(sleep(0, 3), sleep(0.0001, 4)) == [3, 4]
        assert await asyncio.wait_for(sleep(0, 5), 10) == 5
        assert await asyncio.shield(sleep(0, 6)) == 6
        assert await asyncio.ensure_future(sleep(0, 7)) == 7
        done, pending = await asyncio.wait([asyncio.create_task(sleep(0, 8))])
        assert {task.result() for task in done} == {8}
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sleep(1000), 0.0001)
        async with asyncio.timeout(10):
            await sleep(0)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(sleep(0, 9))
        assert task.result() == 9
        return "fine"

    assert loop.run_until_complete(main()) == "fine"


def test_shown_as_the_coroutine_of_a_task(loop, turn):
    task = loop.create_task(sleep(1000), name="mine")
    assert repr(task).startswith("<Task pending name='mine' coro=<sleep(")
    turn()
    repr(task)
    task.get_stack()
    task.cancel()
    turn()
    repr(task)
    assert task.cancelled()


def test_never_awaited():
    with pytest.warns(RuntimeWarning, match="coroutine 'sleep' was never awaited"):
        sleep(0)
        gc.collect()


def test_never_awaited_shows_its_origin():
    import sys

    sys.set_coroutine_origin_tracking_depth(5)
    try:
        with pytest.warns(RuntimeWarning, match="was never awaited") as caught:
            sleep(0)
            gc.collect()
    finally:
        sys.set_coroutine_origin_tracking_depth(0)
    assert "test_never_awaited_shows_its_origin" in str(caught[0].message)


@pytest.mark.parametrize("end", ["close", "throw", "await"])
def test_no_warning_when_it_was_touched(loop, end):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        coro = sleep(0)
        if end == "close":
            coro.close()
        elif end == "throw":
            with pytest.raises(LookupError):
                coro.throw(LookupError)
        else:
            loop.run_until_complete(coro)
        del coro
        gc.collect()


def test_by_hand(loop, driven):
    def steps():
        coro = sleep(0, "result")
        assert coro.send(None) is None
        with pytest.raises(StopIteration) as caught:
            coro.send(None)
        assert caught.value.value == "result"
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            coro.send(None)
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            coro.throw(LookupError)
        assert coro.close() is None

    driven(steps)


def test_results_through_stop_iteration(driven):
    def steps():
        for value in (None, (), (1, 2), StopIteration(1), StopIteration, ValueError("x")):
            coro = sleep(0, value)
            coro.send(None)
            with pytest.raises(StopIteration) as caught:
                coro.send(None)
            assert caught.value.value is value

    driven(steps)


def test_sending_a_value_first(driven):
    def steps():
        coro = sleep(0)
        with pytest.raises(TypeError, match="can't send non-None value to a just-started coroutine"):
            coro.send(5)
        coro.close()

    driven(steps)


def test_throwing_first(driven):
    def steps():
        coro = sleep(0)
        with pytest.raises(LookupError):
            coro.throw(LookupError("thrown"))
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            coro.send(None)

    driven(steps)


def test_throwing_while_it_waits(driven):
    def steps():
        coro = sleep(1000)
        future = coro.send(None)
        assert asyncio.isfuture(future)
        with pytest.raises(LookupError, match="thrown"):
            coro.throw(LookupError("thrown"))

    driven(steps)


def test_closing_while_it_waits(driven):
    def steps():
        for delay in (0, 1000):
            coro = sleep(delay)
            coro.send(None)
            assert coro.close() is None
            assert coro.close() is None

    driven(steps)


STEPS = {
    "send": lambda coro: coro.send(None),
    "send value": lambda coro: coro.send(5),
    "throw": lambda coro: coro.throw(LookupError("x")),
    "exit": lambda coro: coro.throw(GeneratorExit),
    "close": lambda coro: coro.close(),
    "bad throw": lambda coro: coro.throw(5),
}


@pytest.mark.parametrize("delay", [0, 1000])
def test_any_order_of_steps(driven, delay):
    def steps():
        for order in itertools.product(STEPS, repeat=3):
            coro = sleep(delay, "result")
            for step in order:
                try:
                    value = STEPS[step](coro)
                except (StopIteration, LookupError, GeneratorExit, RuntimeError, TypeError):
                    pass
                else:
                    assert value is None or asyncio.isfuture(value)
                    if asyncio.isfuture(value):
                        value._asyncio_future_blocking = False
            coro.close()

    driven(steps)


def test_the_iterator_of_await(driven):
    def steps():
        coro = sleep(0, "result")
        iterator = coro.__await__()
        assert iter(iterator) is iterator
        assert next(iterator) is None
        with pytest.raises(StopIteration) as caught:
            next(iterator)
        assert caught.value.value == "result"

    driven(steps)


def test_awaited_by_two(loop):
    coro = sleep(0.0005)

    async def waits():
        await coro

    async def main():
        results = await asyncio.gather(waits(), waits(), return_exceptions=True)
        assert sum(isinstance(result, RuntimeError) for result in results) == 1
        await sleep(0)

    loop.run_until_complete(main())


def test_not_iterable_and_not_made_by_hand():
    coro = sleep(0)
    with pytest.raises(TypeError):
        iter(coro)
    with pytest.raises(TypeError):
        list(coro)
    with pytest.raises(TypeError):
        type(coro)()
    coro.close()


def test_dropped_while_it_waits(loop, driven, no_gc):
    def steps():
        coro = sleep(1000)
        coro.send(None)
        dead = weakref.ref(coro)
        del coro
        return dead

    dead = driven(steps)
    assert dead() is None


def test_cycles_are_collected(driven):
    class Kept:
        pass

    def steps():
        kept = Kept()
        kept.coro = sleep(0, kept)
        kept.coro.send(None)
        return weakref.ref(kept)

    dead = driven(steps)
    gc.collect()
    assert dead() is None


def test_the_exception_that_leaves_it_has_a_traceback(loop, turn):
    async def main():
        await sleep(1000)

    task = loop.create_task(main())
    turn()
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        loop.run_until_complete(task)
    assert "main" in [frame.name for frame in caught.traceback]


@pytest.mark.skipif(not impl.IS_COROLLA, reason="in C only")
@pytest.mark.parametrize("make", [lambda loop: sleep(1000), lambda loop: corolla.wait([loop.create_future()])])
def test_making_the_exception_that_is_thrown_ends_it(driven, loop, make):
    """throw() of a class calls it, and that may close the coroutine it is meant for."""

    def steps():
        coroutine = make(loop)
        coroutine.send(None)

        class Closing(Exception):
            def __init__(self):
                coroutine.close()

        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            coroutine.throw(Closing)
        waiting = corolla.Event().wait()
        waiting.send(None)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda *args, **kwargs: waiting.close()
            expected = RuntimeError if sys.version_info >= (3, 12) else KeyError
            with pytest.raises(expected):
                waiting.throw(KeyError, KeyError("x"), None)

    driven(steps)
