"""Lock: the same behaviour from asyncio's and from ours, on our loop and on asyncio's; and what is ours alone."""

import asyncio
import gc
import itertools
import random
import re
import warnings
import weakref

import corolla
import pytest
from primitives.sync import Marked, Oops, at_once, ended, ours_only, started, turns

EVERYWHERE = True


# ---- acquiring and releasing -------------------------------------------------------------------------------------------


def test_a_free_lock_is_taken_at_once(library):
    lock = library.Lock()
    assert not lock.locked()
    assert at_once(lock.acquire()) is True
    assert lock.locked()
    lock.release()
    assert not lock.locked()
    assert at_once(lock.__aenter__()) is None
    assert lock.locked()
    assert at_once(lock.__aexit__(None, None, None)) is None
    assert not lock.locked()


def test_nothing_happens_before_it_is_awaited(library):
    lock = library.Lock()
    acquire = lock.acquire()
    assert not lock.locked()
    at_once(acquire)
    leave = lock.__aexit__(None, None, None)
    assert lock.locked()
    at_once(leave)
    assert not lock.locked()


def test_release_of_a_lock_that_is_free(library):
    lock = library.Lock()
    with pytest.raises(RuntimeError, match=r"^Lock is not acquired\.$"):
        lock.release()
    with pytest.raises(RuntimeError, match=r"^Lock is not acquired\.$"):
        at_once(lock.__aexit__(None, None, None))


def test_first_come_first_served(library, run):
    lock = library.Lock()
    order = []

    async def worker(name):
        async with lock:
            order.append(name)
            await asyncio.sleep(0)
            order.append(name)

    async def main():
        await ended(await started(*map(worker, range(10))))

    run(main())
    assert order == [name for name in range(10) for _ in range(2)]
    assert not lock.locked()


def test_a_newcomer_does_not_overtake(library, run):
    async def main():
        lock = library.Lock()
        await lock.acquire()
        (waiter,) = await started(lock.acquire())
        lock.release()
        newcomer = asyncio.ensure_future(lock.acquire())
        await turns(3)
        assert waiter.done()
        assert not newcomer.done()
        lock.release()
        assert await newcomer is True

    run(main())


def test_async_with_keeps_exceptions(library, run):
    async def main():
        lock = library.Lock()
        with pytest.raises(Oops):
            async with lock as held:
                assert held is None
                raise Oops
        assert not lock.locked()

    run(main())


# ---- cancelling --------------------------------------------------------------------------------------------------------


def test_cancelled_waiter_leaves_the_line(library, run):
    async def main():
        lock = library.Lock()
        await lock.acquire()
        tasks = await started(*(lock.acquire() for _ in range(3)))
        assert len(lock._waiters) == 3
        tasks[1].cancel()
        await turns(2)
        assert tasks[1].cancelled()
        assert len(lock._waiters) == 2
        lock.release()
        await turns(2)
        lock.release()
        assert await tasks[2] is True

    run(main())


@pytest.mark.parametrize("steps", list(itertools.permutations(["release", "cancel", "acquire"])), ids="-".join)
@pytest.mark.parametrize("victim", [0, 1])
def test_any_order_within_one_step(library, run, steps, victim):
    """Release, cancel of a waiter and a new acquire, in any order within one step, never leave a free lock with sleeping
    waiters: python/cpython PR 1031 (bpo-27585); agronholm/anyio PR 1145."""

    async def main():
        lock = library.Lock()
        await lock.acquire()
        taken = 0

        async def take():
            nonlocal taken
            async with lock:
                taken += 1

        tasks = await started(take(), take())
        for step in steps:
            if step == "release":
                lock.release()
            elif step == "cancel":
                tasks[victim].cancel()
            else:
                tasks.append(asyncio.ensure_future(take()))
        assert [type(result) for result in await ended(tasks)].count(asyncio.CancelledError) == 1
        assert taken == 2
        assert not lock.locked()

    run(main())


def test_free_lock_with_cancelled_waiters_only(library, run):
    """A free lock whose wait list holds only cancelled waiters can be taken at once: python/cpython PR 1031 (bpo-27585)."""

    async def main():
        lock = library.Lock()
        await lock.acquire()
        tasks = await started(lock.acquire(), lock.acquire())
        for task in tasks:
            task.cancel()
        lock.release()
        assert at_once(lock.acquire()) is True  # they have not run yet
        await turns(2)
        assert all(task.cancelled() for task in tasks)
        assert lock.locked()
        lock.release()
        assert not lock.locked()

    run(main())


