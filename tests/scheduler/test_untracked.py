"""Handles and new tasks that a running loop has queued are unknown to the collector; those that outlive their turn in
the queue, or the run, are not."""

import asyncio
import contextvars
import gc
import threading
import weakref

import impl
import pytest

variable = contextvars.ContextVar("variable")


class Owner:
    """Points at its handle or task, which points back."""

    handle = None

    def callback(self, *ignored):
        pass


def collected(reference):
    gc.collect()
    return reference() is None


QUEUES = {
    "call_soon": lambda loop, owner: loop.call_soon(owner.callback),
    "call_soon_threadsafe": lambda loop, owner: loop.call_soon_threadsafe(owner.callback),
    "five arguments": lambda loop, owner: loop.call_soon(owner.callback, 1, 2, 3, 4, owner),
    "call_later": lambda loop, owner: loop.call_later(0, owner.callback),
}
LATER = {"call_later": lambda loop, owner: loop.call_later(3600, owner.callback)}


@pytest.mark.parametrize("queue", QUEUES)
def test_a_handle_that_has_run(loop, turn, queue):
    owners = []

    def start():
        owner = Owner()
        owner.handle = QUEUES[queue](loop, owner)
        owners.append(weakref.ref(owner))

    loop.call_soon(start)
    for _ in range(4):
        turn()
    assert collected(owners[0])


@pytest.mark.parametrize("queue", QUEUES | LATER)
def test_a_handle_left_in_the_queue_of_a_loop_that_is_dropped(queue):
    loop = impl.new_event_loop()
    owners = []

    def start():
        owner = Owner()
        owner.loop = loop
        owner.handle = (QUEUES | LATER)[queue](loop, owner)
        owners.append(weakref.ref(owner))
        loop.stop()

    loop.call_soon(start)
    loop.run_forever()
    assert owners[0]() is not None
    gone = weakref.ref(loop)
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        del loop, start
        gc.collect()
    assert gone() is None
    assert owners[0]() is None


def test_a_handle_posted_by_another_thread_as_the_loop_stops():
    loop = impl.new_event_loop()
    owners = []

    def post():
        owner = Owner()
        owner.loop = loop
        owner.handle = loop.call_soon_threadsafe(owner.callback)
        owners.append(weakref.ref(owner))

    def start():
        thread = threading.Thread(target=post)
        thread.start()
        thread.join()
        loop.stop()

    loop.call_soon(start)
    loop.run_forever()
    gone = weakref.ref(loop)
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        del loop, start, post
        gc.collect()
    assert gone() is None
    assert owners[0]() is None


@pytest.mark.parametrize("queue", QUEUES | LATER)
def test_a_handle_that_was_cancelled(loop, turn, queue):
    owners = []

    def start():
        owner = Owner()
        owner.handle = (QUEUES | LATER)[queue](loop, owner)
        owner.handle.cancel()
        # A cancelled handle lets go of its callback: a way back that it keeps.
        context = owner.handle.get_context() if hasattr(owner.handle, "get_context") else owner.handle._context
        context.run(variable.set, owner)
        owners.append(weakref.ref(owner))

    loop.call_soon(start)
    for _ in range(4):
        turn()
    assert collected(owners[0])


def test_collections_in_the_middle(loop, turn):
    """What is queued is alive whatever else refers to it."""
    seen = []

    def start():
        for index in range(20):
            owner = Owner()
            owner.callback = lambda owner=owner, index=index: seen.append((owner, index))
            owner.handle = loop.call_soon(owner.callback)
            loop.call_later(0, owner.callback)
            del owner
            gc.collect()

    loop.call_soon(start)
    for _ in range(5):
        turn()
        gc.collect()
    assert sorted(index for _, index in seen) == sorted([*range(20), *range(20)])


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_task_that_refers_to_itself(loop, turn, steps):
    owners = []

    async def child(owner):
        for _ in range(steps):
            await asyncio.sleep(0)
        return owner

    async def main():
        owner = Owner()
        owner.handle = loop.create_task(child(owner))
        owners.append(weakref.ref(owner))
        del owner
        for _ in range(steps + 2):
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert collected(owners[0])


def test_a_task_that_never_began_on_a_loop_that_is_dropped():
    loop = impl.new_event_loop()
    owners = []

    async def child(owner):
        pass

    def start():
        owner = Owner()
        owner.loop = loop
        owner.handle = loop.create_task(child(owner))
        owner.handle._log_destroy_pending = False
        owners.append(weakref.ref(owner))
        loop.stop()

    loop.call_soon(start)
    loop.run_forever()
    gone = weakref.ref(loop)
    with pytest.warns((ResourceWarning, RuntimeWarning)):
        del loop, start
        gc.collect()
    assert gone() is None
    assert owners[0]() is None


def test_a_task_that_waits_for_what_nobody_sets(loop):
    owners = []

    async def child(owner):
        await owner.future

    async def main():
        owner = Owner()
        owner.future = loop.create_future()
        owner.handle = loop.create_task(child(owner))
        owner.handle._log_destroy_pending = False
        owners.append(weakref.ref(owner))
        del owner
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert collected(owners[0])


def test_a_task_that_the_exception_handler_keeps(loop):
    """Its first step was its last; it dies as that job ends, and its finalizer hands it out."""
    marks = []

    def keep(loop, context):
        error = context["exception"]
        error.task = context["future"]
        error.owner = Owner()
        marks.append(weakref.ref(error.owner))

    async def fails():
        raise ValueError

    async def main():
        loop.create_task(fails())
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    loop.set_exception_handler(keep)
    loop.run_until_complete(main())
    gc.collect()
    assert len(marks) == 1
    assert collected(marks[0])
