"""Tasks, futures, handles and contexts: a thousand rounds leave blocks, objects, descriptors and malloc'ed bytes alone."""

import asyncio
import contextlib
import contextvars
import functools
import gc
import threading
import types

import corolla
import impl
import pytest

pytestmark = pytest.mark.timeout(240)


async def returns(value=None):
    return value


async def fails():
    raise LookupError("expected")


def test_create_task(loop, leaks_nothing):
    async def operation():
        await loop.create_task(returns(1), name="named")
        task = loop.create_task(impl.sleep(0))
        await task
        return [await impl.sleep(0, i) for i in range(3)]

    leaks_nothing(operation)


def test_eager_tasks(loop, leaks_nothing):
    if not impl.IS_COROLLA:
        pytest.skip("about our own")

    async def operation():
        impl.Task(returns(1), loop=loop, eager_start=True)
        await impl.Task(impl.sleep(0), loop=loop, eager_start=True)

    leaks_nothing(operation)


def test_create_task_and_factories(loop, leaks_nothing):
    if not impl.IS_COROLLA:
        pytest.skip("about our own")

    async def operation():
        await impl.api.create_task(returns(1))
        for factory in impl.api.eager_task_factory, impl.api.create_eager_task_factory(functools.partial(impl.Task)):
            loop.set_task_factory(factory)
            await impl.api.create_task(returns(1), name="named")
            await impl.api.create_task(impl.sleep(0), context=contextvars.copy_context())
            coro = returns()
            with contextlib.suppress(TypeError):
                factory(loop, coro, nonsense=1)
            coro.close()
        loop.set_task_factory(None)

    leaks_nothing(operation)


def test_run_and_install(leaks_nothing):
    if not impl.IS_COROLLA:
        pytest.skip("about our own")

    def operation():
        impl.api.install()
        asyncio.run(returns(1))
        impl.api.uninstall()
        impl.api.run(impl.sleep(0))

    leaks_nothing(operation)


def test_call_soon(loop, leaks_nothing):
    def operation():
        for count in (0, 1, 4, 5, 20):
            loop.call_soon(int.__add__, *range(count))
            loop.call_soon(print, *range(count)).cancel()
        loop.call_soon(int, context=contextvars.copy_context())
        loop.call_soon(loop.stop)
        loop.run_forever()

    leaks_nothing(operation)


def test_timers(loop, leaks_nothing):
    def operation():
        handles = [loop.call_later(1000 + i, print, *range(i)) for i in range(8)]
        for handle in handles[::2] + handles[1::2]:
            handle.cancel()
        loop.call_at(loop.time() - 1, int)
        loop.call_later(0, loop.stop)
        loop.run_forever()

    leaks_nothing(operation)


def test_call_soon_threadsafe(loop, leaks_nothing):
    def operation():
        for _ in range(10):
            loop.call_soon_threadsafe(int)
        loop.call_soon_threadsafe(loop.stop)
        loop.run_forever()

    leaks_nothing(operation)


def test_call_soon_threadsafe_from_a_thread(loop, leaks_nothing):
    def operation():
        thread = threading.Thread(target=lambda: [loop.call_soon_threadsafe(call) for call in (int, loop.stop)])
        thread.start()
        loop.run_forever()
        thread.join()

    leaks_nothing(operation, rounds=300)


def test_futures(loop, leaks_nothing):
    def operation():
        for how in range(4):
            future = loop.create_future()
            for _ in range(3):
                future.add_done_callback(returns_nothing)
            future.remove_done_callback(print)
            if how == 0:
                future.set_result([future])
            elif how == 1:
                future.set_exception(LookupError())
                future.exception()
            elif how == 2:
                future.cancel("message")
            repr(future)
        bare = impl.Future(loop=loop)
        bare.attribute = bare
        loop.call_soon(loop.stop)
        loop.run_forever()

    leaks_nothing(operation)


def returns_nothing(future):
    pass


def test_await(loop, leaks_nothing):
    async def wait(future):
        return await future

    async def operation():
        for make in (impl.Future, asyncio.Future):
            future = make(loop=loop)
            tasks = [loop.create_task(wait(future)) for _ in range(3)]
            await impl.sleep(0)
            future.set_result(1)
            for task in tasks:
                await task
        iterator = impl.Future(loop=loop).__await__()
        next(iterator)
        iterator.close()

    leaks_nothing(operation)


