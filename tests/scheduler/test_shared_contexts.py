"""What is queued without a context runs in a copy of the current one, its own: that copies are shared and lent behind
the scenes must not show."""

import asyncio
import contextvars
import gc
import weakref

import impl
import pytest
from impl import Future

var = contextvars.ContextVar("var", default="nothing")


class Value:
    """Something to be kept alive by a context."""


def context_of(handle):
    return handle.get_context() if hasattr(handle, "get_context") else handle._context


@pytest.fixture
def seen():
    return []


def test_no_callback_sees_what_another_sets(loop, turn, seen):
    def callback(number):
        seen.append(var.get())
        var.set(number)
        seen.append(var.get())

    for number in range(4):
        loop.call_soon(callback, number)
    turn()
    assert seen == ["nothing", 0, "nothing", 1, "nothing", 2, "nothing", 3]
    assert var.get() == "nothing"


@pytest.mark.parametrize("queue", ["call_soon", "call_soon_threadsafe", "call_later", "add_done_callback"])
def test_the_context_is_that_of_the_call(loop, turn, seen, queue):
    done = Future(loop=loop)
    done.set_result(None)

    def note(*ignored):
        seen.append(var.get())
        var.set("set by a callback")

    def in_context():
        for value in ("first", "first", "second"):
            var.set(value)
            if queue == "call_later":
                loop.call_later(0, note)
            elif queue == "add_done_callback":
                done.add_done_callback(note)
            else:
                getattr(loop, queue)(note)
        var.set("third")

    # From a callback: nothing is shared on a loop that does not run.
    loop.call_soon(in_context)
    for _ in range(5):
        turn()
    assert seen == ["first", "first", "second"]


def test_queued_in_one_callback_run_in_the_next_turns(loop, turn, seen):
    """The copies are dropped when the loop polls: those that are queued have theirs all the same."""

    def first():
        var.set("first")
        for _ in range(3):
            loop.call_soon(second)

    def second():
        seen.append(var.get())
        var.set("second")
        loop.call_soon(third)

    def third():
        seen.append(var.get())

    loop.call_soon(first)
    for _ in range(4):
        turn()
    assert seen == ["first"] * 3 + ["second"] * 3


def test_a_handle_shows_the_context_that_its_callback_runs_in(loop, turn, seen):
    handles = []

    def outer():
        var.set("outer")
        handles.extend(loop.call_soon(inner, index) for index in range(3))
        contexts = [context_of(handle) for handle in handles[:2]]
        assert contexts[0] is not contexts[1]
        assert [context[var] for context in contexts] == ["outer"] * 2
        seen.extend(contexts)

    def inner(index):
        context = context_of(handles[index])
        with pytest.raises(RuntimeError, match="already entered"):
            context.run(lambda: None)
        var.set(index)

    loop.call_soon(outer)
    turn()
    turn()
    assert context_of(handles[0]) is seen[0]
    assert [context_of(handle)[var] for handle in handles] == [0, 1, 2]


def test_a_handle_whose_callback_sets_nothing_keeps_its_context(loop, turn):
    handles = []

    def outer():
        var.set("outer")
        handles.extend(loop.call_soon(lambda: None) for _ in range(2))

    loop.call_soon(outer)
    turn()
    turn()
    contexts = [context_of(handle) for handle in handles]
    assert contexts[0] is not contexts[1]
    assert [context[var] for context in contexts] == ["outer"] * 2


def test_a_token_is_of_no_use_in_another_callback(loop, turn, seen):
    tokens = []

    def setter():
        tokens.append(var.set("value"))

    def unset_at_once():
        var.reset(var.set("value"))
        tokens.append(var.set(var.get()))

    def resetter():
        for token in tokens:
            with pytest.raises(ValueError, match="different Context"):
                var.reset(token)
            seen.append(var.get())

    def start():
        for callback in (setter, unset_at_once, resetter):
            loop.call_soon(callback)

    loop.call_soon(start)
    turn()
    turn()
    assert seen == ["nothing", "nothing"]


def test_a_callback_that_raises_is_reported_in_the_context_it_left(loop, turn, seen):
    def start():
        for number in range(2):
            loop.call_soon(fail, number)

    def fail(number):
        assert var.get() == "nothing"
        var.set(number)
        raise ZeroDivisionError

    loop.set_exception_handler(lambda loop, context: seen.append(context_of(context["handle"])[var]))
    loop.call_soon(start)
    turn()
    turn()
    assert seen == [0, 1]


def test_the_callbacks_of_a_future_show_their_own_contexts(loop, turn):
    future = Future(loop=loop)
    contexts = []

    def start():
        var.set("start")
        future.add_done_callback(contexts.append)
        future.add_done_callback(print)

    loop.call_soon(start)
    turn()
    shown = [context for callback, context in future._callbacks]
    assert shown[0] is not shown[1]
    assert [context[var] for context in shown] == ["start"] * 2
    future.remove_done_callback(contexts.append)
    future.remove_done_callback(print)


