"""Semaphore, BoundedSemaphore: the same behaviour from asyncio's and from ours, on our loop and on asyncio's; and what is
ours alone."""

import asyncio
import decimal
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
KINDS = ["Semaphore", "BoundedSemaphore"]


@pytest.fixture(params=KINDS)
def kind(request, library):
    return getattr(library, request.param)


# ---- acquiring and releasing -------------------------------------------------------------------------------------------


def test_so_many_are_taken_at_once(kind):
    semaphore = kind(3)
    assert semaphore._value == 3
    for left in (2, 1, 0):
        assert not semaphore.locked()
        assert at_once(semaphore.acquire()) is True
        assert semaphore._value == left
    assert semaphore.locked()
    assert semaphore.release() is None
    assert not semaphore.locked()
    assert at_once(semaphore.__aenter__()) is None
    assert semaphore.locked()
    assert at_once(semaphore.__aexit__(None, None, None)) is None
    assert semaphore._value == 1


def test_one_by_default(kind):
    assert kind()._value == 1
    assert kind(value=2)._value == 2


@pytest.mark.parametrize("value", [-1, -(2**70), -0.5, -math.inf, decimal.Decimal("-1")])
def test_negative(kind, value):
    with pytest.raises(ValueError, match=r"^Semaphore initial value must be >= 0$"):
        kind(value)


@pytest.mark.parametrize("value", ["1", None, object(), 1j, b""])
def test_not_a_number(kind, value):
    with pytest.raises(TypeError, match="'<' not supported between instances of"):
        kind(value)


def test_value_from_zero(kind, run):
    async def main():
        semaphore = kind(0)
        assert semaphore.locked()
        (task,) = await started(semaphore.acquire())
        semaphore.release() if type(semaphore).__name__ == "Semaphore" else semaphore._waiters[0].set_result(True)
        assert await task is True

    run(main())


@pytest.mark.parametrize("value", [math.inf, 2.0, 2**70, True, decimal.Decimal(2), 2**63 - 1, 2**63])
def test_any_number(library, kind, run, value):
    """asyncio takes whatever can be compared and counted down: math.inf stands for no limit."""
    if value == math.inf and kind is library.BoundedSemaphore:
        pytest.skip("with nothing taken off, it is released too many times at once")

    async def main():
        semaphore = kind(value)
        assert semaphore._value == value
        assert type(semaphore._value) is type(value)
        assert repr(semaphore).endswith(f" [unlocked, value:{value}]>")
        async with semaphore:
            assert semaphore._value == value - 1
        assert semaphore._value == value
        if kind is library.BoundedSemaphore:
            assert semaphore._bound_value == value
            with pytest.raises(ValueError, match=r"^BoundedSemaphore released too many times$"):
                semaphore.release()
        else:
            semaphore.release()
            assert semaphore._value == value + 1

    run(main())


def test_bounded(library):
    semaphore = library.BoundedSemaphore(2)
    with pytest.raises(ValueError, match=r"^BoundedSemaphore released too many times$"):
        semaphore.release()
    at_once(semaphore.acquire())
    semaphore.release()
    with pytest.raises(ValueError, match=r"^BoundedSemaphore released too many times$"):
        at_once(semaphore.__aexit__(None, None, None))
    assert semaphore._value == 2
    semaphore._bound_value = 3
    semaphore.release()
    assert semaphore._value == 3
    assert isinstance(semaphore, library.Semaphore)
    library.Semaphore.release(semaphore)
    assert semaphore._value == 4


def test_value_that_is_set(kind, run):
    """Programs change the limit while it is used."""

    async def main():
        semaphore = kind(1)
        await semaphore.acquire()
        semaphore._value += 2
        await semaphore.acquire()
        await semaphore.acquire()
        assert semaphore.locked()

    run(main())


