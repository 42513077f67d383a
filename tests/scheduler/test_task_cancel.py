"""Task: cancel, uncancel and cancelling."""

import asyncio
import concurrent.futures
import gc
import types

import impl
import pytest
from impl import Future, beyond_stdlib


async def suspended(future):
    return await future


def test_before_the_first_step(loop):
    steps = []

    async def main():
        steps.append(1)

    task = loop.create_task(main())
    assert task.cancel() is True
    assert task._must_cancel is True
    assert not task.cancelled()
    assert not task.done()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    assert steps == []
    assert task.cancelled()
    assert task._must_cancel is False
    assert task.cancel() is False


def test_before_the_first_step_with_a_message(loop):
    task = loop.create_task(asyncio.sleep(0))
    task.cancel(msg="message")
    with pytest.raises(asyncio.CancelledError) as caught:
        loop.run_until_complete(task)
    assert caught.value.args == ("message",)


def test_while_waiting_for_a_future(loop, turn):
    future = loop.create_future()
    task = loop.create_task(suspended(future))
    turn()
    assert task.cancel("message") is True
    assert future.cancelled()
    assert task._must_cancel is False
    assert not task.done()
    turn()
    assert task.cancelled()
    with pytest.raises(asyncio.CancelledError, match="message"):
        task.result()
    with pytest.raises(asyncio.CancelledError):
        task.exception()


@pytest.mark.parametrize("make", [asyncio.Future, Future], ids=["stdlib future", "own future"])
def test_while_waiting_for_either_kind_of_future(loop, turn, make):
    future = make(loop=loop)
    task = loop.create_task(suspended(future))
    turn()
    task.cancel()
    assert future.cancelled()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)


def test_while_waiting_for_a_task(loop, turn):
    inner = loop.create_task(asyncio.sleep(1000))
    outer = loop.create_task(suspended(inner))
    turn()
    turn()
    outer.cancel("message")
    with pytest.raises(asyncio.CancelledError) as caught:
        loop.run_until_complete(outer)
    assert caught.value.args == ("message",)
    assert inner.cancelled()
    assert outer.cancelled()
    assert inner.cancelling() == 1


def test_an_inner_task_that_refuses(loop, turn):
    async def stubborn():
        for _ in range(2):
            try:
                await loop.create_future()
            except asyncio.CancelledError:
                pass
        return "refused"

    inner = loop.create_task(stubborn())
    outer = loop.create_task(suspended(inner))
    turn()
    turn()
    assert outer.cancel() is True
    turn()
    assert not outer.done()
    assert outer.cancel() is True
    assert loop.run_until_complete(outer) == "refused"
    assert outer.cancelling() == 2
    assert inner.cancelling() == 2
    assert not outer.cancelled()


def test_while_waiting_for_a_thread(loop, turn):
    source = concurrent.futures.Future()
    task = loop.create_task(suspended(asyncio.wrap_future(source, loop=loop)))
    turn()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    assert source.cancelled()


def test_after_the_awaited_future_was_done_in_the_same_turn(loop, turn):
    # The wakeup is queued; the cancel arrives before it runs and must not get lost.
    future = loop.create_future()
    task = loop.create_task(suspended(future))
    turn()
    future.set_result("result")
    assert task.cancel() is True
    assert task._must_cancel is True
    turn()
    assert task.cancelled()


def test_while_it_pauses(loop, turn):
    seen = []

    async def main():
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError as error:
            seen.append(error.args)
            raise

    task = loop.create_task(main())
    turn()
    task.cancel("in a pause")
    turn()
    assert task.cancelled()
    assert seen == [("in a pause",)]


def test_itself_while_it_runs(loop):
    async def main():
        asyncio.current_task().cancel("by itself")
        assert asyncio.current_task()._must_cancel is True
        await asyncio.sleep(0)
        return "never"

    with pytest.raises(asyncio.CancelledError, match="by itself"):
        loop.run_until_complete(main())


def test_itself_on_its_last_step(loop):
    async def main():
        asyncio.current_task().cancel("at the end")
        return "result"

    task = loop.create_task(main())
    with pytest.raises(asyncio.CancelledError, match="at the end"):
        loop.run_until_complete(task)
    assert task.cancelled()
    assert task._must_cancel is False


def test_itself_and_then_an_error(loop):
    async def main():
        asyncio.current_task().cancel()
        raise LookupError("instead")

    task = loop.create_task(main())
    with pytest.raises(LookupError):
        loop.run_until_complete(task)
    assert not task.cancelled()


def test_itself_before_waiting_for_a_future(loop):
    future = loop.create_future()

    async def main():
        asyncio.current_task().cancel("early")
        await future

    task = loop.create_task(main())
    with pytest.raises(asyncio.CancelledError, match="early"):
        loop.run_until_complete(task)
    assert future.cancelled()


