"""gather(): the same behaviour from asyncio's and from ours, on our loop and on asyncio's."""

import asyncio
import gc
import sys
import weakref
from collections.abc import Callable, Generator
from typing import Any

import corolla
import pytest

GATHERS = [pytest.param(asyncio.gather, id="asyncio"), pytest.param(corolla.gather, id="corolla")]
LOOPS = [pytest.param(asyncio.SelectorEventLoop, id="on-asyncio"), pytest.param(corolla.EventLoop, id="on-corolla")]

Run = Callable[[Any], Any]


@pytest.fixture(params=GATHERS)
def gather(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest, reports: list[dict[str, Any]]) -> Generator[Any]:
    loop = request.param()
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    yield loop
    loop.close()
    gc.collect()
    assert not reports


@pytest.fixture
def run(loop: Any) -> Run:
    return loop.run_until_complete  # type: ignore[no-any-return]


class Oops(Exception):
    pass


class Awaitable:
    """Not a coroutine nor a future; all of the same value are equal."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.runs = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Awaitable) and other.value == self.value

    def __hash__(self) -> int:
        return hash(self.value)

    def __await__(self) -> Generator[Any, Any, Any]:
        self.runs += 1
        yield from asyncio.sleep(0).__await__()
        return self.value


class OwnFuture(corolla.Future):  # type: ignore[type-arg]
    """Its methods are the ones to call."""

    def __init__(self, *, loop: Any) -> None:
        super().__init__(loop=loop)
        self.asked: list[str] = []

    def exception(self) -> Any:
        self.asked.append("exception")
        return super().exception()

    def result(self) -> Any:
        self.asked.append("result")
        return "own " + super().result()

    def cancel(self, msg: Any = None) -> bool:
        self.asked.append("cancel")
        return super().cancel(msg)


async def give(value: Any, turns: int = 0) -> Any:
    for _ in range(turns):
        await asyncio.sleep(0)
    return value


async def fail(exc: BaseException, turns: int = 0) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    raise exc


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def stubborn(log: list[str]) -> str:
    """Ignores one cancellation."""
    try:
        await forever()
    except asyncio.CancelledError:
        log.append("cancelled")
    return "stayed"


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# ---- Results ----


def test_results_are_in_the_order_given(gather: Any, run: Run) -> None:
    async def main() -> Any:
        return await gather(give(1, 5), give(2), give(3, 2), give(4, 1))

    assert run(main()) == [1, 2, 3, 4]


@pytest.mark.parametrize("count", [1, 16, 17, 100, 1000])
def test_any_number(gather: Any, run: Run, count: int) -> None:
    async def main() -> Any:
        return await gather(*[give(i, i % 3) for i in range(count)])

    assert run(main()) == list(range(count))


@pytest.mark.parametrize("options", [{}, {"return_exceptions": True}])
def test_nothing_gives_a_done_future(gather: Any, run: Run, loop: Any, options: Any) -> None:
    async def main() -> Any:
        future = gather(**options)
        assert future.done()
        assert future.get_loop() is loop
        return await future

    assert run(main()) == []


def test_duplicates_run_once(gather: Any, run: Run) -> None:
    runs = []

    async def note() -> object:
        runs.append(1)
        return object()

    async def main() -> None:
        coro, future, awaitable = note(), asyncio.get_running_loop().create_future(), Awaitable("a")
        equal = Awaitable("a")
        outer = gather(coro, future, coro, awaitable, future, equal, coro)
        asyncio.get_running_loop().call_soon(future.set_result, "f")
        a, b, c, d, e, f, g = await outer
        assert a is c is g
        assert (b, d, e, f) == ("f", "a", "f", "a")
        assert (len(runs), awaitable.runs, equal.runs) == (1, 1, 0)

    run(main())


def test_every_kind_of_awaitable(gather: Any, run: Run, loop: Any) -> None:
    async def main() -> Any:
        std_future = asyncio.Future(loop=loop)
        std_task = asyncio.Task(give("stdlib task", 2), loop=loop)
        our_future = corolla.Future(loop=loop)
        our_task = corolla.Task(give("our task", 1), loop=loop)
        own = OwnFuture(loop=loop)
        for future, value in ((std_future, "stdlib future"), (our_future, "our future"), (own, "future")):
            loop.call_soon(future.set_result, value)
        done = loop.create_future()
        done.set_result("done")
        values = await gather(
            std_future, std_task, our_future, our_task, own, done, Awaitable("awaitable"), corolla.sleep(0, "sleep")
        )
        assert own.asked == ["exception", "exception", "result"]
        return values

    assert run(main()) == [
        "stdlib future",
        "stdlib task",
        "our future",
        "our task",
        "own future",
        "done",
        "awaitable",
        "sleep",
    ]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio of 3.11 takes a turn of the loop")
def test_all_done_gives_a_done_future(gather: Any, run: Run, loop: Any) -> None:
    async def main() -> None:
        futures = [loop.create_future() for _ in range(3)]
        for i, future in enumerate(futures):
            future.set_result(i)
        assert gather(*futures).result() == [0, 1, 2]
        futures[1] = loop.create_future()
        futures[1].set_exception(Oops())
        assert isinstance(gather(*futures).exception(), Oops)

    run(main())


def test_outer_is_a_future(gather: Any, run: Run, loop: Any) -> None:
    async def main() -> None:
        outer = gather(give(1))
        assert isinstance(outer, asyncio.Future)
        assert asyncio.isfuture(outer)
        assert outer.get_loop() is loop
        assert repr(outer).startswith("<_GatheringFuture pending")
        told: list[Any] = []
        outer.add_done_callback(told.append)
        await turns()
        assert told == [outer]
        assert outer.result() == [1]
        assert weakref.ref(outer)() is outer

    run(main())


def test_gathers_of_gathers(gather: Any, run: Run) -> None:
    async def main() -> Any:
        return await gather(gather(give(1), give(2)), gather(gather(give(3))))

    assert run(main()) == [[1, 2], [[3]]]


def test_very_deep_gathers_are_freed() -> None:
    loop = corolla.new_event_loop()
    future = loop.create_future()
    future.set_result(None)
    for _ in range(100_000):
        future = corolla.gather(future)
    assert future.done()
    del future
    loop.close()


# ---- Exceptions ----


def test_the_first_exception_is_raised_and_the_rest_runs_on(gather: Any, run: Run) -> None:
    async def main() -> None:
        slow = asyncio.ensure_future(give("slow", 5))
        with pytest.raises(Oops, match="first"):
            await gather(slow, fail(Oops("second"), 3), fail(Oops("first"), 1))
        assert not slow.done()
        assert await slow == "slow"

    run(main())  # and nothing is reported of the second one


def test_return_exceptions(gather: Any, run: Run) -> None:
    async def main() -> None:
        oops = Oops()
        child = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(child.cancel, "why")
        one, two, three, four = await gather(give(1, 3), fail(oops), child, give(4), return_exceptions=True)
        assert (one, two, four) == (1, oops, 4)
        assert isinstance(three, asyncio.CancelledError)
        assert three.args == ("why",)

    run(main())


def test_return_exceptions_of_a_child_cancelled_without_message(gather: Any, run: Run, loop: Any) -> None:
    async def main() -> Any:
        future = loop.create_future()
        loop.call_soon(future.cancel)
        return await gather(future, return_exceptions=True)

    (exc,) = run(main())
    assert isinstance(exc, asyncio.CancelledError)
    assert exc.args == ("",)


def test_arguments(gather: Any, run: Run) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="unexpected keyword argument 'loop'"):
            gather(loop=None)
        future = asyncio.get_running_loop().create_future()
        late = fail(Oops("retrieved"))
        with pytest.raises(TypeError):
            gather(future, late, 42)
        future.set_exception(Oops("retrieved, too"))
        await turns()

    run(main())


# ---- Cancellation ----


def test_outer_cancel_before_the_start(gather: Any, run: Run) -> None:
    started = []

    async def start() -> None:
        started.append(1)

    async def main() -> None:
        outer = gather(start(), start())
        assert outer.cancel()
        assert not outer.done()
        with pytest.raises(asyncio.CancelledError):
            await outer
        assert outer.done()
        assert not outer.cancel()

    run(main())
    assert not started


@pytest.mark.parametrize("return_exceptions", [False, True])
def test_outer_cancel_when_running(gather: Any, run: Run, loop: Any, return_exceptions: bool) -> None:
    async def main() -> None:
        children = [asyncio.ensure_future(forever()), asyncio.Task(forever(), loop=loop), OwnFuture(loop=loop)]
        outer = gather(give(1), *children, return_exceptions=return_exceptions)
        await turns()
        assert outer.cancel(msg="enough")
        with pytest.raises(asyncio.CancelledError) as caught:
            await outer
        assert caught.value.args == ("enough",)
        assert all(child.cancelled() for child in children)
        assert children[2].asked == ["cancel"]

    run(main())


@pytest.mark.parametrize("return_exceptions", [False, True])
def test_cancelling_the_task_that_waits(gather: Any, run: Run, return_exceptions: bool) -> None:
    async def main() -> None:
        child = asyncio.ensure_future(forever())

        async def wait() -> None:
            await gather(child, forever(), return_exceptions=return_exceptions)

        task = asyncio.ensure_future(wait())
        await turns()
        task.cancel("stop")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert child.cancelled()

    run(main())


def test_the_error_of_a_cancelled_gather_is_that_of_the_last_child_in_order(gather: Any, run: Run, loop: Any) -> None:
    async def main() -> None:
        for last, args in ((give(1), ()), (loop.create_future(), ("enough",))):
            outer = gather(forever(), loop.create_future(), last, return_exceptions=True)
            await turns()
            outer.cancel("enough")
            with pytest.raises(asyncio.CancelledError) as caught:
                await outer
            assert caught.value.args == args

    run(main())


def test_cancel_is_kept_though_no_child_obeys(gather: Any, run: Run) -> None:
    log: list[str] = []

    async def main() -> None:
        outer = gather(stubborn(log), stubborn(log), return_exceptions=True)
        await turns()
        assert outer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outer

    run(main())
    assert log == ["cancelled", "cancelled"]


def test_a_cancelled_child(gather: Any, run: Run, loop: Any) -> None:
    async def main() -> None:
        for child in (asyncio.ensure_future(forever()), loop.create_future(), asyncio.Future(loop=loop)):
            other = asyncio.ensure_future(give("other", 8))
            outer = gather(other, child)
            await turns(3)
            child.cancel("by itself")
            with pytest.raises(asyncio.CancelledError) as caught:
                await outer
            assert caught.value.args == ("by itself",)
            assert not outer.cancelled()
            assert await other == "other"

    run(main())


def test_cancel_after_an_exception_leaves_the_rest_alone(gather: Any, run: Run) -> None:
    async def main() -> None:
        child = asyncio.ensure_future(give("alive", 8))
        outer = gather(child, fail(Oops()))
        with pytest.raises(Oops):
            await outer
        assert not outer.cancel()
        assert await child == "alive"

    run(main())


# ---- Loops ----


def test_futures_of_different_loops(gather: Any, run: Run, loop: Any) -> None:
    async def main() -> None:
        for make in (corolla.EventLoop, asyncio.SelectorEventLoop):
            other = make()
            try:
                with pytest.raises(ValueError, match="different loop"):
                    gather(loop.create_future(), other.create_future())
            finally:
                other.close()

    run(main())


def test_outside_a_running_loop(gather: Any, run: Run, loop: Any) -> None:
    futures = [loop.create_future(), loop.create_future()]
    outer = gather(*futures)
    assert outer.get_loop() is loop
    futures[1].set_result(2)
    futures[0].set_result(1)
    assert run(outer) == [1, 2]


def test_the_task_factory_makes_the_tasks(gather: Any, run: Run, loop: Any) -> None:
    made = []

    def factory(loop: Any, coro: Any, **options: Any) -> Any:
        task = asyncio.Task(coro, loop=loop, **options)
        made.append(task)
        return task

    async def main() -> None:
        loop.set_task_factory(factory)
        assert await gather(give(1), give(2)) == [1, 2]
        assert len(made) == 2
        loop.set_task_factory(None)
        assert await gather(give(3)) == [3]
        assert len(made) == 2

    run(main())


def test_an_overridden_create_task_makes_the_tasks(gather: Any) -> None:
    class Loop(corolla.EventLoop):
        made = 0

        def create_task(self, coro: Any, **options: Any) -> Any:
            self.made += 1
            return super().create_task(coro, **options)

    loop = Loop()

    async def main() -> Any:
        before = loop.made
        assert await gather(give(1), give(2)) == [1, 2]
        return loop.made - before

    try:
        assert loop.run_until_complete(main()) == 2
    finally:
        loop.close()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
def test_eager_tasks(gather: Any, run: Run, loop: Any) -> None:
    async def main() -> None:
        loop.set_task_factory(asyncio.eager_task_factory)
        assert gather(give(1), give(2)).result() == [1, 2]
        assert await gather(give(1), give(2, 3), fail(Oops()), return_exceptions=True)
        with pytest.raises(Oops):
            await gather(give(1, 3), fail(Oops()))
        loop.set_task_factory(None)
        await turns()

    run(main())


def test_debug_mode(gather: Any, run: Run, loop: Any) -> None:
    loop.set_debug(True)

    async def main() -> None:
        outer = gather(give(1), give(2))
        assert outer._source_traceback
        assert await outer == [1, 2]

    run(main())


def test_tasks_left_pending_are_not_reported(gather: Any, loop: Any) -> None:
    async def main() -> None:
        gather(forever(), forever())
        await turns(2)

    loop.run_until_complete(main())
    gc.collect()  # the fixture: "Task was destroyed but it is pending!" would be in the reports


def test_exceptions_of_the_outer_future_are_reported_when_nobody_looks(
    gather: Any, run: Run, reports: list[dict[str, Any]]
) -> None:
    async def main() -> None:
        gather(fail(Oops()))
        await turns()

    run(main())
    gc.collect()
    assert "exception was never retrieved" in reports.pop()["message"]


# ---- Memory ----


def test_no_leak() -> None:
    loop = corolla.new_event_loop()

    async def one() -> None:
        future = loop.create_future()
        await corolla.gather(give(1), give(2, 1), asyncio.sleep(0), Awaitable(3))
        await corolla.gather(fail(Oops()), give(2), return_exceptions=True)
        outer = corolla.gather(future, forever(), asyncio.Task(forever(), loop=loop))
        await asyncio.sleep(0)
        outer.cancel()
        try:
            await outer
        except asyncio.CancelledError:
            pass
        try:
            corolla.gather(give(1), 42)  # type: ignore[call-overload]
        except TypeError:
            pass

    async def rounds(count: int) -> None:
        for _ in range(count):
            await one()
        await turns()

    try:
        loop.run_until_complete(rounds(100))
        gc.collect()
        before = sys.getallocatedblocks()
        loop.run_until_complete(rounds(1000))
        gc.collect()
        grown = sys.getallocatedblocks() - before
    finally:
        loop.close()
    assert grown < 500


def test_a_pending_gather_is_collected() -> None:
    loop = corolla.new_event_loop()
    future = loop.create_future()
    outer = corolla.gather(future)
    future.outer = outer  # type: ignore[attr-defined]
    dead = weakref.ref(outer)
    del future, outer
    gc.collect()
    assert dead() is None
    loop.close()
