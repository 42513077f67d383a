"""TaskGroup, by the newest CPython's rules on every Python: on our loop, on asyncio's, and as that of asyncio where it has them."""

import asyncio
import contextlib
import contextvars
import gc
import inspect
import sys
import types
import warnings
import weakref
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import corolla
import pytest
from primitives.queues import LOOPS, MAKERS, turns

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest, reports: list[dict[str, Any]]) -> Generator[Any]:
    loop = request.param()
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    yield loop
    loop.close()
    gc.collect()
    assert not reports


@pytest.fixture
def run(loop: Any) -> Run:
    return loop.run_until_complete  # type: ignore[no-any-return]


@pytest.fixture(params=MAKERS)
def library(request: pytest.FixtureRequest) -> Any:
    if request.param is asyncio and sys.version_info < (3, 13):
        pytest.skip("other rules, before 3.13")
    return request.param


class Oops(Exception):
    pass


class Base(BaseException):
    pass


async def returns(value: Any = None) -> Any:
    return value


async def raises(exc: BaseException) -> Any:
    raise exc


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def raises_when_cancelled(exc: BaseException) -> None:
    try:
        await forever()
    except asyncio.CancelledError:
        raise exc from None


def only(group: BaseExceptionGroup[Any]) -> Any:
    (exc,) = group.exceptions
    return exc


# ---- tasks and their results ------------------------------------------------------------------------------------------


def test_waits_for_all(library, run):
    async def main():
        done = []

        async def work(count):
            await turns(count)
            done.append(count)
            return count

        async with library.TaskGroup() as group:
            assert isinstance(group, library.TaskGroup)
            tasks = [group.create_task(work(count)) for count in (3, 1, 2)]
            assert not done
        assert done == [1, 2, 3]
        assert [task.result() for task in tasks] == [3, 1, 2]

    run(main())


def test_empty(library, run):
    async def main():
        async with library.TaskGroup():
            pass

    run(main())


def test_tasks_may_add_tasks(library, run):
    async def main():
        done = []

        async def work(group, depth):
            await turns()
            if depth:
                group.create_task(work(group, depth - 1))
            done.append(depth)

        async with library.TaskGroup() as group:
            group.create_task(work(group, 3))
        assert sorted(done) == [0, 1, 2, 3]

    run(main())


def test_options_of_create_task(run, loop):
    async def main():
        variable = contextvars.ContextVar("variable", default="default")
        context = contextvars.copy_context()
        context.run(variable.set, "set")

        async def get():
            return variable.get()

        async with corolla.TaskGroup() as group:
            named = group.create_task(get(), name="named")
            placed = group.create_task(get(), context=context)
            plain = group.create_task(coro=get())
            none = group.create_task(get(), name=None, context=None)
            assert named.get_name() == "named"
            assert none.get_name().startswith("Task-")
        assert [task.result() for task in (named, placed, plain, none)] == ["default", "set", "default", "default"]

    run(main())


def test_wrong_options(run, loop):
    async def main():
        async with corolla.TaskGroup() as group:
            for args, kwargs in (((), {}), ((1, 2), {}), ((), {"name": "x"}), ((object(),), {}), ((1,), {"name": "x"})):
                with pytest.raises(TypeError):
                    group.create_task(*args, **kwargs)
            coro = returns()
            with pytest.raises(TypeError):
                group.create_task(coro, nonsense=1)
            coro.close()
            if isinstance(loop, corolla.EventLoop):  # the other does not look
                coro = returns()
                with pytest.raises(TypeError):
                    group.create_task(coro, context="no context")
                coro.close()
            assert not group._tasks

    run(main())
    with pytest.raises(TypeError):
        corolla.TaskGroup(1)
    with pytest.raises(TypeError):
        corolla.TaskGroup(name=1)


