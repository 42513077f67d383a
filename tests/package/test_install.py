"""install() and uninstall(): asyncio's own names are ours, and are asyncio's again."""

import sys

import pytest

HAS_UVLOOP = """
try:
    import uvloop
except ImportError:
    print("skipped")
    sys.exit()
"""

# Every global of every module of asyncio there is.
SNAPSHOT = """
def snapshot():
    return {
        (module, name): value
        for module, loaded in sys.modules.items() if module.partition(".")[0] == "asyncio"
        for name, value in vars(loaded).items()
    }
def same(one, other):
    assert one.keys() == other.keys(), one.keys() ^ other.keys()
    changed = [key for key in one if one[key] is not other[key]]
    assert not changed, changed
"""


def test_every_name_and_back(python):
    python(
        SNAPSHOT
        + """
before = snapshot()
corolla.install()
ours = snapshot()
corolla.install()
same(ours, snapshot())
corolla.uninstall()
same(before, snapshot())
corolla.uninstall()
same(before, snapshot())
corolla.install()
assert ours.keys() == snapshot().keys()
corolla.uninstall()
same(before, snapshot())
"""
    )


def test_whatever_asyncio_has_under_any_name(python):
    python("""
    kept = {"Server", "get_event_loop", "new_event_loop"}
    theirs = {
        name: getattr(asyncio, name)
        for name in corolla.__all__
        if hasattr(asyncio, name) and getattr(corolla, name) is not getattr(asyncio, name) and name not in kept
    }
    assert {"Future", "Task", "Handle", "TimerHandle", "gather", "sleep", "create_task", "run", "Runner"} <= set(theirs)
    theirs.pop("EventLoop", None)
    corolla.install()
    for module in [m for n, m in sys.modules.items() if n.partition(".")[0] == "asyncio"]:
        left = [name for name, value in vars(module).items() if any(value is their for their in theirs.values())]
        assert not left, (module, left)
    for name in theirs:
        assert getattr(asyncio, name) is getattr(corolla, name)
    assert asyncio.futures._CFuture is asyncio.futures.Future is corolla.Future
    assert asyncio.tasks._CTask is corolla.Task
    assert asyncio.EventLoop is asyncio.unix_events.EventLoop is corolla.EventLoop
    assert asyncio.SelectorEventLoop is asyncio.unix_events.SelectorEventLoop is not corolla.EventLoop
    """)


def test_names_of_later_pythons(python):
    python("""
    corolla.install()
    assert asyncio.eager_task_factory is asyncio.tasks.eager_task_factory is corolla.eager_task_factory
    assert asyncio.create_eager_task_factory is asyncio.tasks.create_eager_task_factory
    assert asyncio.EventLoop is corolla.EventLoop
    assert asyncio.QueueShutDown is asyncio.queues.QueueShutDown is corolla.QueueShutDown
    from asyncio import TaskGroup, create_eager_task_factory
    """)


def test_what_only_a_submodule_has(python):
    python("""
    theirs = asyncio.subprocess.Process, asyncio.subprocess.SubprocessStreamProtocol
    corolla.install()
    assert asyncio.subprocess.Process is corolla.subprocess.Process is not theirs[0]
    assert asyncio.subprocess.SubprocessStreamProtocol is corolla.subprocess.SubprocessStreamProtocol
    assert asyncio.create_subprocess_exec is asyncio.subprocess.create_subprocess_exec is corolla.create_subprocess_exec
    async def main():
        process = await asyncio.create_subprocess_shell("cat", stdin=-1, stdout=asyncio.subprocess.PIPE)
        assert type(process) is asyncio.subprocess.Process
        return await process.communicate(b"hello")
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        assert runner.run(main()) == (b"hello", None)
    corolla.uninstall()
    assert (asyncio.subprocess.Process, asyncio.subprocess.SubprocessStreamProtocol) == theirs
    """)


def test_what_was_imported_before_and_after(python):
    """A program's own names: those it has got already go on working on corolla's loop, those it gets now are ours."""
    python("""
    from asyncio import Event, Future, Lock, Queue, Task, TaskGroup, create_task, gather, run, sleep, timeout, wait_for
    class Numbers(Queue):
        def _put(self, item):
            super()._put(item * 2)
    class Named(Future):
        pass
    corolla.install()
    import asyncio as after
    async def work(queue, lock, event):
        async with lock, timeout(10):
            await queue.put(await sleep(0, 1))
        event.set()
    async def main():
        assert type(asyncio.get_running_loop()) is corolla.EventLoop
        assert type(asyncio.current_task()) is corolla.Task
        for Q, L, E in (Numbers, Lock, Event), (after.Queue, after.Lock, after.Event):
            queue, lock, event = Q(), L(), E()
            async with TaskGroup() as group:
                task = group.create_task(work(queue, lock, event))
                await gather(wait_for(event.wait(), 10), create_task(work(queue, lock, event)))
            assert isinstance(task, Task) and isinstance(task, after.Task) and isinstance(task, after.Future)
            assert [queue.get_nowait() for _ in range(2)] == ([2, 2] if Q is Numbers else [1, 1])
        old = Named()
        asyncio.get_running_loop().call_soon(old.set_result, "old")
        assert await after.gather(old, after.shield(old)) == ["old"] * 2
        assert await Task(after.sleep(0, "a task of theirs")) == "a task of theirs"
        assert isinstance(asyncio.get_running_loop().create_future(), Future)
        return "done"
    assert run(main()) == "done"
    assert after.run(main()) == "done"
    with after.Runner() as runner:
        assert runner.run(main()) == "done"
    """)


