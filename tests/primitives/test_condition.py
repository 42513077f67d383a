"""Condition: the same behaviour from asyncio's and from ours, on our loop and on asyncio's; and what is ours alone."""

import asyncio
import gc
import itertools
import math
import random
import re
import weakref

import corolla
import pytest
from primitives.sync import Marked, Oops, at_once, ended, ours_only, since, started, turns

EVERYWHERE = True


async def wait_in(condition, log=None, name=None):
    async with condition:
        assert await condition.wait() is True
        assert condition.locked()
        if log is not None:
            log.append(name)
        return name


# ---- waiting and notifying ---------------------------------------------------------------------------------------------


def test_wait_and_notify(library, run):
    async def main():
        condition, log = library.Condition(), []
        tasks = await started(*(wait_in(condition, log, name) for name in range(6)))
        assert len(condition._waiters) == 6
        assert not condition.locked()
        async with condition:
            assert condition.notify() is None
            await turns(3)
            assert log == []  # it takes the lock, too
        await turns(3)
        assert log == [0]
        async with condition:
            condition.notify(2)
        await turns(5)
        assert log == [0, 1, 2]
        async with condition:
            condition.notify(0)
            assert condition.notify_all() is None
        await ended(tasks)
        assert log == [*range(6)]
        assert not condition._waiters
        assert not condition.locked()

    run(main())


@pytest.mark.parametrize("n", [5, 2**70, math.inf, True, 1.0, 0.5, 0, -1, -(2**70)])
def test_how_many(library, run, n):
    async def main():
        condition, log = library.Condition(), []
        tasks = await started(*(wait_in(condition, log, name) for name in range(3)))
        async with condition:
            condition.notify(n)
        await turns(8)
        assert log == [name for name in range(3) if name < n]
        async with condition:
            condition.notify_all()
        await ended(tasks)

    run(main())


@pytest.mark.parametrize("n", ["1", None, [], 1j])
def test_how_many_of_what(library, run, n):
    async def main():
        condition = library.Condition()
        (task,) = await started(wait_in(condition))
        async with condition:
            with pytest.raises(TypeError):
                condition.notify(n)
            condition.notify(n=1)
        await task

    run(main())


def test_wait_for(library, run):
    async def main():
        condition, value = library.Condition(), ""

        async def wait():
            async with condition:
                return await condition.wait_for(lambda: value)

        (task,) = await started(wait())
        async with condition:
            condition.notify()
        await turns(3)
        assert not task.done()
        async with condition:
            value = "ready"
            condition.notify()
        assert await task == "ready"
        assert at_once(condition.wait_for(lambda: 5)) == 5  # no lock, nothing to wait for
        with pytest.raises(RuntimeError, match=r"^cannot wait on un-acquired lock$"):
            at_once(condition.wait_for(lambda: 0))

    run(main())


def test_wait_for_a_predicate_that_raises(library, run):
    async def main():
        condition = library.Condition()
        with pytest.raises(ZeroDivisionError):
            await condition.wait_for(lambda: 1 / 0)
        with pytest.raises(TypeError):
            await condition.wait_for(None)
        with pytest.raises(TypeError):
            await condition.wait_for()
        with pytest.raises(Oops):
            await condition.wait_for(predicate=Hostile)

    run(main())


class Hostile:
    def __bool__(self):
        raise Oops


def test_lock_that_is_not_held(library, run):
    async def main():
        condition = library.Condition()
        with pytest.raises(RuntimeError, match=r"^cannot wait on un-acquired lock$"):
            await condition.wait()
        with pytest.raises(RuntimeError, match=r"^cannot notify on un-acquired lock$"):
            condition.notify()
        with pytest.raises(RuntimeError, match=r"^cannot notify on un-acquired lock$"):
            condition.notify_all()
        with pytest.raises(RuntimeError, match=r"^Lock is not acquired\.$"):
            condition.release()

    run(main())


