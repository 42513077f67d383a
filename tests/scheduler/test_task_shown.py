"""Task: repr, stacks, and the reports about tasks nobody looked after."""

import asyncio
import gc
import io
import re
import traceback
import weakref

import impl
import pytest
from impl import Future, Task, beyond_stdlib


async def suspended(future):
    return await future


async def returns(value):
    return value


async def fails():
    raise ValueError("x")


HERE = re.escape(__file__)


# ---- repr -------------------------------------------------------------------------------------------------------------


def test_repr_of_states(loop, turn):
    line = suspended.__code__.co_firstlineno
    future = loop.create_future()
    task = loop.create_task(suspended(future), name="mine")
    assert repr(task) == f"<Task pending name='mine' coro=<suspended() running at {__file__}:{line}>>"
    turn()
    assert re.fullmatch(
        rf"<Task pending name='mine' coro=<suspended\(\) running at {HERE}:{line + 1}> "
        rf"wait_for=<Future pending cb=\[.*wakeup.*\]>>",
        repr(task),
    )
    future.set_result(5)
    turn()
    assert repr(task) == f"<Task finished name='mine' coro=<suspended() done, defined at {__file__}:{line}> result=5>"


def test_repr_of_a_failed_one(loop):
    task = loop.create_task(fails(), name="mine")
    with pytest.raises(ValueError):
        loop.run_until_complete(task)
    line = fails.__code__.co_firstlineno
    assert (
        repr(task)
        == f"<Task finished name='mine' coro=<fails() done, defined at {__file__}:{line}> exception=ValueError('x')>"
    )


def test_repr_of_a_cancelled_one(loop):
    task = loop.create_task(returns(1), name="mine")
    task.cancel()
    line = returns.__code__.co_firstlineno
    assert repr(task) == f"<Task cancelling name='mine' coro=<returns() running at {__file__}:{line}>>"
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    assert repr(task) == f"<Task cancelled name='mine' coro=<returns() done, defined at {__file__}:{line}>>"


def test_repr_with_callbacks(loop, turn):
    task = loop.create_task(suspended(loop.create_future()), name="mine")
    task.add_done_callback(len)
    assert repr(task).endswith(" cb=[len()]>")
    task.cancel()
    turn()


def test_repr_in_debug_mode(loop):
    loop.set_debug(True)
    task = loop.create_task(returns(1), name="mine")
    line = test_repr_in_debug_mode.__code__.co_firstlineno + 2
    assert repr(task).endswith(f" created at {__file__}:{line}>")
    loop.run_until_complete(task)


def test_repr_inside_itself(loop):
    async def main():
        return repr(asyncio.current_task())

    told = loop.run_until_complete(loop.create_task(main(), name="mine"))
    assert told.startswith("<Task pending name='mine' coro=<test_repr_inside_itself.<locals>.main() running at ")


def test_repr_of_names_that_need_quotes(loop):
    task = loop.create_task(returns(1), name="it's")
    assert 'name="it\'s"' in repr(task)
    loop.run_until_complete(task)


def test_repr_of_two_that_wait_for_each_other(loop, turn):
    async def first():
        await second_task

    async def second():
        await first_task

    first_task = loop.create_task(first())
    second_task = loop.create_task(second())
    turn()
    turn()
    assert len(repr(first_task)) < 3000
    assert len(repr(second_task)) < 3000
    for task in (first_task, second_task):
        task._log_destroy_pending = False
    del first_task, second_task, task
    gc.collect()


def test_repr_of_a_result_that_holds_the_task(loop):
    async def main():
        return [asyncio.current_task()]

    task = loop.create_task(main())
    loop.run_until_complete(task)
    assert len(repr(task)) < 500
    assert "..." in repr(task)


def test_repr_of_coroutines_made_by_hand(loop):
    import collections.abc

    class ByHand(collections.abc.Coroutine):
        def send(self, value):
            raise StopIteration

        def throw(self, *args): ...

        def close(self): ...

        def __await__(self): ...

    task = loop.create_task(ByHand(), name="mine")
    assert repr(task).startswith("<Task pending name='mine' coro=<")
    assert "ByHand" in repr(task)
    loop.run_until_complete(task)


