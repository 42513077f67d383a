"""timeout(), timeout_at(), Timeout: the same behaviour from asyncio's and from ours, on any loop."""

import asyncio
import contextvars
import gc
import threading
import weakref

import corolla
import pytest
from primitives.waiting import OwnTask, forever, since, turns

from primitives import waiting

lib, loop, run = waiting.lib, waiting.loop, waiting.run

Timeouts = [
    pytest.param(lambda lib, delay: lib.timeout(delay), id="timeout"),
    pytest.param(lambda lib, delay: lib.timeout_at(asyncio.get_running_loop().time() + delay), id="timeout_at"),
]


# ---- Expiring ----


@pytest.mark.parametrize("make", Timeouts)
@pytest.mark.parametrize("delay", [0.005, 0, -1])
def test_expires(lib, run, make, delay):
    async def main():
        with pytest.raises(TimeoutError) as caught:
            async with make(lib, delay) as scope:
                assert not scope.expired()
                await forever()
        assert scope.expired()
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
        assert caught.value.__context__ is caught.value.__cause__
        assert caught.value.args == ()
        assert asyncio.current_task().cancelling() == 0
        assert not scope.__class__.__name__.startswith("_")

    run(main())


@pytest.mark.parametrize("make", Timeouts)
def test_does_not_expire(lib, run, make):
    async def main():
        async with make(lib, 1000) as scope:
            assert await asyncio.sleep(0, "value") == "value"
        assert not scope.expired()
        with pytest.raises(LookupError):
            async with make(lib, 1000) as scope:
                raise LookupError
        assert not scope.expired()

    run(main())


def test_no_limit(lib, run):
    async def main():
        for make in (lib.timeout, lib.timeout_at):
            async with make(None) as scope:
                assert scope.when() is None
                await turns(2)
            assert not scope.expired()

    run(main())


def test_expired_but_nothing_awaited(lib, run):
    """As asyncio: the time was up, but there was nothing to cancel before the block ended."""

    async def main():
        async with lib.timeout(0) as scope:
            pass
        assert not scope.expired()
        await turns()
        assert asyncio.current_task().cancelling() == 0

    run(main())


def test_block_that_swallows_the_cancellation(lib, run):
    async def main():
        async with lib.timeout(0.001) as scope:
            with pytest.raises(asyncio.CancelledError):
                await forever()
            assert scope.expired()
        assert scope.expired()
        assert asyncio.current_task().cancelling() == 0
        await turns()

    run(main())


def test_other_exception_after_expiry(lib, run):
    since(lib, 3, 13)

    async def main():
        with pytest.raises(LookupError) as caught:
            async with lib.timeout(0.001) as scope:
                try:
                    await forever()
                finally:
                    raise LookupError
        assert scope.expired()
        between = caught.value.__context__
        assert isinstance(between, TimeoutError)
        assert isinstance(between.__cause__, asyncio.CancelledError)
        assert between.__context__ is between.__cause__

    run(main())


def test_group_of_exceptions_after_expiry(lib, run):
    since(lib, 3, 13)

    async def main():
        with pytest.raises(ExceptionGroup) as caught:
            async with lib.timeout(0.001):
                try:
                    await forever()
                except asyncio.CancelledError:
                    errors = []
                    for _ in range(2):
                        try:
                            raise LookupError
                        except LookupError as error:
                            errors.append(error)
                raise ExceptionGroup("both", errors)
        assert [type(error.__context__) for error in caught.value.exceptions] == [TimeoutError, TimeoutError]

    run(main())


def test_exception_from_elsewhere_after_expiry(lib, run):
    async def main():
        with pytest.raises(LookupError) as caught:
            async with lib.timeout(0.001):
                try:
                    await forever()
                except asyncio.CancelledError:
                    pass
                raise LookupError
        assert caught.value.__context__ is None

    run(main())


# ---- And other cancellations ----


def test_cancel_from_outside(lib, run):
    async def child():
        async with lib.timeout(1000):
            await forever()

    async def main():
        task = asyncio.create_task(child())
        await turns(2)
        task.cancel("why")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelling() == 1

    run(main())


def test_cancel_from_outside_as_it_expires(lib, run):
    """python/cpython issue 116720: of two requests to cancel, the one from outside still takes effect."""

    async def child(scopes):
        async with lib.timeout(0) as scope:
            scopes.append(scope)
            asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
            await forever()

    async def main():
        scopes = []
        task = asyncio.create_task(child(scopes))
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert scopes[0].expired()
        assert task.cancelling() == 1

    run(main())