def test_at_once(library):
    condition = library.Condition()
    assert at_once(condition.acquire()) is True
    assert condition.locked()
    condition.release()
    assert at_once(condition.__aenter__()) is None
    assert condition.locked()
    assert at_once(condition.__aexit__(None, None, None)) is None
    assert not condition.locked()


# ---- cancelling --------------------------------------------------------------------------------------------------------


def test_cancelled_wait_takes_the_lock_back(library, run):
    async def main():
        condition, held = library.Condition(), []

        async def wait():
            async with condition:
                try:
                    await condition.wait()
                finally:
                    held.append(condition.locked())

        (task,) = await started(wait())
        await condition.acquire()
        task.cancel()
        await turns(3)
        assert not task.done()  # the lock is ours
        condition.release()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert held == [True]
        assert not condition.locked()

    run(main())


def test_cancelled_again_while_it_takes_the_lock_back(library, run):
    """Every cancellation is put off until the lock is back, and the last one is raised: python/cpython PR 112202's tests."""
    since(library, (3, 13))

    async def main():
        condition, held = library.Condition(), []

        async def wait():
            async with condition:
                try:
                    await condition.wait()
                except asyncio.CancelledError as error:
                    held.append((condition.locked(), error.args))
                    raise

        (task,) = await started(wait())
        await condition.acquire()
        for message in ("one", "two", "three"):
            task.cancel(message)
            await turns(2)
        assert not task.done()
        condition.release()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert held == [(True, ("three",))]

    run(main())


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_notification_is_not_lost(library, run, when):
    """A notification taken by a waiter that is cancelled at the same moment goes to another: python/cpython issue 112202."""
    since(library, (3, 13))

    async def main():
        condition, log = library.Condition(), []
        tasks = await started(*(wait_in(condition, log, name) for name in range(3)))
        await condition.acquire()
        if when == "before":
            tasks[0].cancel()
        condition.notify(1)
        if when == "after":
            tasks[0].cancel()
        condition.release()
        await turns(10)
        assert tasks[0].cancelled()
        assert log == ([1] if when == "after" else [1, 2])  # before: woken for no reason, as is allowed
        async with condition:
            condition.notify_all()
        await ended(tasks)

    run(main())


def test_a_notification_is_not_lost_while_the_lock_is_awaited(library, run):
    """Notified, then cancelled while it waits for the lock: another waiter is notified: python/cpython issue 112202."""
    since(library, (3, 13))

    async def main():
        condition, log = library.Condition(), []
        tasks = await started(*(wait_in(condition, log, name) for name in range(3)))
        await condition.acquire()
        condition.notify(1)
        await turns(3)
        tasks[0].cancel()
        await turns(3)
        condition.release()
        await turns(10)
        assert tasks[0].cancelled()
        assert log == [1]
        async with condition:
            condition.notify_all()
        await ended(tasks)

    run(main())


def test_wait_for_with_a_timeout_holds_the_lock(library, run):
    """`async with cond: wait_for(cond.wait())` never releases a lock that it does not hold: python/cpython PR 7216
    (bpo-32751)."""

    async def main():
        condition = library.Condition()
        async with condition:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(condition.wait(), 0.001)
            assert condition.locked()
        assert not condition.locked()

    run(main())


@pytest.mark.parametrize("steps", list(itertools.permutations(["notify", "cancel", "release"])), ids="-".join)
@pytest.mark.parametrize("victim", [0, 1])
def test_any_order_within_one_step(library, run, steps, victim):
    """Cancel of the woken waiter, a notification and a release in any order: one of the living goes on: python/cpython issue
    112202."""
    since(library, (3, 13))

    async def main():
        condition, log = library.Condition(), []
        tasks = await started(wait_in(condition, log, 0), wait_in(condition, log, 1))
        await condition.acquire()
        for step in steps:
            if step == "notify":
                if not condition.locked():
                    await condition.acquire()
                condition.notify()
            elif step == "cancel":
                tasks[victim].cancel()
            elif condition.locked():
                condition.release()
        if condition.locked():
            condition.release()
        results = await ended(tasks)
        assert log == [1 - victim]
        assert isinstance(results[victim], asyncio.CancelledError)
        assert not condition.locked()
        assert not condition._waiters

    run(main())