def test_itself_before_waiting_for_a_done_future(loop):
    future = loop.create_future()
    future.set_result(1)

    async def main():
        asyncio.current_task().cancel()
        assert await future == 1
        await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(main())


def test_itself_before_waiting_for_a_refusing_future(loop):
    class Refuses(Future):
        def cancel(self, msg=None):
            asked.append(msg)
            return False

    asked = []
    future = Refuses(loop=loop)

    async def main():
        asyncio.current_task().cancel("msg")
        loop.call_soon(future.set_result, 5)
        await future

    task = loop.create_task(main())
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    assert asked == ["msg"]


def test_refused_by_the_coroutine(loop, turn):
    async def main():
        try:
            await loop.create_future()
        except asyncio.CancelledError:
            return "refused"

    task = loop.create_task(main())
    turn()
    task.cancel()
    assert loop.run_until_complete(task) == "refused"
    assert not task.cancelled()
    assert task.cancelling() == 1


def test_answered_with_another_exception(loop, turn):
    async def main():
        try:
            await loop.create_future()
        except asyncio.CancelledError:
            raise LookupError("instead") from None

    task = loop.create_task(main())
    turn()
    task.cancel()
    with pytest.raises(LookupError, match="instead"):
        loop.run_until_complete(task)
    assert not task.cancelled()


def test_raising_cancelled_error_is_being_cancelled(loop):
    async def main():
        raise asyncio.CancelledError("own", 2)

    task = loop.create_task(main())
    with pytest.raises(asyncio.CancelledError) as caught:
        loop.run_until_complete(task)
    assert caught.value.args == ("own", 2)
    assert task.cancelled()
    assert task.cancelling() == 0


def test_a_subclass_of_cancelled_error(loop):
    class Mine(asyncio.CancelledError):
        pass

    async def main():
        raise Mine("kept")

    task = loop.create_task(main())
    with pytest.raises(Mine, match="kept"):
        loop.run_until_complete(task)
    assert task.cancelled()


def test_the_first_error_is_kept_for_its_traceback(loop, turn):
    async def deep():
        await loop.create_future()

    async def main():
        await deep()

    task = loop.create_task(main())
    turn()
    task.cancel()
    turn()
    with pytest.raises(asyncio.CancelledError) as caught:
        task.result()
    assert "deep" in [frame.name for frame in caught.traceback]
    with pytest.raises(asyncio.CancelledError) as again:
        task.result()
    assert again.value is not caught.value


def test_message_of_the_last_cancel_before_the_step(loop):
    task = loop.create_task(asyncio.sleep(0))
    task.cancel("first")
    task.cancel("second")
    with pytest.raises(asyncio.CancelledError, match="second"):
        loop.run_until_complete(task)


def test_message_through_three_tasks(loop, turn):
    inner = loop.create_task(asyncio.sleep(1000))
    middle = loop.create_task(suspended(inner))
    outer = loop.create_task(suspended(middle))
    for _ in range(3):
        turn()
    outer.cancel("all the way")
    for _ in range(4):
        turn()
    assert inner.cancelled()
    assert middle.cancelled()
    with pytest.raises(asyncio.CancelledError, match="all the way"):
        outer.result()
    # The error is handed over, once, to who asks first.
    with pytest.raises(asyncio.CancelledError) as caught:
        outer.result()
    assert caught.value.args == ()


@pytest.mark.parametrize("message", [None, 0, "", ("a", 1)])
def test_odd_messages(loop, message):
    task = loop.create_task(asyncio.sleep(0))
    task.cancel(message)
    with pytest.raises(asyncio.CancelledError) as caught:
        loop.run_until_complete(task)
    assert caught.value.args == (() if message is None else (message,))


def test_counting(loop, turn):
    async def main():
        while True:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                if asyncio.current_task().uncancel() > 0:
                    raise

    task = loop.create_task(main())
    assert task.cancelling() == 0
    assert task.uncancel() == 0
    assert task.cancelling() == 0
    turn()
    task.cancel()
    assert task.cancelling() == 1
    turn()
    assert task.cancelling() == 0
    assert not task.done()
    task.cancel()
    task.cancel()
    assert task.cancelling() == 2
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    assert task.cancelling() == 1
    assert task.uncancel() == 0
    assert task.uncancel() == 0


def test_counting_stops_when_done(loop):
    task = loop.create_task(asyncio.sleep(0))
    loop.run_until_complete(task)
    assert task.cancel() is False
    assert task.cancelling() == 0