def test_first_come_first_served(kind, run):
    """Acquisition is FIFO: python/cpython issue 90155 (bpo-45997)."""
    order = []

    async def worker(semaphore, name):
        for _ in range(3):
            async with semaphore:
                order.append(name)
                await asyncio.sleep(0)

    async def main():
        semaphore = kind(2)
        await ended(await started(*(worker(semaphore, name) for name in range(6))))
        assert semaphore._value == 2

    run(main())
    assert order == [*range(6)] * 3


def test_a_newcomer_does_not_overtake(library, kind, run):
    """Acquisition is FIFO: python/cpython issue 90155 (bpo-45997), seen with release and acquire in one step."""

    async def main():
        semaphore = kind(1)
        await semaphore.acquire()
        (waiter,) = await started(semaphore.acquire())
        semaphore.release()
        assert semaphore.locked()
        newcomer = asyncio.ensure_future(semaphore.acquire())
        await turns(3)
        assert waiter.done()
        assert not newcomer.done()
        semaphore.release()
        assert await newcomer is True

    run(main())


def test_several_releases_wake_several(kind, run):
    async def main():
        semaphore = kind(3)
        for _ in range(3):
            await semaphore.acquire()
        tasks = await started(*(semaphore.acquire() for _ in range(5)))
        for _ in range(3):
            semaphore.release()
        await turns(3)
        assert [task.done() for task in tasks] == [True] * 3 + [False] * 2
        semaphore.release()
        semaphore.release()
        await ended(tasks)

    run(main())


# ---- cancelling --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", list(itertools.permutations(["release", "cancel", "acquire"])), ids="-".join)
@pytest.mark.parametrize("victim", [0, 1])
def test_any_order_within_one_step(library, kind, run, steps, victim):
    """Every release is consumed by exactly one live waiter, also when the chosen one is cancelled first: python/cpython issue
    90155 (bpo-45997, PR 31910); python/asyncio issue 270."""

    async def main():
        semaphore = kind(1)
        await semaphore.acquire()
        taken = 0

        async def take():
            nonlocal taken
            async with semaphore:
                taken += 1

        tasks = await started(take(), take())
        for step in steps:
            if step == "release":
                semaphore.release()
            elif step == "cancel":
                tasks[victim].cancel()
            else:
                tasks.append(asyncio.ensure_future(take()))
        assert [type(result) for result in await ended(tasks)].count(asyncio.CancelledError) == 1
        assert taken == 2
        assert semaphore._value == 1

    run(main())


def test_woken_and_cancelled_gives_it_back(library, kind, run):
    """What a waiter was given before it was cancelled goes to the next: python/cpython issue 90155 (bpo-45997)."""

    async def main():
        semaphore = kind(1)
        await semaphore.acquire()
        first, second = await started(semaphore.acquire(), semaphore.acquire())
        semaphore.release()
        first.cancel()
        await turns(1)
        assert await asyncio.wait_for(second, 10) is True
        assert first.cancelled()
        assert semaphore._value == 0

    run(main())


def test_all_woken_are_cancelled(library, kind, run):
    """Several waiters woken and cancelled in one step lose nothing: python/cpython issue 111693."""
    since(library, (3, 12))

    async def main():
        semaphore = kind(3)
        for _ in range(3):
            await semaphore.acquire()
        tasks = await started(*(semaphore.acquire() for _ in range(6)))
        for _ in range(3):
            semaphore.release()
        for task in tasks[:3]:
            task.cancel()
        results = await ended(tasks)
        assert [isinstance(result, asyncio.CancelledError) for result in results] == [True] * 3 + [False] * 3
        assert semaphore._value == 0
        assert not semaphore._waiters

    run(main())


def test_count_left_goes_to_those_behind_a_cancelled_one(library, kind, run):
    """A cancelled first waiter does not keep those behind it asleep: python/cpython issue 111693."""

    async def main():
        semaphore = kind(2)
        await semaphore.acquire()
        await semaphore.acquire()
        tasks = await started(semaphore.acquire(), semaphore.acquire(), semaphore.acquire())
        tasks[0].cancel()
        semaphore.release()
        semaphore.release()
        results = await ended(tasks)
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1:] == [True, True]

    run(main())