def test_cancelled_before_it_is_entered(lib, run):
    async def main():
        with pytest.raises(TimeoutError):
            async with lib.timeout(0.001):
                try:
                    await forever()
                except asyncio.CancelledError:
                    async with lib.timeout(0.001):  # inside, cancelling() is 1 already
                        await forever()

        async def child():
            asyncio.current_task().cancel()
            async with lib.timeout(0.001):
                await forever()

        task = asyncio.create_task(child())
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


def test_uncancelled_inside(lib, run):
    async def main():
        task = asyncio.current_task()
        with pytest.raises(TimeoutError):
            async with lib.timeout(0.001):
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await forever()
                task.uncancel()
                await forever()
        assert task.cancelling() == 0

    run(main())


def test_nested(lib, run):
    async def main():
        with pytest.raises(TimeoutError):
            async with lib.timeout(1000) as outer:
                async with lib.timeout(0.001) as inner:
                    await forever()
        assert (outer.expired(), inner.expired()) == (False, True)
        with pytest.raises(TimeoutError):
            async with lib.timeout(0.001) as outer:
                async with lib.timeout(1000) as inner:
                    await forever()
        assert (outer.expired(), inner.expired()) == (True, False)
        with pytest.raises(TimeoutError):
            async with lib.timeout(0) as outer, lib.timeout(0) as inner:
                await forever()
        assert (outer.expired(), inner.expired()) == (True, True)
        assert asyncio.current_task().cancelling() == 0

    run(main())


def test_task_group_in_a_timeout(lib, run):
    """python/cpython issue 116720: the group's own cancellation does not hide the outer timeout's."""

    async def main():
        with pytest.raises(TimeoutError):
            async with lib.timeout(0.001):
                async with asyncio.TaskGroup() as group:
                    group.create_task(forever())
        assert asyncio.current_task().cancelling() == 0

    run(main())


# ---- States ----


def test_when_and_reschedule(lib, run, loop):
    async def main():
        before = loop.time()
        scope = lib.timeout(1000)
        assert before + 1000 <= scope.when() <= loop.time() + 1000
        async with scope:
            scope.reschedule(5_000_000_000)
            assert scope.when() == 5_000_000_000
            assert type(scope.when()) is int
            scope.reschedule(when=None)
            assert scope.when() is None
            scope.reschedule(loop.time() + 2000.5)
            with pytest.raises(TypeError):
                scope.reschedule()
        assert scope.when() > loop.time() + 2000
        assert not scope.expired()

    run(main())


@pytest.mark.parametrize("delay", [-1, 0, 0.002])
def test_reschedule_earlier(lib, run, loop, delay):
    async def main():
        for first in (1000, None):
            with pytest.raises(TimeoutError):
                async with lib.timeout(first) as scope:
                    scope.reschedule(loop.time() + delay)
                    await forever()
            assert scope.expired()

    run(main())


def test_reschedule_later(lib, run, loop):
    async def main():
        async with lib.timeout(0) as scope:
            scope.reschedule(loop.time() + 1000)
            await turns()
        assert not scope.expired()

    run(main())


def test_misuse(lib, run):
    async def main():
        scope = lib.timeout(1000)
        with pytest.raises(RuntimeError, match="^Timeout has not been entered$"):
            scope.reschedule(1)
        async with scope:
            with pytest.raises(RuntimeError, match="^Timeout has already been entered$"):
                async with scope:
                    pytest.fail("entered twice")
        with pytest.raises(RuntimeError, match="^Cannot change state of finished Timeout$"):
            scope.reschedule(1)
        with pytest.raises(RuntimeError, match="^Timeout has already been entered$"):
            async with scope:
                pytest.fail("entered again")
        with pytest.raises(TimeoutError):
            async with lib.timeout(0) as scope:
                try:
                    await forever()
                finally:
                    with pytest.raises(RuntimeError, match="^Cannot change state of expiring Timeout$"):
                        scope.reschedule(1)
        with pytest.raises(RuntimeError, match="^Cannot change state of expired Timeout$"):
            scope.reschedule(1)
        for wrong in ("soon", [], object()):
            with pytest.raises(TypeError):
                async with lib.timeout(wrong):
                    pytest.fail("entered")

    run(main())


def test_outside_a_task(lib, loop):
    with pytest.raises(RuntimeError, match="no running event loop"):
        lib.timeout(1)
    caught = []

    def callback():
        try:
            lib.timeout(1).__aenter__().send(None)
        except RuntimeError as error:
            caught.append(str(error))

    loop.call_soon(callback)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert caught == ["Timeout should be used inside a task"]


