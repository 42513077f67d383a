"""__aenter__ and __aexit__ of our types bind cheaply; to who looks at them they are methods like any."""

import asyncio
import copy
import gc
import inspect
import types
import weakref

import corolla
import pytest

TYPES = [corolla.Lock, corolla.Semaphore, corolla.Condition, corolla.Timeout, corolla.TaskGroup]


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("name", ["__aenter__", "__aexit__"])
def test_the_method_of_the_type(type_, name):
    method = getattr(type_, name)
    assert method.__name__ == name
    assert method.__qualname__.endswith("." + name)
    assert method.__doc__
    assert isinstance(method, types.MethodDescriptorType)
    assert inspect.isroutine(method)
    assert "self" in inspect.signature(method).parameters
    assert repr(method).startswith(f"<method '{name}' of '")
    with pytest.raises(TypeError):
        method()
    with pytest.raises(TypeError):
        method(object())
    with pytest.raises(TypeError):
        method.__get__(object())
    with pytest.raises(TypeError):
        type(method)()
    assert getattr(type_, name) is method
    assert method.__objclass__.__dict__[name] is method


@pytest.mark.parametrize("name", ["__aenter__", "__aexit__"])
def test_the_method_of_an_instance(name):
    lock, other = corolla.Lock(), corolla.Lock()
    method = getattr(lock, name)
    assert method.__name__ == name
    assert method.__self__ is lock
    assert isinstance(method, types.BuiltinMethodType)
    assert repr(method).startswith(f"<built-in method {name} of ")
    assert method == getattr(lock, name)
    assert hash(method) == hash(getattr(lock, name))
    assert method != getattr(other, name)
    assert method != 5
    assert method.__call__ is not None
    with pytest.raises(TypeError):
        method(1, 2, 3, 4)
    with pytest.raises(TypeError):
        method(nothing=1)
    with pytest.raises(TypeError):
        type(method)()
    with pytest.raises(AttributeError):
        method.nothing
    assert copy.copy(method) is not None


def test_called_by_hand(run):
    async def main():
        lock = corolla.Lock()
        enter, leave = lock.__aenter__, lock.__aexit__
        for _ in range(3):
            assert await enter() is None
            assert lock.locked()
            assert await leave(None, None, None) is None
            assert not lock.locked()
        assert await corolla.Lock.__aenter__(lock) is None
        assert await corolla.Lock.__aexit__(lock, None, None, None) is None

    run(main())


def test_a_subclass_overrides_and_calls_the_base(run):
    events = []

    class Noted(corolla.Lock):
        async def __aenter__(self):
            events.append("enter")
            return await super().__aenter__()

        async def __aexit__(self, *exc):
            events.append("exit")
            return await super().__aexit__(*exc)

    class Plain(Noted):
        pass

    async def main():
        lock = Plain()
        async with lock:
            assert lock.locked()
        assert not lock.locked()

    run(main())
    assert events == ["enter", "exit"]


def test_an_instance_attribute_is_not_what_async_with_takes(run):
    async def main():
        class Open(corolla.Lock):
            pass

        lock = Open()
        lock.__aenter__ = None
        async with lock:
            assert lock.locked()

    run(main())


def test_more_at_once_than_are_kept():
    locks = [corolla.Lock() for _ in range(1000)]
    methods = [lock.__aenter__ for lock in locks]
    assert [method.__self__ for method in methods] == locks


def test_a_cycle_through_a_bound_method_is_collected():
    class Lock(corolla.Lock):
        pass

    lock = Lock()
    lock.own = lock.__aexit__
    gone = weakref.ref(lock)
    del lock
    gc.collect()
    assert gone() is None


@pytest.mark.filterwarnings("ignore")
def test_a_body_that_is_abandoned_is_collected():
    """The frame of a task that nobody will wake again holds the bound __aexit__."""
    loop = corolla.new_event_loop()

    class Lock(corolla.Lock):
        pass

    async def body(lock):
        async with lock:
            await loop.create_future()

    lock = Lock()
    gone = weakref.ref(lock)
    task = loop.create_task(body(lock))
    task._log_destroy_pending = False
    lock.task = task
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert lock.locked()
    del lock, task, loop
    gc.collect()
    assert gone() is None


def test_asyncio_accepts_them():
    async def main():
        lock = asyncio.Lock()
        async with lock, corolla.Lock():
            pass

    asyncio.run(main())