def test_free_semaphore_with_cancelled_waiters_only(library, kind, run):
    async def main():
        semaphore = kind(1)
        await semaphore.acquire()
        (task,) = await started(semaphore.acquire())
        task.cancel()
        semaphore.release()
        assert not semaphore.locked()
        assert at_once(semaphore.acquire()) is True
        await turns(2)
        assert task.cancelled()
        assert semaphore._value == 0

    run(main())


@pytest.mark.parametrize("seed", range(8))
def test_storm(library, kind, run, seed):
    """Never more owners than there are places, never a sleeper by a free place: any mix of waiting and cancelling."""
    since(library, (3, 13))

    async def main():
        rng = random.Random(seed)
        places = 1 + seed % 4
        semaphore = kind(places)
        inside = 0

        async def worker():
            nonlocal inside
            for _ in range(5):
                async with semaphore:
                    inside += 1
                    assert inside <= places
                    try:
                        await turns(rng.randrange(3))
                    finally:
                        inside -= 1

        tasks = [asyncio.ensure_future(worker()) for _ in range(40)]
        for _ in range(150):
            await turns(1)
            rng.choice(tasks).cancel()
        results = await ended(tasks)
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
        assert semaphore._value == places
        assert not semaphore._waiters

    run(main())


# ---- coroutines, used badly ----------------------------------------------------------------------------------------------


def test_coroutines(kind, run):
    semaphore = kind()
    coros = [semaphore.acquire(), semaphore.__aenter__(), semaphore.__aexit__(None, None, None)]
    assert all(map(asyncio.iscoroutine, coros))
    with pytest.warns(RuntimeWarning, match=r"coroutine '.*' was never awaited"):
        del coros
        gc.collect()

    async def main():
        await semaphore.acquire()
        coro = semaphore.acquire()
        coro.send(None)
        with pytest.raises(Oops):
            coro.throw(Oops())
        assert not semaphore._waiters
        coro = semaphore.acquire()
        coro.send(None)
        coro.close()
        assert not semaphore._waiters
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            coro.send(None)
        assert semaphore._value == 0

    run(main())


# ---- loops -------------------------------------------------------------------------------------------------------------


def test_used_from_another_loop(library, loop, kind):
    semaphore = kind(1)

    async def contend():
        await semaphore.acquire()
        (task,) = await started(semaphore.acquire())
        task.cancel()
        await turns(2)

    loop.run_until_complete(contend())
    other = asyncio.new_event_loop()
    try:
        with pytest.raises(
            RuntimeError, match=r"<.*Semaphore object at .* \[locked\]> is bound to a different event loop"
        ):
            other.run_until_complete(semaphore.acquire())
    finally:
        other.close()


def test_no_loop_argument(kind):
    with pytest.raises(TypeError, match=rf"{kind.__name__}\.__init__\(\) got an unexpected keyword argument 'loop'"):
        kind(loop=None)


def test_waiting_with_no_loop(library, kind):
    ours_only(library, "asyncio: AttributeError: 'NoneType' object has no attribute 'create_future'")
    coro = kind(0).acquire()
    with pytest.raises(RuntimeError, match="no running event loop"):
        coro.send(None)


# ---- subclasses and attributes --------------------------------------------------------------------------------------------


def test_overridden_methods_are_used(kind, run):
    calls = []

    class Mine(kind):
        async def acquire(self):
            calls.append("acquire")
            return await super().acquire()

        def release(self):
            calls.append("release")
            super().release()

        def locked(self):
            calls.append("locked")
            return super().locked()

    async def main():
        mine = Mine(1)
        async with mine:
            assert mine._value == 0

    run(main())
    assert calls == ["acquire", "locked", "release"]


def test_locked_that_is_overridden(kind):
    class Mine(kind):
        def locked(self):
            raise Oops

    mine = Mine()
    with pytest.raises(Oops):
        at_once(mine.acquire())
    with pytest.raises(Oops):
        repr(mine)


