"""Task: what a coroutine must not do, and exceptions that are no ordinary ones."""

import asyncio
import gc
import sys
import types
import weakref

import impl
import pytest
from impl import Task, beyond_stdlib


@types.coroutine
def yields(value):
    return (yield value)


async def awaits(value):
    return await yields(value)


@pytest.mark.parametrize("value", [5, "x", object(), [], True, 0, (), 1.5])
def test_a_bad_yield(loop, value):
    with pytest.raises(RuntimeError) as caught:
        loop.run_until_complete(awaits(value))
    assert str(caught.value) == f"Task got bad yield: {value!r}"


def test_a_bad_yield_can_be_survived(loop):
    async def main():
        for value in (5, "x", iter(()), (i for i in ()), loop.create_future()):
            with pytest.raises(RuntimeError):
                await yields(value)
        return "went on"

    assert loop.run_until_complete(main()) == "went on"


def test_a_yielded_generator(loop):
    generator = (i for i in range(3))
    with pytest.raises(RuntimeError, match="yield was used instead of yield from for generator in task .* with "):
        loop.run_until_complete(awaits(generator))


@pytest.mark.parametrize("make", [lambda loop: loop.create_future(), lambda loop: asyncio.Future(loop=loop)])
def test_a_yielded_future(loop, make):
    future = make(loop)
    with pytest.raises(RuntimeError, match="yield was used instead of yield from in task .* with <Future pending"):
        loop.run_until_complete(awaits(future))


def test_a_yielded_task(loop):
    task = loop.create_task(asyncio.sleep(0))
    with pytest.raises(RuntimeError, match="yield was used instead of yield from in task"):
        loop.run_until_complete(awaits(task))
    loop.run_until_complete(task)


@beyond_stdlib("asyncio reports the error and leaves the task hanging")
def test_an_object_that_says_it_blocks_but_is_no_future(loop):
    class Liar:
        _asyncio_future_blocking = True

    with pytest.raises((RuntimeError, AttributeError)):
        loop.run_until_complete(awaits(Liar()))


@beyond_stdlib("asyncio reports the error and leaves the task hanging")
@pytest.mark.parametrize("where", ["_asyncio_future_blocking", "get_loop", "add_done_callback"])
def test_a_duck_that_raises(loop, where):
    class Duck:
        if where == "_asyncio_future_blocking":

            @property
            def _asyncio_future_blocking(self):
                raise LookupError(where)

        else:
            _asyncio_future_blocking = True

        def get_loop(self):
            if where == "get_loop":
                raise LookupError(where)
            return loop

        def add_done_callback(self, fn, *, context):
            raise LookupError(where)

    with pytest.raises(LookupError, match=where):
        loop.run_until_complete(awaits(Duck()))
    gc.collect()


@pytest.mark.parametrize("make", [impl.Future, asyncio.Future], ids=["own", "stdlib"])
def test_a_future_of_another_loop(loop, make):
    other = impl.new_event_loop()
    try:
        future = make(loop=other)

        async def main():
            await future

        with pytest.raises(RuntimeError, match="Task .* got Future .* attached to a different loop"):
            loop.run_until_complete(main())
        assert not future.done()
        if not impl.IS_COROLLA:
            return
        # A done one can be read by anybody.
        future.set_result(1)

        async def read():
            return await future

        assert loop.run_until_complete(read()) == 1
    finally:
        other.close()


