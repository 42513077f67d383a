"""Which loop runs here is asyncio's to say; we remember what it said, for as long as it says so."""

import asyncio
import os
import threading

import corolla
import pytest
from primitives.waiting import give, turns


@pytest.fixture
def other():
    loop = asyncio.SelectorEventLoop()
    yield loop
    loop.close()


def test_taken_away_and_replaced(run, loop, other):
    async def main():
        corolla.timeout(1)
        asyncio._set_running_loop(None)
        try:
            with pytest.raises(RuntimeError, match="no running event loop"):
                corolla.timeout(1)
            asyncio._set_running_loop(other)
            task = corolla.ensure_future(give(1))
            assert task.get_loop() is other
            task.cancel()
        finally:
            asyncio._set_running_loop(loop)
        assert corolla.ensure_future(asyncio.current_task()).get_loop() is loop
        assert await corolla.create_task(give(2)) == 2

    run(main())
    other.run_until_complete(turns(3))


def test_loop_inside_a_loop(run, loop, other):
    """As programs do that cannot wait: no primitive takes the outer loop for the one that runs."""
    inner = corolla.new_event_loop()

    async def child(expected):
        async with corolla.timeout(1000):
            await corolla.sleep(0.001)
        assert corolla.ensure_future(asyncio.current_task()).get_loop() is expected
        await corolla.wait([corolla.create_task(give(1))])

    async def main():
        await child(loop)
        task = asyncio.current_task()
        for nested in (inner, other):
            asyncio._leave_task(loop, task)
            asyncio._set_running_loop(None)
            try:
                nested.run_until_complete(child(nested))
            finally:
                asyncio._set_running_loop(loop)
                asyncio._enter_task(loop, task)
        await child(loop)

    run(main())
    inner.close()


def test_loops_in_threads(run, loop):
    """Each thread's own, whichever was begun last."""

    async def child():
        mine = asyncio.get_running_loop()
        for _ in range(50):
            async with corolla.timeout(1000):
                await corolla.sleep(0)
            assert corolla.create_task(give(1)).get_loop() is mine
            await corolla.wait_for(corolla.sleep(0.0001), 1000)

    def thread():
        corolla.run(child())

    async def main():
        threads = [threading.Thread(target=thread) for _ in range(3)]
        for one in threads:
            one.start()
        await child()
        while any(one.is_alive() for one in threads):
            await corolla.sleep(0.001)
        for one in threads:
            one.join()
        await child()

    run(main())


def test_no_loop_in_a_forked_child(run):
    async def main():
        child = os.fork()
        if child == 0:
            try:
                corolla.timeout(1)
            except RuntimeError:
                os._exit(7)
            finally:
                os._exit(1)
        return child

    assert os.waitstatus_to_exitcode(os.waitpid(run(main()), 0)[1]) == 7


def test_after_the_loop(run, loop):
    run(give(1))
    with pytest.raises(RuntimeError, match="no running event loop"):
        corolla.timeout(1)
