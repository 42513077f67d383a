"""Task: running, results, attributes, names, contexts, what may be a coroutine."""

import asyncio
import collections.abc
import contextvars
import gc
import types
import weakref

import impl
import pytest
from impl import Task, beyond_stdlib

var = contextvars.ContextVar("var", default="outside")


async def returns(value=None):
    return value


async def fails(error):
    raise error


async def suspended(future):
    return await future


def test_new(loop):
    task = Task(returns(1), loop=loop)
    assert isinstance(task, asyncio.Task)
    assert isinstance(task, asyncio.Future)
    assert isinstance(task, impl.Future)
    assert asyncio.isfuture(task)
    assert not task.done()
    assert task.get_loop() is loop
    assert loop.run_until_complete(task) == 1
    assert task.done()
    assert task.result() == 1


def test_create_task(loop):
    task = loop.create_task(returns(1))
    assert type(task) is Task
    assert loop.run_until_complete(task) == 1


def test_the_first_step_waits_for_the_next_turn(loop, turn):
    steps = []

    async def main():
        steps.append(1)
        await asyncio.sleep(0)
        steps.append(2)

    task = loop.create_task(main())
    assert steps == []
    turn()
    assert steps == [1]
    turn()
    assert steps == [1, 2]
    assert task.done()


def test_the_running_loop_is_the_default(loop):
    async def main():
        task = Task(returns(5))
        assert task.get_loop() is loop
        return await task

    assert loop.run_until_complete(main()) == 5


def test_arguments(loop):
    coro = returns()
    for args, kwargs in (
        ((), {}),
        ((coro, loop), {}),
        ((coro,), {"loop": loop, "unknown": 1}),
        ((), {"loop": loop}),
    ):
        with pytest.raises(TypeError):
            Task(*args, **kwargs)
    loop.run_until_complete(Task(coro=coro, loop=loop))


@pytest.mark.parametrize("bad", [None, 1, returns, "x", object(), [], int, iter(())])
def test_what_is_no_coroutine_is_refused(loop, reports, bad):
    with pytest.raises(TypeError, match="a coroutine was expected, got "):
        Task(bad, loop=loop)
    with pytest.raises(TypeError, match="a coroutine was expected, got "):
        loop.create_task(bad)
    gc.collect()
    assert reports == []


def test_a_future_is_no_coroutine(loop):
    with pytest.raises(TypeError, match="a coroutine was expected"):
        Task(loop.create_future(), loop=loop)


def test_results(loop):
    for value in (None, (), (1, 2), StopIteration, StopIteration(3), ValueError("x")):
        assert loop.run_until_complete(returns(value)) is value


def test_exceptions(loop):
    error = LookupError("raised")
    task = loop.create_task(fails(error))
    with pytest.raises(LookupError) as caught:
        loop.run_until_complete(task)
    assert caught.value is error
    assert task.exception() is error
    assert "fails" in [frame.name for frame in caught.traceback]


def test_stop_iteration_inside_a_coroutine(loop):
    with pytest.raises(RuntimeError, match="coroutine raised StopIteration"):
        loop.run_until_complete(fails(StopIteration(1)))


def test_generator_exit_and_other_base_exceptions(loop):
    class Base(BaseException):
        pass

    for error in (GeneratorExit, Base):
        task = loop.create_task(fails(error()))
        with pytest.raises(error):
            loop.run_until_complete(task)


def test_a_task_cannot_be_set_from_outside(loop):
    task = loop.create_task(returns(1))
    with pytest.raises(RuntimeError, match="Task does not support set_result operation"):
        task.set_result(2)
    with pytest.raises(RuntimeError, match="Task does not support set_exception operation"):
        task.set_exception(ValueError())
    assert loop.run_until_complete(task) == 1
    with pytest.raises(RuntimeError, match="Task does not support set_result operation"):
        task.set_result(2)


def test_tasks_awaiting_tasks(loop):
    async def parent(depth):
        if depth == 0:
            return 0
        return await loop.create_task(parent(depth - 1)) + 1

    assert loop.run_until_complete(parent(200)) == 200