@pytest.mark.parametrize("seed", range(5))
def test_storm(library, run, seed):
    async def main():
        rng = random.Random(seed)
        condition = library.Condition()
        inside = 0

        async def worker():
            nonlocal inside
            for _ in range(5):
                async with condition:
                    try:
                        await condition.wait()
                    finally:
                        assert inside == 0
                        inside += 1
                        inside -= 1

        tasks = [asyncio.ensure_future(worker()) for _ in range(30)]
        for _ in range(150):
            await turns(1)
            rng.choice(tasks).cancel()
            async with condition:
                condition.notify(rng.randrange(4))
        while not all(task.done() for task in tasks):
            async with condition:
                condition.notify_all()
            await turns(1)
        results = await ended(tasks)
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
        assert not condition.locked()

    run(main())


# ---- the lock ------------------------------------------------------------------------------------------------------------


class Foreign:
    """Another library's lock."""

    def __init__(self):
        self.held = False
        self.calls = []

    def locked(self):
        return self.held

    async def acquire(self):
        self.calls.append("acquire")
        await asyncio.sleep(0)
        self.held = True
        return True

    def release(self):
        self.calls.append("release")
        self.held = False


def test_a_foreign_lock(library, run):
    async def main():
        lock = Foreign()
        condition = library.Condition(lock)
        assert condition._lock is lock
        assert condition.locked == lock.locked
        assert condition.acquire == lock.acquire
        assert condition.release == lock.release
        (task,) = await started(wait_in(condition, name="x"))
        await turns(2)
        async with condition:
            assert lock.held
            condition.notify()
        assert await task == "x"
        assert lock.calls == ["acquire", "release", "acquire", "release", "acquire", "release"]
        assert not lock.held

    run(main())


@pytest.mark.parametrize("missing", ["locked", "acquire", "release"])
def test_no_lock_at_all(library, missing):
    kind = type("Lock", (), {name: print for name in ("locked", "acquire", "release") if name != missing})
    with pytest.raises(AttributeError, match=missing):
        library.Condition(kind())
    with pytest.raises(AttributeError):
        library.Condition(lock=object())


def test_a_shared_lock(library, run):
    async def main():
        lock = library.Lock()
        one, other = library.Condition(lock), library.Condition(lock=lock)
        assert one._lock is lock
        assert one.locked == lock.locked
        async with one:
            assert other.locked()
            other.notify()
        assert not lock.locked()

    run(main())


def test_a_lock_of_the_other_library(run):
    """Ours around asyncio's lock, and the other way round."""

    async def main(condition):
        (task,) = await started(wait_in(condition, name="x"))
        async with condition:
            condition.notify_all()
        assert await task == "x"

    run(main(corolla.Condition(asyncio.Lock())))
    run(main(asyncio.Condition(corolla.Lock())))


def test_a_subclass_of_lock(library, run):
    calls = []

    class Mine(library.Lock):
        async def acquire(self):
            calls.append("acquire")
            return await super().acquire()

        def release(self):
            calls.append("release")
            super().release()

    async def main():
        condition = library.Condition(Mine())
        (task,) = await started(wait_in(condition))
        async with condition:
            condition.notify()
        await task

    run(main())
    assert calls == ["acquire", "release", "acquire", "release", "acquire", "release"]


def test_a_condition_as_lock(library, run):
    async def main():
        inner = library.Condition()
        condition = library.Condition(inner)
        async with condition:
            assert inner.locked()
        assert not inner.locked()

    run(main())