def test_cancel(loop, leaks_nothing):
    async def wait():
        try:
            await loop.create_future()
        finally:
            await impl.sleep(0)

    async def operation():
        for _ in range(3):
            task = loop.create_task(wait())
            await impl.sleep(0)
            task.cancel("message")
            try:
                await task
            except asyncio.CancelledError:
                task.uncancel()
        loop.create_task(wait()).cancel()
        await impl.sleep(0)
        await impl.sleep(0)

    leaks_nothing(operation)


def test_exceptions(loop, leaks_nothing):
    @types.coroutine
    def garbage():
        yield 5

    async def yields():
        await garbage()

    async def operation():
        loop.call_soon(int, "no number")
        for coro in (fails(), yields()):
            try:
                await loop.create_task(coro)
            except (LookupError, RuntimeError):
                pass
        loop.create_task(fails())  # never retrieved
        await impl.sleep(0)
        await impl.sleep(0)

    leaks_nothing(operation)


def test_interrupts(loop, leaks_nothing):
    def interrupt():
        raise KeyboardInterrupt

    async def interrupted():
        raise SystemExit

    def operation():
        for cause in (lambda: loop.call_soon(interrupt), lambda: loop.create_task(interrupted())):
            cause()
            try:
                loop.run_forever()
            except (KeyboardInterrupt, SystemExit):
                pass

    leaks_nothing(operation)


def test_destroyed_while_pending(loop, leaks_nothing):
    async def wait():
        await loop.create_future()

    def operation():
        loop.create_task(wait())
        loop.call_soon(loop.stop)
        loop.run_forever()
        if loop.time() % 1 < 0.05:
            gc.collect()

    leaks_nothing(operation, rounds=500)


def test_c_coroutines(loop, leaks_nothing):
    def operation():
        impl.sleep(0).close()
        coro = impl.sleep(1000, "result")
        try:
            coro.throw(LookupError)
        except LookupError:
            pass

    leaks_nothing(operation)


def test_debug_mode(loop, leaks_nothing):
    loop.set_debug(True)

    async def operation():
        loop.call_soon(int)
        loop.call_later(1000, int).cancel()
        await loop.create_task(returns())

    leaks_nothing(operation, rounds=300)


def test_contexts_lent_and_kept(loop, leaks_nothing):
    variable = contextvars.ContextVar("variable")

    def callback(number):
        if number % 2:
            variable.set(object())
        if number % 3 == 0:
            loop.call_soon(callback, 1)

    async def child(number):
        if number % 2:
            variable.set(object())
        if number % 3 == 0:
            await impl.sleep(0)

    async def operation():
        variable.set(object())
        handles = [loop.call_soon(callback, number) for number in range(6)]
        handles += [loop.call_later(0, callback, number) for number in range(6)]
        loop.call_soon_threadsafe(callback, 3)
        future = loop.create_future()
        future.add_done_callback(lambda future: variable.set(future))
        future.set_result(None)
        tasks = [loop.create_task(child(number)) for number in range(6)]
        handles[0]._context.run(variable.set, handles)
        handles[1].cancel()
        handles[-1].cancel()
        for task in tasks:
            await task
        for _ in range(3):
            await impl.sleep(0)
        handles[2]._context.run(variable.set, handles)

    leaks_nothing(operation)


def test_ends_of_iterators_and_bound_methods(loop, leaks_nothing):
    lock = corolla.Lock()

    async def operation():
        future = loop.create_future()
        future.set_result(object())
        for step in (next, lambda iterator: iterator.send(None)):
            try:
                step(future.__await__())
            except StopIteration as stop:
                assert stop.args == (stop.value,)
                repr(stop)
        await future
        async with lock:
            pass
        enter, leave = lock.__aenter__, lock.__aexit__
        assert (enter == lock.__aenter__, enter.__name__, repr(leave)) is not None
        await enter()
        await leave(None, None, None)

    leaks_nothing(operation)