def test_many_tasks(loop):
    async def main():
        tasks = [loop.create_task(returns(i)) for i in range(10_000)]
        return [await task for task in tasks]

    assert loop.run_until_complete(main()) == list(range(10_000))


def test_order_of_steps_is_fair(loop):
    order = []

    async def worker(name):
        for i in range(3):
            order.append(f"{name}{i}")
            await asyncio.sleep(0)

    async def main():
        await asyncio.gather(*(worker(name) for name in "abc"))

    loop.run_until_complete(main())
    assert order == [f"{name}{i}" for i in range(3) for name in "abc"]


def test_waking_takes_exactly_one_turn(loop, turn):
    # Programs count on how many turns things take: a future done in turn n is seen by its waiter in turn n + 1.
    future = loop.create_future()
    seen = []

    async def main():
        seen.append(await future)

    task = loop.create_task(main())
    turn()
    loop.call_soon(future.set_result, "x")
    turn()
    assert seen == []
    turn()
    assert seen == ["x"]
    assert task.done()


def test_a_done_future_costs_no_turn(loop, turn):
    future = loop.create_future()
    future.set_result(1)

    async def main():
        return [await future for _ in range(5)]

    task = loop.create_task(main())
    turn()
    assert task.result() == [1] * 5


# ---- names ----------------------------------------------------------------------------------------------------------


def test_default_names_are_numbered(loop):
    tasks = [loop.create_task(returns()) for _ in range(3)]
    prefixes, numbers = zip(*(task.get_name().rsplit("-", 1) for task in tasks), strict=True)
    assert set(prefixes) == {"Task"}
    first = int(numbers[0])
    assert [int(number) for number in numbers] == [first, first + 1, first + 2]
    assert tasks[0].get_name() is tasks[0].get_name() or tasks[0].get_name() == tasks[0].get_name()
    loop.run_until_complete(asyncio.gather(*tasks))


def test_names(loop):
    task = loop.create_task(returns(), name="mine")
    assert task.get_name() == "mine"
    assert task.set_name("other") is None
    assert task.get_name() == "other"
    task.set_name(5)
    assert task.get_name() == "5"
    assert Task(returns_closed(), loop=loop, name=7).get_name() == "7"
    assert loop.create_task(returns(), name="").get_name() == ""
    unnamed = loop.create_task(returns(), name=None)
    assert unnamed.get_name().startswith("Task-")
    loop.run_until_complete(task)
    loop.run_until_complete(unnamed)


def returns_closed():
    return returns()


def test_a_name_whose_str_raises(loop):
    class Bad:
        def __str__(self):
            raise LookupError("in __str__")

    task = loop.create_task(returns())
    with pytest.raises(LookupError):
        task.set_name(Bad())
    assert task.get_name().startswith("Task-")
    loop.run_until_complete(task)


# ---- contexts -------------------------------------------------------------------------------------------------------


def test_a_context_of_its_own(loop):
    async def child():
        assert var.get() == "parent"
        var.set("child")
        await asyncio.sleep(0)
        assert var.get() == "child"

    async def main():
        var.set("parent")
        task = loop.create_task(child())
        var.set("changed since")
        await task
        return var.get()

    assert loop.run_until_complete(main()) == "changed since"


def test_a_context_given(loop):
    context = contextvars.copy_context()
    context.run(var.set, "given")

    async def main():
        before = var.get()
        var.set("changed")
        await asyncio.sleep(0)
        return before, var.get()

    task = loop.create_task(main(), context=context)
    assert loop.run_until_complete(task) == ("given", "changed")
    assert context[var] == "changed"
    other = Task(main(), loop=loop, context=context)
    assert loop.run_until_complete(other) == ("changed", "changed")


@beyond_stdlib("get_context came with 3.12", until=(3, 12))
def test_get_context(loop):
    context = contextvars.copy_context()
    task = loop.create_task(returns(), context=context)
    assert task.get_context() is context
    other = loop.create_task(returns())
    assert type(other.get_context()) is contextvars.Context
    loop.run_until_complete(asyncio.gather(task, other))


