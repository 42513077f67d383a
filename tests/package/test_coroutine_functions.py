"""What is `async def` in asyncio is a coroutine function here, too, though it is in C: programs ask before they call."""

import asyncio
import copy
import inspect
import pickle
import weakref
from unittest import mock

import corolla
import pytest

# Not asked for by anybody, and `async with` and `async for` find them more quickly as they are.
LEFT_ALONE = {"__aenter__", "__aexit__", "__anext__"}

CLASSES = {
    name: (asyncio.SelectorEventLoop if name == "EventLoop" else getattr(asyncio, name), getattr(corolla, name))
    for name in corolla.__all__
    if isinstance(getattr(asyncio, name, asyncio.SelectorEventLoop if name == "EventLoop" else None), type)
    and getattr(corolla, name) is not getattr(asyncio, name, None)
}


@pytest.mark.parametrize("name", sorted(name for name in asyncio.__all__ if callable(getattr(asyncio, name))))
def test_functions(name):
    theirs, ours = getattr(asyncio, name), getattr(corolla, name)
    assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(theirs)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_methods(name):
    theirs, ours = CLASSES[name]
    wrong = [
        method
        for method in dir(theirs)
        if (not method.startswith("_") or method.startswith("__"))
        and method not in LEFT_ALONE
        and hasattr(ours, method)
        and inspect.iscoroutinefunction(getattr(theirs, method))
        and not inspect.iscoroutinefunction(getattr(ours, method))
    ]
    assert wrong == []


def test_what_is_ours_alone():
    """Whatever says of itself that it is a coroutine."""
    for owner in [corolla, *(value for value in vars(corolla).values() if isinstance(value, type))]:
        for name, value in vars(owner).items():
            if name not in LEFT_ALONE and str(getattr(value, "__doc__", "")).startswith("Coroutine:"):
                assert inspect.iscoroutinefunction(value), value


def test_bound_and_through_partial():
    import functools

    queue = corolla.Queue()
    for function in corolla.sleep, queue.put, corolla.Queue.put, functools.partial(queue.put, 1):
        assert inspect.iscoroutinefunction(function)
    for function in queue.put_nowait, corolla.gather, corolla.create_task, corolla.run:
        assert not inspect.iscoroutinefunction(function)


def test_mock_puts_an_async_mock_in_its_place(run):
    async def main():
        with mock.patch("corolla.sleep", return_value="patched") as sleep:
            assert await corolla.sleep(1000) == "patched"
            sleep.assert_awaited_once_with(1000)
        assert await corolla.sleep(0, "real") == "real"
        queue = mock.create_autospec(corolla.Queue, instance=True)
        queue.get.return_value = 5
        assert await queue.get() == 5

    run(main())


def test_calls(run):
    async def main():
        queue = corolla.Queue()
        await queue.put(1)
        await queue.put(item=2)
        await corolla.Queue.put(queue, 3)
        put = queue.put
        await put(4)
        assert [await queue.get() for _ in range(4)] == [1, 2, 3, 4]
        assert await corolla.sleep(0, result="by name") == "by name"
        assert await corolla.sleep(*[0, "spread"]) == "spread"

    run(main())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: corolla.Queue.put(), "needs an argument"),
        (lambda: corolla.Queue.put(5, 6), "doesn't apply to a 'int' object"),
        (lambda: corolla.Queue.join(5), "doesn't apply to a 'int' object"),
        (lambda: corolla.Queue.join(), "needs an argument"),
        (lambda: corolla.Queue().join(1), "takes no arguments"),
        (lambda: corolla.Queue().join(nonsense=1), "takes no keyword arguments"),
        (lambda: corolla.Queue().put(), "item"),
        (lambda: corolla.Queue().put(nonsense=1), "nonsense"),
        (lambda: corolla.sleep(), "delay"),
        (lambda: corolla.sleep(1, 2, 3), "argument"),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_subclasses(run):
    class Counting(corolla.Queue):
        async def put(self, item):
            await super().put((len(seen), item))
            seen.append(item)

    class Sleeper:
        sleep = staticmethod(corolla.sleep)
        pause = corolla.sleep  # binds, as a Python function does

        def __float__(self):
            return 0.0

    seen = []

    async def main():
        queue = Counting()
        await queue.put("a")
        assert await queue.get() == (0, "a")
        assert await Sleeper.sleep(0, 1) == 1
        assert await Sleeper().pause("bound") == "bound"

    run(main())
    assert seen == ["a"]


def test_what_it_says_of_itself():
    assert str(inspect.signature(corolla.sleep)) == "(delay, result=None)"
    assert str(inspect.signature(corolla.Queue.put)) == "(self, /, item)"
    assert str(inspect.signature(corolla.Queue().put)) == "(item)"
    assert corolla.sleep.__name__ == corolla.sleep.__qualname__ == "sleep"
    assert corolla.Queue.put.__qualname__ == "Queue.put"
    assert corolla.sleep.__doc__.startswith("Coroutine:")
    assert corolla.sleep.__defaults__ is corolla.sleep.__kwdefaults__ is None
    assert corolla.sleep.__annotations__ == {}
    assert "sleep" in repr(corolla.sleep)
    assert "corolla.Queue" in repr(corolla.Queue.put)
    assert inspect.isroutine(corolla.sleep)
    assert inspect.isroutine(corolla.Queue.put)
    assert corolla.Queue.put.__objclass__ is corolla.Queue
    with pytest.raises(AttributeError):
        corolla.sleep.__objclass__
    assert pickle.loads(pickle.dumps(corolla.sleep)) is corolla.sleep
    assert pickle.loads(pickle.dumps(corolla.Queue.put)) is corolla.Queue.put
    assert copy.deepcopy(corolla.sleep) is corolla.sleep
    with pytest.raises(TypeError):
        type(corolla.sleep)()
    with pytest.raises(TypeError):
        type(corolla.sleep).__new__(type(corolla.sleep))
    assert weakref.ref(corolla.sleep)() is corolla.sleep
    queue = corolla.Queue()
    assert weakref.WeakMethod(queue.put)() == queue.put