def test_repr(lib, run):
    async def main():
        scope = lib.timeout_at(1_000_000.12345)
        assert repr(scope) == "<Timeout [created]>"
        async with scope:
            assert repr(scope) == "<Timeout [active] when=1000000.123>"
            scope.reschedule(10**9)
            assert repr(scope) == "<Timeout [active] when=1000000000>"
            scope.reschedule(None)
            assert repr(scope) == "<Timeout [active] when=None>"
        assert repr(scope) == "<Timeout [finished]>"
        with pytest.raises(TimeoutError):
            async with lib.timeout(0) as scope:
                try:
                    await forever()
                finally:
                    assert repr(scope) == "<Timeout [expiring]>"
        assert repr(scope) == "<Timeout [expired]>"

    run(main())


def test_timeout_made_by_hand(lib, run, loop):
    async def main():
        async with lib.Timeout(when=loop.time() + 1000) as scope:
            assert isinstance(scope, lib.Timeout)
        with pytest.raises(TypeError):
            lib.Timeout()

    run(main())


def test_numbers_of_any_kind(lib, run):
    from fractions import Fraction

    async def main():
        for delay in (10**3, Fraction(2001, 2), True):
            async with lib.timeout(delay) as scope:
                await turns(1)
            assert not scope.expired()

    run(main())


def test_huge_and_no_numbers(run, loop):
    """RustedBytes/rsloop commit 233e231: no deadline overflows, and NaN is refused."""

    async def main():
        for delay in (1e300, float("inf"), 10**18):
            async with corolla.timeout(delay) as scope:
                await turns(2)
            assert not scope.expired()

    run(main())


def test_nan(loop):
    our_loop = corolla.new_event_loop()

    async def main():
        with pytest.raises(ValueError, match="NaN"):
            async with corolla.timeout(float("nan")):
                pytest.fail("entered")

    our_loop.run_until_complete(main())
    our_loop.close()


# ---- The task ----


def test_tasks_of_each_kind(lib, loop):
    """Of ours, of a subclass, and of asyncio: cancelled and uncancelled each its own way."""

    class Noting(corolla.Task):
        def cancel(self, msg=None):
            told.append("cancel")
            return super().cancel(msg)

        def uncancel(self):
            told.append("uncancel")
            return super().uncancel()

        def cancelling(self):
            told.append("cancelling")
            return super().cancelling()

    async def main():
        with pytest.raises(TimeoutError):
            async with lib.timeout(0.001):
                await forever()
        return asyncio.current_task().cancelling()

    for kind in (corolla.Task, OwnTask, asyncio.Task, Noting):
        told = []
        assert loop.run_until_complete(kind(main(), loop=loop)) == 0
        assert told == (["cancelling", "cancel", "uncancel", "cancelling"] if kind is Noting else [])


def test_in_an_eager_task(run, loop):
    if not isinstance(loop, corolla.EventLoop):
        pytest.skip("on ours")

    async def child():
        async with corolla.timeout(0.001):
            await forever()

    async def main():
        task = corolla.Task(child(), loop=loop, eager_start=True)
        with pytest.raises(TimeoutError):
            await task
        assert asyncio.current_task().cancelling() == 0

    run(main())


def test_expiry_runs_in_the_context_of_nobody(run, loop):
    """What the expiry calls of others finds no task running, and no context of one entered."""
    var = contextvars.ContextVar("var", default="outside")

    class Noting(corolla.Task):
        def cancel(self, msg=None):
            told.append(asyncio.current_task())
            return super().cancel(msg)

    told = []

    async def child():
        with pytest.raises(TimeoutError):
            async with corolla.timeout(0.001):
                await forever()

    async def main():
        var.set("inside")
        await Noting(child(), loop=loop)

    run(main())
    assert told == [None]


def test_cancel_that_raises(run, loop, reports):
    class Refusing(corolla.Task):
        def cancel(self, msg=None):
            super().cancel(msg)
            raise LookupError("cancel refused")

    async def child():
        with pytest.raises(TimeoutError):
            async with corolla.timeout(0.001):
                await forever()

    async def main():
        await Refusing(child(), loop=loop)

    run(main())
    assert [str(report["exception"]) for report in reports] == ["cancel refused"]
    reports.clear()


# ---- Debug mode, half-made ones, memory ----


