"""Awaiting across: the standard library's tasks and futures with ours, in every direction, and threads' futures."""

import asyncio
import concurrent.futures
import threading

import pytest
from impl import Future, Task, beyond_stdlib

TASKS = {"stdlib task": asyncio.Task, "own task": Task, "stdlib python task": asyncio.tasks._PyTask}
FUTURES = {"stdlib future": asyncio.Future, "own future": Future, "stdlib python future": asyncio.futures._PyFuture}

task_types = pytest.mark.parametrize("make_task", TASKS.values(), ids=TASKS)
future_types = pytest.mark.parametrize("make_future", FUTURES.values(), ids=FUTURES)


async def suspended(future):
    return await future


@task_types
@future_types
def test_result(loop, turn, make_task, make_future):
    future = make_future(loop=loop)
    task = make_task(suspended(future), loop=loop)
    turn()
    assert not task.done()
    assert task._fut_waiter is future
    future.set_result("across")
    assert loop.run_until_complete(task) == "across"


@task_types
@future_types
def test_done_already(loop, turn, make_task, make_future):
    future = make_future(loop=loop)
    future.set_result("across")
    task = make_task(suspended(future), loop=loop)
    turn()
    assert task.result() == "across"


@task_types
@future_types
def test_exception(loop, turn, make_task, make_future):
    future = make_future(loop=loop)
    task = make_task(suspended(future), loop=loop)
    turn()
    future.set_exception(error := LookupError())
    turn()
    assert task.exception() is error


@task_types
@future_types
def test_cancel_of_the_task(loop, turn, make_task, make_future):
    future = make_future(loop=loop)
    task = make_task(suspended(future), loop=loop)
    turn()
    task.cancel("message")
    assert future.cancelled()
    with pytest.raises(asyncio.CancelledError, match="message"):
        loop.run_until_complete(task)


@task_types
@future_types
def test_cancel_of_the_future(loop, turn, make_task, make_future):
    future = make_future(loop=loop)
    task = make_task(suspended(future), loop=loop)
    turn()
    future.cancel("message")
    with pytest.raises(asyncio.CancelledError, match="message"):
        loop.run_until_complete(task)
    assert task.cancelled()


@task_types
@pytest.mark.parametrize("make_inner", TASKS.values(), ids=TASKS)
def test_tasks_await_tasks(loop, make_task, make_inner):
    async def inner():
        await asyncio.sleep(0)
        return "inner"

    outer = make_task(suspended(make_inner(inner(), loop=loop)), loop=loop)
    assert loop.run_until_complete(outer) == "inner"


@task_types
@future_types
def test_waiters_of_every_kind_wake_in_order(loop, turn, make_task, make_future):
    order = []
    future = make_future(loop=loop)

    async def wait(name):
        order.append((name, await future))

    tasks = []
    for i, kind in enumerate([Task, make_task, asyncio.Task, Task]):
        tasks.append(kind(wait(i), loop=loop))
    turn()
    future.add_done_callback(lambda f: order.append("callback"))
    future.set_result("x")
    loop.run_until_complete(asyncio.wait(tasks))
    assert order == [(0, "x"), (1, "x"), (2, "x"), (3, "x"), "callback"]


@task_types
def test_current_task_across(loop, make_task):
    async def inner():
        return asyncio.current_task()

    async def outer():
        own = asyncio.current_task()
        task = make_task(inner(), loop=loop)
        assert await task is task
        assert asyncio.current_task() is own

    for kind in TASKS.values():
        loop.run_until_complete(kind(outer(), loop=loop))


@task_types
@future_types
def test_on_the_stdlibs_loop(make_task, make_future):
    loop = asyncio.SelectorEventLoop()
    try:
        future = make_future(loop=loop)
        loop.call_soon(future.set_result, "foreign")
        task = make_task(suspended(future), loop=loop)
        assert loop.run_until_complete(task) == "foreign"
        task = make_task(suspended(make_future(loop=loop)), loop=loop)
        loop.call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
        assert asyncio.all_tasks(loop) == set()
    finally:
        loop.close()


@task_types
def test_yield_and_errors_on_the_stdlibs_loop(make_task):
    async def main():
        await asyncio.sleep(0)
        await asyncio.sleep(0.0001)
        own = asyncio.current_task()
        assert own in asyncio.all_tasks()
        raise LookupError

    loop = asyncio.SelectorEventLoop()
    try:
        with pytest.raises(LookupError):
            loop.run_until_complete(make_task(main(), loop=loop))
    finally:
        loop.close()


def test_a_stdlib_loop_in_debug_mode_with_own_futures():
    loop = asyncio.SelectorEventLoop()
    loop.set_debug(True)
    try:
        future = Future(loop=loop)
        assert future._source_traceback[-1].name == "test_a_stdlib_loop_in_debug_mode_with_own_futures"
        loop.call_soon(future.set_result, 1)
        assert loop.run_until_complete(Task(suspended(future), loop=loop)) == 1
    finally:
        loop.close()