def test_methods_that_are_set(library, run):
    calls = []
    condition = library.Condition()
    release = condition.release

    def mine():
        calls.append("release")
        release()

    condition.release = mine

    async def main():
        async with condition:
            pass
        assert not condition.locked()
        condition.locked = lambda: True
        condition.notify()
        condition.locked = Hostile
        with pytest.raises(Oops):
            condition.notify()

    run(main())
    assert calls == ["release"]


@pytest.mark.parametrize("when", ["release", "acquire"])
def test_a_lock_that_fails(library, run, when):
    """release() that raises: nobody waits. acquire() that raises while the lock is taken back: that is raised."""
    since(library, (3, 13))

    class Failing(Foreign):
        broken = False

        async def acquire(self):
            if self.broken and when == "acquire":
                raise Oops
            return await super().acquire()

        def release(self):
            if self.broken and when == "release":
                raise Oops
            super().release()

    async def main():
        lock = Failing()
        condition = library.Condition(lock)
        (witness,) = await started(wait_in(condition))
        await turns(2)
        await condition.acquire()
        lock.broken = True
        if when == "release":
            with pytest.raises(Oops):
                await condition.wait()
            assert len(condition._waiters) == 1
            lock.broken = False
            condition.notify()
            condition.release()
            await witness
            return
        (task,) = await started(condition.wait())
        lock.held = True
        condition.notify(2)
        results = await ended([task, witness])
        assert all(isinstance(result, Oops) for result in results)

    run(main())


# ---- coroutines, used badly ----------------------------------------------------------------------------------------------


def test_coroutines(library, run):
    condition = library.Condition()
    coros = [condition.wait(), condition.wait_for(print), condition.__aenter__(), condition.__aexit__(None, None, None)]
    assert all(map(asyncio.iscoroutine, coros))
    with pytest.warns(RuntimeWarning, match=r"coroutine '.*' was never awaited"):
        del coros
        gc.collect()
    for args in ((), (None, None), (None,) * 4):
        with pytest.raises(TypeError):
            condition.__aexit__(*args)


def test_thrown_into(library, run):
    async def main():
        condition = library.Condition()
        await condition.acquire()
        coro = condition.wait()
        coro.send(None)
        assert len(condition._waiters) == 1
        with pytest.raises(Oops):
            coro.throw(Oops())
        assert not condition._waiters
        assert condition.locked()
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            coro.send(None)

    run(main())


def test_closed_while_it_waits(library, run):
    async def main():
        condition = library.Condition()
        await condition.acquire()
        coro = condition.wait()
        coro.send(None)
        coro.close()
        assert not condition._waiters
        assert condition.locked()  # taken back
        coro = condition.wait()
        coro.send(None)
        await condition.acquire()
        with pytest.raises(RuntimeError, match="coroutine ignored GeneratorExit"):
            coro.close()
        condition.release()
        coro.close()

    run(main())


def test_context_of_what_is_raised(library, run):
    since(library, (3, 13))

    async def main():
        condition = library.Condition()
        await condition.acquire()
        coro = condition.wait()
        coro.send(None)
        at_once(condition.acquire())
        first, second = Oops(), asyncio.CancelledError()
        coro.throw(first)  # now it waits for the lock
        coro.throw(second)
        condition.release()
        with pytest.raises(asyncio.CancelledError) as caught:
            coro.send(None)
        assert caught.value is second
        assert second.__context__ is first

    run(main())


# ---- loops -------------------------------------------------------------------------------------------------------------


def test_used_from_another_loop(library, loop):
    condition = library.Condition()

    async def use():
        (task,) = await started(wait_in(condition))
        async with condition:
            condition.notify()
        await task

    loop.run_until_complete(use())
    assert condition._loop is loop
    other = asyncio.new_event_loop()

    async def use_again():
        async with condition:
            with pytest.raises(RuntimeError, match=r"<.*Condition object at .*> is bound to a different event loop"):
                await condition.wait()
            assert condition.locked()

    try:
        other.run_until_complete(use_again())
    finally:
        other.close()


