"""Loops in several threads at once, and threads that look at tasks while loops run."""

import asyncio
import sys
import threading

import impl
import pytest

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def quick_switches():
    """Threads take turns a thousand times as often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


async def child(depth):
    if depth:
        await asyncio.gather(child(depth - 1), child(depth - 1))
    await impl.sleep(0)
    return asyncio.current_task()


def test_tasks_are_told_apart(quick_switches):
    errors = []
    barrier = threading.Barrier(4)

    async def main():
        loop = asyncio.get_running_loop()
        for _ in range(30):
            own = asyncio.current_task()
            tasks = [loop.create_task(child(2)) for _ in range(4)]
            seen = asyncio.all_tasks()
            assert seen >= {own, *tasks}
            assert all(task.get_loop() is loop for task in seen)
            await asyncio.gather(*tasks)
            assert asyncio.current_task() is own
            assert asyncio.all_tasks() == {own}

    def thread():
        barrier.wait()
        try:
            with asyncio.Runner(loop_factory=impl.new_event_loop) as runner:
                runner.run(main())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=thread) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert errors == []


def test_looking_from_outside(quick_switches):
    """Seen in python/cpython issues 80788, 120974, 128656 and 154734: all_tasks() raised or crashed while other threads made
    tasks."""
    errors, loops = [], []
    stop = threading.Event()

    def look():
        while not stop.is_set():
            for loop in list(loops):
                try:
                    for task in asyncio.all_tasks(loop):
                        assert task.get_loop() is loop
                        task.get_coro()
                        task.get_name()
                        task.get_stack()
                        repr(task)
                    current = asyncio.current_task(loop)
                    assert current is None or current.get_loop() is loop
                except RuntimeError as error:
                    # asyncio gives up after a thousand tries when its set keeps changing.
                    if "changed size" not in str(error):
                        errors.append(error)
                except BaseException as error:
                    errors.append(error)

    async def main():
        loops.append(asyncio.get_running_loop())
        for _ in range(25):
            await child(3)
        loops.remove(asyncio.get_running_loop())

    def work():
        try:
            with asyncio.Runner(loop_factory=impl.new_event_loop) as runner:
                runner.run(main())
        except BaseException as error:
            errors.append(error)

    lookers = [threading.Thread(target=look) for _ in range(2)]
    workers = [threading.Thread(target=work) for _ in range(2)]
    for one in lookers + workers:
        one.start()
    for one in workers:
        one.join()
    stop.set()
    for one in lookers:
        one.join()
    assert errors == []


def test_tasks_freed_by_other_threads(quick_switches):
    # The last reference to a finished task may go away in any thread.
    finished = []

    async def main():
        for _ in range(100):
            task = asyncio.get_running_loop().create_task(child(0))
            await task
            finished.append(task)

    stop = threading.Event()

    def drop():
        while not stop.is_set() or finished:
            try:
                finished.pop()
            except IndexError:
                stop.wait(0)

    dropper = threading.Thread(target=drop)
    dropper.start()
    workers = [threading.Thread(target=lambda: run(main())) for _ in range(3)]
    for one in workers:
        one.start()
    for one in workers:
        one.join()
    stop.set()
    dropper.join()
    assert finished == []


def run(coro):
    with asyncio.Runner(loop_factory=impl.new_event_loop) as runner:
        return runner.run(coro)


def test_free_lists_of_one_interpreter_serve_all_threads(quick_switches):
    # Handles, futures and tasks are made in one thread and freed in another, thousands of times.
    errors = []

    def thread(index):
        try:
            loop = impl.new_event_loop()
            for _ in range(30):
                mine = [loop.call_soon(int, i) for i in range(50)] + [loop.create_future() for _ in range(50)]
                shared[index] = mine
                shared[(index + 1) % 3] = None
                loop.call_soon(loop.stop)
                loop.run_forever()
            loop.close()
        except BaseException as error:
            errors.append(error)

    shared = [None] * 3
    threads = [threading.Thread(target=thread, args=(index,)) for index in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    shared.clear()
    assert errors == []