@beyond_stdlib("asyncio's task compares loops by identity, and so do we")
def test_a_loop_that_wraps_ours(loop):
    # A proxy passes as the loop of a future as long as everybody sees the same proxy.
    class Proxy:
        def __init__(self, loop):
            self._proxied = loop

        def __getattr__(self, name):
            return getattr(self._proxied, name)

    proxy = Proxy(loop)
    future = Future(loop=proxy)
    task = Task(suspended(future), loop=proxy)
    loop.call_soon(future.set_result, 1)
    assert loop.run_until_complete(asyncio.wait_for(asyncio.shield(task_on(loop, task)), None)) == 1


async def task_on_coro(task):
    while not task.done():
        await asyncio.sleep(0)
    return task.result()


def task_on(loop, task):
    return loop.create_task(task_on_coro(task))


# ---- threads' futures ------------------------------------------------------------------------------------------------


def test_wrap_future(loop):
    source = concurrent.futures.Future()
    wrapped = asyncio.wrap_future(source, loop=loop)
    assert type(wrapped) is Future
    thread = threading.Thread(target=source.set_result, args=("from a thread",))
    thread.start()
    assert loop.run_until_complete(wrapped) == "from a thread"
    thread.join()


def test_wrap_future_leaves_ours_alone(loop):
    future = Future(loop=loop)
    assert asyncio.wrap_future(future) is future


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        (LookupError("x"), LookupError),
        (concurrent.futures.CancelledError("x"), asyncio.CancelledError),
        (concurrent.futures.InvalidStateError("x"), asyncio.InvalidStateError),
    ],
)
def test_wrapped_exceptions(loop, given, seen):
    source = concurrent.futures.Future()
    wrapped = asyncio.wrap_future(source, loop=loop)
    source.set_exception(given)
    with pytest.raises(seen):
        loop.run_until_complete(wrapped)


def test_wrapped_cancel_both_ways(loop, turn):
    source = concurrent.futures.Future()
    wrapped = asyncio.wrap_future(source, loop=loop)
    wrapped.cancel()
    turn()
    assert source.cancelled()
    source = concurrent.futures.Future()
    wrapped = asyncio.wrap_future(source, loop=loop)
    source.cancel()
    source.set_running_or_notify_cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(wrapped)


@beyond_stdlib("python/cpython 112182: before 3.13 the waiter hangs for good", until=(3, 13))
def test_stop_iteration_from_an_executor(loop):
    def job():
        raise StopIteration("from the job")

    async def main():
        return await loop.run_in_executor(None, job)

    with pytest.raises(RuntimeError) as caught:
        loop.run_until_complete(main())
    assert isinstance(caught.value.__cause__, StopIteration)
    loop.run_until_complete(loop.shutdown_default_executor())


def test_stop_iteration_on_a_waited_for_future(loop, turn):
    future = Future(loop=loop)
    task = loop.create_task(suspended(future))
    turn()
    try:
        future.set_exception(StopIteration())
    except TypeError:
        future.set_exception(RuntimeError())
    with pytest.raises(RuntimeError):
        loop.run_until_complete(task)


def test_ensure_future(loop):
    future = Future(loop=loop)
    assert asyncio.ensure_future(future) is future
    task = asyncio.ensure_future(asyncio.sleep(0, "slept"), loop=loop)
    assert type(task) is Task
    assert loop.run_until_complete(task) == "slept"

    class Awaitable:
        def __await__(self):
            yield from asyncio.sleep(0).__await__()
            return "awaited"

    assert loop.run_until_complete(asyncio.ensure_future(Awaitable(), loop=loop)) == "awaited"
    with pytest.raises(ValueError):
        other = asyncio.SelectorEventLoop()
        try:
            asyncio.ensure_future(future, loop=other)
        finally:
            other.close()


@future_types
@pytest.mark.parametrize("make_source", FUTURES.values(), ids=FUTURES)
def test_chained_futures(loop, turn, make_future, make_source):
    for how in ("result", "exception", "cancel", "cancel destination"):
        source, destination = make_source(loop=loop), make_future(loop=loop)
        asyncio.futures._chain_future(source, destination)
        if how == "result":
            source.set_result(1)
        elif how == "exception":
            source.set_exception(LookupError())
        elif how == "cancel":
            source.cancel()
        else:
            destination.cancel()
        turn()
        turn()
        assert source.done()
        assert destination.done()
        assert source.cancelled() == destination.cancelled() == how.startswith("cancel")
        if how == "exception":
            assert source.exception() is destination.exception()
