"""Queue: the same behaviour from asyncio's and from ours, on our loop and on asyncio's; and what is ours alone."""

import asyncio
import collections
import gc
import inspect
import random
import types
import weakref
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import corolla
import pytest
from primitives.queues import KINDS, LOOPS, MAKERS, drained, needs_shutdown, turns

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=MAKERS)
def library(request: pytest.FixtureRequest) -> Any:
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


# ---- putting and getting ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "expected"), [("Queue", [2, 1, 3]), ("LifoQueue", [3, 1, 2]), ("PriorityQueue", [1, 2, 3])]
)
def test_order(library, run, kind, expected):
    async def main():
        queue = getattr(library, kind)()
        for item in (2, 1, 3):
            await queue.put(item)
        assert queue.qsize() == 3
        assert not queue.empty()
        return [await queue.get() for _ in range(3)]

    assert run(main()) == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 100, 5000])
def test_many_items(library, kind, count):
    """Also around the ends of the ring, and when it is given back."""
    queue = getattr(library, kind)()
    items = list(range(count))
    random.Random(count).shuffle(items)
    for _ in range(3):
        for item in items:
            queue.put_nowait(item)
        expected = {"Queue": items, "LifoQueue": items[::-1], "PriorityQueue": sorted(items)}[kind]
        assert drained(queue) == expected
        assert queue.empty()


def test_ring_that_wraps_around(library):
    queue = library.Queue()
    expected = collections.deque()
    number = 0
    rng = random.Random(1)
    for _ in range(2000):
        if rng.random() < 0.55:
            queue.put_nowait(number)
            expected.append(number)
            number += 1
        elif expected:
            assert queue.get_nowait() == expected.popleft()
    assert drained(queue) == list(expected)


def test_what_is_ready_makes_no_future_and_needs_no_turn(run, loop):
    """The issue of the primitives: with an item there or room for one, nothing is queued."""
    made = []
    original = loop.create_future

    async def main():
        queue = corolla.Queue(1)
        loop.create_future = lambda: made.append(1) or original()
        others = []
        loop.call_soon(others.append, 1)
        for item in range(100):
            await queue.put(item)
            assert await queue.get() == item
        assert not others
        queue.put_nowait(1)
        getter = asyncio.ensure_future(queue.put(2))
        await turns()
        assert made == [1]
        assert queue.get_nowait() == 1
        await getter

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_empty_and_full(library, kind):
    queue = getattr(library, kind)(maxsize=2)
    assert queue.maxsize == 2
    with pytest.raises(asyncio.QueueEmpty) as raised:
        queue.get_nowait()
    assert raised.value.args == ()
    queue.put_nowait(1)
    assert not queue.full()
    queue.put_nowait(2)
    assert queue.full()
    with pytest.raises(asyncio.QueueFull) as full:
        queue.put_nowait(3)
    assert full.value.args == ()
    assert sorted(drained(queue)) == [1, 2]
    assert queue.empty()


@pytest.mark.parametrize(
    ("maxsize", "fits"),
    [(0, None), (-1, None), (1, 1), (1.3, 2), (True, 1), (2**100, None), (-(2**100), None), (0.0, None)],
)
def test_kinds_of_maxsize(library, maxsize, fits):
    queue = library.Queue(maxsize)
    assert queue.maxsize == maxsize
    for item in range(fits or 20):
        assert not queue.full()
        queue.put_nowait(item)
    assert queue.full() == (fits is not None)


def test_maxsize_that_is_no_number(library):
    class Two:
        def __le__(self, other):
            return other >= 2

        def __ge__(self, other):
            return other <= 2

        def __repr__(self):
            return "Two"

    queue = library.Queue(Two())
    queue.put_nowait(1)
    queue.put_nowait(2)
    assert queue.full()
    assert "maxsize=Two" in repr(queue)
    for wrong in (None, "", object()):
        with pytest.raises(TypeError):
            library.Queue(wrong).full()
        with pytest.raises(TypeError):
            library.Queue(wrong).put_nowait(1)


def test_infinite_and_no_number(library):
    for maxsize in (float("inf"), float("nan")):
        queue = library.Queue(maxsize)
        queue.put_nowait(1)
        assert not queue.full()