def test_eager_start(run, loop):
    """New in CPython 3.14, there on every Python."""
    if not isinstance(loop, corolla.EventLoop):
        pytest.skip("asyncio's loop has it from 3.14 on")

    async def main():
        begun = []

        async def work():
            begun.append(1)
            await turns()
            begun.append(2)

        async with corolla.TaskGroup() as group:
            group.create_task(work(), eager_start=True)
            assert begun == [1]
            done = group.create_task(returns(5), eager_start=True)
            assert done.done()
        assert begun == [1, 2]
        assert done.result() == 5

    run(main())


def test_create_task_of_the_loop_is_asked(run, loop):
    async def main():
        calls = []
        original = loop.create_task

        def create_task(coro, **kwargs):
            calls.append(kwargs)
            return original(coro, **kwargs)

        loop.create_task = create_task
        async with corolla.TaskGroup() as group:
            group.create_task(returns())
            group.create_task(returns(), name="name")
        assert calls == [{}, {"name": "name"}]

    run(main())


def test_task_factory_is_asked(run, loop):
    made = []

    def factory(loop, coro, **kwargs):
        made.append(kwargs)
        return asyncio.Task(coro, loop=loop, **kwargs)

    async def main():
        loop.set_task_factory(factory)
        async with corolla.TaskGroup() as group:
            task = group.create_task(returns(1))
            assert type(task) is asyncio.Task
        with pytest.raises(ExceptionGroup):
            async with corolla.TaskGroup() as group:
                group.create_task(forever())
                group.create_task(raises(Oops()))
        assert task.result() == 1
        assert len(made) == 3

    run(main())


# ---- errors -----------------------------------------------------------------------------------------------------------


def test_errors_of_tasks(library, run):
    async def main():
        cancelled = []

        async def bystander():
            try:
                await forever()
            except asyncio.CancelledError:
                cancelled.append(1)
                raise

        with pytest.raises(ExceptionGroup, match="unhandled errors in a TaskGroup") as raised:
            async with library.TaskGroup() as group:
                group.create_task(bystander())
                group.create_task(raises(Oops("one")))
                group.create_task(raises(LookupError("two")))
                await forever()
        assert [type(exc) for exc in raised.value.exceptions] == [Oops, LookupError]
        assert raised.value.message == "unhandled errors in a TaskGroup"
        assert raised.value.__suppress_context__
        assert raised.value.__cause__ is None
        assert cancelled == [1]
        assert asyncio.current_task().cancelling() == 0
        await turns()

    run(main())


def test_error_of_the_body(library, run):
    async def main():
        with pytest.raises(ExceptionGroup) as raised:
            async with library.TaskGroup() as group:
                task = group.create_task(forever())
                await turns()
                raise Oops
        assert type(only(raised.value)) is Oops
        assert task.cancelled()

    run(main())


def test_errors_of_body_and_tasks(library, run):
    async def main():
        with pytest.raises(ExceptionGroup) as raised:
            async with library.TaskGroup() as group:
                group.create_task(raises_when_cancelled(LookupError()))
                await turns()
                raise Oops
        assert [type(exc) for exc in raised.value.exceptions] == [LookupError, Oops]

    run(main())


def test_base_exceptions_make_a_base_exception_group(library, run):
    async def main():
        with pytest.raises(BaseExceptionGroup) as raised:
            async with library.TaskGroup() as group:
                group.create_task(raises(Base()))
                await forever()
        assert not isinstance(raised.value, ExceptionGroup)
        assert type(only(raised.value)) is Base

    run(main())


