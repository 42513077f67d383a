"""Task: eager start, and task factories."""

import asyncio
import contextvars
import gc
import inspect
import sys
import threading

import impl
import pytest
from impl import Task, beyond_stdlib

var = contextvars.ContextVar("var", default="outside")

pytestmark = beyond_stdlib("eager_start came with 3.12; corolla has it everywhere", until=(3, 12))


def eager(coro, **kwargs):
    return Task(coro, eager_start=True, **kwargs)


async def returns(value=None):
    return value


def test_runs_at_once_to_its_first_suspension(loop):
    order = []

    async def child():
        order.append("started")
        await asyncio.sleep(0)
        order.append("went on")
        return "result"

    async def main():
        task = eager(child(), loop=loop)
        order.append("created")
        assert not task.done()
        assert task in asyncio.all_tasks()
        assert await task == "result"

    loop.run_until_complete(main())
    assert order == ["started", "created", "went on"]


def test_done_at_once(loop):
    async def main():
        task = eager(returns(5), loop=loop)
        assert task.done()
        assert task.result() == 5
        assert task not in asyncio.all_tasks()
        assert await task == 5
        return repr(task)

    assert "finished" in loop.run_until_complete(main())


@beyond_stdlib("3.12.1 crashes here", until=(3, 13))
def test_get_coro_of_one_done_at_once(loop):
    async def main():
        return eager(returns(), loop=loop).get_coro()

    assert loop.run_until_complete(main()) is None


def test_failing_at_once(loop):
    async def child():
        raise LookupError("at once")

    async def main():
        task = eager(child(), loop=loop)
        assert task.done()
        with pytest.raises(LookupError):
            await task

    loop.run_until_complete(main())


def test_failing_at_once_and_never_fetched(loop, reports):
    async def child():
        raise LookupError("at once")

    async def main():
        eager(child(), loop=loop)

    loop.run_until_complete(main())
    gc.collect()
    assert reports.pop()["message"] == "Task exception was never retrieved"


def test_cancelled_at_once(loop):
    async def child():
        raise asyncio.CancelledError("at once")

    async def main():
        task = eager(child(), loop=loop)
        assert task.cancelled()
        with pytest.raises(asyncio.CancelledError):
            await task

    loop.run_until_complete(main())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupted_at_once(loop, reports, error):
    async def child():
        raise error

    async def main():
        eager(child(), loop=loop)

    with pytest.raises(error):
        loop.run_until_complete(main())
    gc.collect()
    reports.clear()  # that nobody fetched the task's exception may be said, or not
    loop.run_until_complete(asyncio.sleep(0))


def test_current_task(loop):
    async def child():
        seen.append(asyncio.current_task())
        assert asyncio.current_task() in asyncio.all_tasks()
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())

    async def main():
        own = asyncio.current_task()
        task = eager(child(), loop=loop)
        assert asyncio.current_task() is own
        await task
        assert seen == [task, task]

    seen = []
    loop.run_until_complete(main())


def test_nested(loop):
    async def child(depth):
        own = asyncio.current_task()
        if depth:
            await eager(child(depth - 1), loop=loop)
        assert asyncio.current_task() is own
        return depth

    assert loop.run_until_complete(child(50)) == 50


def test_context(loop):
    async def child():
        before = var.get()
        var.set("child")
        await asyncio.sleep(0)
        return before, var.get()

    async def main():
        var.set("parent")
        task = eager(child(), loop=loop)
        assert var.get() == "parent"
        assert await task == ("parent", "child")
        context = contextvars.copy_context()
        context.run(var.set, "given")
        task = eager(child(), loop=loop, context=context)
        assert context[var] == "child"
        assert await task == ("given", "child")
        assert var.get() == "parent"

    loop.run_until_complete(main())


def test_name(loop):
    async def child():
        return asyncio.current_task().get_name()

    async def main():
        assert await eager(child(), loop=loop, name="mine") == "mine"

    loop.run_until_complete(main())


def test_on_a_loop_that_does_not_run_it_waits(loop):
    order = []

    async def child():
        order.append("ran")

    task = eager(child(), loop=loop)
    assert order == []
    loop.run_until_complete(task)
    assert order == ["ran"]


def test_cancels_itself(loop):
    async def child():
        asyncio.current_task().cancel("by itself")
        await asyncio.sleep(0)

    async def main():
        task = eager(child(), loop=loop)
        assert not task.done()
        with pytest.raises(asyncio.CancelledError, match="by itself"):
            await task

    loop.run_until_complete(main())


def test_waits_for_a_future(loop):
    async def child(future):
        return await future

    async def main():
        future = loop.create_future()
        task = eager(child(future), loop=loop)
        assert task._fut_waiter is future
        future.set_result("woken")
        assert await task == "woken"

    loop.run_until_complete(main())


def test_yields_garbage(loop):
    import types

    @types.coroutine
    def garbage():
        yield 5

    async def child():
        await garbage()

    async def main():
        task = eager(child(), loop=loop)
        with pytest.raises(RuntimeError, match="Task got bad yield: 5"):
            await task

    loop.run_until_complete(main())


@beyond_stdlib("python/cpython 155338")
def test_from_another_thread(loop):
    # The thread does not run the loop: nothing may start there, and the loop's current task stays what it was.
    seen = []

    async def child():
        seen.append((threading.get_ident(), asyncio.current_task()))
        await asyncio.sleep(0)
        return "child"

    async def main():
        made = await loop.run_in_executor(None, make)
        assert asyncio.current_task() is own[0]
        assert await made == "child"

    def make():
        task = eager(child(), loop=loop)
        assert seen == []
        loop.call_soon_threadsafe(lambda: None)
        return task

    async def start():
        own.append(asyncio.current_task())
        await main()

    own = []
    loop.run_until_complete(start())
    assert seen[0][0] == threading.get_ident()
    loop.run_until_complete(loop.shutdown_default_executor())


