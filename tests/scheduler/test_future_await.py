"""Future: the iterator behind await, driven by hand and by tasks."""

import asyncio
import collections.abc
import itertools
import weakref

import pytest
from impl import Future, beyond_stdlib


@pytest.fixture
def future(loop):
    return Future(loop=loop)


def test_await_by_hand(future):
    iterator = future.__await__()
    assert iter(iterator) is iterator
    assert iterator.send(None) is future
    assert future._asyncio_future_blocking is True
    future._asyncio_future_blocking = False
    future.set_result(7)
    with pytest.raises(StopIteration) as caught:
        iterator.send(None)
    assert caught.value.value == 7


def test_next_by_hand(future):
    iterator = iter(future)
    assert next(iterator) is future
    future.set_result(7)
    with pytest.raises(StopIteration) as caught:
        next(iterator)
    assert caught.value.value == 7


def test_yield_from(loop, future):
    def generator():
        return (yield from future)

    iterator = generator()
    assert next(iterator) is future
    future.set_result("through yield from")
    with pytest.raises(StopIteration) as caught:
        next(iterator)
    assert caught.value.value == "through yield from"


def test_done_already(future):
    future.set_result(7)
    with pytest.raises(StopIteration) as caught:
        future.__await__().send(None)
    assert caught.value.value == 7
    assert future._asyncio_future_blocking is False


@pytest.mark.parametrize("result", [None, (), (1, 2), StopIteration(3), StopIteration, ValueError("value")])
def test_results_through_stop_iteration(future, result):
    future.set_result(result)
    with pytest.raises(StopIteration) as caught:
        next(future.__await__())
    assert caught.value.value is result

    async def main():
        return await future

    coro = main()
    with pytest.raises(StopIteration) as caught:
        coro.send(None)
    assert caught.value.value is result


def test_exception_and_cancel(loop):
    failed = Future(loop=loop)
    iterator = failed.__await__()
    next(iterator)
    failed.set_exception(LookupError("set"))
    with pytest.raises(LookupError, match="set"):
        next(iterator)
    cancelled = Future(loop=loop)
    iterator = cancelled.__await__()
    next(iterator)
    cancelled.cancel("message")
    with pytest.raises(asyncio.CancelledError, match="message"):
        next(iterator)


def test_asked_again_while_pending(future):
    iterator = future.__await__()
    next(iterator)
    with pytest.raises(RuntimeError, match="await wasn't used with future"):
        next(iterator)


def test_send_ignores_the_value(future):
    iterator = future.__await__()
    assert iterator.send(None) is future
    future.set_result(1)
    with pytest.raises(StopIteration):
        iterator.send("ignored")


def test_throw(future):
    iterator = future.__await__()
    next(iterator)
    with pytest.raises(LookupError, match="thrown"):
        iterator.throw(LookupError("thrown"))
    assert not future.done()


@pytest.mark.parametrize("arguments", [(LookupError,), (LookupError("x"),)])
def test_throw_before_the_first_step(future, arguments):
    with pytest.raises(LookupError):
        future.__await__().throw(*arguments)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_three_arguments_of_throw(future):
    try:
        raise KeyError
    except KeyError as error:
        traceback = error.__traceback__
    with pytest.raises(LookupError, match="x") as caught:
        future.__await__().throw(LookupError, "x", traceback)
    assert caught.value.args == ("x",)
    with pytest.raises(LookupError):
        future.__await__().throw(LookupError, LookupError("x"), None)
    with pytest.raises(LookupError):
        future.__await__().throw(LookupError)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "arguments",
    [(), (1,), (None,), ("x",), (object,), (LookupError("x"), "y"), (LookupError, "x", "no traceback"), (int, 5)],
)
def test_throw_of_what_is_no_exception(future, arguments):
    with pytest.raises(TypeError):
        future.__await__().throw(*arguments)


def test_close(future):
    iterator = future.__await__()
    next(iterator)
    assert iterator.close() is None
    assert not future.done()


STEPS = {
    "next": lambda iterator: next(iterator),
    "send": lambda iterator: iterator.send(None),
    "throw": lambda iterator: iterator.throw(LookupError),
    "exit": lambda iterator: iterator.throw(GeneratorExit),
    "close": lambda iterator: iterator.close(),
}


@pytest.mark.parametrize("state", ["pending", "result", "exception", "cancelled"])
@beyond_stdlib("python/cpython 146065")
def test_any_order_of_steps(loop, state):
    for order in itertools.product(STEPS, repeat=3):
        future = Future(loop=loop)
        if state == "result":
            future.set_result(1)
        elif state == "exception":
            future.set_exception(ValueError())
            future.exception()
        elif state == "cancelled":
            future.cancel()
        iterator = future.__await__()
        for step in order:
            try:
                value = STEPS[step](iterator)
            except (StopIteration, LookupError, GeneratorExit, RuntimeError, ValueError, asyncio.CancelledError):
                pass
            else:
                assert value is None or value is future
        future.cancel()


