"""create_task(), and the task factories that start tasks at once."""

import asyncio
import contextvars
import gc
import sys
import weakref

import corolla
import impl
import pytest
from impl import Task, api, beyond_stdlib

var = contextvars.ContextVar("var", default="outside")

newest = beyond_stdlib("eager factories came with 3.12, and pass keywords on since 3.14", until=(3, 14))


async def returns(value=None):
    return value


async def name():
    return asyncio.current_task().get_name()


# ---- create_task ----------------------------------------------------------------------------------------------------


def test_create_task(run):
    async def main():
        order = []

        async def child():
            order.append("child")
            return var.get()

        task = api.create_task(child())
        assert isinstance(task, Task)
        assert order == []
        assert await task == "outside"
        task = api.create_task(child(), name="named")
        assert task.get_name() == "named"
        await task
        context = contextvars.copy_context()
        context.run(var.set, "inside")
        assert await api.create_task(child(), context=context) == "inside"
        assert await api.create_task(coro=returns(1)) == 1

    run(main())


@beyond_stdlib("asyncio.create_task() takes eager_start from 3.14 on", until=(3, 14))
def test_create_task_eagerly(run):
    async def main():
        task = api.create_task(returns(1), eager_start=True)
        assert task.done()
        assert task.result() == 1
        assert not api.create_task(returns(1), eager_start=False).done()

    run(main())


def test_create_task_with_no_loop():
    coro = returns()
    with pytest.raises(RuntimeError, match="no running event loop"):
        api.create_task(coro)
    coro.close()


def test_create_task_with_wrong_arguments(run):
    async def main():
        coro = returns()
        for wrong in (
            lambda: api.create_task(),
            lambda: api.create_task(5),
            lambda: api.create_task(coro, "by position"),
            lambda: api.create_task(coro, nonsense=1),
            lambda: api.create_task(name="nobody"),
            lambda: api.create_task(coro, 1, 2, 3, 4, 5, 6, 7, name="many"),
        ):
            with pytest.raises(TypeError):
                wrong()
        coro.close()

    run(main())


def test_create_task_asks_the_factory(loop):
    made = []

    def factory(loop, coro, **kwargs):
        made.append(kwargs)
        return Task(coro, loop=loop, **kwargs)

    async def main():
        loop.set_task_factory(factory)
        context = contextvars.copy_context()
        assert await api.create_task(returns(1)) == 1
        assert await api.create_task(returns(2), context=context) == 2
        assert made[-1] == {"context": context}
        loop.set_task_factory(None)
        assert await api.create_task(returns(3)) == 3
        assert len(made) == 2

    loop.run_until_complete(main())


@beyond_stdlib("passes the name on since 3.12, and nothing but what it was given since 3.14", until=(3, 14))
def test_create_task_that_a_loop_overrides():
    class Loop(impl.EventLoop):
        def create_task(self, coro, **kwargs):
            made.append(kwargs)
            return super().create_task(coro, **kwargs)

    made = []

    async def main():
        await api.create_task(returns())
        await api.create_task(returns(), name="named")

    loop = Loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
    assert made[-1] == {"name": "named"}
    assert len(made) == 3


@beyond_stdlib("other loops than its own, with our create_task")
@pytest.mark.parametrize("factory", ["none", "eager"])
def test_on_the_standard_librarys_loop(factory):
    async def main():
        loop = asyncio.get_running_loop()
        task = corolla.create_task(name(), name="first")
        assert isinstance(task, asyncio.Task)
        assert await task == "first"
        if factory == "eager":
            loop.set_task_factory(corolla.eager_task_factory)
            task = corolla.create_task(returns(2))
            assert type(task) is corolla.Task
            assert task.done()
            pending = corolla.create_task(asyncio.sleep(0, 3))
            assert not pending.done()
            assert await asyncio.gather(task, pending) == [2, 3]

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main())


# ---- eager task factories -------------------------------------------------------------------------------------------


@beyond_stdlib("eager factories came with 3.12", until=(3, 12))
@pytest.mark.parametrize("which", ["ready made", "of Task", "of a subclass", "of a function"])
def test_tasks_start_at_once(loop, which):
    class Own(Task):
        pass

    factory = {
        "ready made": lambda: api.eager_task_factory,
        "of Task": lambda: api.create_eager_task_factory(Task),
        "of a subclass": lambda: api.create_eager_task_factory(Own),
        "of a function": lambda: api.create_eager_task_factory(lambda *args, **kwargs: Own(*args, **kwargs)),
    }[which]()
    kind = Own if "of a" in which else Task
    order = []

    async def child(i):
        order.append(i)
        if i % 2:
            await asyncio.sleep(0)
        return i

    async def main():
        loop.set_task_factory(factory)
        assert loop.get_task_factory() is factory
        tasks = [make(child(i)) for i, make in enumerate([api.create_task, loop.create_task] * 2)]
        assert order == [0, 1, 2, 3]
        assert [type(task) for task in tasks] == [kind] * 4
        assert [task.done() for task in tasks] == [True, False] * 2
        assert await asyncio.gather(*tasks, child(4), child(5)) == [0, 1, 2, 3, 4, 5]

    loop.run_until_complete(main())