@beyond_stdlib("python/cpython 155338")
def test_from_a_thread_that_runs_another_loop(loop):
    other = impl.new_event_loop()
    made = []

    async def child():
        return asyncio.get_running_loop()

    async def in_other():
        own = asyncio.current_task()
        made.append(eager(child(), loop=loop))
        assert not made[0].done()
        assert asyncio.current_task() is own
        await asyncio.sleep(0)

    try:

        async def main():
            await loop.run_in_executor(None, other.run_until_complete, in_other())
            assert await made[0] is loop

        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        other.close()


@beyond_stdlib("create_task(eager_start=) came with 3.14", until=(3, 14))
def test_create_task(loop):
    order = []

    async def child():
        order.append("ran")

    async def main():
        task = loop.create_task(child(), eager_start=True)
        assert order == ["ran"]
        assert task.done()
        later = loop.create_task(child(), eager_start=False, name="name")
        assert order == ["ran"]
        await later

    loop.run_until_complete(main())
    with pytest.raises(TypeError):
        coro = child()
        try:
            loop.create_task(coro, unknown=1)
        finally:
            coro.close()


# ---- factories ------------------------------------------------------------------------------------------------------


def test_factory(loop):
    calls = []

    def factory(*args, **kwargs):
        calls.append((args, kwargs))
        return Task(args[1], loop=args[0])

    assert loop.get_task_factory() is None
    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    coro = returns(1)
    task = loop.create_task(coro)
    assert loop.run_until_complete(task) == 1
    ((args, kwargs),) = calls
    assert args == (loop, coro)
    assert set(kwargs) <= {"name", "context"}
    assert all(value is None for value in kwargs.values())
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None


def test_factory_that_is_not_callable(loop):
    with pytest.raises(TypeError, match="task factory must be a callable or None"):
        loop.set_task_factory(5)
    assert loop.get_task_factory() is None


def test_factory_and_names(loop):
    def factory(loop, coro, **kwargs):
        return Task(coro, loop=loop, **kwargs)

    loop.set_task_factory(factory)
    task = loop.create_task(returns(), name="mine")
    assert task.get_name() == "mine"
    loop.run_until_complete(task)


def test_factory_and_context(loop):
    def factory(loop, coro, context=None, **kwargs):
        contexts.append(context)
        return Task(coro, loop=loop, context=context, **kwargs)

    contexts = []
    context = contextvars.copy_context()
    loop.set_task_factory(factory)
    loop.run_until_complete(loop.create_task(returns(), context=context))
    assert contexts == [context]


def test_factory_of_futures(loop):
    # Whatever it gives back is what create_task gives back.
    loop.set_task_factory(lambda loop, coro, **kwargs: (coro.close(), made)[1])

    class Made(impl.Future):
        def set_name(self, name):
            self.name = name

    made = Made(loop=loop)
    assert loop.create_task(returns()) is made


def test_factory_that_raises(loop):
    def factory(loop, coro, **kwargs):
        coro.close()
        raise LookupError("in the factory")

    loop.set_task_factory(factory)
    with pytest.raises(LookupError):
        loop.create_task(returns())


def test_factory_is_used_by_run_until_complete_and_gather(loop):
    made = []

    def factory(loop, coro, **kwargs):
        made.append(coro.__name__)
        return Task(coro, loop=loop, **kwargs)

    loop.set_task_factory(factory)

    async def main():
        await asyncio.gather(returns(), returns())

    loop.run_until_complete(main())
    assert made == ["main", "returns", "returns"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.eager_task_factory came with 3.12")
@pytest.mark.parametrize("custom", [False, True])
def test_eager_task_factory(loop, custom):
    factory = asyncio.create_eager_task_factory(Task) if custom else asyncio.eager_task_factory
    loop.set_task_factory(factory)
    order = []

    async def child(i):
        order.append(i)
        if i % 2:
            await asyncio.sleep(0)
        return i

    async def main():
        tasks = [asyncio.create_task(child(i)) for i in range(4)]
        assert order == [0, 1, 2, 3]
        assert [task.done() for task in tasks] == [True, False, True, False]
        assert await asyncio.gather(*tasks) == [0, 1, 2, 3]
        if custom:
            assert all(type(task) is Task for task in tasks)

    loop.run_until_complete(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.eager_task_factory came with 3.12")
def test_eager_factory_with_a_task_group(loop):
    loop.set_task_factory(asyncio.create_eager_task_factory(Task))

    async def child(i):
        await asyncio.sleep(0)
        return i

    async def main():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(child(i)) for i in range(5)]
        return [task.result() for task in tasks]

    assert loop.run_until_complete(main()) == list(range(5))


def test_create_task_on_a_closed_loop():
    loop = impl.new_event_loop()
    loop.close()
    coro = returns()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.create_task(coro)
    assert inspect.getcoroutinestate(coro) in ("CORO_CREATED", "CORO_CLOSED")
    coro.close()


def test_stdlib_tasks_can_be_made_on_it(loop):
    loop.set_task_factory(lambda loop, coro, **kwargs: asyncio.Task(coro, loop=loop, **kwargs))

    async def main():
        assert type(asyncio.current_task()) is asyncio.Task
        async with asyncio.TaskGroup() as group:
            task = group.create_task(returns(3))
        return task.result()

    assert loop.run_until_complete(main()) == 3
