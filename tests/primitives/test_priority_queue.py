"""PriorityQueue: comparisons are code of others. They may raise, and they may use the queue."""

import asyncio
import random

import corolla
import pytest
from primitives.queues import MAKERS, drained


class Item:
    """Compares by value; what is to happen in a comparison is set from outside."""

    trap = None

    def __init__(self, value):
        self.value = value

    def __lt__(self, other):
        if Item.trap is not None:
            Item.trap(self, other)
        return self.value < other.value

    def __repr__(self):
        return f"Item({self.value})"


@pytest.fixture(autouse=True)
def no_trap():
    yield
    Item.trap = None


@pytest.mark.parametrize("shown", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_same_order_and_comparisons_as_asyncio(seed, shown):
    """Equal items too: what comes first among them depends on which comparisons are made."""
    logs = []
    for library in (asyncio, corolla):
        log = []
        Item.trap = lambda one, other, log=log: log.append((one.value, other.value))
        rng = random.Random(seed)
        queue = library.PriorityQueue()
        if shown:
            assert queue._queue == []
        for step in range(300):
            if rng.random() < 0.6 or queue.empty():
                item = Item(rng.randrange(20))
                item.number = step
                queue.put_nowait(item)
            else:
                log.append(queue.get_nowait().number)
        log += [item.number for item in drained(queue)]
        logs.append(log)
    assert logs[0] == logs[1]


@pytest.mark.parametrize("library", MAKERS)
def test_what_cannot_be_compared(library):
    queue = library.PriorityQueue()
    queue.put_nowait(1)
    with pytest.raises(TypeError, match="'<' not supported"):
        queue.put_nowait("one")
    assert queue._unfinished_tasks == 1


@pytest.mark.parametrize("shown", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_comparisons_that_raise_lose_nothing(seed, shown):
    """asyncio's get() loses the least item if a comparison raises; here a failing put() or get() changes nothing."""
    rng = random.Random(seed)
    queue = corolla.PriorityQueue()
    if shown:
        queue._queue
    expected = []

    def fail_at_times(one, other):
        if rng.random() < 0.1:
            raise LookupError("in __lt__")

    Item.trap = fail_at_times
    failures = 0
    for _ in range(1000):
        try:
            if rng.random() < 0.6 or not expected:
                value = rng.randrange(1000)
                queue.put_nowait(Item(value))
                expected.append(value)
            else:
                least = queue.get_nowait().value
                assert least == min(expected)
                expected.remove(least)
        except LookupError:
            failures += 1
        assert queue.qsize() == len(expected)
    assert failures > 100
    Item.trap = None
    assert [item.value for item in drained(queue)] == sorted(expected)


@pytest.mark.parametrize("shown", [False, True])
def test_comparison_that_puts(shown):
    """A heap that changes under a comparison is RuntimeError, as heapq's; the item put inside is there."""
    queue = corolla.PriorityQueue()
    if shown:
        queue._queue
    for value in (5, 3, 4):
        queue.put_nowait(Item(value))

    def put_another(one, other):
        Item.trap = None
        for _ in range(20):  # enough to move the table
            queue.put_nowait(Item(100))

    Item.trap = put_another
    with pytest.raises(RuntimeError, match="changed size"):
        queue.put_nowait(Item(1))
    Item.trap = put_another
    with pytest.raises(RuntimeError, match="changed size"):
        queue.get_nowait()
    assert [item.value for item in drained(queue)] == [3, 4, 5] + [100] * 40


@pytest.mark.parametrize("shown", [False, True])
def test_comparison_that_gets(shown):
    queue = corolla.PriorityQueue()
    if shown:
        queue._queue
    for value in range(10):
        queue.put_nowait(Item(value))
    got = []

    def get_all(one, other):
        Item.trap = None
        got.extend(drained(queue))

    Item.trap = get_all
    with pytest.raises(RuntimeError, match="changed size"):
        queue.get_nowait()
    assert [item.value for item in got] == list(range(10))
    assert queue.empty()
    queue.put_nowait(Item(1))
    Item.trap = get_all
    with pytest.raises(RuntimeError, match="changed size"):
        queue.put_nowait(Item(2))
    assert queue.empty()


def test_comparison_that_shows_the_queue():
    """_queue asked for in a comparison: the ring is gone, and so is what was under way."""
    queue = corolla.PriorityQueue()
    for value in range(10):
        queue.put_nowait(Item(value))

    def show(one, other):
        Item.trap = None
        assert len(queue._queue) == 10

    Item.trap = show
    with pytest.raises(RuntimeError, match="changed size"):
        queue.get_nowait()
    assert [item.value for item in drained(queue)] == list(range(10))


def test_comparison_that_replaces_or_empties_what_is_shown():
    for act in (lambda queue: queue._queue.clear(), lambda queue: setattr(queue, "_queue", [])):
        queue = corolla.PriorityQueue()
        for value in range(10):
            queue.put_nowait(Item(value))
        assert len(queue._queue) == 10

        def trap(one, other, act=act, queue=queue):
            Item.trap = None
            act(queue)

        Item.trap = trap
        with pytest.raises(RuntimeError, match="changed size"):
            queue.get_nowait()
        assert queue.empty()


def test_no_list_is_no_heap():
    queue = corolla.PriorityQueue()
    queue._queue = (3, 2, 1)
    with pytest.raises(TypeError, match="heap argument must be a list"):
        queue.get_nowait()
    with pytest.raises(TypeError, match="heap argument must be a list"):
        queue.put_nowait(1)


def test_get_and_put_in_which_a_comparison_raises(loop):
    """Through the coroutines, with somebody waiting for what the one that raised had been woken for."""

    async def main():
        queue = corolla.PriorityQueue(2)
        queue.put_nowait(Item(1))
        queue.put_nowait(Item(2))
        putters = [loop.create_task(queue.put(Item(value))) for value in (3, 4)]
        await corolla.sleep(0)
        queue.get_nowait()

        def raise_once(one, other):
            Item.trap = None
            raise LookupError("in __lt__")

        Item.trap = raise_once
        results = await asyncio.gather(*putters, return_exceptions=True)
        assert isinstance(results[0], LookupError)
        assert results[1] is None
        assert [item.value for item in drained(queue)] == [2, 4]

    loop.run_until_complete(main())


def test_mixed_bases():
    class Both(corolla.LifoQueue, corolla.PriorityQueue):
        pass

    queue = Both()
    for item in (1, 3, 2):
        queue.put_nowait(item)
    assert drained(queue) == [2, 3, 1]