def test_methods_set_on_the_instance_are_used(kind, run):
    calls = []
    semaphore = kind()
    semaphore.release = lambda: calls.append("release")

    async def main():
        async with semaphore:
            pass

    run(main())
    assert calls == ["release"]
    assert semaphore._value == 0


def test_subclass_of_bounded(library, run):
    class Mine(library.BoundedSemaphore):
        pass

    async def main():
        mine = Mine(1)
        async with mine:
            pass
        with pytest.raises(ValueError, match="released too many times"):
            await mine.__aexit__(None, None, None)

    run(main())


def test_attributes(kind):
    semaphore = kind()
    semaphore.itself = semaphore
    semaphore._value = Number(semaphore)
    reference = weakref.ref(semaphore)
    del semaphore
    gc.collect()
    assert reference() is None


class Number:
    """A count that calls back in, or raises."""

    def __init__(self, semaphore, value=1):
        self.semaphore = semaphore
        self.value = value

    def _act(self):
        self.semaphore._value = Number(self.semaphore, self.value)  # the semaphore has it no more
        gc.collect()

    def __lt__(self, other):
        self._act()
        return self.value < other

    def __gt__(self, other):
        self._act()
        return self.value > other

    def __ge__(self, other):
        self._act()
        return self.value >= other

    def __eq__(self, other):
        self._act()
        return self.value == other

    def __add__(self, other):
        self._act()
        return Number(self.semaphore, self.value + other)

    def __sub__(self, other):
        self._act()
        return Number(self.semaphore, self.value - other)

    __hash__ = None


def test_a_count_that_calls_back(kind, run):
    async def main():
        semaphore = kind(5)
        semaphore._value = Number(semaphore, 2)
        await semaphore.acquire()
        assert semaphore._value.value == 1
        semaphore._value = Number(semaphore, 1)
        await semaphore.acquire()
        semaphore._value = Number(semaphore, 0)
        (task,) = await started(semaphore.acquire())
        assert not task.done()
        semaphore.release()
        assert await task is True

    run(main())


def test_a_count_that_is_none(kind):
    semaphore = kind()
    semaphore._value = "no number"
    with pytest.raises(TypeError):
        at_once(semaphore.acquire())
    with pytest.raises(TypeError):
        semaphore.release()


def test_repr(kind, run):
    async def main():
        semaphore = kind(2)
        name = re.escape(f"{kind.__module__}.{kind.__qualname__}")
        assert re.fullmatch(rf"<{name} object at 0x[0-9a-f]+ \[unlocked, value:2\]>", repr(semaphore))
        await semaphore.acquire()
        await semaphore.acquire()
        assert repr(semaphore).endswith(" [locked]>")
        (task,) = await started(semaphore.acquire())
        assert repr(semaphore).endswith(" [locked, waiters:1]>")
        semaphore.release()
        await task

    run(main())


@pytest.mark.parametrize("name", KINDS)
def test_half_initialised(name):
    kind = getattr(corolla, name)
    semaphore = kind.__new__(kind)
    assert repr(semaphore).endswith(" [unlocked, value:1]>")
    assert at_once(semaphore.acquire()) is True
    semaphore.release()


def test_initialised_again(kind):
    semaphore = kind(2)
    semaphore.__init__(5)
    assert semaphore._value == 5
    with pytest.raises(ValueError, match="must be >= 0"):
        semaphore.__init__(-1)


def test_waiters_that_call_back(library, run):
    semaphore = library.Semaphore(0)
    semaphore._waiters = asyncio.locks.collections.deque()
    woken = Marked(semaphore._waiters.clear, done=False)
    semaphore._waiters.append(woken)
    semaphore.release()
    assert woken.answer

    def fail():
        raise Oops

    semaphore._waiters.append(Marked(fail))
    with pytest.raises(Oops):
        semaphore.release()