def test_every_way_to_a_loop(python):
    python("""
    import unittest
    corolla.install()
    def check(loop):
        assert type(loop) is corolla.EventLoop, loop
        return loop
    async def main():
        return check(asyncio.get_running_loop())
    check(asyncio.run(main()))
    with asyncio.Runner() as runner:
        check(runner.get_loop())
    check(asyncio.new_event_loop()).close()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    assert asyncio.get_event_loop() is loop
    loop.run_until_complete(main())
    asyncio.set_event_loop(None)
    loop.close()

    class Case(unittest.IsolatedAsyncioTestCase):
        async def asyncSetUp(self):
            self.queue = asyncio.Queue()
        async def test(self):
            check(asyncio.get_running_loop())
            await self.queue.put(1)
            self.assertEqual(await self.queue.get(), 1)
    result = unittest.TestResult()
    Case("test").run(result)
    assert result.testsRun == 1 and result.wasSuccessful(), result.errors + result.failures

    corolla.uninstall()
    async def main():
        return type(asyncio.get_running_loop())
    assert asyncio.run(main()) is not corolla.EventLoop
    assert corolla.run(main()) is corolla.EventLoop
    """)


def test_the_standard_librarys_code_on_our_primitives(python):
    python("""
    corolla.install()
    async def serve(reader, writer):
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.close()
    async def main():
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"one\\ntwo\\n")
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), 10) == b"ONE\\nTWO\\n"
            writer.close()
            await writer.wait_closed()
            assert isinstance(server, asyncio.Server) and isinstance(server, asyncio.AbstractServer)
    asyncio.run(main())
    """)


def test_the_standard_librarys_loop(python):
    """Who makes a selector's loop by name gets it, and it runs our handles, futures and tasks."""
    python("""
    corolla.install()
    async def child(i):
        await asyncio.sleep(i / 1000)
        return i
    async def serve(reader, writer):
        writer.write(await reader.readline())
        writer.close()
    async def main():
        loop = asyncio.get_running_loop()
        assert type(loop) is asyncio.SelectorEventLoop
        assert type(asyncio.current_task()) is corolla.Task
        handle = loop.call_later(1000, print)
        assert type(handle) is corolla.TimerHandle
        handle.cancel()
        handle = loop.call_soon(print)
        handle.cancel()
        assert await asyncio.gather(*map(child, range(5))) == list(range(5))
        try:
            await asyncio.wait_for(loop.create_future(), 0.001)
        except TimeoutError:
            pass
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        assert isinstance(server, asyncio.Server)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\\n")
            assert await reader.readline() == b"hello\\n"
            writer.close()
            await writer.wait_closed()
        assert await asyncio.to_thread(sum, [1, 2]) == 3
        # The loop counts the timers that were cancelled, to clear them away when they are many.
        for _ in range(1000):
            loop.call_later(1000, print).cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(loop._scheduled) < 500 and loop._timer_cancelled_count < 500, loop._timer_cancelled_count
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main())
    """)


@pytest.mark.skipif(sys.version_info >= (3, 16), reason="policies went with 3.16")
def test_the_policy_before(python):
    python(
        """
    import warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    class Policy(asyncio.DefaultEventLoopPolicy):
        pass
    mine = Policy()
    asyncio.set_event_loop_policy(mine)
    corolla.install()
    assert type(asyncio.get_event_loop_policy()) is corolla.EventLoopPolicy
    corolla.uninstall()
    assert asyncio.get_event_loop_policy() is mine

    # None at all, not even the default one.
    asyncio.set_event_loop_policy(None)
    corolla.install()
    corolla.uninstall()
    assert asyncio.events._event_loop_policy is None

    # Set by the program since: it decides, and keeps it.
    corolla.install()
    asyncio.set_event_loop_policy(mine)
    async def main():
        return type(asyncio.get_running_loop())
    assert asyncio.run(main()) is asyncio.SelectorEventLoop
    corolla.uninstall()
    assert asyncio.get_event_loop_policy() is mine
    """
    )


