"""__aenter__ and __aexit__ of locks and the like: what `async with` gets through with quickly is, to everybody else, an ordinary
bound method and an ordinary coroutine."""

import asyncio
import contextlib
import functools
import gc
import inspect
import types
import warnings
import weakref

import corolla
import pytest
from primitives.sync import Oops, at_once, ended, started

EVERYWHERE = True
KINDS = ["Lock", "Semaphore", "BoundedSemaphore", "Condition"]


@pytest.fixture(params=KINDS)
def lock(request, library):
    return getattr(library, request.param)()


def test_in_and_out(lock, run):
    async def main():
        for _ in range(3):
            async with lock as nothing:
                assert nothing is None
                assert lock.locked()
            assert not lock.locked()

    run(main())


def test_handed_around(lock, run):
    """By whoever calls a bound method more than once, and is the only one to have it."""
    enter, leave = functools.partial(lock.__aenter__), functools.partial(lock.__aexit__, None, None, None)

    async def main():
        for _ in range(3):
            coros = enter(), leave()
            await coros[0]
            assert lock.locked()
            await coros[1]
            assert not lock.locked()
        coros = [enter() for _ in range(3)]
        await coros[0]
        assert lock.locked()
        for coro in coros[1:]:
            coro.close()

    run(main())


def test_exit_stack(lock, run):
    async def main():
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(lock)
            assert lock.locked()
        assert not lock.locked()
        await lock.acquire()
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_exit(lock.__aexit__)
        assert not lock.locked()

    run(main())


def test_in_a_task_of_its_own(lock, run):
    async def main():
        assert await asyncio.ensure_future(lock.__aenter__()) is None
        assert lock.locked()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(lock.__aenter__(), 0.001)
        assert await asyncio.wait_for(lock.__aexit__(None, None, None), 10) is None
        assert not lock.locked()
        assert await asyncio.gather(lock.__aenter__(), lock.__aexit__(None, None, None)) == [None, None]

    run(main())


def test_what_it_is(lock):
    coros = [lock.__aenter__(), functools.partial(lock.__aexit__, 1, 2, 3)()]
    for coro, name in zip(coros, ("__aenter__", "__aexit__"), strict=True):
        assert asyncio.iscoroutine(coro)
        assert inspect.iscoroutine(coro)
        assert inspect.isawaitable(coro)
        assert isinstance(coro, types.CoroutineType)
        assert coro.__name__ == name
        assert coro.__qualname__.endswith(name)
        assert coro.cr_running is False
        assert coro.cr_await is None
        assert f"<coroutine object {coro.__qualname__} at 0x" in repr(coro)
        assert weakref.ref(coro)() is coro
        coro.close()
    assert not lock.locked()


def test_bound_method(lock):
    kind = type(lock)
    for name in ("__aenter__", "__aexit__"):
        method = getattr(lock, name)
        assert callable(method)
        assert method.__self__ is lock
        assert method.__name__ == name
        assert method.__qualname__.endswith(f".{name}")
        assert name in repr(method)
        assert method == getattr(lock, name)
        assert hash(method) == hash(getattr(lock, name))
        assert method != getattr(kind(), name)
        assert method != print
        assert not inspect.isawaitable(method)
        assert not asyncio.iscoroutine(method)
        assert weakref.ref(method)() is method
        with pytest.raises(TypeError):
            method < method  # noqa: B015
        with pytest.raises(AttributeError):
            method.nonsense


def test_method_of_the_type(lock):
    kind = type(lock)
    assert kind.__aenter__ is kind.__aenter__
    at_once(kind.__aenter__(lock))
    at_once(kind.__aexit__(lock, None, None, None))
    assert not lock.locked()
    assert len(inspect.signature(kind.__aexit__).parameters) == 4
    with pytest.raises(TypeError):
        kind.__aenter__()


def test_arguments(lock):
    for wrong in ((lambda: lock.__aenter__(1)), (lambda: lock.__aenter__(x=1)), lambda: lock.__aexit__()):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(TypeError):
        lock.__aexit__(None, None, None, None)