@pytest.mark.parametrize("bad", [1, "x", {}, object()])
@beyond_stdlib("python/cpython 157301")
def test_a_context_that_is_none_is_refused(loop, bad):
    coro = returns()
    with pytest.raises(TypeError):
        loop.create_task(coro, context=bad)
    with pytest.raises(TypeError):
        Task(coro, loop=loop, context=bad)
    loop.run_until_complete(coro)


def test_a_context_entered_already(loop, reports):
    # The task cannot take its step in a context that is being run: it must not be lost in silence.
    context = contextvars.copy_context()

    def inside():
        with pytest.raises(RuntimeError):
            loop.run_until_complete(task)

    coro = returns(1)
    task = loop.create_task(coro, context=context)
    loop.call_later(0.001, loop.stop)
    context.run(inside)
    coro.close()
    task._log_destroy_pending = False
    reports.clear()


# ---- what may be a coroutine ----------------------------------------------------------------------------------------


class ByHand(collections.abc.Coroutine):
    """A coroutine that is none of the interpreter's own."""

    def __init__(self, steps):
        self.steps = iter(steps)
        self.sent, self.thrown, self.closed = [], [], 0

    def send(self, value):
        self.sent.append(value)
        step = next(self.steps)
        if isinstance(step, BaseException):
            raise step
        return step

    def throw(self, typ, val=None, tb=None):
        self.thrown.append(typ)
        raise typ

    def close(self):
        self.closed += 1

    def __await__(self):
        return self


def test_a_coroutine_made_by_hand(loop):
    coro = ByHand([None, None, StopIteration("value")])
    task = loop.create_task(coro)
    assert task.get_coro() is coro
    assert loop.run_until_complete(task) == "value"
    assert coro.sent == [None, None, None]


def test_a_coroutine_made_by_hand_that_ends_of_its_own(loop):
    assert loop.run_until_complete(loop.create_task(ByHand([]))) is None


def test_a_coroutine_made_by_hand_is_thrown_into(loop, turn):
    coro = ByHand([None] * 5)
    task = loop.create_task(coro)
    turn()
    task.cancel("message")
    with pytest.raises(asyncio.CancelledError, match="message"):
        loop.run_until_complete(task)
    (thrown,) = coro.thrown
    assert isinstance(thrown, asyncio.CancelledError)


def test_a_coroutine_made_by_hand_that_fails(loop):
    with pytest.raises(LookupError):
        loop.run_until_complete(loop.create_task(ByHand([None, LookupError()])))


def test_a_coroutine_made_by_hand_waits_for_futures(loop):
    future = loop.create_future()
    future._asyncio_future_blocking = True
    loop.call_soon(future.set_result, 1)
    coro = ByHand([future, StopIteration("woken")])
    assert loop.run_until_complete(loop.create_task(coro)) == "woken"


def test_decorated_generators(loop):
    @types.coroutine
    def pause():
        yield

    @types.coroutine
    def generator(future):
        yield
        value = yield from future
        yield from pause()
        return value

    async def main():
        future = loop.create_future()
        loop.call_soon(future.set_result, "value")
        return await generator(future)

    assert loop.run_until_complete(main()) == "value"


def test_a_bare_decorated_generator_is_no_coroutine_of_late(loop):
    @types.coroutine
    def generator():
        yield
        return "value"

    gen = generator()
    if asyncio.iscoroutine(gen):
        assert loop.run_until_complete(loop.create_task(gen)) == "value"
    else:
        with pytest.raises(TypeError, match="a coroutine was expected"):
            loop.create_task(gen)


def test_async_generators(loop):
    async def numbers(n):
        for i in range(n):
            await asyncio.sleep(0)
            yield i

    async def main():
        generator = numbers(2)
        first = await generator.__anext__()
        await generator.aclose()
        return first, [i async for i in numbers(5)]

    assert loop.run_until_complete(main()) == (0, [0, 1, 2, 3, 4])


def test_coroutines_already_run(loop):
    coro = returns()
    loop.run_until_complete(coro)
    task = loop.create_task(coro)
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        loop.run_until_complete(task)