def test_woken_and_cancelled_passes_the_lock_on(library, run):
    """A waiter that was woken and then cancelled wakes the next one: python/cpython issue 71772 (bpo-27585)."""

    async def main():
        lock = library.Lock()
        await lock.acquire()
        first, second = await started(lock.acquire(), lock.acquire())
        lock.release()
        first.cancel()
        assert await asyncio.wait_for(second, 10) is True
        assert first.cancelled()

    run(main())


def test_cancelled_just_before_the_release(library, run):
    async def main():
        lock = library.Lock()
        await lock.acquire()
        first, second = await started(lock.acquire(), lock.acquire())
        first.cancel()
        lock.release()  # finds the cancelled one first
        assert await asyncio.wait_for(second, 10) is True
        assert first.cancelled()

    run(main())


def test_finished_twice(library, run):
    """A task that acquires, is woken and cancelled while the lock has been taken again wakes nobody for nothing."""

    async def main():
        lock = library.Lock()
        await lock.acquire()
        first, second = await started(lock.acquire(), lock.acquire())
        lock.release()
        await turns(1)  # first has it now
        first.cancel()
        await turns(3)
        assert first.done()
        assert not first.cancelled()
        assert not second.done()
        lock.release()
        await second

    run(main())


@pytest.mark.parametrize("seed", range(5))
def test_storm(library, run, seed):
    """Never two owners, never a sleeper by a free lock: any mix of waiting, cancelling and releasing."""

    async def main():
        rng = random.Random(seed)
        lock = library.Lock()
        inside = 0

        async def worker():
            nonlocal inside
            for _ in range(5):
                async with lock:
                    inside += 1
                    assert inside == 1
                    try:
                        await turns(rng.randrange(3))
                    finally:
                        inside -= 1

        tasks = [asyncio.ensure_future(worker()) for _ in range(30)]
        for _ in range(200):
            await turns(1)
            rng.choice(tasks).cancel()
        results = await ended(tasks)
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
        assert not lock.locked()
        assert not lock._waiters

    run(main())


# ---- coroutines, used badly ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["acquire", "__aenter__"])
def test_never_awaited(library, name):
    coro = getattr(library.Lock(), name)()
    with pytest.warns(RuntimeWarning, match=rf"coroutine '.*{name}' was never awaited"):
        del coro
        gc.collect()


def test_it_is_a_coroutine(library):
    lock = library.Lock()
    coros = [lock.acquire(), lock.__aenter__(), lock.__aexit__(None, None, None)]
    for coro in coros:
        assert asyncio.iscoroutine(coro)
        coro.close()
    assert not lock.locked()


def test_awaited_twice(library, run):
    async def main():
        lock = library.Lock()
        coro = lock.acquire()
        await coro
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await coro

    run(main())


def test_thrown_into(library, run):
    async def main():
        lock = library.Lock()
        await lock.acquire()
        coro = lock.acquire()
        future = coro.send(None)
        assert len(lock._waiters) == 1
        with pytest.raises(Oops):
            coro.throw(Oops())
        assert not lock._waiters
        assert not future.done()
        fresh = lock.acquire()
        with pytest.raises(Oops):
            fresh.throw(Oops())
        assert not lock._waiters

    run(main())


def test_closed_while_it_waits(library, run):
    async def main():
        lock = library.Lock()
        await lock.acquire()
        coro = lock.acquire()
        coro.send(None)
        coro.close()
        assert not lock._waiters
        assert lock.locked()

    run(main())


def test_dropped_while_it_waits(library, loop):
    """A coroutine that the collector finds takes itself out of the line."""
    lock = library.Lock()
    at_once(lock.acquire())

    async def main():
        coro = lock.acquire()
        coro.send(None)
        assert len(lock._waiters) == 1
        del coro
        gc.collect()
        assert not lock._waiters

    loop.run_until_complete(main())


# ---- loops -------------------------------------------------------------------------------------------------------------


def test_used_from_another_loop(library, loop):
    lock = library.Lock()

    async def contend():
        await lock.acquire()
        task = asyncio.ensure_future(lock.acquire())
        await turns(2)
        task.cancel()
        await turns(2)

    loop.run_until_complete(contend())
    assert lock._loop is loop
    other = asyncio.new_event_loop()
    try:
        with pytest.raises(RuntimeError, match=r"<.*Lock object at .* \[locked\]> is bound to a different event loop"):
            other.run_until_complete(lock.acquire())
        lock.release()
        assert other.run_until_complete(lock.acquire()) is True  # there is nothing to wait for
    finally:
        other.close()