def test_maxsize_may_change(library):
    queue = library.Queue(1)
    queue.put_nowait(1)
    queue._maxsize = 2
    queue.put_nowait(2)
    assert queue.full()
    assert queue.maxsize == 2


def test_get_waits_for_put_and_put_for_get(library, run, loop):
    async def main():
        queue = library.Queue(1)
        got = []

        async def consume():
            for _ in range(5):
                got.append(await queue.get())

        async def produce():
            for item in range(5):
                await queue.put(item)

        await asyncio.gather(consume(), produce())
        assert got == [0, 1, 2, 3, 4]

    run(main())


def test_getters_are_served_in_order(library, run, loop):
    async def main():
        queue = library.Queue()
        tasks = [loop.create_task(queue.get()) for _ in range(5)]
        await turns()
        for item in range(5):
            queue.put_nowait(item)
        assert await asyncio.gather(*tasks) == [0, 1, 2, 3, 4]

    run(main())


def test_putters_are_served_in_order(library, run, loop):
    async def main():
        queue = library.Queue(1)
        tasks = [loop.create_task(queue.put(item)) for item in range(6)]
        await turns(2)
        assert [await queue.get() for _ in range(6)] == list(range(6))
        await asyncio.gather(*tasks)

    run(main())


def test_arguments(library):
    queue = library.Queue()
    with pytest.raises(TypeError):
        queue.put()
    with pytest.raises(TypeError):
        queue.put_nowait(1, 2)
    with pytest.raises(TypeError):
        queue.get(1)
    with pytest.raises(TypeError):
        library.Queue(loop=None)
    with pytest.raises(TypeError):
        library.Queue(1, 2)
    queue.put_nowait(item=1)
    queue.put(item=1).close()
    assert queue.qsize() == 1


# ---- what is a coroutine ----------------------------------------------------------------------------------------------


def test_coroutines():
    queue = corolla.Queue()
    for coro, name in ((queue.put(1), "put"), (queue.get(), "get"), (queue.join(), "join")):
        assert asyncio.iscoroutine(coro)
        assert inspect.isawaitable(coro)
        assert (coro.__name__, coro.__qualname__) == (name, f"Queue.{name}")
        coro.close()
    with pytest.warns(RuntimeWarning, match="coroutine 'Queue.put' was never awaited"):
        queue.put(1)
        gc.collect()
    assert queue.empty()


def test_coroutine_is_awaited_once(run):
    async def main():
        queue = corolla.Queue()
        coro = queue.put(1)
        await coro
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await coro

    run(main())


def test_thrown_into_and_closed_while_waiting(library, run, loop):
    async def main():
        queue = library.Queue()
        for end in (lambda coro: coro.close(), lambda coro: coro.throw(LookupError("thrown"))):
            coro = queue.get()
            future = coro.send(None)
            assert asyncio.isfuture(future)
            try:
                end(coro)
            except LookupError as exc:
                assert exc.args == ("thrown",)
            assert future.cancelled()
            assert "_getters" not in repr(queue)
        queue.put_nowait(1)
        assert queue.get_nowait() == 1

    run(main())


# ---- cancelling -------------------------------------------------------------------------------------------------------


def test_cancelled_getter_passes_the_item_on(library, run, loop):
    """Woken and cancelled in the same turn (python/asyncio issues 201 and 343; bpo-23812)."""

    async def main():
        queue = library.Queue()
        first, second = loop.create_task(queue.get()), loop.create_task(queue.get())
        await turns()
        queue.put_nowait("item")
        first.cancel()
        assert await second == "item"
        assert first.cancelled()
        assert "_getters" not in repr(queue)

    run(main())


def test_cancelled_putter_passes_the_room_on(library, run, loop):
    """The same for put() (bpo-23812)."""

    async def main():
        queue = library.Queue(1)
        queue.put_nowait(0)
        first, second = loop.create_task(queue.put(1)), loop.create_task(queue.put(2))
        await turns()
        assert queue.get_nowait() == 0
        first.cancel()
        await second
        assert queue.get_nowait() == 2
        assert first.cancelled()

    run(main())


