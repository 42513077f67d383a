"""Barrier: the same behaviour from asyncio's and from ours, on our loop and on asyncio's; and what is ours alone."""

import asyncio
import gc
import random
import re
import weakref

import corolla
import pytest
from primitives.sync import Oops, at_once, ended, started, turns

EVERYWHERE = True


def state(barrier):
    return barrier._state.value


# ---- filling and draining ----------------------------------------------------------------------------------------------


def test_they_go_on_together(library, run):
    async def main():
        barrier = library.Barrier(3)
        tasks = await started(barrier.wait(), barrier.wait())
        await turns(3)
        assert not any(task.done() for task in tasks)
        assert (barrier.n_waiting, barrier.parties, barrier.broken, barrier._count) == (2, 3, False, 2)
        assert await barrier.wait() == 2
        assert state(barrier) == "draining"
        assert barrier.n_waiting == 0
        assert await ended(tasks) == [0, 1]
        assert state(barrier) == "filling"
        assert barrier._count == 0

    run(main())


def test_one_party_does_not_wait(library):
    barrier = library.Barrier(1)
    assert at_once(barrier.wait()) == 0
    assert at_once(barrier.__aenter__()) == 0
    assert at_once(barrier.__aexit__()) is None
    assert at_once(barrier.__aexit__(None, None, None)) is None


def test_rounds(library, run):
    """Who comes while a round drains waits for the next one."""

    async def main():
        barrier, log = library.Barrier(3), []

        async def party(name):
            for turn in range(4):
                await barrier.wait()
                log.append(turn)
                await turns(name)

        await ended(await started(*(party(name) for name in range(3))))
        assert log == sorted(log)
        assert len(log) == 12

    run(main())


def test_more_than_the_parties(library, run):
    async def main():
        barrier = library.Barrier(2)
        tasks = await started(*(barrier.wait() for _ in range(5)))
        await turns(10)
        assert sum(task.done() for task in tasks) == 4
        assert barrier.n_waiting == 1
        assert sorted([await barrier.wait(), *await ended(tasks)]) == [0, 0, 0, 1, 1, 1]

    run(main())


def test_async_with(library, run):
    async def main():
        barrier = library.Barrier(2)

        async def party():
            async with barrier as position:
                return position

        assert await ended(await started(party(), party())) == [0, 1]

    run(main())


@pytest.mark.parametrize("parties", [0, -1, -(2**70), 0.5])
def test_too_few_parties(library, parties):
    with pytest.raises(ValueError, match=r"^parties must be > 0$"):
        library.Barrier(parties)


@pytest.mark.parametrize("parties", ["1", None, object()])
def test_parties_that_are_no_number(library, parties):
    with pytest.raises(TypeError, match="'<' not supported between instances of"):
        library.Barrier(parties)


@pytest.mark.parametrize(("parties", "trips"), [(2, True), (2.0, True), (1.5, False), (2**70, False), (1e300, False)])
def test_odd_parties(library, run, parties, trips):
    async def main():
        barrier = library.Barrier(parties)
        assert barrier.parties == parties
        tasks = await started(barrier.wait(), barrier.wait())
        await turns(4)
        assert [task.done() for task in tasks] == [trips, trips]
        assert repr(barrier).endswith(f" [filling, waiters:{0 if trips else 2}/{parties}]>")
        await barrier.abort()
        await ended(tasks)

    run(main())


# ---- reset and abort ---------------------------------------------------------------------------------------------------


def test_reset(library, run):
    async def main():
        barrier = library.Barrier(3)
        tasks = await started(barrier.wait(), barrier.wait())
        await barrier.reset()
        assert state(barrier) == "resetting"
        for error in await ended(tasks):
            assert type(error) is asyncio.BrokenBarrierError
            assert str(error) == "Abort or reset of barrier"
        assert state(barrier) == "filling"
        assert not barrier.broken
        await barrier.reset()
        assert state(barrier) == "filling"
        assert sorted(await ended(await started(*(barrier.wait() for _ in range(3))))) == [0, 1, 2]

    run(main())