def test_no_loop_argument(library):
    with pytest.raises(TypeError, match=r"Lock\.__init__\(\) got an unexpected keyword argument 'loop'"):
        library.Lock(loop=None)
    with pytest.raises(TypeError):
        library.Lock(1)


def test_waiting_with_no_loop(library):
    ours_only(library, "asyncio: AttributeError: 'NoneType' object has no attribute 'create_future'")
    lock = library.Lock()
    at_once(lock.acquire())
    coro = lock.acquire()
    with pytest.raises(RuntimeError, match="no running event loop"):
        coro.send(None)


def test_get_loop(library, run, loop):
    lock = library.Lock()

    async def main():
        assert lock._loop is None
        assert lock._get_loop() is loop
        assert lock._loop is loop

    run(main())


def test_a_loop_that_makes_its_own_futures(library):
    class OwnFuture(asyncio.Future):
        pass

    class Loop(corolla.EventLoop):
        def create_future(self):
            return OwnFuture(loop=self)

    async def main():
        lock = library.Lock()
        await lock.acquire()
        first, second = await started(lock.acquire(), lock.acquire())
        assert all(isinstance(future, OwnFuture) for future in lock._waiters)
        first.cancel()
        lock.release()
        assert await asyncio.wait_for(second, 10) is True

    loop = Loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_a_loop_that_calls_back_at_once(library):
    """Coroutines that go on within release() find the line as it is."""

    class Loop(corolla.EventLoop):
        eager = False

        def call_soon(self, callback, *args, context=None):
            if self.eager:
                callback(*args)
            return super().call_soon(int)

    loop = Loop()
    order = []

    async def take(lock, name):
        await lock.acquire()
        order.append(name)

    async def main():
        lock = library.Lock()
        await lock.acquire()
        coros = [take(lock, name) for name in range(3)]
        for coro in coros:
            future = coro.send(None)
            future._asyncio_future_blocking = False

            def go_on(_, coro=coro):
                with pytest.raises(StopIteration):
                    coro.send(None)

            future.add_done_callback(go_on)
        loop.eager = True
        for _ in range(3):
            lock.release()
        loop.eager = False
        assert not lock._waiters

    try:
        coro = main()
        asyncio._set_running_loop(loop)
        with pytest.raises(StopIteration):
            coro.send(None)
    finally:
        asyncio._set_running_loop(None)
        loop.close()
    assert order == [0, 1, 2]


# ---- subclasses and attributes --------------------------------------------------------------------------------------------


def test_overridden_methods_are_used(library, run):
    calls = []

    class Mine(library.Lock):
        def __init__(self, name):
            super().__init__()
            self.name = name

        async def acquire(self):
            calls.append(("acquire", self.name))
            return await super().acquire()

        def release(self):
            calls.append(("release", self.name))
            super().release()

    async def main():
        mine = Mine("x")
        async with mine:
            assert mine.locked()
        assert not mine.locked()

    run(main())
    assert calls == [("acquire", "x"), ("release", "x")]


def test_methods_set_on_the_instance_are_used(library, run):
    calls = []
    lock = library.Lock()
    lock.release = lambda: calls.append("release")

    async def acquire():
        calls.append("acquire")

    lock.acquire = acquire

    async def main():
        async with lock:
            assert not lock.locked()

    run(main())
    assert calls == ["acquire", "release"]


def test_acquire_that_raises(library, run):
    class Mine(library.Lock):
        async def acquire(self):
            raise Oops

        release = None

    async def main():
        with pytest.raises(Oops):
            await Mine().__aenter__()
        with pytest.raises(TypeError):
            await Mine().__aexit__(None, None, None)

    run(main())


def test_acquire_that_is_no_coroutine(library, run):
    class Mine(library.Lock):
        def acquire(self):
            return 1

    async def main():
        with pytest.raises(TypeError, match="int can't be used in 'await' expression"):
            await Mine().__aenter__()

    run(main())