def test_a_future_of_a_loop_of_another_kind(loop):
    other = asyncio.SelectorEventLoop()
    try:

        async def main(future):
            await future

        for future in (impl.Future(loop=other), other.create_future()):
            with pytest.raises(RuntimeError, match="attached to a different loop"):
                loop.run_until_complete(main(future))
    finally:
        other.close()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_inside_a_step(loop, error):
    async def main():
        await asyncio.sleep(0)
        raise error("out at once")

    task = loop.create_task(main())
    after = []
    with pytest.raises(error):
        loop.run_until_complete(task)
    assert task.done()
    assert type(task.exception()) is error
    assert not loop.is_running()
    loop.call_soon(after.append, 1)
    loop.run_until_complete(asyncio.sleep(0))
    assert after == [1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_inside_a_step_keeps_the_rest_of_the_batch(loop, error):
    order = []

    async def main():
        order.append("main")
        raise error

    async def other(name):
        order.append(name)

    task = loop.create_task(main())
    others = [loop.create_task(other(name)) for name in "abc"]
    loop.call_soon(order.append, "soon")
    with pytest.raises(error):
        loop.run_forever()
    assert order == ["main"]
    loop.run_until_complete(asyncio.gather(*others))
    assert order == ["main", "a", "b", "c", "soon"]
    task.exception()


def test_an_interrupt_from_a_done_callback(loop, turn):
    def interrupt(f):
        raise KeyboardInterrupt

    future = loop.create_future()

    async def main():
        return await future

    task = loop.create_task(main())
    turn()
    future.remove_done_callback(None)
    second = loop.create_future()
    second.add_done_callback(interrupt)
    second.set_result(None)
    future.set_result("still delivered")
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert loop.run_until_complete(task) == "still delivered"


def test_an_interrupt_is_an_exception_for_those_who_await_the_task(loop):
    async def inner():
        raise SystemExit(3)

    async def outer():
        with pytest.raises(SystemExit):
            await task
        return "outer"

    task = loop.create_task(inner())
    waiting = loop.create_task(outer())
    with pytest.raises(SystemExit):
        loop.run_forever()
    assert loop.run_until_complete(waiting) == "outer"


def test_an_interrupt_inside_run_until_complete_is_not_reported_twice(loop, reports):
    async def main():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(main())
    gc.collect()
    assert reports == []


def test_recursion_error(loop):
    async def deeper(n):
        return await deeper(n + 1)

    task = loop.create_task(deeper(0))
    with pytest.raises(RecursionError):
        loop.run_until_complete(task)

    async def fine():
        await asyncio.sleep(0)
        return "fine"

    assert loop.run_until_complete(fine()) == "fine"


def test_recursion_error_near_the_limit_never_loses_a_task(loop):
    # Futures completed with little stack left: whoever waits is woken all the same, or an exception says why not.
    def complete(depth, future):
        if depth:
            complete(depth - 1, future)
        else:
            future.set_result("set")

    async def main():
        limit = sys.getrecursionlimit()
        for depth in range(limit - 100, limit + 5):
            future = loop.create_future()
            try:
                complete(depth, future)
            except RecursionError:
                if not future.done():
                    future.set_result("set")
            assert await future == "set"

    loop.run_until_complete(main())


def test_memory_of_a_deep_stack_of_coroutines(loop):
    async def nest(depth):
        if depth == 0:
            await asyncio.sleep(0)
            return 0
        return await nest(depth - 1) + 1

    assert loop.run_until_complete(nest(300)) == 300


def test_running_the_step_of_a_task_that_is_done(loop, turn):
    # What a waiter calls may be called once too often by somebody who kept it.
    future = loop.create_future()

    async def main():
        await future

    task = loop.create_task(main())
    turn()
    (wakeup, _context) = future._callbacks[0]
    future.set_result(1)
    loop.run_until_complete(task)
    with pytest.raises((asyncio.InvalidStateError, RuntimeError)):
        wakeup(future)
    assert task.result() is None


def test_closing_the_coroutine_from_outside(loop, turn, reports):
    async def main():
        await loop.create_future()

    coro = main()
    task = loop.create_task(coro)
    turn()
    coro.close()
    assert not task.done()
    task.cancel()
    for _ in range(3):
        turn()
    assert task.done()
    if not task.cancelled():
        assert isinstance(task.exception(), RuntimeError)
    reports.clear()


def test_sending_into_the_coroutine_from_outside_while_it_runs(loop):
    async def main():
        with pytest.raises((ValueError, RuntimeError)):
            coro.send(None)
        return "fine"

    coro = main()
    assert loop.run_until_complete(coro) == "fine"


def test_a_subclass_with_a_finaliser_that_forgets_the_base_one(loop, reports):
    # python/cpython 129289
    class Forgets(Task):
        def __del__(self):
            finalised.append(1)

    async def main():
        await loop.create_future()

    finalised = []
    for _ in range(10):
        Forgets(main(), loop=loop)
    loop.run_until_complete(asyncio.sleep(0))
    gc.collect()
    assert finalised == [1] * 10
    if impl.IS_COROLLA:
        assert asyncio.all_tasks(loop) == set()
    reports.clear()


def test_a_subclass_whose_finaliser_brings_it_back(loop, reports):
    class Returns(Task):
        def __del__(self):
            kept.append(self)

    async def main():
        return 1

    kept = []
    task = Returns(main(), loop=loop)
    loop.run_until_complete(task)
    del task
    gc.collect()
    (task,) = kept
    assert task.result() == 1
    kept.clear()
    del task
    gc.collect()


@beyond_stdlib("a callback that is freed while it is being called")
def test_a_coroutine_that_drops_its_own_task(loop, turn):
    async def main():
        tasks.clear()
        gc.collect()
        await asyncio.sleep(0)
        gc.collect()
        done.append(1)

    done, tasks = [], []
    tasks.append(loop.create_task(main()))
    dead = weakref.ref(tasks[0])
    turn()
    turn()
    assert done == [1]
    gc.collect()
    assert dead() is None
