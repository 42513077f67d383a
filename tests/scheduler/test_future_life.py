"""Future: half-made objects, the collector, and exceptions nobody fetched."""

import asyncio
import contextlib
import gc
import threading
import weakref

import pytest
from impl import Future, Task, beyond_stdlib


class SkipsInit(Future):
    def __init__(self, *args, **kwargs):
        pass


class SkipsTaskInit(Task):
    def __init__(self, *args, **kwargs):
        pass


HALF_MADE = {
    "bare future": lambda: Future.__new__(Future),
    "future without super().__init__": lambda: SkipsInit(),
    "bare task": lambda: Task.__new__(Task),
    "task without super().__init__": lambda: SkipsTaskInit(),
}


async def nothing(): ...


def half_made_task():
    return Task.__new__(Task)


@pytest.fixture(params=HALF_MADE)
def half_made(request):
    return HALF_MADE[request.param]()


@beyond_stdlib("asyncio's repr of these differs by version")
def test_a_half_made_one_can_be_shown_and_dropped(half_made):
    assert repr(half_made).startswith("<")
    weakref.ref(half_made)
    del half_made
    gc.collect()


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("result", ()),
        ("exception", ()),
        ("set_result", (1,)),
        ("set_exception", (ValueError(),)),
        ("cancel", ()),
        ("add_done_callback", (print,)),
        ("remove_done_callback", (print,)),
        ("get_loop", ()),
        ("_make_cancelled_error", ()),
    ],
)
@beyond_stdlib("asyncio's answers differ by version")
def test_the_methods_of_a_half_made_one_raise(half_made, method, arguments):
    if method == "_make_cancelled_error":
        with contextlib.suppress(RuntimeError):
            getattr(half_made, method)(*arguments)
    elif method == "remove_done_callback":
        with contextlib.suppress(RuntimeError):
            assert getattr(half_made, method)(*arguments) == 0
    else:
        # A Task refuses set_result() and set_exception() with a RuntimeError of its own.
        with pytest.raises((RuntimeError, asyncio.InvalidStateError)):
            getattr(half_made, method)(*arguments)


@beyond_stdlib("asyncio's answers differ by version")
def test_awaiting_a_half_made_one_raises(loop, half_made):
    async def main():
        await half_made

    with pytest.raises((RuntimeError, AttributeError, TypeError)):
        loop.run_until_complete(main())
    with pytest.raises((RuntimeError, AttributeError, TypeError)):
        next(iter(half_made))


@beyond_stdlib("asyncio's answers differ by version")
def test_a_task_that_waits_for_one_that_lies_about_itself(loop):
    # A half-made future with the blocking flag up, yielded as if by its own iterator.
    import types

    for make in HALF_MADE.values():

        @types.coroutine
        def lie(make=make):
            future = make()
            future._asyncio_future_blocking = True
            yield future

        async def main(lie=lie):
            await lie()

        with pytest.raises((RuntimeError, AttributeError, TypeError)):
            loop.run_until_complete(main())


def test_initialised_late(loop):
    future = Future.__new__(Future)
    future.__init__(loop=loop)
    future.set_result(1)
    assert loop.run_until_complete(future) == 1
    late = SkipsInit()
    Future.__init__(late, loop=loop)
    late.set_result(2)
    assert loop.run_until_complete(late) == 2


def test_a_failed_init_leaves_a_half_made_one(loop):
    future = Future.__new__(Future)
    with pytest.raises(TypeError):
        future.__init__(5)
    with pytest.raises(AttributeError):
        future.__init__(loop=object())


# ---- exceptions nobody fetched -------------------------------------------------------------------------------------


def test_never_retrieved(loop, reports, no_gc):
    future = Future(loop=loop)
    error = ValueError("nobody asks")
    future.set_exception(error)
    assert reports == []
    del future
    report = reports.pop()
    assert report["message"] == "Future exception was never retrieved"
    assert report["exception"] is error
    assert isinstance(report["future"], Future)
    assert "source_traceback" not in report


def test_never_retrieved_names_a_subclass(loop, reports, no_gc):
    class Named(Future):
        pass

    Named(loop=loop).set_exception(ValueError())
    assert reports.pop()["message"] == "Named exception was never retrieved"


def test_never_retrieved_in_debug_mode(loop, reports):
    loop.set_debug(True)
    future = Future(loop=loop)
    future.set_exception(ValueError())
    del future
    gc.collect()
    assert reports.pop()["source_traceback"][-1].name == "test_never_retrieved_in_debug_mode"


