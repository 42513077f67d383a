"""Objects that hold one another in a long row are freed without recursing into them all. On a thread with a small stack,
where a recursion that deep is sure to overflow."""

import asyncio
import threading
import weakref

import impl
import pytest
from impl import Future, beyond_stdlib

pytestmark = beyond_stdlib("asyncio's futures and tasks overflow the stack here")

LENGTH = 20_000
STACK = 512 * 1024


@pytest.fixture
def small_stack():
    """small_stack(function): calls it on such a thread."""

    def small_stack(function):
        failures = []

        def target():
            try:
                function()
            except BaseException as error:
                failures.append(error)

        before = threading.stack_size(STACK)
        try:
            thread = threading.Thread(target=target)
            thread.start()
        finally:
            threading.stack_size(before)
        thread.join()
        if failures:
            raise failures[0]

    return small_stack


class Last:
    def __init__(self, freed):
        self.freed = freed

    def __del__(self):
        self.freed.append(self)


@beyond_stdlib("asyncio's overflow")
def test_results(loop, small_stack):
    freed = []

    def body():
        future = Last(freed)
        for _ in range(LENGTH):
            outer = Future(loop=loop)
            outer.set_result(future)
            future = outer

    small_stack(body)
    assert len(freed) == 1


@beyond_stdlib("asyncio's overflow")
def test_results_of_tasks(small_stack):
    freed = []

    async def give(value):
        return value

    async def main():
        task = Last(freed)
        for _ in range(LENGTH):
            task = asyncio.get_running_loop().create_task(give(task))
            await asyncio.sleep(0)
        await task

    def body():
        loop = impl.new_event_loop()
        loop.run_until_complete(main())
        loop.close()

    small_stack(body)
    assert len(freed) == 1


@pytest.mark.parametrize("timers", [False, True], ids=["call_soon", "call_later"])
def test_handles(loop, small_stack, timers):
    freed = []

    def body():
        handle = Last(freed)
        for _ in range(LENGTH):
            handle = loop.call_later(1000, int, handle) if timers else loop.call_soon(int, handle)
        del handle
        loop.close()

    small_stack(body)
    assert len(freed) == 1


@beyond_stdlib("asyncio's overflow")
def test_weak_references_and_finalizers_on_the_way(loop, small_stack):
    told, freed = [], []

    class Mine(Future):
        def __del__(self):
            freed.append(1)

    def body():
        future, references = None, []
        for i in range(LENGTH):
            outer = (Future if i % 1000 else Mine)(loop=loop)
            outer.set_result(future)
            references.append(weakref.ref(outer, told.append))
            future = outer
        del future, outer
        assert all(reference() is None for reference in references)

    small_stack(body)
    assert len(told) == LENGTH
    assert len(freed) == LENGTH // 1000