def test_debug_mode(lib, run, loop):
    loop.set_debug(True)

    async def main():
        with pytest.raises(TimeoutError):
            async with lib.timeout(0.001):
                await forever()
        async with lib.timeout(1000) as scope:
            scope.reschedule(0)
            scope.reschedule(None)
            await turns(2)

    run(main())


def test_half_made():
    bare = corolla.Timeout.__new__(corolla.Timeout)
    assert repr(bare) == "<Timeout not initialized>"
    assert bare.expired() is False
    for call in (bare.when, lambda: bare.reschedule(1), lambda: bare.__aenter__().send(None)):
        with pytest.raises(RuntimeError):
            call()
    with pytest.raises(RuntimeError):
        bare.__aexit__(None, None, None).send(None)
    with pytest.raises(TypeError):
        bare.__aexit__()


def test_left_without_being_entered(run):
    async def main():
        scope = corolla.timeout(1)
        with pytest.raises(RuntimeError, match="Timeout has not been entered"):
            await scope.__aexit__(None, None, None)
        async with scope:
            pass
        with pytest.raises(RuntimeError, match="Timeout has already been left"):
            await scope.__aexit__(None, None, None)

    run(main())


def test_entered_by_hand_and_dropped(run):
    async def main():
        scope = corolla.timeout(1000)
        entering = scope.__aenter__()
        with pytest.raises(StopIteration):
            entering.send(None)
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            entering.send(None)
        with pytest.warns(RuntimeWarning, match="Timeout.__aenter__' was never awaited"):
            corolla.timeout(1).__aenter__()
        await scope.__aexit__(None, None, None)

    run(main())


def test_reschedule_from_another_thread(run):
    async def main():
        caught = []
        async with corolla.timeout(1000) as scope:

            def reschedule():
                try:
                    scope.reschedule(0)
                except RuntimeError as error:
                    caught.append(str(error))

            thread = threading.Thread(target=reschedule)
            thread.start()
            thread.join()
            await turns(2)
        assert caught == ["no running event loop"]

    run(main())


def test_loop_closed_while_it_waits():
    loop = corolla.new_event_loop()
    task = loop.create_task(timed())
    loop.call_soon(loop.stop)
    loop.run_forever()
    task._log_destroy_pending = False
    loop.close()
    dead = weakref.ref(task)
    del task
    gc.collect()
    assert dead() is None


async def timed():
    async with corolla.timeout(1000):
        await forever()


def test_loop_dropped_while_it_waits():
    with pytest.warns(ResourceWarning):
        loop = corolla.new_event_loop()
        task = loop.create_task(timed())
        loop.call_soon(loop.stop)
        loop.run_forever()
        task._log_destroy_pending = False
        dead = weakref.ref(loop)
        del task, loop
        gc.collect()
    assert dead() is None


def test_nothing_is_kept(run):
    """uvloop issue 239: what a timeout held is freed by reference counts alone."""

    async def main():
        gc.collect()
        gc.disable()
        try:
            for delay in (1000, 0, 0.001):
                scope = corolla.timeout(delay)
                dead = weakref.ref(scope)
                try:
                    async with scope:
                        await corolla.sleep(0.003)
                except TimeoutError:
                    pass
                del scope
                assert dead() is None, delay
        finally:
            gc.enable()

    our_loop = corolla.new_event_loop()
    our_loop.run_until_complete(main())
    our_loop.close()


class Clock(corolla.EventLoop):
    """Calls a function the next time somebody asks what time it is."""

    then = None

    def time(self):
        then, self.then = self.then, None
        if then is not None:
            then()
        return super().time()


@pytest.mark.parametrize("what", ["rescheduled", "without limit", "left"])
def test_while_it_asks_for_the_time(what):
    """The loop's time() is code of others: it may change or end the timeout that is being entered."""
    loop = Clock()

    def leave(scope):
        with pytest.raises(StopIteration):
            scope.__aexit__(None, None, None).send(None)

    changes = {
        "rescheduled": lambda scope: scope.reschedule(loop.time() + 1000),
        "without limit": lambda scope: scope.reschedule(None),
        "left": leave,
    }

    async def main():
        scope = corolla.timeout(1000)
        loop.then = lambda: changes[what](scope)
        await scope.__aenter__()
        assert loop.then is None
        await corolla.sleep(0.001)
        if what != "left":
            assert (scope.when() is None) == (what == "without limit")
            leave(scope)
        with pytest.raises(RuntimeError, match="already been left"):
            leave(scope)
        async with corolla.timeout(0.001) as later:
            later.reschedule(loop.time() + 1000)
            await corolla.sleep(0.002)

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