@pytest.mark.parametrize("retrieve", ["exception", "result", "cancel", "_log_traceback"])
def test_retrieved(loop, reports, retrieve, no_gc):
    future = Future(loop=loop)
    future.set_exception(ValueError())
    if retrieve == "_log_traceback":
        future._log_traceback = False
    else:
        with contextlib.suppress(ValueError):
            getattr(future, retrieve)()
    del future
    assert reports == []


def test_retrieved_by_await(loop, reports):
    future = Future(loop=loop)

    async def main():
        loop.call_soon(future.set_exception, ValueError())
        with pytest.raises(ValueError):
            await future

    loop.run_until_complete(main())
    del future
    gc.collect()
    assert reports == []


def test_the_report_may_bring_the_future_back(loop):
    kept = []
    loop.set_exception_handler(lambda loop, context: kept.append(context["future"]))
    future = Future(loop=loop)
    future.set_exception(ValueError("kept"))
    del future
    gc.collect()
    assert len(kept) == 1
    assert isinstance(kept[0].exception(), ValueError)
    kept.clear()
    gc.collect()
    assert kept == []


def test_reported_in_a_cycle(loop, reports):
    future = Future(loop=loop)
    future.itself = future
    future.set_exception(ValueError())
    del future
    gc.collect()
    assert len(reports) == 1
    reports.clear()


def test_an_exception_that_holds_the_future(loop, reports):
    future = Future(loop=loop)
    error = ValueError()
    error.future = future
    future.set_exception(error)
    del future, error
    gc.collect()
    assert reports.pop()["message"] == "Future exception was never retrieved"


# ---- the collector -------------------------------------------------------------------------------------------------


def test_cycles_are_collected(loop):
    class Kept:
        pass

    deaths = []
    for state in ("pending", "result", "exception", "callbacks"):
        future = Future(loop=loop)
        kept = Kept()
        kept.future = future
        deaths += [weakref.ref(kept), weakref.ref(future)]
        if state == "pending":
            future.attribute = kept
        elif state == "result":
            future.set_result(kept)
        elif state == "exception":
            error = ValueError()
            error.kept = kept
            future.set_exception(error)
            future.exception()
            del error
        else:
            for _ in range(3):
                future.add_done_callback(lambda f, kept=kept: None)
        del kept, future
    gc.collect()
    assert [ref() for ref in deaths] == [None] * 8


def test_a_future_that_is_waited_for_in_a_cycle(loop, turn, reports):
    async def wait(future):
        await future

    future = Future(loop=loop)
    task = loop.create_task(wait(future))
    future.task = task
    turn()
    deaths = [weakref.ref(future), weakref.ref(task)]
    task._log_destroy_pending = False
    del future, task
    gc.collect()
    assert [ref() for ref in deaths] == [None, None]


def test_freed_by_reference_count(loop, no_gc):
    future = Future(loop=loop)
    dead = weakref.ref(future)
    future.add_done_callback(print)
    future.add_done_callback(len)
    del future
    assert dead() is None


@pytest.fixture
def eager_collector():
    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def test_with_the_collector_at_every_allocation(loop, eager_collector):
    async def child(i):
        future = loop.create_future()
        future.add_done_callback(lambda f: None)
        loop.call_soon(future.set_result, [i])
        await future
        if i % 3 == 0:
            raise LookupError(i)
        return i

    async def main():
        tasks = [loop.create_task(child(i)) for i in range(30)]
        tasks[7].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = loop.run_until_complete(main())
    assert [i for i, result in enumerate(results) if isinstance(result, LookupError)] == list(range(0, 30, 3))


def test_with_the_collector_in_another_thread(loop):
    stop = threading.Event()

    def collect():
        while not stop.is_set():
            gc.collect()

    async def child(future):
        return await future

    async def main():
        for _ in range(40):
            futures = [loop.create_future() for _ in range(10)]
            tasks = [loop.create_task(child(future)) for future in futures]
            await asyncio.sleep(0)
            for i, future in enumerate(futures):
                future.set_result([future, tasks])
                if i % 2:
                    tasks[i].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        loop.run_until_complete(main())
    finally:
        stop.set()
        thread.join()


def test_a_finaliser_that_uses_the_future_again(loop, turn):
    class Dying:
        def __init__(self, future):
            self.future = future

        def __call__(self, f): ...

        def __del__(self):
            self.future.add_done_callback(lambda f: calls.append(1))
            self.future.remove_done_callback(print)

    calls = []
    future = Future(loop=loop)
    for _ in range(5):
        future.add_done_callback(Dying(future))
    future.set_result(1)
    turn()
    turn()
    assert calls == [1] * 5


def test_deep_chains_of_results_are_freed(loop):
    future = None
    for _ in range(20_000):
        outer = Future(loop=loop)
        outer.set_result(future)
        future = outer
    del outer, future
    gc.collect()
