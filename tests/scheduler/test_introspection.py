"""current_task, all_tasks and get_running_loop of asyncio see our loop and tasks."""

import asyncio
import gc
import threading

import impl
import pytest
from impl import Task


async def returns(value=None):
    return value


async def forever():
    await asyncio.get_running_loop().create_future()


def test_get_running_loop(loop):
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()
    seen = []
    loop.call_soon(lambda: seen.append(asyncio.get_running_loop()))

    async def main():
        seen.append(asyncio.get_running_loop())
        seen.append(asyncio.get_event_loop())

    loop.run_until_complete(main())
    assert seen == [loop] * 3
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


def test_get_running_loop_after_an_interrupt(loop):
    def interrupt():
        raise KeyboardInterrupt

    loop.call_soon(interrupt)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


def test_get_running_loop_is_the_threads_own(loop):
    seen = []

    def look():
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            seen.append("none")

    async def main():
        await loop.run_in_executor(None, look)

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())
    assert seen == ["none"]


def test_current_task(loop):
    seen = []

    async def child():
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())

    async def main():
        own = asyncio.current_task()
        assert own is asyncio.current_task(loop)
        task = loop.create_task(child())
        await asyncio.sleep(0)
        assert asyncio.current_task() is own
        await task
        assert asyncio.current_task() is own
        assert seen == [task, task]

    loop.run_until_complete(main())
    assert asyncio.current_task(loop) is None
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.current_task()


def test_current_task_in_a_callback_is_none(loop):
    seen = []
    loop.call_soon(lambda: seen.append(asyncio.current_task()))
    loop.call_later(0, lambda: seen.append(asyncio.current_task()))
    loop.call_later(0, loop.stop)
    loop.run_forever()
    assert seen == [None, None]


def test_current_task_is_cleared_after_errors(loop):
    async def fails(error):
        raise error

    for error in (LookupError, asyncio.CancelledError, KeyboardInterrupt, SystemExit):
        with pytest.raises(error):
            loop.run_until_complete(fails(error()))
        assert asyncio.current_task(loop) is None
        assert loop.run_until_complete(returns(1)) == 1


def test_current_task_seen_from_another_thread(loop):
    async def main():
        return await loop.run_in_executor(None, asyncio.current_task, loop), asyncio.current_task()

    seen, own = loop.run_until_complete(main())
    # While the loop waits in its poll, no task is current.
    assert seen is None or seen is own
    loop.run_until_complete(loop.shutdown_default_executor())


def test_current_task_of_nested_loops_in_threads(loop):
    other = impl.new_event_loop()

    async def inner():
        return asyncio.current_task(), asyncio.current_task(loop)

    async def main():
        own = asyncio.current_task()
        theirs, mine = await loop.run_in_executor(None, other.run_until_complete, inner())
        assert theirs is not own
        assert mine in (None, own)

    try:
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        other.close()


def test_all_tasks(loop):
    async def main():
        own = asyncio.current_task()
        assert asyncio.all_tasks() == {own}
        tasks = {loop.create_task(forever()) for _ in range(5)}
        assert asyncio.all_tasks() == tasks | {own}
        assert asyncio.all_tasks(loop) == tasks | {own}
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == tasks | {own}
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert asyncio.all_tasks() == {own}

    loop.run_until_complete(main())
    assert asyncio.all_tasks(loop) == set()


def test_all_tasks_needs_a_loop():
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.all_tasks()


def test_all_tasks_keeps_loops_apart(loop):
    other = impl.new_event_loop()
    try:
        theirs = other.create_task(forever())
        own = loop.create_task(forever())
        assert asyncio.all_tasks(loop) == {own}
        assert asyncio.all_tasks(other) == {theirs}
        for one, task in ((loop, own), (other, theirs)):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                one.run_until_complete(task)
    finally:
        other.close()


def test_all_tasks_sees_stdlib_and_own_side_by_side(loop):
    async def main():
        stdlib = asyncio.Task(forever(), loop=loop)
        own = Task(forever(), loop=loop)
        assert asyncio.all_tasks() == {stdlib, own, asyncio.current_task()}
        stdlib.cancel()
        own.cancel()
        await asyncio.wait([stdlib, own])
        assert asyncio.all_tasks() == {asyncio.current_task()}

    loop.run_until_complete(main())


def test_all_tasks_holds_no_task(loop, reports):
    loop.create_task(forever())
    loop.run_until_complete(asyncio.sleep(0))
    gc.collect()
    assert asyncio.all_tasks(loop) == set()
    assert reports.pop()["message"] == "Task was destroyed but it is pending!"


def test_all_tasks_in_a_task_being_made(loop):
    # A factory, or a subclass's __init__, may look while the task is half-made.
    class Looks(Task):
        def __init__(self, coro, **kwargs):
            asyncio.all_tasks(loop)
            super().__init__(coro, **kwargs)
            assert self in asyncio.all_tasks(loop)

    loop.run_until_complete(Looks(returns(), loop=loop))


def test_a_task_with_a_hash_of_its_own(loop):
    class Hashed(Task):
        def __hash__(self):
            return 7

        def __eq__(self, other):
            return self is other

    async def main():
        tasks = [Hashed(forever(), loop=loop) for _ in range(3)]
        assert asyncio.all_tasks() >= set(tasks)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    loop.run_until_complete(main())


def test_hammered_from_threads(loop):
    stop = threading.Event()
    errors = []

    def look():
        while not stop.is_set():
            try:
                for task in asyncio.all_tasks(loop):
                    assert isinstance(task, asyncio.Task)
                    task.get_coro()
                    repr(task)
                    task.get_name()
                    task.done()
                task = asyncio.current_task(loop)
                assert task is None or isinstance(task, asyncio.Task)
            except RuntimeError as error:
                # asyncio gives up after a thousand tries when its set keeps changing.
                if "changed size" not in str(error):
                    errors.append(error)
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=look) for _ in range(3)]

    async def child(i):
        for _ in range(i % 4):
            await asyncio.sleep(0)

    async def main():
        for _ in range(30):
            await asyncio.gather(*(child(i) for i in range(10)))

    for thread in threads:
        thread.start()
    try:
        loop.run_until_complete(main())
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []


def test_isinstance_and_the_abstract_classes(loop):
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert issubclass(impl.EventLoop, asyncio.AbstractEventLoop)
    assert issubclass(impl.Task, impl.Future)
    assert issubclass(impl.TimerHandle, impl.Handle)
    future = asyncio.Future(loop=loop)
    if impl.IS_COROLLA:
        assert not isinstance(future, impl.Future)
        assert not issubclass(asyncio.Future, impl.Future)


def test_names_of_the_types():
    for name in ("Future", "Task", "Handle", "TimerHandle"):
        kind = getattr(impl, name)
        assert kind.__name__ == name
        assert kind.__qualname__ == name
        assert kind.__doc__ or not impl.IS_COROLLA
    if impl.IS_COROLLA:
        assert impl.EventLoop.__name__ == "EventLoop"
        assert impl.EventLoop.__module__.startswith("corolla")