def test_cancelled_while_waiting_leaves_the_line(library, run, loop):
    async def main():
        queue = library.Queue(1)
        queue.put_nowait(0)
        putters = [loop.create_task(queue.put(item)) for item in range(3)]
        await turns()
        assert "_putters[3]" in repr(queue)
        putters[1].cancel()
        await turns()
        assert "_putters[2]" in repr(queue)
        assert [await queue.get() for _ in range(3)] == [0, 0, 2]
        await asyncio.gather(*putters, return_exceptions=True)

    run(main())


def test_cancelled_join(library, run, loop):
    async def main():
        queue = library.Queue()
        queue.put_nowait(1)
        first, second = loop.create_task(queue.join()), loop.create_task(queue.join())
        await turns()
        first.cancel()
        await turns()
        assert first.cancelled()
        assert not second.done()
        queue.task_done()
        await second

    run(main())


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("kind", KINDS)
def test_random_cancels_lose_nothing(run, loop, kind, seed):
    """Every item whose put() returned comes out once, and nobody stays stuck (python/asyncio issues 201, 343)."""

    async def main():
        rng = random.Random(seed)
        queue = getattr(corolla, kind)(rng.choice([0, 1, 2, 5]))
        put, got, running = [], [], []

        async def produce(number):
            await queue.put(number)
            put.append(number)

        async def consume():
            got.append(await queue.get())

        for number in range(200):
            running.append(loop.create_task(rng.choice([lambda n=number: produce(n), consume])()))
            if rng.random() < 0.3:
                rng.choice(running).cancel()
            if rng.random() < 0.1:
                await turns(rng.randrange(3))
        await turns(20)
        stuck = [task for task in running if not task.done()]
        # Whoever waits does so for a reason: getters for items, or putters for room.
        if stuck and "_getters" in repr(queue):
            assert queue.empty()
            assert "_putters" not in repr(queue)
        elif stuck:
            assert queue.full()
        for _ in range(len(running)):
            if not queue.empty():
                got.append(queue.get_nowait())
                await turns(3)
        assert sorted(got) == sorted(put)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        assert "_getters" not in repr(queue)
        assert "_putters" not in repr(queue)

    run(main())


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("kind", KINDS)
def test_random_programs_run_as_on_asyncio(run, loop, kind, seed):
    """The same order of events, whatever puts, gets, joins, shuts down, cancels or times out."""

    async def program(library):
        rng = random.Random(seed)
        queue = getattr(library, kind)(rng.choice([0, 1, 3]))
        events: list[Any] = []
        tasks: list[Any] = []

        async def act(name, step):
            try:
                events.append((name, "result", await step(name)))
            except BaseException as exc:
                events.append((name, type(exc).__name__))

        steps = [
            lambda n: queue.put(n),
            lambda n: queue.get(),
            lambda n: queue.get(),
            lambda n: queue.join(),
            lambda n: asyncio.wait_for(queue.get(), 0),
        ]
        for number in range(120):
            chance = rng.random()
            if chance < 0.6:
                tasks.append(loop.create_task(act(number, rng.choice(steps))))
            elif chance < 0.75 and tasks:
                tasks[rng.randrange(len(tasks))].cancel()
            elif chance < 0.85:
                try:
                    rng.choice([lambda n=number: queue.put_nowait(n), queue.get_nowait, queue.task_done])()
                except Exception as exc:
                    events.append((number, type(exc).__name__))
            elif chance < 0.855 and hasattr(asyncio.Queue, "shutdown"):
                queue.shutdown(rng.random() < 0.5)
            else:
                await turns(rng.randrange(3))
                events.append(queue._format())
        await turns(5)
        for task in tasks:
            task.cancel()
        await turns(5)
        return events

    assert run(program(corolla)) == run(program(asyncio))


# ---- join() -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_join(library, run, loop, kind):
    async def main():
        queue = getattr(library, kind)()
        await queue.join()
        with pytest.raises(ValueError, match=r"task_done\(\) called too many times"):
            queue.task_done()
        for item in range(3):
            queue.put_nowait(item)
        waiting = [loop.create_task(queue.join()) for _ in range(2)]
        for _ in range(3):
            await turns(2)
            assert not any(task.done() for task in waiting)
            queue.get_nowait()
            queue.task_done()
        await asyncio.gather(*waiting)

    run(main())