def test_values_do_not_outlive_what_was_queued_with_them(loop, turn, no_gc):
    value = Value()
    gone = weakref.ref(value)

    def start(value):
        var.set(value)
        loop.call_soon(lambda: None)

    loop.call_soon(start, value)
    del value
    turn()
    turn()
    turn()
    assert gone() is None


def test_a_value_set_in_a_callback_goes_with_it(loop, turn, no_gc):
    value = Value()
    gone = weakref.ref(value)

    def start():
        loop.call_soon(setter)
        loop.call_soon(setter)

    def setter():
        nonlocal value
        if value is not None:
            var.set(value)
            value = None
        else:
            assert gone() is None
            assert var.get() == "nothing"

    loop.call_soon(start)
    turn()
    turn()
    assert gone() is None


# ---- Tasks --------------------------------------------------------------------------------------


def test_no_task_sees_what_another_sets(loop, seen):
    async def child(number, steps):
        seen.append(var.get())
        for _ in range(steps):
            await asyncio.sleep(0)
        var.set(number)
        for _ in range(steps):
            await asyncio.sleep(0)
        return var.get()

    async def main():
        var.set("main")
        tasks = [loop.create_task(child(number, number % 3)) for number in range(9)]
        results = [await task for task in tasks]
        assert var.get() == "main"
        return results

    assert loop.run_until_complete(main()) == list(range(9))
    assert seen == ["main"] * 9


def test_a_task_shows_the_context_it_runs_in(loop):
    if not hasattr(impl.Task, "get_context"):
        pytest.skip("Task.get_context() came with 3.12")

    async def child(number):
        var.set(number)

    async def idle():
        pass

    async def main():
        var.set("main")
        early, late, other = (loop.create_task(child(number)) for number in range(3))
        idlers = [loop.create_task(idle()) for _ in range(2)]
        context = early.get_context()
        assert context[var] == "main"
        for task in (early, late, other, *idlers):
            await task
        assert early.get_context() is context
        assert [task.get_context()[var] for task in (early, late, other)] == [0, 1, 2]
        first, second = (task.get_context() for task in idlers)
        assert first is not second
        assert first is idlers[0].get_context()
        assert first[var] == second[var] == "main"

    loop.run_until_complete(main())


def test_a_task_and_callbacks_do_not_share(loop, seen):
    async def child():
        seen.append(var.get())
        var.set("child")

    async def idle():
        seen.append(var.get())

    def callback():
        seen.append(var.get())
        var.set("callback")

    async def main():
        for make in (child, idle, child, idle):
            loop.call_soon(callback)
            task = loop.create_task(make())
            loop.call_soon(callback)
            await task

    loop.run_until_complete(main())
    assert seen == ["nothing"] * 12


def test_a_token_of_a_task_is_of_no_use_in_the_next(loop):
    async def child():
        token = var.set("value")
        var.reset(token)
        return var.set("again")

    async def same():
        return var.set(var.get())

    async def reset(token):
        with pytest.raises(ValueError, match="different Context"):
            var.reset(token)

    async def main():
        var.set("main")
        for make in (child, same):
            token = await loop.create_task(make())
            await loop.create_task(reset(token))

    loop.run_until_complete(main())


def test_the_value_of_a_task_goes_with_it(loop, no_gc):
    async def child(value):
        var.set(value)

    async def main():
        value = Value()
        gone = weakref.ref(value)
        task = loop.create_task(child(value))
        del value
        await task
        del task
        for _ in range(3):
            await asyncio.sleep(0)
        return gone

    assert loop.run_until_complete(main())() is None


def test_what_dies_with_a_context_sees_no_task(loop, seen):
    """The last reference to a context may go while the next task is entered."""

    class Dying:
        def __del__(self):
            seen.append((asyncio.current_task(loop), var.get()))

    async def child():
        var.set(Dying())

    async def main():
        for _ in range(3):
            loop.create_task(child())
        for _ in range(5):
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    gc.collect()
    assert len(seen) == 3
    assert {task for task, _ in seen} <= {None}


def test_asked_for_by_a_collection_that_copying_starts(loop):
    """A finalizer asks for the context of the very handle whose context is being copied, or lent."""
    value = contextvars.ContextVar("value")

    def noise():
        pass

    def one_round(threshold, take):
        handle = loop.call_soon(noise)
        value.set(threshold)
        loop.call_soon(noise)  # the snapshot is another one now: the handle alone has the first

        class Asks:
            def __init__(self):
                self.myself = self

            def __del__(self):
                handle.get_context()
                value.set(object())
                loop.call_soon(noise)

        Asks()
        held = [contextvars.copy_context() for _ in range(300)], [[] for _ in range(100)]  # no free list helps
        gc.set_threshold(threshold)
        take(handle)
        gc.set_threshold(*old)
        del held
        assert handle.get_context() is handle.get_context()

    def rounds():
        for threshold in range(1, 120):
            one_round(threshold, lambda handle: handle.get_context())
            gc.collect()
            one_round(threshold, lambda handle: handle._run())
            gc.collect()
        loop.stop()

    old = gc.get_threshold()
    try:
        loop.call_soon(rounds)
        loop.run_forever()
    finally:
        gc.set_threshold(*old)