def test_cancelled_tasks_are_no_errors(library, run):
    async def main():
        async with library.TaskGroup() as group:
            task = group.create_task(forever())
            await turns()
            task.cancel()
        assert task.cancelled()

    run(main())


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_base_error_of_the_body(library, run, kind):
    async def main():
        with pytest.raises(kind):
            async with library.TaskGroup() as group:
                task = group.create_task(forever())
                await turns()
                raise kind
        assert task.cancelled()

    run(main())


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_base_error_of_a_task(run, loop, kind, reports):
    """It leaves the loop at once; when the program goes on, the group raises it bare, and reports what else there was."""
    seen = []

    async def main():
        try:
            async with corolla.TaskGroup() as group:
                group.create_task(raises_when_cancelled(Oops()))
                group.create_task(raises(kind()))
                await forever()
        except BaseException as exc:
            seen.append(exc)

    task = loop.create_task(main())
    with pytest.raises(kind):
        loop.run_until_complete(task)
    loop.run_until_complete(task)
    assert [type(exc) for exc in seen] == [kind]
    report = reports.pop()
    assert report["message"].startswith("TaskGroup task exception was not propagated")
    assert type(report["exception"]) is Oops
    assert isinstance(report["task_group"], corolla.TaskGroup)


def test_generator_exit_alone_is_raised_bare(run, loop):
    """An asynchronous generator closed inside a group (python/cpython issue 135736)."""

    async def generate(child=None):
        async with corolla.TaskGroup() as group:
            group.create_task(child() if child is not None else forever())
            await turns()
            yield 1

    async def main():
        generator = generate()
        assert await anext(generator) == 1
        await generator.aclose()
        generator = generate(lambda: raises_when_cancelled(Oops()))
        assert await anext(generator) == 1
        with pytest.raises(BaseExceptionGroup) as raised:
            await generator.aclose()
        assert [type(exc) for exc in raised.value.exceptions] == [Oops, GeneratorExit]
        with pytest.raises(BaseExceptionGroup) as raised:
            async with corolla.TaskGroup() as group:
                group.create_task(raises(GeneratorExit()))
        assert type(only(raised.value)) is GeneratorExit

    run(main())


def test_eager_task_that_fails_does_not_stop_the_body_before_its_next_await(run, loop):
    """python/cpython issues 128550 and 128588."""
    if not isinstance(loop, corolla.EventLoop):
        pytest.skip("about our eager_start")

    async def main():
        reached = []
        with pytest.raises(ExceptionGroup) as raised:
            async with corolla.TaskGroup() as group:
                group.create_task(raises(Oops()), eager_start=True)
                reached.append(1)
                group.create_task(returns(), eager_start=True)
                await forever()
        assert type(only(raised.value)) is Oops
        assert reached == [1]

    run(main())


# ---- cancelling -------------------------------------------------------------------------------------------------------


def test_cancelled_from_outside(library, run, loop):
    async def main():
        inside = []

        async def body():
            async with library.TaskGroup() as group:
                inside.append(group.create_task(forever()))
                await forever()

        for turn_count in (1, 3):
            task = loop.create_task(body())
            await turns(turn_count)
            task.cancel("message")
            with pytest.raises(asyncio.CancelledError):
                await task
            assert inside.pop().cancelled()

    run(main())


def test_cancelled_while_leaving(library, run, loop):
    async def main():
        inside = []

        async def body():
            async with library.TaskGroup() as group:
                inside.append(group.create_task(forever()))

        task = loop.create_task(body())
        await turns(2)
        assert inside[0]._state == "PENDING"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert inside[0].cancelled()

    run(main())


def test_cancelled_again_and_again_while_leaving(library, run, loop):
    async def main():
        async def stubborn():
            for _ in range(5):
                with contextlib.suppress(asyncio.CancelledError):
                    await forever()

        async def body():
            async with library.TaskGroup() as group:
                group.create_task(stubborn())

        task = loop.create_task(body())
        await turns(2)
        inside = [other for other in asyncio.all_tasks() if "stubborn" in repr(other)]
        for _ in range(5):
            assert not task.done()
            task.cancel()
            inside[0].cancel()
            await turns(2)
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