@newest
@pytest.mark.parametrize("own", [False, True])
def test_keywords_reach_the_task(loop, own):
    class Own(Task):
        def __init__(self, coro, *, special=None, **kwargs):
            given.append((special, kwargs))
            super().__init__(coro, **kwargs)

    given = []

    async def main():
        loop.set_task_factory(api.create_eager_task_factory(Own if own else Task))
        context = contextvars.copy_context()
        context.run(var.set, "inside")

        async def both():
            return asyncio.current_task().get_name(), var.get()

        # The first step, run before create_task() returns, sees them.
        task = api.create_task(both(), name="named", context=context)
        assert task.done()
        assert task.result() == ("named", "inside")
        task = loop.create_task(both(), name="later", eager_start=False)
        assert not task.done()
        assert await task == ("later", "outside")
        assert loop.create_task(both(), eager_start=True).done()
        if own:
            assert given[0] == (None, {"loop": loop, "eager_start": True, "name": "named", "context": context})
            api.create_task(both(), special=5)
            assert given[-1] == (5, {"loop": loop, "eager_start": True})
        else:
            coro = both()
            with pytest.raises(TypeError, match="special"):
                api.create_task(coro, special=5)
            coro.close()

    loop.run_until_complete(main())


@beyond_stdlib("eager factories came with 3.12", until=(3, 12))
def test_called_directly(loop):
    factory = api.create_eager_task_factory(Task)

    async def main():
        assert factory(loop, returns(1)).done()
        assert factory(loop=loop, coro=returns(1)).done()
        assert not factory(loop, asyncio.sleep(0), context=contextvars.copy_context()).done()
        coro = returns()
        for args, kwargs in [
            ((), {}),
            ((loop,), {}),
            ((loop, coro, 1), {}),
            ((loop, coro), {"loop": loop}),
            ((loop, coro), {"coro": coro}),
            ((loop, coro), {"nonsense": 1}),
            ((loop, 5), {}),
        ]:
            with pytest.raises(TypeError):
                factory(*args, **kwargs)
        coro.close()

    loop.run_until_complete(main())


@beyond_stdlib("eager factories came with 3.12", until=(3, 12))
def test_not_on_a_loop_that_does_not_run(loop):
    loop.set_task_factory(api.eager_task_factory)
    task = loop.create_task(returns(1))
    assert not task.done()
    assert loop.run_until_complete(task) == 1


@newest
def test_errors_of_the_constructor(loop):
    def constructor(coro, **kwargs):
        coro.close()
        raise LookupError("no task today")

    async def main():
        loop.set_task_factory(api.create_eager_task_factory(constructor))
        with pytest.raises(LookupError, match="no task today"):
            api.create_task(returns())

    loop.run_until_complete(main())


@newest
def test_errors_in_the_first_step(loop):
    async def fails():
        raise LookupError("at once")

    async def main():
        loop.set_task_factory(api.eager_task_factory)
        task = api.create_task(fails())
        assert task.done()
        with pytest.raises(LookupError, match="at once"):
            await task

    loop.run_until_complete(main())


@beyond_stdlib("of ours")
def test_the_factory_itself():
    factory = corolla.create_eager_task_factory(custom_task_constructor=Task)
    assert isinstance(factory, corolla.EagerTaskFactory)
    assert callable(factory)
    assert "Task" in repr(factory)
    with pytest.raises(TypeError):
        corolla.EagerTaskFactory(Task)
    with pytest.raises(TypeError):
        corolla.EagerTaskFactory.__new__(corolla.EagerTaskFactory)
    with pytest.raises(TypeError):
        type("Sub", (corolla.EagerTaskFactory,), {})
    with pytest.raises(TypeError):
        corolla.create_eager_task_factory()


@beyond_stdlib("of ours")
def test_a_factory_is_collected():
    class Constructor:
        def __call__(self, coro, **kwargs):
            raise NotImplementedError

    constructor = Constructor()
    constructor.factory = corolla.create_eager_task_factory(constructor)
    gone = weakref.ref(constructor)
    del constructor
    gc.collect()
    assert gone() is None


@beyond_stdlib("of ours")
def test_replaced_while_it_makes_a_task(loop):
    """The loop lets go of a factory while that one is being called."""

    def constructor(coro, **kwargs):
        loop.set_task_factory(None)
        return Task(coro, **kwargs)

    async def main():
        loop.set_task_factory(corolla.create_eager_task_factory(constructor))
        before = sys.getrefcount(constructor)
        assert api.create_task(returns(1)).result() == 1
        assert sys.getrefcount(constructor) < before

    loop.run_until_complete(main())