# ---- stacks -----------------------------------------------------------------------------------------------------------


def test_stack_of_a_waiting_one(loop, turn):
    task = loop.create_task(suspended(loop.create_future()))
    turn()
    (frame,) = task.get_stack()
    assert frame.f_code.co_name == "suspended"
    assert task.get_stack(limit=0) == []
    assert len(task.get_stack(limit=5)) == 1
    with pytest.raises(TypeError):
        task.get_stack(5)
    task.cancel()
    turn()
    assert task.get_stack() == []


def test_stack_of_the_running_one(loop):
    async def main():
        names = [frame.f_code.co_name for frame in asyncio.current_task().get_stack()]
        assert names[-1] == "main"
        return asyncio.current_task().get_stack(limit=1)[0].f_code.co_name

    assert loop.run_until_complete(main()) == "main"


def test_stack_of_a_failed_one(loop):
    async def deep(n):
        if n:
            await deep(n - 1)
        raise LookupError

    task = loop.create_task(deep(3))
    with pytest.raises(LookupError):
        loop.run_until_complete(task)
    names = [frame.f_code.co_name for frame in task.get_stack()]
    assert names[-4:] == ["deep"] * 4
    assert len(task.get_stack(limit=2)) == 2


def test_print_stack(loop, turn, capsys):
    task = loop.create_task(suspended(loop.create_future()), name="mine")
    turn()
    out = io.StringIO()
    assert task.print_stack(file=out) is None
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("Stack for <Task pending name='mine'")
    assert lines[0].endswith("(most recent call last):")
    assert lines[1].strip() == f'File "{__file__}", line {suspended.__code__.co_firstlineno + 1}, in suspended'
    assert lines[2].strip() == "return await future"
    task.print_stack(limit=1)
    printed = capsys.readouterr()
    assert "Stack for " in printed.out + printed.err  # asyncio gives the heading to stdout
    assert "in suspended" in printed.err
    task.cancel()
    turn()
    out = io.StringIO()
    task.print_stack(file=out)
    assert out.getvalue().startswith("No stack for <Task cancelled")


def test_print_stack_of_a_failed_one(loop):
    task = loop.create_task(fails())
    with pytest.raises(ValueError):
        loop.run_until_complete(task)
    out = io.StringIO()
    task.print_stack(file=out)
    assert out.getvalue().startswith("Traceback for <Task finished")
    assert out.getvalue().endswith("ValueError: x\n")


def test_stack_of_a_chain_shows_the_outermost_coroutine(loop, turn):
    async def outer():
        await suspended(loop.create_future())

    task = loop.create_task(outer())
    turn()
    assert [frame.f_code.co_name for frame in task.get_stack()] == ["outer"]
    assert traceback.format_stack(task.get_stack()[0])
    task.cancel()
    turn()


# ---- destroyed but pending -------------------------------------------------------------------------------------------


def test_destroyed_but_pending(loop, turn, reports):
    task = loop.create_task(suspended(loop.create_future()))
    dead = weakref.ref(task)
    turn()
    del task
    gc.collect()
    assert dead() is None or len(reports) == 1
    report = reports.pop()
    assert report["message"] == "Task was destroyed but it is pending!"
    assert isinstance(report["task"], asyncio.Task)
    assert "exception" not in report
    assert "source_traceback" not in report


def test_destroyed_but_pending_in_debug_mode(loop, turn, reports):
    loop.set_debug(True)
    task = loop.create_task(suspended(loop.create_future()))
    turn()
    del task
    gc.collect()
    frames = reports.pop()["source_traceback"]
    assert frames[-1].name == "test_destroyed_but_pending_in_debug_mode"


def test_destroyed_but_told_not_to_say(loop, turn, reports):
    task = loop.create_task(suspended(loop.create_future()))
    task._log_destroy_pending = False
    assert task._log_destroy_pending is False
    turn()
    del task
    gc.collect()
    assert reports == []