def test_cancelling_is_what_it_was(run, loop):
    """Whatever the body raises after the group has cancelled it (python/cpython issue 95289)."""

    @contextlib.asynccontextmanager
    async def replaces():
        try:
            yield
        finally:
            raise Oops

    async def main():
        task = asyncio.current_task()
        with pytest.raises(ExceptionGroup) as raised:
            async with corolla.TaskGroup() as group, replaces():
                group.create_task(raises(LookupError()))
                await forever()
        assert [type(exc) for exc in raised.value.exceptions] == [LookupError, Oops]
        assert task.cancelling() == 0
        await turns()

        with pytest.raises(ExceptionGroup):
            async with corolla.TaskGroup() as group:
                group.create_task(raises(LookupError()))
                with contextlib.suppress(asyncio.CancelledError):
                    await forever()
        assert task.cancelling() == 0
        await turns()

    run(main())


def new_uncancel(loop: Any) -> bool:
    """uncancel() takes back a CancelledError that was not raised yet: from 3.13 on, and ours on every Python."""
    return isinstance(loop, corolla.EventLoop) or sys.version_info >= (3, 13)


def test_nested_groups_that_both_fail(run, loop):
    """The outer's cancellation is not swallowed by the inner group (python/cpython issue 116720)."""
    if not new_uncancel(loop):
        pytest.skip("the tasks of asyncio before 3.13 cannot")

    async def main():
        task = asyncio.current_task()
        after = []
        with pytest.raises(ExceptionGroup) as raised:
            async with corolla.TaskGroup() as outer:
                with contextlib.suppress(ExceptionGroup):
                    async with corolla.TaskGroup() as inner:
                        inner.create_task(raises(Oops()))
                        outer.create_task(raises(LookupError()))
                after.append(task.cancelling())
                await forever()
        assert type(only(raised.value)) is LookupError
        assert after == [1]
        assert task.cancelling() == 0

    run(main())


def test_failure_and_cancel_from_outside(run, loop):
    """Both in one exit: the errors are raised, and the cancellation at the next await (python/cpython issue 116720)."""

    async def main():
        event = loop.create_future()
        seen = []

        async def fails():
            event.set_result(None)
            await turns()
            raise Oops

        async def body():
            try:
                async with corolla.TaskGroup() as group:
                    group.create_task(fails())
                    await forever()
            except* Oops:
                seen.append(asyncio.current_task().cancelling())
            seen.append(asyncio.current_task().cancelling())
            await asyncio.sleep(0)
            seen.append("not reached")

        task = loop.create_task(body())
        await event
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seen == [1, 1]

    run(main())


def test_create_task_after_a_failure(library, run):
    async def main():
        group = library.TaskGroup()

        async def late():
            try:
                await forever()
            except asyncio.CancelledError:
                with pytest.raises(RuntimeError, match=r"TaskGroup <TaskGroup .*cancelling> is shutting down"):
                    group.create_task(returns())

        with pytest.raises(ExceptionGroup) as raised:
            async with group:
                group.create_task(late())
                group.create_task(raises(Oops()))
        assert type(only(raised.value)) is Oops

    run(main())


# ---- cancel() of CPython 3.15 -----------------------------------------------------------------------------------------


def test_cancel_in_the_body(run, loop):
    async def main():
        async with corolla.TaskGroup() as group:
            task = group.create_task(forever())
            await turns()
            group.cancel()
            group.cancel()
            await forever()
        assert task.cancelled()
        assert asyncio.current_task().cancelling() == 0
        await turns()

    run(main())


def test_cancel_without_another_await(run, loop):
    async def main():
        async with corolla.TaskGroup() as group:
            task = group.create_task(forever())
            group.cancel()
        assert task.cancelled()
        await turns()
        async with corolla.TaskGroup() as group:
            group.cancel()
        assert asyncio.current_task().cancelling() == 0
        if new_uncancel(loop):
            await turns()

    if not new_uncancel(loop):
        pytest.skip("the tasks of asyncio before 3.13 keep the CancelledError")
    run(main())


def test_cancel_in_a_task(run, loop):
    async def main():
        async def stop(group):
            await turns()
            group.cancel()

        async with corolla.TaskGroup() as group:
            other, stopping = group.create_task(forever()), group.create_task(stop(group))
            await forever()
        assert other.cancelled()
        assert stopping.cancelled()

    run(main())