def test_finished_is_an_event_that_goes_along(library, run, loop):
    async def main():
        queue = library.Queue()
        assert queue._finished.is_set()
        queue.put_nowait(1)
        assert not queue._finished.is_set()
        joining, waiting = loop.create_task(queue.join()), loop.create_task(queue._finished.wait())
        await turns()
        queue.task_done()
        assert queue._finished.is_set()
        await joining
        await waiting

        late = library.Queue()
        late.put_nowait(1)
        joining = loop.create_task(late.join())
        await turns()
        assert not late._finished.is_set()
        late.task_done()
        await joining
        assert late._finished.is_set()

    run(main())


# ---- shutdown() -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_shutdown(library, run, loop, kind):
    needs_shutdown(library)

    async def main():
        queue = getattr(library, kind)(1)
        queue.put_nowait(1)
        putter, joiner = loop.create_task(queue.put(2)), loop.create_task(queue.join())
        await turns()
        queue.shutdown()
        with pytest.raises(corolla.QueueShutDown):
            await putter
        with pytest.raises(corolla.QueueShutDown):
            queue.put_nowait(3)
        assert await queue.get() == 1
        with pytest.raises(corolla.QueueShutDown):
            await queue.get()
        with pytest.raises(corolla.QueueShutDown):
            queue.get_nowait()
        assert not joiner.done()
        queue.task_done()
        await joiner
        assert queue._format().endswith(" shutdown")

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_shutdown_at_once(library, run, loop, kind):
    needs_shutdown(library)

    async def main():
        queue = getattr(library, kind)()
        queue.put_nowait(1)
        queue.put_nowait(2)
        joiner = loop.create_task(queue.join())
        await turns()
        assert queue.get_nowait() in (1, 2)
        queue.shutdown(immediate=True)
        assert queue.empty()
        await turns(2)
        assert not joiner.done()
        queue.task_done()
        await joiner
        with pytest.raises(ValueError, match="too many times"):
            queue.task_done()

    run(main())


def test_shutdown_wakes_all_getters(library, run, loop):
    needs_shutdown(library)

    async def main():
        queue = library.Queue()
        getters = [loop.create_task(queue.get()) for _ in range(3)]
        await turns()
        queue.shutdown(True)
        results = await asyncio.gather(*getters, return_exceptions=True)
        assert [type(result) for result in results] == [corolla.QueueShutDown] * 3

    run(main())


def test_exceptions_are_asyncios():
    assert corolla.QueueEmpty is asyncio.QueueEmpty
    assert corolla.QueueFull is asyncio.QueueFull
    assert issubclass(corolla.QueueShutDown, Exception)
    assert corolla.QueueShutDown is getattr(asyncio, "QueueShutDown", corolla.QueueShutDown)
    assert corolla.QueueShutDown.__name__ == "QueueShutDown"


# ---- as it shows itself -----------------------------------------------------------------------------------------------


def test_repr_and_str(library, run, loop):
    async def main():
        queue = library.Queue(2)
        assert repr(queue) == f"<Queue at {id(queue):#x} maxsize=2>"
        assert str(queue) == "<Queue maxsize=2>"
        queue.put_nowait("a")
        queue.put_nowait("b")
        task = loop.create_task(queue.put("c"))
        await turns()
        assert str(queue) == "<Queue maxsize=2 _queue=['a', 'b'] _putters[1] tasks=2>"
        drained(queue)
        await task
        drained(queue)
        task = loop.create_task(queue.get())
        await turns()
        assert str(queue) == "<Queue maxsize=2 _getters[1] tasks=3>"
        task.cancel()
        await turns()

    run(main())
    assert str(library.PriorityQueue()) == "<PriorityQueue maxsize=0>"
    assert str(library.LifoQueue()) == "<LifoQueue maxsize=0>"
    assert str(type("Mine", (library.Queue,), {})()) == "<Mine maxsize=0>"


def test_repr_of_a_queue_in_itself(library):
    queue = library.Queue()
    queue.put_nowait(queue)
    with pytest.raises(RecursionError):
        repr(queue)
    queue.get_nowait()


def test_generic_alias_attributes_and_weak_references(library):
    assert isinstance(library.Queue[int], types.GenericAlias)
    assert library.PriorityQueue[int].__origin__ is library.PriorityQueue
    queue = library.Queue()
    queue.name = "mine"
    assert vars(queue)["name"] == "mine"
    gone = weakref.ref(queue)
    queue.itself = queue
    del queue
    gc.collect()
    assert gone() is None