def test_who_comes_during_a_reset_waits(library, run):
    async def main():
        barrier = library.Barrier(2)
        (early,) = await started(barrier.wait())
        await barrier.reset()
        late = await started(barrier.wait(), barrier.wait())
        assert [type(error) for error in await ended([early])] == [asyncio.BrokenBarrierError]
        assert sorted(await ended(late)) == [0, 1]

    run(main())


def test_abort(library, run):
    async def main():
        barrier = library.Barrier(3)
        tasks = await started(barrier.wait(), barrier.wait())
        await barrier.abort()
        assert barrier.broken
        assert barrier.n_waiting == 0
        assert repr(barrier).endswith(" [broken]>")
        assert [str(error) for error in await ended(tasks)] == ["Abort or reset of barrier"] * 2
        with pytest.raises(asyncio.BrokenBarrierError, match=r"^Barrier aborted$"):
            await barrier.wait()
        with pytest.raises(asyncio.BrokenBarrierError, match=r"^Barrier aborted$"):
            async with barrier:
                pass
        assert barrier._count == 0
        await barrier.reset()
        assert not barrier.broken

    run(main())


# ---- cancelling --------------------------------------------------------------------------------------------------------


def test_cancelled_party(library, run):
    async def main():
        barrier = library.Barrier(2)
        first, *_ = await started(barrier.wait())
        first.cancel()
        await turns(3)
        assert first.cancelled()
        assert barrier.n_waiting == 0
        assert sorted(await ended(await started(barrier.wait(), barrier.wait()))) == [0, 1]

    run(main())


def test_cancelled_when_full(library, run):
    async def main():
        barrier = library.Barrier(2)
        (first,) = await started(barrier.wait())
        assert await barrier.wait() == 1
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert state(barrier) == "filling"
        assert barrier._count == 0

    run(main())


def test_cancelled_while_the_round_before_drains(library, run):
    async def main():
        barrier = library.Barrier(2)
        early = await started(barrier.wait())
        await barrier.wait()
        late = asyncio.ensure_future(barrier.wait())
        await asyncio.sleep(0)
        late.cancel()
        assert await ended(early) == [0]
        await turns(2)
        assert late.cancelled()
        assert (state(barrier), barrier._count) == ("filling", 0)

    run(main())


@pytest.mark.parametrize("seed", range(8))
def test_storm(library, run, seed):
    async def main():
        rng = random.Random(seed)
        barrier = library.Barrier(1 + seed % 4)
        results = []

        async def party():
            try:
                results.append(await barrier.wait())
            except asyncio.BrokenBarrierError:
                results.append("broken")

        tasks = []
        for _ in range(200):
            tasks.append(asyncio.ensure_future(party()))
            if rng.random() < 0.2:
                rng.choice(tasks).cancel()
            if rng.random() < 0.1:
                await barrier.reset()
            if rng.random() < 0.02:
                await barrier.abort()
            await turns(rng.randrange(3))
            assert 0 <= barrier.n_waiting <= barrier._count <= len(tasks)
        await barrier.abort()
        await ended(tasks)
        assert barrier._count == 0
        assert not barrier._cond.locked()
        assert not barrier._cond._waiters

    run(main())


# ---- coroutines, used badly ----------------------------------------------------------------------------------------------


def test_coroutines(library, run):
    barrier = library.Barrier(2)
    coros = [barrier.wait(), barrier.reset(), barrier.abort(), barrier.__aenter__(), barrier.__aexit__()]
    assert all(map(asyncio.iscoroutine, coros))
    with pytest.warns(RuntimeWarning, match=r"coroutine '.*' was never awaited"):
        del coros
        gc.collect()
    assert not barrier.broken

    async def main():
        coro = barrier.wait()
        coro.send(None)
        assert barrier._count == 1
        with pytest.raises(Oops):
            coro.throw(Oops())
        assert barrier._count == 0
        coro = barrier.wait()
        coro.send(None)
        coro.close()
        assert barrier._count == 0
        assert not barrier._cond.locked()
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            coro.send(None)

    run(main())