@beyond_stdlib("3.13: uncancel() back to zero takes back a cancel that was not delivered", until=(3, 13))
def test_uncancel_takes_back_what_was_not_delivered(loop):
    async def main():
        task = asyncio.current_task()
        task.cancel()
        assert task._must_cancel is True
        assert task.uncancel() == 0
        assert task._must_cancel is False
        await asyncio.sleep(0)
        return "went on"

    assert loop.run_until_complete(main()) == "went on"


def test_uncancel_keeps_earlier_cancels(loop):
    async def main():
        task = asyncio.current_task()
        task.cancel()
        task.cancel()
        assert task.uncancel() == 1
        assert task._must_cancel is True
        await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(main())


def test_cancel_in_a_finally_that_waits(loop, turn):
    order = []

    async def main():
        try:
            await loop.create_future()
        finally:
            order.append("finally")
            await asyncio.sleep(0)
            order.append("cleaned up")

    task = loop.create_task(main())
    turn()
    task.cancel()
    turn()
    assert order == ["finally"]
    turn()
    assert order == ["finally", "cleaned up"]
    assert task.cancelled()


def test_done_callbacks_of_a_cancelled_task(loop, turn):
    calls = []
    task = loop.create_task(asyncio.sleep(1000))
    task.add_done_callback(calls.append)
    turn()
    task.cancel()
    for _ in range(3):
        turn()
    assert calls == [task]


def test_cancel_from_a_done_callback(loop, turn):
    future = loop.create_future()
    task = loop.create_task(suspended(future))
    future.add_done_callback(lambda f: task.cancel())
    turn()
    future.set_result(1)
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)


def test_a_task_that_awaits_itself(loop):
    async def main():
        await task

    task = loop.create_task(main())
    with pytest.raises(RuntimeError, match="Task cannot await on itself"):
        loop.run_until_complete(task)


def test_cancelling_a_task_whose_waiter_was_called_by_hand(loop):
    task = loop.create_task(asyncio.sleep(0))
    loop.run_until_complete(task)
    assert task.cancel() is False
    assert not task.cancelled()


def test_cancelled_parents_of_cycles(loop, turn):
    # Two tasks that wait for each other: cancel finds its way out of the circle.
    async def first():
        await second_task

    async def second():
        await first_task

    first_task = loop.create_task(first())
    second_task = loop.create_task(second())
    turn()
    turn()
    if impl.IS_COROLLA:
        with pytest.raises(RecursionError):
            first_task.cancel()
    for task in (first_task, second_task):
        task._log_destroy_pending = False
    del first_task, second_task, task
    gc.collect()


def test_a_fut_waiter_whose_cancel_raises(loop, turn):
    class Raises(Future):
        def cancel(self, msg=None):
            raise LookupError("in cancel")

    future = Raises(loop=loop)
    task = loop.create_task(suspended(future))
    turn()
    with pytest.raises(LookupError):
        task.cancel()
    future.set_result(1)
    assert loop.run_until_complete(task) == 1


def test_a_duck_typed_future(loop, turn):
    class Duck:
        _asyncio_future_blocking = False
        cancelled_with = None

        def __init__(self):
            self.inner = loop.create_future()

        def get_loop(self):
            return loop

        def add_done_callback(self, fn, *, context):
            self.inner.add_done_callback(lambda f: fn(self), context=context)

        def result(self):
            return self.inner.result()

        def cancel(self, msg=None):
            self.cancelled_with = msg
            return self.inner.cancel(msg)

        def __await__(self):
            self._asyncio_future_blocking = True
            yield self
            return self.result()

    duck = Duck()
    task = loop.create_task(suspended(duck))
    turn()
    assert duck._asyncio_future_blocking is False
    assert task._fut_waiter is duck
    duck.inner.set_result("quack")
    assert loop.run_until_complete(task) == "quack"
    duck = Duck()
    task = loop.create_task(suspended(duck))
    turn()
    task.cancel("message")
    assert duck.cancelled_with == "message"
    with pytest.raises(asyncio.CancelledError, match="message"):
        loop.run_until_complete(task)


def test_random_cancels_always_end_every_task(loop):
    import random

    rng = random.Random(4)

    async def worker(depth):
        for _ in range(3):
            if depth and rng.random() < 0.5:
                await loop.create_task(worker(depth - 1))
            elif rng.random() < 0.5:
                await asyncio.sleep(0)
            else:
                future = loop.create_future()
                loop.call_soon(lambda f=future: f.done() or f.set_result(None))
                await future
        return "done"

    @types.coroutine
    def pause():
        yield

    async def main():
        for _ in range(200):
            tasks = [loop.create_task(worker(3)) for _ in range(5)]
            for _ in range(rng.randrange(6)):
                await pause()
                rng.choice(tasks).cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(result == "done" or isinstance(result, asyncio.CancelledError) for result in results)

    loop.run_until_complete(main())
    assert asyncio.all_tasks(loop) == set()