def test_attributes(library):
    lock = library.Lock()
    lock.anything = 1
    assert vars(lock)["anything"] == 1
    reference = weakref.ref(lock)
    at_once(lock.__aenter__())
    assert lock._locked is True
    lock._locked = False
    assert not lock.locked()
    lock.itself = lock
    del lock
    gc.collect()
    assert reference() is None


def test_collected_with_a_coroutine(library):
    lock = library.Lock()
    lock.coro = lock.acquire()
    reference = weakref.ref(lock)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del lock
        gc.collect()
    assert reference() is None


def test_repr(library, run):
    async def main():
        lock = library.Lock()
        name = re.escape(f"{library.Lock.__module__}.Lock")
        assert re.fullmatch(rf"<{name} object at 0x[0-9a-f]+ \[unlocked\]>", repr(lock))
        await lock.acquire()
        assert repr(lock).endswith(" [locked]>")
        (task,) = await started(lock.acquire())
        assert repr(lock).endswith(" [locked, waiters:1]>")
        lock.release()
        assert repr(lock).endswith(" [unlocked, waiters:1]>")
        await task

    run(main())


def test_await_of_the_lock_itself(library, run):
    async def main():
        with pytest.raises(TypeError, match="object Lock can't be used in 'await' expression"):
            await library.Lock()
        with pytest.raises(TypeError), library.Lock():
            pass

    run(main())


def test_exit_arguments(library):
    for args in ((), (None, None), (None,) * 4):
        with pytest.raises(TypeError):
            library.Lock().__aexit__(*args)


def test_initialised_again(library):
    lock = library.Lock()
    at_once(lock.acquire())
    lock.__init__()
    assert not lock.locked()


def test_half_initialised():
    lock = corolla.Lock.__new__(corolla.Lock)
    assert repr(lock).endswith(" [unlocked]>")
    assert at_once(lock.acquire()) is True
    lock.release()

    class Mine(corolla.Lock):
        def __init__(self):
            pass

    assert at_once(Mine().acquire()) is True


# ---- _waiters ------------------------------------------------------------------------------------------------------------


def test_waiters_are_a_deque_that_is_used(library, run):
    async def main():
        lock = library.Lock()
        await lock.acquire()
        tasks = await started(lock.acquire(), lock.acquire())
        shown = lock._waiters
        assert [future.done() for future in shown] == [False, False]
        assert shown is lock._waiters
        tasks += await started(lock.acquire())
        assert len(shown) == 3
        shown.rotate(1)  # the last one first
        lock.release()
        assert await tasks[2] is True
        lock.release()
        assert await tasks[0] is True
        tasks[1].cancel()
        await turns(2)
        assert not shown

    run(main())


def test_waiters_go_back_into_the_ring(run):
    async def main():
        lock = corolla.Lock()
        await lock.acquire()
        tasks = await started(lock.acquire(), lock.acquire())
        reference = weakref.ref(lock._waiters)
        assert reference() is not None
        tasks += await started(lock.acquire())
        assert reference() is None
        assert len(lock._waiters) == 3
        for task in tasks:
            lock.release()
            assert await task is True

    run(main())


def test_waiters_can_be_set(library, run):
    async def main():
        lock = library.Lock()
        await lock.acquire()
        (task,) = await started(lock.acquire())
        lock._waiters = type(lock._waiters)(lock._waiters)
        lock.release()
        assert await task is True

    run(main())


def test_a_waiter_that_calls_back(library):
    lock = library.Lock()
    other = library.Lock()
    at_once(lock.acquire())
    lock._waiters = asyncio.locks.collections.deque()
    waiter = Marked(lambda: setattr(lock, "_waiters", other._waiters), done=False)
    lock._waiters.append(waiter)
    lock.release()
    assert waiter.asked
    assert not lock.locked()


def test_a_waiter_that_raises(library):
    lock = library.Lock()
    at_once(lock.acquire())
    lock._waiters = asyncio.locks.collections.deque()

    def fail():
        raise Oops

    lock._waiters.append(Marked(fail))
    with pytest.raises(Oops):
        lock.release()
    assert not lock.locked()
    with pytest.raises(Oops):
        at_once(lock.acquire())
    lock._waiters.clear()
    assert at_once(lock.acquire()) is True


def test_unlike_waiters(library):
    lock = library.Lock()
    lock._waiters = 5
    with pytest.raises(TypeError):
        at_once(lock.acquire())
    if library is corolla:
        with pytest.raises(AttributeError):
            del lock._waiters
        with pytest.raises(AttributeError):
            del lock._locked