def test_while_the_lock_is_taken(library, run):
    """wait(), reset() and abort() wait for the barrier's own lock, and can be cancelled there."""

    async def main():
        barrier = library.Barrier(1)
        await barrier._cond.acquire()
        tasks = await started(barrier.wait(), barrier.reset(), barrier.abort())
        victims = await started(barrier.wait(), barrier.reset())
        for victim in victims:
            victim.cancel()
        await turns(2)
        assert all(victim.cancelled() for victim in victims)
        assert barrier._count == 0
        barrier._cond.release()
        assert await ended(tasks) == [0, None, None]
        assert barrier.broken

    run(main())


# ---- loops, subclasses and attributes -------------------------------------------------------------------------------------


def test_used_from_another_loop(library, loop):
    barrier = library.Barrier(2)

    async def use():
        (task,) = await started(barrier.wait())
        task.cancel()
        await turns(2)

    loop.run_until_complete(use())
    other = asyncio.new_event_loop()
    try:
        with pytest.raises(RuntimeError, match=r"<.*Condition object at .*> is bound to a different event loop"):
            other.run_until_complete(barrier.wait())
    finally:
        other.close()
    assert barrier._count == 0


def test_arguments(library):
    with pytest.raises(TypeError, match=r"Barrier\.__init__\(\) got an unexpected keyword argument 'loop'"):
        library.Barrier(1, loop=None)
    with pytest.raises(TypeError, match=r"Barrier\.__init__\(\) missing"):
        library.Barrier()
    assert library.Barrier(parties=3).parties == 3


def test_subclass(library, run):
    class Mine(library.Barrier):
        def __init__(self, name):
            super().__init__(1)
            self.name = name

        async def wait(self):
            return await super().wait(), self.name

    async def main():
        async with Mine("x") as position:
            assert position == (0, "x")

    run(main())


def test_attributes(library):
    barrier = library.Barrier(1)
    barrier.itself = barrier
    assert barrier._state is asyncio.locks._BarrierState.FILLING
    for name in ("parties", "n_waiting", "broken"):
        with pytest.raises(AttributeError):
            setattr(barrier, name, 1)
    reference = weakref.ref(barrier)
    del barrier
    gc.collect()
    assert reference() is None


def test_repr(library, run):
    async def main():
        barrier = library.Barrier(2)
        name = re.escape(f"{library.Barrier.__module__}.Barrier")
        assert re.fullmatch(rf"<{name} object at 0x[0-9a-f]+ \[filling, waiters:0/2\]>", repr(barrier))
        (task,) = await started(barrier.wait())
        assert repr(barrier).endswith(" [filling, waiters:1/2]>")
        await barrier.wait()
        assert repr(barrier).endswith(" [draining, waiters:0/2]>")
        await task

    run(main())


def test_half_initialised():
    class Mine(corolla.Barrier):
        def __init__(self):
            pass

    for barrier in (corolla.Barrier.__new__(corolla.Barrier), Mine()):
        for use in (
            lambda b: b.parties,
            lambda b: b.n_waiting,
            lambda b: b.broken,
            lambda b: b._state,
            lambda b: b._cond,
            lambda b: b._count,
            lambda b: at_once(b.wait()),
            lambda b: at_once(b.reset()),
            lambda b: at_once(b.abort()),
            lambda b: at_once(b.__aenter__()),
            repr,
        ):
            with pytest.raises(RuntimeError, match=r"^Barrier object is not initialized\.$"):
                use(barrier)


def test_initialised_again_while_somebody_waits(library, run):
    async def main():
        barrier = library.Barrier(2)
        (task,) = await started(barrier.wait())
        barrier.__init__(1)
        assert await barrier.wait() == 0
        task.cancel()
        (error,) = await ended([task])
        assert isinstance(error, (asyncio.CancelledError, RuntimeError))

    run(main())