def test_the_iterator_lets_go_of_the_future(loop, no_gc):
    future = Future(loop=loop)
    dead = weakref.ref(future)
    iterator = future.__await__()
    next(iterator)
    future.set_result(1)
    with pytest.raises(StopIteration):
        next(iterator)
    del future
    assert dead() is None
    with pytest.raises(StopIteration):
        next(iterator)


def test_the_iterator_keeps_the_future(loop):
    iterator = Future(loop=loop).__await__()
    future = next(iterator)
    assert isinstance(future, Future)


def test_many_iterators_of_one_future(future):
    iterators = [future.__await__() for _ in range(5)]
    for iterator in iterators:
        assert next(iterator) is future
        future._asyncio_future_blocking = False  # as whoever awaits does
    future.set_result(1)
    for iterator in iterators:
        with pytest.raises(StopIteration) as caught:
            next(iterator)
        assert caught.value.value == 1


def test_is_awaitable(future):
    assert isinstance(future, collections.abc.Awaitable)
    assert not isinstance(future, collections.abc.Coroutine)
    assert not asyncio.iscoroutine(future)


# ---- tasks that wait ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("waiters", [1, 2, 3, 50])
def test_waiters_wake_in_the_order_they_came(loop, waiters):
    future = Future(loop=loop)
    order = []

    async def wait(i):
        order.append((i, await future))

    async def main():
        tasks = [loop.create_task(wait(i)) for i in range(waiters)]
        await asyncio.sleep(0)
        future.set_result("result")
        assert order == []
        for task in tasks:
            await task

    loop.run_until_complete(main())
    assert order == [(i, "result") for i in range(waiters)]


def test_waiters_and_callbacks_mixed_keep_their_order(loop, turn):
    future = Future(loop=loop)
    order = []

    async def wait(name):
        await future
        order.append(name)

    tasks = []
    for i in range(4):
        tasks.append(loop.create_task(wait(f"task {i}")))
        turn()
        future.add_done_callback(lambda f, i=i: order.append(f"callback {i}"))
    future.set_result(1)
    turn()
    assert order == [f"{kind} {i}" for i in range(4) for kind in ("task", "callback")]
    for task in tasks:
        task.result()


def test_the_waiter_is_among_the_callbacks(loop, turn, future):
    async def main():
        return await future

    task = loop.create_task(main())
    turn()
    (entry,) = future._callbacks
    assert callable(entry[0])
    assert entry[1] is not None
    assert task._fut_waiter is future
    future.set_result(1)
    assert loop.run_until_complete(task) == 1


def test_a_waiter_woken_by_its_own_callback_object(loop, turn, future):
    # Debuggers and test suites take the waiter out of _callbacks and call it.
    async def main():
        return await future

    task = loop.create_task(main())
    turn()
    (wakeup, _context) = future._callbacks[0]
    assert future.remove_done_callback(wakeup) == 1
    assert not future._callbacks
    future.set_result("found")
    loop.call_soon(wakeup, future)
    assert loop.run_until_complete(task) == "found"


def test_one_waiter_cancelled_leaves_the_others(loop, turn, future):
    # Cancelling a task cancels the future it waits on: shield() is what keeps the others.
    async def wait():
        return await asyncio.shield(future)

    tasks = [loop.create_task(wait()) for _ in range(3)]
    turn()
    tasks[1].cancel()
    turn()
    turn()
    assert tasks[1].cancelled()
    future.set_result(5)
    assert loop.run_until_complete(asyncio.gather(tasks[0], tasks[2])) == [5, 5]


def test_cancelled_while_others_wait(loop, turn, future):
    async def wait():
        await future

    tasks = [loop.create_task(wait()) for _ in range(3)]
    turn()
    future.cancel("from outside")
    turn()
    for task in tasks:
        assert task.cancelled()
        with pytest.raises(asyncio.CancelledError, match="from outside"):
            task.result()


def test_the_exception_keeps_one_identity_for_all_waiters(loop, turn, future):
    async def wait():
        await future

    tasks = [loop.create_task(wait()) for _ in range(3)]
    turn()
    future.set_exception(error := LookupError())
    turn()
    assert [task.exception() for task in tasks] == [error] * 3


def test_awaited_twice_by_one_task(loop, future):
    async def main():
        loop.call_soon(future.set_result, 1)
        return [await future, await future]

    assert loop.run_until_complete(main()) == [1, 1]


def test_the_wakeup_runs_in_the_tasks_context(loop, turn, future):
    import contextvars

    var = contextvars.ContextVar("var", default="outside")
    seen = []

    async def main():
        var.set("task")
        await future
        seen.append(var.get())

    task = loop.create_task(main())
    turn()
    var.set("completer")
    future.set_result(1)
    turn()
    assert seen == ["task"]
    task.result()


def test_a_future_shared_with_run_until_complete(loop, future):
    loop.call_soon(future.set_result, "done")
    assert loop.run_until_complete(future) == "done"
    assert loop.run_until_complete(future) == "done"


def test_a_chain_of_ten_thousand(loop):
    async def link(previous):
        return await previous + 1

    async def main():
        first = last = loop.create_future()
        for _ in range(10_000):
            last = loop.create_task(link(last))
        loop.call_soon(first.set_result, 0)
        return await last

    assert loop.run_until_complete(main()) == 10_000