def test_cancel_before_and_after(run, loop):
    async def main():
        group = corolla.TaskGroup()
        group.cancel()
        reached = []
        async with group:
            with pytest.raises(RuntimeError, match="is shutting down"):
                group.create_task(returns())
            await asyncio.sleep(0)
            reached.append(1)
        assert not reached
        group.cancel()
        assert asyncio.current_task().cancelling() == 0
        await turns()

    run(main())


def test_cancel_and_errors(run, loop):
    """What tasks and body raise while they are cancelled is raised, still."""

    async def main():
        with pytest.raises(ExceptionGroup) as raised:
            async with corolla.TaskGroup() as group:
                group.create_task(raises_when_cancelled(LookupError()))
                await turns()
                group.cancel()
                raise Oops
        assert [type(exc) for exc in raised.value.exceptions] == [LookupError, Oops]

    run(main())


def test_cancel_keeps_a_cancellation_from_outside(run, loop):
    """A timeout, or somebody's cancel(), while the cancelled tasks end (python/cpython issue 155433)."""

    async def main():
        async def lingers():
            try:
                await forever()
            finally:
                await turns(5)

        async def body():
            async with corolla.TaskGroup() as group:
                group.create_task(lingers())
                await turns()
                group.cancel()

        task = loop.create_task(body())
        await turns(4)
        task.cancel("from outside")
        with pytest.raises(asyncio.CancelledError) as raised:
            await task
        assert raised.value.args == ("from outside",)

    run(main())


def test_eager_task_that_cancels_its_group(run, loop):
    """It was not in the group yet when that was cancelled (python/cpython issue 155418)."""
    if not isinstance(loop, corolla.EventLoop):
        pytest.skip("about our eager_start")

    async def main():
        async def child(group):
            group.cancel()
            await forever()

        async with corolla.TaskGroup() as group:
            task = group.create_task(child(group), eager_start=True)
        assert task.cancelled()

    run(main())


# ---- misuse -----------------------------------------------------------------------------------------------------------


def test_not_entered_entered_twice_finished(library, run):
    async def main():
        group = library.TaskGroup()
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # the coroutine is closed
            with pytest.raises(RuntimeError, match="TaskGroup <TaskGroup> has not been entered"):
                group.create_task(returns())
            async with group:
                with pytest.raises(RuntimeError, match="TaskGroup <TaskGroup entered> has already been entered"):
                    await group.__aenter__()
            with pytest.raises(RuntimeError, match="has already been entered"):
                async with group:
                    pass
            with pytest.raises(RuntimeError, match="TaskGroup <TaskGroup entered> is finished"):
                group.create_task(returns())
            gc.collect()

    run(main())


def test_without_a_task(run, loop):
    group = corolla.TaskGroup()
    with pytest.raises(RuntimeError, match="no running event loop"):
        group.__aenter__().send(None)

    def call():
        with pytest.raises(RuntimeError, match="cannot determine the parent task"):
            group.__aenter__().send(None)
        loop.stop()

    loop.call_soon(call)
    loop.run_forever()
    with pytest.raises(RuntimeError, match="has not been entered"):
        group.create_task(returns())


def test_what_cannot_be_closed(run):
    with pytest.raises(AttributeError):
        corolla.TaskGroup().create_task(1)


