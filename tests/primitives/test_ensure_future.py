"""ensure_future(): the same behaviour from asyncio's and from ours, on any loop."""

import asyncio
import types

import corolla
import pytest
from primitives.waiting import Awaitable, Oops, OwnFuture, give

from primitives import waiting

lib, loop, run = waiting.lib, waiting.loop, waiting.run


def test_futures_as_they_are(lib, run, loop):
    async def main():
        for future in (
            loop.create_future(),
            asyncio.Future(loop=loop),
            corolla.Future(loop=loop),
            OwnFuture(loop=loop),
        ):
            assert lib.ensure_future(future) is future
            assert lib.ensure_future(coro_or_future=future, loop=loop) is future
            assert lib.ensure_future(future, loop=None) is future
        task = asyncio.ensure_future(give(1))
        assert lib.ensure_future(task) is task
        await task

    run(main())


def test_duck_typed_future(lib, run):
    class Duck:
        _asyncio_future_blocking = False

    async def main():
        duck = Duck()
        assert lib.ensure_future(duck) is duck

    run(main())


def test_coroutines(lib, run, loop):
    async def main():
        for make in (lambda: give(1), lambda: corolla.sleep(0, 1)):
            task = lib.ensure_future(make())
            assert isinstance(task, (asyncio.Task, corolla.Task))
            assert task.get_loop() is loop
            assert await task == 1
            assert await lib.ensure_future(make(), loop=loop) == 1

    run(main())


def test_awaitables(lib, run):
    @types.coroutine
    def generator():
        yield
        return "generator"

    class Failing:
        def __await__(self):
            yield
            raise Oops

    async def main():
        task = lib.ensure_future(Awaitable("awaited"))
        assert isinstance(task, (asyncio.Task, corolla.Task))
        assert await task == "awaited"
        assert await lib.ensure_future(generator()) == "generator"
        with pytest.raises(Oops):
            await lib.ensure_future(Failing())
        task = lib.ensure_future(Awaitable("cancelled"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


def test_another_loop(lib, loop, run):
    other = asyncio.SelectorEventLoop()
    for kind in (asyncio.Future, corolla.Future, OwnFuture):
        future = kind(loop=loop)
        with pytest.raises(ValueError, match="^The future belongs to a different loop than the one specified as the l"):
            lib.ensure_future(future, loop=other)
    other.close()


def test_outside_a_running_loop(lib, loop):
    task = lib.ensure_future(give(1), loop=loop)
    assert loop.run_until_complete(task) == 1
    asyncio.set_event_loop(loop)
    try:
        assert loop.run_until_complete(lib.ensure_future(give(2))) == 2
        assert loop.run_until_complete(lib.ensure_future(Awaitable(3))) == 3
    finally:
        asyncio.set_event_loop(None)


def test_misuse(lib, run):
    async def main():
        for wrong in (None, 1, "x", object(), [], print, give):
            with pytest.raises(TypeError, match="An asyncio.Future, a coroutine or an awaitable is required"):
                lib.ensure_future(wrong)
        with pytest.raises(TypeError):
            lib.ensure_future()

    run(main())


def test_closed_loop(lib):
    """The coroutine that found no task is closed: nobody is told that it was never awaited."""
    for make in (asyncio.SelectorEventLoop, corolla.EventLoop):
        loop = make()
        loop.close()
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            lib.ensure_future(give(1), loop=loop)


def test_awaitable_for_a_closed_loop():
    loop = corolla.new_event_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        corolla.ensure_future(Awaitable(1), loop=loop)


def test_task_factory(lib, run, loop):
    made = []

    def factory(loop, coro, **options):
        made.append(coro)
        return asyncio.Task(coro, loop=loop, **options)

    async def main():
        loop.set_task_factory(factory)
        await lib.ensure_future(give(1))
        await lib.ensure_future(Awaitable(1))
        loop.set_task_factory(None)

    if isinstance(loop, waiting.SubclassedLoop):
        pytest.skip("makes its own tasks")
    run(main())
    assert len(made) == 2