def test_attributes_that_people_read(library, run, loop):
    async def main():
        queue = library.Queue(3)
        assert (queue._maxsize, queue._unfinished_tasks, queue._loop) == (3, 0, None)
        assert not queue._getters
        queue.put_nowait(1)
        assert queue._unfinished_tasks == 1
        assert queue._queue == collections.deque([1])
        task = loop.create_task(drain(queue))
        await turns()
        assert len(queue._getters) == 1
        assert queue._loop is loop
        queue.put_nowait(2)
        await task
        assert not queue._getters
        queue._unfinished_tasks = 5
        assert "tasks=5" in repr(queue)

    async def drain(queue):
        await queue.get()
        await queue.get()

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_queue_attribute_is_live(library, kind):
    """People put back, peek and clear through it: what they do is seen, and what is put and got is seen by them."""
    queue = getattr(library, kind)()
    for item in (3, 1, 2):
        queue.put_nowait(item)
    inside = queue._queue
    assert queue._queue is inside
    assert type(inside) is (collections.deque if kind == "Queue" else list)
    assert sorted(inside) == [1, 2, 3]
    queue.put_nowait(0)
    assert len(inside) == queue.qsize() == 4
    assert queue.get_nowait() == {"Queue": 3, "LifoQueue": 0, "PriorityQueue": 0}[kind]
    assert len(inside) == 3
    inside.append(9)
    assert queue.qsize() == 4
    if kind == "PriorityQueue":
        assert drained(queue) == [1, 2, 3, 9]
    inside.clear()
    assert queue.empty()
    queue._queue = type(inside)([7])
    assert queue.get_nowait() == 7


def test_lines_are_live(library, run, loop):
    """A future that somebody puts among the getters or putters is woken (as asyncio's own tests do)."""

    async def main():
        queue = library.Queue(1)
        queue.put_nowait(1)
        waiter = loop.create_future()
        task = loop.create_task(queue.put(2))
        await turns()
        queue._putters.appendleft(waiter)
        assert len(queue._putters) == 2
        assert queue.get_nowait() == 1
        assert waiter.result() is None
        assert len(queue._putters) == 1
        queue._wakeup_next(queue._putters)
        await task
        getter = loop.create_task(queue.get())
        more = loop.create_task(queue.get())
        await turns()
        assert len(queue._getters) == 1
        more.cancel()
        await turns()
        assert not queue._getters
        assert await getter == 2

    run(main())


# ---- subclasses -------------------------------------------------------------------------------------------------------


def test_the_documented_extension_points(library, run, loop):
    class Unique(library.Queue):
        def _init(self, maxsize):
            self.seen = []
            self._queue = {}

        def _put(self, item):
            self.seen.append(item)
            self._queue[item] = None

        def _get(self):
            return self._queue.popitem()[0]

    async def main():
        queue = Unique(2)
        await queue.put("a")
        await queue.put("a")
        assert queue.qsize() == 1
        await queue.put("b")
        putter = loop.create_task(queue.put("c"))
        await turns()
        assert not putter.done()
        assert await queue.get() == "b"
        await putter
        assert queue.seen == ["a", "a", "b", "c"]
        assert str(queue).startswith("<Unique maxsize=2 _queue=['a', 'c']")
        assert [await queue.get(), await queue.get()] == ["c", "a"]

    run(main())


def test_extension_points_that_call_the_base(library, run):
    class Logged(library.PriorityQueue):
        def _init(self, maxsize):
            super()._init(maxsize)
            self.log = [maxsize]

        def _put(self, item):
            self.log.append(item)
            super()._put((-item, item))

        def _get(self):
            return super()._get()[1]

    async def main():
        queue = Logged(7)
        for item in (1, 3, 2):
            await queue.put(item)
        assert [await queue.get() for _ in range(3)] == [3, 2, 1]
        assert queue.log == [7, 1, 3, 2]

    run(main())