def test_exit_by_hand(run, loop):
    """__aexit__() of a group that was not entered, or not with the arguments of an exception."""

    async def main():
        assert await corolla.TaskGroup().__aexit__(None, None, None) is True
        with pytest.raises(ExceptionGroup):
            await corolla.TaskGroup().__aexit__(Oops, Oops(), None)
        with pytest.raises(asyncio.CancelledError):
            await corolla.TaskGroup().__aexit__(asyncio.CancelledError, asyncio.CancelledError(), None)
        for wrong in (
            (1, 2, 3),
            (Oops, 1, None),
            (asyncio.CancelledError, 1, None),
            (GeneratorExit, 1, None),
            (Oops, None, None),
        ):
            with pytest.raises((TypeError, ValueError)):
                await corolla.TaskGroup().__aexit__(*wrong)
        with pytest.raises(TypeError):
            corolla.TaskGroup().__aexit__(None, None)
        group = corolla.TaskGroup()
        async with group:
            pass
        assert await group.__aexit__(None, None, None) is True
        with pytest.raises(ExceptionGroup):
            await group.__aexit__(Oops, Oops(), None)
        group = corolla.TaskGroup()
        group._tasks.add(1)
        with pytest.raises(RuntimeError, match="has not been entered"):
            await group.__aexit__(None, None, None)

    run(main())


def test_without_init(run):
    class Mine(corolla.TaskGroup):
        def __init__(self):
            self.mine = 1

    async def main():
        for group in (corolla.TaskGroup.__new__(corolla.TaskGroup), Mine()):
            assert repr(group) == "<TaskGroup>"
            async with group:
                task = group.create_task(returns(1))
            assert task.result() == 1

    run(main())


def test_init_again(run, loop):
    async def main():
        group = corolla.TaskGroup()
        async with group:
            group.create_task(returns())
        group.__init__()
        async with group:
            task = group.create_task(returns(2))
        assert task.result() == 2

    run(main())


def test_coroutines(run):
    group = corolla.TaskGroup()
    for coro, name in ((group.__aenter__(), "__aenter__"), (group.__aexit__(None, None, None), "__aexit__")):
        assert asyncio.iscoroutine(coro)
        assert inspect.isawaitable(coro)
        assert coro.__qualname__ == f"TaskGroup.{name}"
        coro.close()


def test_closed_while_leaving(run, loop, reports):
    """The body's coroutine is closed while it waits for the tasks: an error of theirs is reported, since nobody gets it."""

    async def main():
        blocker = loop.create_future()

        async def fails():
            await blocker
            raise Oops

        async def body(group):
            async with group:
                group.create_task(fails())

        group = corolla.TaskGroup()
        coro = body(group)
        task = asyncio.current_task()
        coro.send(None)
        coro.close()
        assert group._parent_task is None
        blocker.set_result(None)
        await turns(4)
        assert task.cancelling() == 0

    run(main())
    report = reports.pop()
    assert "has errored out but its parent task None is already completed" in report["message"]
    assert type(report["exception"]) is Oops


# ---- as it shows itself, and subclasses -------------------------------------------------------------------------------


def test_repr_and_attributes(library, run):
    async def main():
        group = library.TaskGroup()
        assert repr(group) == "<TaskGroup>"
        assert (group._entered, group._exiting, group._aborting, group._loop) == (False, False, False, None)
        assert group._tasks == set()
        assert group._errors == []
        async with group:
            assert repr(group) == "<TaskGroup entered>"
            task = group.create_task(turns())
            assert group._tasks == {task}
            assert repr(group) == "<TaskGroup tasks=1 entered>"
            assert group._loop is asyncio.get_running_loop()
            assert group._parent_task is asyncio.current_task()
        assert group._tasks == set()
        group.attribute = 1
        assert vars(group)["attribute"] == 1
        assert weakref.ref(group)() is group
        with pytest.raises(ExceptionGroup):
            async with library.TaskGroup() as group:
                lingering = group.create_task(raises_when_cancelled(Oops()))
                group.create_task(raises(Oops()))
                try:
                    await forever()
                finally:
                    assert repr(group) == "<TaskGroup tasks=1 errors=1 cancelling>"
        assert lingering.done()

    run(main())