def test_log_destroy_pending_takes_any_truth(loop):
    task = loop.create_task(returns(1))
    task._log_destroy_pending = 0
    assert task._log_destroy_pending is False
    task._log_destroy_pending = "yes"
    assert task._log_destroy_pending is True
    loop.run_until_complete(task)


def test_never_started_and_dropped_by_close(reports):
    loop = impl.new_event_loop()
    loop.set_exception_handler(lambda loop, context: reports.append(context["message"]))
    coro = returns(1)
    loop.create_task(coro)
    loop.close()
    with pytest.warns(RuntimeWarning, match="was never awaited") if not impl.IS_COROLLA else _nothing():
        gc.collect()
        del coro
        gc.collect()
    assert reports == ["Task was destroyed but it is pending!"]
    reports.clear()


class _nothing:
    """pytest.warns() for what may or may not be warned of."""

    def __enter__(self):
        import warnings

        self.caught = warnings.catch_warnings()
        self.caught.__enter__()
        warnings.simplefilter("ignore")

    def __exit__(self, *exc):
        self.caught.__exit__(*exc)


def test_never_retrieved(loop, reports):
    task = loop.create_task(fails())
    loop.run_until_complete(asyncio.wait([task]))
    del task
    gc.collect()
    report = reports.pop()
    assert report["message"] == "Task exception was never retrieved"
    assert isinstance(report["exception"], ValueError)
    assert isinstance(report["future"], asyncio.Task)


def test_a_failed_task_that_was_awaited_says_nothing(loop, reports):
    async def main():
        with pytest.raises(ValueError):
            await loop.create_task(fails())

    loop.run_until_complete(main())
    gc.collect()
    assert reports == []


def test_the_report_runs_in_the_tasks_context(loop, turn):
    import contextvars
    import sys

    if sys.version_info < (3, 12) and not impl.IS_COROLLA:
        pytest.skip("came with 3.12")
    var = contextvars.ContextVar("var", default="outside")
    seen = []
    loop.set_exception_handler(lambda loop, context: seen.append(var.get()))

    async def main():
        var.set("inside the task")
        raise ValueError

    task = loop.create_task(main())
    turn()
    del task
    gc.collect()
    assert seen == ["inside the task"]


def test_a_report_handler_that_keeps_the_task(loop, turn):
    kept = []
    loop.set_exception_handler(lambda loop, context: kept.append(context["task"]))
    future = loop.create_future()
    loop.create_task(suspended(future))
    turn()
    dead = weakref.ref(future)
    del future
    gc.collect()
    (task,) = kept
    # It was brought back, and is still what it was.
    assert not task.done()
    assert repr(task).startswith("<Task pending")
    task._log_destroy_pending = False
    kept.clear()
    del task
    gc.collect()
    assert dead() is None


def test_a_report_handler_that_raises(loop, turn, caplog):
    def handler(loop, context):
        raise LookupError("in the handler")

    loop.set_exception_handler(handler)
    task = loop.create_task(fails())
    turn()
    del task
    gc.collect()
    assert "Unhandled error in exception handler" in caplog.text
    assert "in the handler" in caplog.text


@beyond_stdlib("asyncio leaves the strong reference to chance")
def test_a_task_that_waits_for_a_future_somebody_holds_stays_alive(loop, turn):
    future = loop.create_future()
    done = []

    async def main():
        done.append(await future)

    loop.create_task(main())
    turn()
    gc.collect()
    future.set_result("alive")
    turn()
    assert done == ["alive"]


def test_a_task_subclass_named_in_its_report(loop, turn, reports):
    class Mine(Task):
        pass

    Mine(fails(), loop=loop)
    turn()
    gc.collect()
    assert reports.pop()["message"] == "Mine exception was never retrieved"


def test_repr_of_waiters_of_a_task(loop, turn):
    inner = loop.create_task(suspended(Future(loop=loop)), name="inner")
    outer = loop.create_task(suspended(inner), name="outer")
    turn()
    turn()
    assert "wait_for=<Task pending name='inner'" in repr(outer)
    outer.cancel()
    for _ in range(3):
        turn()
    assert outer.cancelled()