def test_other_methods_that_are_replaced(library, run, loop):
    class Weighed(library.Queue):
        def qsize(self):
            return sum(self._queue)

        def empty(self):
            return super().empty()

        def full(self):
            self.asked = True
            return super().full()

        def put_nowait(self, item):
            super().put_nowait(item)
            return "put"

        def get_nowait(self):
            return -super().get_nowait()

        def _format(self):
            return "weighed"

        def _wakeup_next(self, waiters):
            self.woken = len(waiters)
            super()._wakeup_next(waiters)

    async def main():
        queue = Weighed(10)
        assert await queue.put(4) == "put"
        assert queue.asked
        await queue.put(6)
        putter = loop.create_task(queue.put(1))
        await turns()
        assert not putter.done()
        assert await queue.get() == -4
        assert queue.woken == 1
        await putter
        assert str(queue) == "<Weighed weighed>"

    run(main())


def test_errors_of_extension_points(library, run, loop):
    class Picky(library.Queue):
        def _put(self, item):
            if item is None:
                raise LookupError("refused")
            super()._put(item)

    async def main():
        queue = Picky()
        with pytest.raises(LookupError, match="refused"):
            await queue.put(None)
        with pytest.raises(LookupError, match="refused"):
            queue.put_nowait(None)
        assert queue._unfinished_tasks == 0
        await queue.put(1)
        assert await queue.get() == 1

    run(main())


def test_room_that_a_failing_put_leaves_goes_to_the_next(run, loop):
    """A putter that was woken and then raises has used nothing: without passing it on, the next would sleep for ever."""

    class Picky(corolla.Queue):
        def _put(self, item):
            if item is None:
                raise LookupError("refused")
            super()._put(item)

    async def main():
        queue = Picky(1)
        queue.put_nowait(0)
        first, second = loop.create_task(queue.put(None)), loop.create_task(queue.put(2))
        await turns()
        assert queue.get_nowait() == 0
        with pytest.raises(LookupError):
            await first
        await second
        assert queue.get_nowait() == 2

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_subclass_without_slots_of_ours_is_collected(library, kind):
    class Mine(getattr(library, kind)):
        pass

    queue = Mine()
    queue.put_nowait(queue)
    gone = weakref.ref(queue)
    del queue
    gc.collect()
    assert gone() is None


# ---- loops ------------------------------------------------------------------------------------------------------------


def test_bound_to_one_loop(library):
    queue = library.Queue()

    async def wait():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(queue.get(), 0.001)

    async def wrong():
        with pytest.raises(RuntimeError, match="is bound to a different event loop") as raised:
            await queue.get()
        assert repr(queue) in str(raised.value)
        queue.put_nowait(1)
        assert await queue.get() == 1

    for make, main in ((corolla.EventLoop, wait), (asyncio.SelectorEventLoop, wrong), (corolla.EventLoop, wrong)):
        loop = make()
        loop.run_until_complete(main())
        loop.close()


def test_without_a_loop():
    queue = corolla.Queue()
    with pytest.raises(RuntimeError, match="no running event loop"):
        queue.get().send(None)
    with pytest.raises(StopIteration):
        queue.put(1).send(None)


def test_getter_that_dies_after_its_loop():
    """asyncio raises 'Event loop is closed' from the coroutine's finaliser: nobody can act on that."""
    queue = corolla.Queue()
    own = corolla.EventLoop()
    for wait in (queue.get, queue.get, queue.join):
        queue._unfinished_tasks = 1
        own.create_task(wait())._log_destroy_pending = False
    own.call_soon(own.stop)
    own.run_forever()
    own.close()
    gone = weakref.ref(queue)
    del queue, wait
    gc.collect()
    assert gone() is None


# ---- misuse, and code of others in between ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_before_init(kind):
    cls = getattr(corolla, kind)
    skips = type("Skips", (cls,), {"__init__": lambda self: None})
    for queue in (cls.__new__(cls), skips()):
        assert "not initialized" in repr(queue)
        for call in (
            queue.qsize,
            queue.empty,
            queue.full,
            queue.get_nowait,
            queue.task_done,
            queue.shutdown,
            queue._format,
            lambda queue=queue: queue.put_nowait(1),
            lambda queue=queue: queue.get().send(None),
            lambda queue=queue: queue.put(1).send(None),
            lambda queue=queue: queue.join().send(None),
            lambda queue=queue: queue.maxsize,
        ):
            with pytest.raises(RuntimeError, match="not initialized"):
                call()
        queue._queue = [1]
        assert queue._queue == [1]
        assert not queue._getters