def test_one_coroutine_in_two_tasks(loop):
    future = loop.create_future()
    coro = suspended(future)
    first, second = loop.create_task(coro), loop.create_task(coro)
    loop.call_later(0.001, future.set_result, 1)
    results = loop.run_until_complete(asyncio.gather(first, second, return_exceptions=True))
    assert any(isinstance(result, RuntimeError) for result in results)


# ---- attributes -----------------------------------------------------------------------------------------------------


def test_get_coro(loop):
    coro = returns()
    task = loop.create_task(coro)
    assert task.get_coro() is coro
    assert task._coro is coro
    loop.run_until_complete(task)


def test_the_underscored(loop, turn):
    future = loop.create_future()
    coro = suspended(future)
    task = loop.create_task(coro)
    assert task._must_cancel is False
    assert task._fut_waiter is None
    assert task._log_destroy_pending is True
    assert task._coro is coro
    assert task._state == "PENDING"
    assert task._loop is loop
    assert task._log_traceback is False
    assert task._asyncio_future_blocking is False
    turn()
    assert task._fut_waiter is future
    future.set_result(1)
    assert loop.run_until_complete(task) == 1
    assert task._fut_waiter is None
    assert task._state == "FINISHED"
    assert task._result == 1


@pytest.mark.parametrize("name", ["_must_cancel", "_coro", "_fut_waiter", "_state"])
def test_state_is_read_only(loop, name):
    task = loop.create_task(returns())
    with pytest.raises(AttributeError):
        setattr(task, name, None)
    loop.run_until_complete(task)


def test_fut_waiter_of_every_kind(loop, turn):
    plain = asyncio.Future(loop=loop)
    child = loop.create_task(suspended(plain))
    parent = loop.create_task(suspended(child))
    turn()
    turn()
    assert child._fut_waiter is plain
    assert parent._fut_waiter is child
    plain.set_result(3)
    assert loop.run_until_complete(parent) == 3


def test_subscript():
    assert Task[int] == types.GenericAlias(Task, int)


def test_attributes_of_its_own_and_weak_references(loop):
    task = loop.create_task(returns())
    task.mine = 1
    assert task.mine == 1
    dead = weakref.ref(task)
    loop.run_until_complete(task)
    del task
    gc.collect()
    assert dead() is None


def test_a_finished_task_is_freed_by_reference_count(loop, no_gc):
    async def main():
        await asyncio.sleep(0)
        await loop.create_task(returns())

    task = loop.create_task(main())
    dead = weakref.ref(task)
    loop.run_until_complete(task)
    del task
    assert dead() is None


def test_a_failed_task_is_freed_by_reference_count(loop, no_gc):
    async def main():
        await asyncio.sleep(0)
        raise LookupError

    def run():
        task = loop.create_task(main())
        try:
            loop.run_until_complete(task)
        except LookupError:
            pass
        return weakref.ref(task)

    dead = run()
    gc.collect()
    assert dead() is None


def test_what_a_finished_task_lets_go_of(loop, no_gc):
    class Kept:
        pass

    async def main(kept):
        await asyncio.sleep(0)

    kept = Kept()
    dead = weakref.ref(kept)
    task = loop.create_task(main(kept))
    del kept
    loop.run_until_complete(task)
    assert dead() is None


def test_a_second_init_is_refused(loop):
    task = loop.create_task(returns(1))
    if impl.IS_COROLLA:
        coro = returns(2)
        with pytest.raises(RuntimeError):
            task.__init__(coro, loop=loop)
        coro.close()
    assert loop.run_until_complete(task) == 1


def test_subclass(loop):
    class Mine(Task):
        def __init__(self, *args, extra, **kwargs):
            super().__init__(*args, **kwargs)
            self.extra = extra

        def result(self):
            return (self.extra, super().result())

    task = Mine(returns(1), loop=loop, extra="extra", name="name")
    assert loop.run_until_complete(task) == ("extra", 1)
    assert repr(task).startswith("<Mine finished name='name'")


def test_a_subclass_that_is_awaited(loop):
    class Mine(Task):
        pass

    async def main():
        return await Mine(returns(1)), await asyncio.gather(Mine(returns(2)), Mine(returns(3)))

    assert loop.run_until_complete(main()) == (1, [2, 3])