def test_no_loop_argument(library):
    with pytest.raises(TypeError, match=r"Condition\.__init__\(\) got an unexpected keyword argument 'loop'"):
        library.Condition(loop=None)


def test_waiting_with_no_loop(library):
    ours_only(library, "asyncio: AttributeError: 'NoneType' object has no attribute 'create_future'")
    condition = library.Condition()
    at_once(condition.acquire())
    with pytest.raises(RuntimeError, match="no running event loop"):
        at_once(condition.wait())
    assert condition.locked()


# ---- subclasses and attributes --------------------------------------------------------------------------------------------


def test_overridden_methods_are_used(library, run):
    calls = []

    class Mine(library.Condition):
        def __init__(self, name):
            super().__init__()
            self.name = name

        async def wait(self):
            calls.append("wait")
            return await super().wait()

        def notify(self, n=1):
            calls.append(("notify", n))
            super().notify(n)

    async def main():
        mine = Mine("x")
        ready = False

        async def wait():
            async with mine:
                return await mine.wait_for(lambda: ready)

        (task,) = await started(wait())
        async with mine:
            ready = True
            mine.notify_all()
        assert await task is True

    run(main())
    assert calls == ["wait", ("notify", 1)]


def test_attributes(library):
    condition = library.Condition()
    condition.anything = condition
    condition.acquire = condition.acquire
    reference = weakref.ref(condition)
    del condition
    gc.collect()
    assert reference() is None


def test_collected_with_its_lock(library):
    class Mine(library.Lock):
        pass

    lock = Mine()
    lock.condition = library.Condition(lock)
    reference = weakref.ref(lock)
    del lock
    gc.collect()
    assert reference() is None


def test_conditions_of_conditions(library):
    condition = library.Condition()
    for _ in range(100_000):
        condition = library.Condition(condition)
    del condition


def test_repr(library, run):
    async def main():
        condition = library.Condition()
        name = re.escape(f"{library.Condition.__module__}.Condition")
        assert re.fullmatch(rf"<{name} object at 0x[0-9a-f]+ \[unlocked\]>", repr(condition))
        (task,) = await started(wait_in(condition))
        assert repr(condition).endswith(" [unlocked, waiters:1]>")
        async with condition:
            assert repr(condition).endswith(" [locked, waiters:1]>")
            condition.notify()
        await task

    run(main())


def test_half_initialised():
    class Mine(corolla.Condition):
        def __init__(self):
            pass

    for condition in (corolla.Condition.__new__(corolla.Condition), Mine()):
        for use in (
            lambda c: c.locked(),
            lambda c: c.acquire(),
            lambda c: c._lock,
            lambda c: c.notify(),
            lambda c: c.notify_all(),
            lambda c: at_once(c.wait()),
            lambda c: at_once(c.wait_for(lambda: False)),
            lambda c: at_once(c.__aenter__()),
            lambda c: at_once(c.__aexit__(None, None, None)),
            repr,
        ):
            with pytest.raises(RuntimeError, match=r"^Condition object is not initialized\.$"):
                use(condition)


def test_initialised_again(library, run):
    async def main():
        condition = library.Condition()
        await condition.acquire()
        condition.__init__()
        assert not condition.locked()
        with pytest.raises(AttributeError):
            condition.__init__(5)

    run(main())


def test_waiters_that_call_back(library, run):
    ours_only(library, "asyncio: RuntimeError: deque mutated during iteration")

    async def main():
        condition = library.Condition()
        await condition.acquire()
        waiter = Marked(lambda: condition._waiters.clear(), done=False)
        condition._waiters.append(waiter)
        condition.notify()
        assert waiter.answer
        condition._waiters.append(Marked(lambda: condition.__init__(), done=False))
        condition.notify()
        assert not condition.locked()

    run(main())