def test_init_again(library):
    queue = library.Queue(1)
    queue.put_nowait(1)
    queue.__init__(2)
    assert queue.empty()
    assert str(queue) == "<Queue maxsize=2>"


def test_attributes_cannot_be_deleted():
    queue = corolla.Queue()
    for name in ("_queue", "_maxsize", "_unfinished_tasks", "_is_shutdown"):
        with pytest.raises(AttributeError):
            delattr(queue, name)
    with pytest.raises(TypeError):
        queue._unfinished_tasks = "many"
    with pytest.raises(OverflowError):
        queue._unfinished_tasks = 2**100


def test_item_whose_finaliser_puts(loop):
    """Dropping an item runs code that puts into the queue it was in."""

    class Item:
        def __init__(self, queue, left):
            self.queue, self.left = queue, left

        def __del__(self):
            if self.left:
                self.queue.put_nowait(Item(self.queue, self.left - 1))

    for kind in ("Queue", "LifoQueue"):
        queue = getattr(corolla, kind)()
        for _ in range(20):
            queue.put_nowait(Item(queue, 3))
        while not queue.empty():
            queue.get_nowait()
        for _ in range(20):
            queue.put_nowait(Item(queue, 3))
        queue._init(0)
        assert queue.qsize() == 20
        queue._queue = collections.deque()
        while not queue.empty():
            queue.get_nowait()


def test_shutdown_while_finalisers_put(loop):
    refused = []

    class Item:
        def __init__(self, queue):
            self.queue = queue

        def __del__(self):
            try:
                self.queue.put_nowait(1)
            except corolla.QueueShutDown:
                refused.append(1)

    queue = corolla.Queue()
    for _ in range(10):
        queue.put_nowait(Item(queue))
    queue.shutdown(immediate=True)
    assert queue.empty()
    assert len(refused) == 10


def test_show_in_which_the_collector_runs(loop):
    """Making the deque may run finalisers that put: nothing they put is lost."""
    queue = corolla.Queue()

    class Garbage:
        def __init__(self):
            self.itself = self

        def __del__(self):
            queue.put_nowait("from a finaliser")

    threshold = gc.get_threshold()
    for _ in range(50):
        queue = corolla.Queue()
        queue.put_nowait("first")
        gc.collect()
        Garbage()
        gc.set_threshold(1, 1, 1)
        try:
            queue._queue
            repr(queue)
        finally:
            gc.set_threshold(*threshold)
        gc.collect()
        assert drained(queue) == ["first", "from a finaliser"]


def test_queues_in_queues_are_dropped():
    outer = corolla.Queue()
    for _ in range(100_000):
        inner = outer
        outer = corolla.Queue()
        outer.put_nowait(inner)
    del inner
    del outer


def test_futures_of_a_loop_that_makes_its_own(loop, run):
    """create_future() overridden: its futures are what put() and get() wait on."""

    class Mine(asyncio.Future):
        pass

    made = []

    def create_future():
        made.append(Mine(loop=loop))
        return made[-1]

    async def main():
        queue = corolla.Queue(1)
        loop.create_future = create_future
        getter = loop.create_task(queue.get())
        await turns()
        queue.put_nowait(1)
        assert await getter == 1
        cancelled = loop.create_task(queue.get())
        await turns()
        cancelled.cancel()
        await turns()
        assert cancelled.cancelled()
        joined = loop.create_task(queue.join())
        await turns()
        queue.task_done()
        await joined

    run(main())
    assert len(made) == 3


def test_wakeup_that_raises(run, loop):
    """A future in the line whose set_result() raises: put_nowait() does too, and the others are still there."""

    class Hostile(asyncio.Future):
        def set_result(self, result):
            raise LookupError("hostile")

    async def main():
        queue = corolla.Queue()
        queue._getters.append(Hostile(loop=loop))
        getter = loop.create_task(queue.get())
        await turns()
        with pytest.raises(LookupError, match="hostile"):
            queue.put_nowait(1)
        assert queue.qsize() == 1
        queue.put_nowait(2)
        assert await getter == 1
        queue._getters.extend([Hostile(loop=loop), Hostile(loop=loop)])
        with pytest.raises(LookupError, match="hostile"):
            queue.shutdown()

    run(main())