@pytest.mark.parametrize("kind", KINDS)
def test_somebody_elses_descriptor(kind):
    for name in ("__aenter__", "__aexit__"):
        descriptor = vars(getattr(corolla, kind).__mro__[-2])[name]
        for other in (object(), 5, corolla.Event()):
            with pytest.raises(TypeError):
                descriptor.__get__(other)


def test_only_looked_at(lock):
    """A method that is not called is no coroutine that was never awaited."""
    for name in ("__aenter__", "__aexit__"):
        getattr(lock, name)
    gc.collect()


@pytest.mark.parametrize("name", ["__aenter__", "__aexit__"])
def test_never_awaited(lock, name):
    args = () if name == "__aenter__" else (None, None, None)
    with pytest.warns(RuntimeWarning, match=rf"coroutine '.*{name}' was never awaited"):
        getattr(lock, name)(*args)
        gc.collect()
    assert not lock.locked()


def test_awaited_twice(lock, run):
    async def main():
        coro = lock.__aenter__()
        await coro
        for again in (lambda: coro.send(None), lambda: coro.throw(Oops())):
            with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
                again()
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await coro
        coro.close()

    run(main())


def test_sent_and_thrown_into(lock):
    coro = lock.__aenter__()
    with pytest.raises(TypeError, match="can't send non-None value to a just-started coroutine"):
        coro.send(1)
    coro.close()
    coro = lock.__aenter__()
    with pytest.raises(Oops):
        coro.throw(Oops())
    coro = lock.__aenter__()
    coro.close()
    coro.close()
    assert not lock.locked()
    assert at_once(lock.__aenter__().__await__()) is None
    assert lock.locked()


def test_waiting(lock, run):
    async def main():
        await lock.acquire()

        async def enter(coro):
            await coro
            return "entered"

        coro = lock.__aenter__()
        (task,) = await started(enter(coro))
        assert coro.cr_await is not None
        assert inspect.getcoroutinestate(coro) == inspect.CORO_SUSPENDED
        with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
            await coro
        lock.release()
        assert await ended([task]) == ["entered"]
        (task,) = await started(enter(lock.__aenter__()))
        task.cancel()
        assert isinstance((await ended([task]))[0], asyncio.CancelledError)
        coro = lock.__aenter__()
        coro.__await__().send(None)
        with pytest.raises(Oops):
            coro.throw(Oops())
        coro = lock.__aenter__()
        coro.send(None)
        coro.close()
        lock.release()
        assert not lock.locked()

    run(main())


def test_cancelled_within(lock, run):
    async def main():
        async def work():
            async with lock:
                await asyncio.get_running_loop().create_future()

        first, second = await started(work(), work())
        assert lock.locked()
        second.cancel()
        first.cancel()
        assert all(isinstance(error, asyncio.CancelledError) for error in await ended([first, second]))
        assert not lock.locked()

    run(main())


def test_collected(lock):
    """Bound methods and coroutines in cycles, in every state."""
    lock = type(lock)()  # pytest keeps the other
    reference = weakref.ref(lock)
    lock.bound = lock.__aenter__
    lock.fresh = functools.partial(lock.__aenter__)()
    lock.done = functools.partial(lock.__aenter__)()
    at_once(lock.done)
    lock.closed = functools.partial(lock.__aexit__, None, None, None)()
    lock.closed.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del lock
        gc.collect()
    assert reference() is None


def test_collected_while_it_waits(lock, run):
    async def main(lock):
        await lock.acquire()
        lock.waits = lock.__aenter__()
        lock.waits.send(None)

    lock = type(lock)()
    reference = weakref.ref(lock)
    run(main(lock))
    del lock
    gc.collect()
    assert reference() is None


def test_release_that_raises(lock, run):
    async def main():
        with pytest.raises((RuntimeError, ValueError)):
            async with lock:
                lock.release()
                raise Oops

    if type(lock).__name__ != "Semaphore":
        run(main())