def test_extension_points(library, run, loop):
    """Private, but replaced in programs: a group that outlives the errors of its tasks, for one."""

    class Resilient(library.TaskGroup):
        def __init__(self):
            super().__init__()
            self.seen = []

        def _abort(self):
            self.seen.append("abort")

        def _on_task_done(self, task):
            self.seen.append("done")
            super()._on_task_done(task)

        def _is_base_error(self, exc):
            return isinstance(exc, Base) or super()._is_base_error(exc)

        def create_task(self, coro, **kwargs):
            task = super().create_task(coro, **kwargs)
            self.seen.append("created")
            return task

    async def main():
        group = Resilient()
        with pytest.raises(ExceptionGroup):
            async with group:
                group.create_task(raises(Oops()))
                survivor = group.create_task(returns(1))
                with contextlib.suppress(asyncio.CancelledError):
                    await turns(3)
        assert survivor.result() == 1
        assert group.seen == ["created", "created", "done", "abort", "done"]
        with pytest.raises(Base):
            async with Resilient():
                raise Base

    run(main())


# ---- references -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def no_collector() -> Generator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def holders(obj: object) -> list[Any]:
    """Who has references to it, but for the coroutines that have it in a variable."""
    running = (types.FrameType, types.CoroutineType)
    return [other for other in gc.get_referrers(obj) if not isinstance(other, running)]


@pytest.mark.parametrize("kind", ["task", "body", "generator", "base", "cancelled"])
def test_nobody_holds_what_was_raised(run, loop, kind):
    """Nor the group itself, once it is over (python/cpython issues 128552, 125420 and 124958)."""

    async def main():
        group = corolla.TaskGroup()
        raised = {"body": LookupError, "generator": GeneratorExit, "base": KeyboardInterrupt}.get(kind)
        exc = None
        try:
            async with group:
                group.create_task(forever() if raised in (GeneratorExit, KeyboardInterrupt) else raises(Oops()))
                await turns()
                if raised is not None:
                    raise raised
                if kind == "cancelled":
                    asyncio.current_task().cancel()
                await forever()
        except BaseExceptionGroup as found:
            exc = found.exceptions[0]
        except BaseException as found:
            exc = found
        assert exc is not None
        with contextlib.suppress(asyncio.CancelledError):
            await turns(2)
        assert holders(exc) == []
        assert (group._errors, group._parent_task, group._base_error) == (None, None, None)
        exc.__traceback__ = None
        gone = weakref.ref(group)
        del group
        assert gone() is None

    with no_collector():
        run(main())


def test_cancellation_from_outside_is_let_go(run, loop):
    async def main():
        refs = []

        async def body():
            async with corolla.TaskGroup() as group:
                refs.append(weakref.ref(group))
                group.create_task(forever())
                await forever()

        with no_collector():
            task = loop.create_task(body())
            await turns(2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            refs.append(weakref.ref(task))
            del task
            await turns(2)
            assert [ref() for ref in refs] == [None, None]

    run(main())


def test_group_that_is_never_left_is_collected(loop):
    group = corolla.TaskGroup()
    gone = weakref.ref(group)

    async def main(group):
        await group.__aenter__()
        task = group.create_task(forever())
        task._log_destroy_pending = False
        group.itself = group
        await turns(2)

    loop.run_until_complete(main(group))
    del group
    gc.collect()
    assert gone() is None


def test_foreign_tasks_that_misbehave(run, loop):
    """A task of another kind whose cancel() raises: the others are cancelled all the same."""

    class Hostile(asyncio.Task):
        def cancel(self, msg=None):
            if self.hostile:
                self.hostile = False
                super().cancel()
                raise LookupError("hostile")
            return super().cancel(msg)

    async def main():
        kinds = iter([Hostile, asyncio.Task, asyncio.Task])
        loop.set_task_factory(lambda loop, coro, **kwargs: next(kinds)(coro, loop=loop, **kwargs))
        with pytest.raises(LookupError, match="hostile"):
            async with corolla.TaskGroup() as group:
                task = group.create_task(forever())
                task.hostile = True
                others = [group.create_task(forever()) for _ in range(2)]
                await turns(2)
                raise Oops
        await turns(2)
        assert all(other.cancelled() for other in [task, *others])
        loop.set_task_factory(None)

    run(main())