@pytest.mark.skipif(sys.version_info >= (3, 16), reason="policies went with 3.16")
def test_uvloops_policy_before(python):
    out = python(
        HAS_UVLOOP
        + """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
policy = uvloop.EventLoopPolicy()
asyncio.set_event_loop_policy(policy)
corolla.install()
async def main():
    return type(asyncio.get_running_loop())
assert asyncio.run(main()) is corolla.EventLoop
# uvloop's loop runs our tasks, when it is asked for.
async def child():
    return await asyncio.sleep(0.001, 5)
async def on_uvloop():
    assert type(asyncio.get_running_loop()) is uvloop.Loop
    return await asyncio.gather(child(), asyncio.create_task(child()))
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    assert runner.run(on_uvloop()) == [5, 5]
corolla.uninstall()
assert asyncio.get_event_loop_policy() is policy
assert asyncio.run(main()) is uvloop.Loop
"""
    )
    if out == "skipped\n":
        pytest.skip("no uvloop here")


def test_uvloop_imported_afterwards(python):
    """Its loop then makes our futures and tasks, and our primitives work through its public methods."""
    out = python(
        """
corolla.install()
"""
        + HAS_UVLOOP
        + """
async def serve(reader, writer):
    writer.write((await reader.readline()).upper())
    await writer.drain()
    writer.close()
async def main():
    loop = asyncio.get_running_loop()
    assert type(loop) is uvloop.Loop
    assert type(asyncio.current_task()) is corolla.Task
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello\\n")
        assert await reader.read() == b"HELLO\\n"
        writer.close()
    queue, lock = asyncio.Queue(1), asyncio.Lock()
    async def produce():
        async with lock:
            for i in range(5):
                await queue.put(i)
    async def consume():
        return [await queue.get() for _ in range(5)]
    async with asyncio.TaskGroup() as group:
        group.create_task(produce())
        consumer = group.create_task(consume())
    assert consumer.result() == list(range(5))
    try:
        await asyncio.wait_for(asyncio.shield(loop.create_future()), 0.001)
    except TimeoutError:
        pass
    assert await asyncio.to_thread(sum, [1, 2]) == 3
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
"""
    )
    if out == "skipped\n":
        pytest.skip("no uvloop here")


def test_what_somebody_else_has_put_there(python):
    python("""
    before = asyncio.gather
    corolla.install()
    wrapper = lambda *args: corolla.sleep(*args)
    asyncio.sleep = wrapper
    corolla.uninstall()
    assert asyncio.sleep is wrapper
    assert asyncio.gather is before
    """)


def test_modules_of_asyncio_imported_in_between(python):
    """They took ours from their neighbours; uninstall() has not forgotten them."""
    python("""
    import importlib, types
    theirs = asyncio.Future, asyncio.gather
    corolla.install()
    late = types.ModuleType("asyncio.late")
    sys.modules["asyncio.late"] = late
    exec("from asyncio.futures import Future\\nfrom asyncio.tasks import gather as collect", vars(late))
    assert late.Future is corolla.Future
    corolla.uninstall()
    assert (late.Future, late.collect) == theirs
    """)


def test_a_running_loop(python):
    python("""
    async def main():
        corolla.install()
        task = asyncio.create_task(asyncio.sleep(0, 1))
        assert type(task) is corolla.Task
        assert await asyncio.gather(task, asyncio.sleep(0.001, 2)) == [1, 2]
        corolla.uninstall()
        return await asyncio.gather(task, asyncio.sleep(0, 3))
    for run in asyncio.run, corolla.run:
        assert run(main()) == [1, 3]
    """)


def test_all_tasks_and_current_task(python):
    python("""
    corolla.install()
    async def main():
        others = {asyncio.create_task(asyncio.sleep(1)) for _ in range(3)}
        assert asyncio.all_tasks() == others | {asyncio.current_task()}
        assert asyncio.tasks.all_tasks is asyncio.all_tasks
    asyncio.run(main())
    """)


def test_debug_mode_by_environment(python):
    assert (
        python(
            """
    corolla.install()
    async def main():
        return asyncio.get_running_loop().get_debug()
    print(asyncio.run(main()))
    """,
            "-X",
            "dev",
        )
        == "True\n"
    )


def test_in_subinterpreters(python):
    python("""
import os
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
source = '''
import sys
sys.path[:] = %r
import asyncio, corolla
theirs = asyncio.Future
for _ in range(2):
    corolla.install()
    async def main():
        assert type(asyncio.get_running_loop()) is corolla.EventLoop
        return await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0.001, 2))
    assert asyncio.run(main()) == [1, 2]
    corolla.uninstall()
    assert asyncio.Future is theirs
corolla.install()
''' % (sys.path,)
mine = asyncio.Future
corolla.install()
for _ in range(3):
    if sys.version_info >= (3, 13):
        interpreter = interpreters.create("legacy")
    else:
        interpreter = interpreters.create(isolated=False)
    failure = interpreters.run_string(interpreter, source)
    assert failure is None, failure
    interpreters.destroy(interpreter)
    assert asyncio.Future is corolla.Future
corolla.uninstall()
assert asyncio.Future is mine
""")
