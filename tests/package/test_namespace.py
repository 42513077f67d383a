"""`import corolla as asyncio`: every name of asyncio is there, ours where corolla has it."""

import asyncio
import builtins
import importlib
import sys
import types

import corolla
import pytest

# What newer versions have and corolla has everywhere.
NEWER = {"EventLoop", "QueueShutDown", "TaskGroup", "create_eager_task_factory", "eager_task_factory"}

# Ours: what asyncio is made of.
OURS = {
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "EventLoop",
    "Future",
    "Handle",
    "LifoQueue",
    "Lock",
    "PriorityQueue",
    "Queue",
    "Runner",
    "Semaphore",
    "Server",
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "Task",
    "TaskGroup",
    "Timeout",
    "TimerHandle",
    "as_completed",
    "create_eager_task_factory",
    "create_subprocess_exec",
    "create_subprocess_shell",
    "create_task",
    "eager_task_factory",
    "ensure_future",
    "gather",
    "get_event_loop",
    "new_event_loop",
    "open_connection",
    "open_unix_connection",
    "run",
    "run_coroutine_threadsafe",
    "shield",
    "sleep",
    "start_server",
    "start_unix_server",
    "timeout",
    "timeout_at",
    "to_thread",
    "wait",
    "wait_for",
    "wrap_future",
}

# What programs compare, catch and inherit from: the class itself, not one like it.
IDENTICAL = {
    "AbstractEventLoop",
    "AbstractServer",
    "BaseEventLoop",
    "BaseProtocol",
    "BaseTransport",
    "BrokenBarrierError",
    "BufferedProtocol",
    "CancelledError",
    "DatagramProtocol",
    "DatagramTransport",
    "IncompleteReadError",
    "InvalidStateError",
    "LimitOverrunError",
    "Protocol",
    "QueueEmpty",
    "QueueFull",
    "ReadTransport",
    "SelectorEventLoop",
    "SendfileNotAvailableError",
    "SubprocessProtocol",
    "SubprocessTransport",
    "TimeoutError",
    "Transport",
    "WriteTransport",
    "_get_running_loop",
    "_set_running_loop",
    "all_tasks",
    "current_task",
    "get_running_loop",
    "iscoroutine",
    "isfuture",
}

SUBMODULES = [name for name, value in vars(asyncio).items() if getattr(value, "__name__", "") == f"asyncio.{name}"]


def test_every_name_of_asyncio():
    assert set(asyncio.__all__) <= set(corolla.__all__)
    assert set(corolla.__all__) >= NEWER
    for name in corolla.__all__:
        assert hasattr(corolla, name), name
    assert len(corolla.__all__) == len(set(corolla.__all__))


def test_star_import():
    namespace: dict[str, object] = {}
    exec("from corolla import *", namespace)
    assert set(asyncio.__all__) <= set(namespace)
    assert namespace["Task"] is corolla.Task


@pytest.mark.parametrize("name", sorted(OURS))
def test_ours(name):
    assert getattr(corolla, name) is not getattr(asyncio, name, None)


@pytest.mark.parametrize("name", sorted(IDENTICAL))
def test_the_same_class(name):
    assert getattr(corolla, name) is getattr(asyncio, name)


def test_timeouts_are_the_builtin_error():
    assert corolla.TimeoutError is builtins.TimeoutError


@pytest.mark.skipif(sys.version_info < (3, 13), reason="3.13 has it first")
def test_shut_down_queues_raise_the_same():
    assert corolla.QueueShutDown is asyncio.QueueShutDown


def test_what_asyncio_does_not_list():
    """Such as names that are deprecated: on 3.14 policies are reached through a module's __getattr__."""
    with pytest.raises(AttributeError, match="module 'corolla' has no attribute 'nothing_such'"):
        corolla.nothing_such
    with pytest.raises(AttributeError):
        corolla.__nothing_such__


@pytest.mark.skipif(sys.version_info >= (3, 16), reason="policies went with 3.16")
@pytest.mark.filterwarnings("ignore:.*polic.*:DeprecationWarning")
def test_policies_where_the_standard_library_has_them():
    assert corolla.get_event_loop_policy is asyncio.get_event_loop_policy
    assert corolla.set_event_loop_policy is asyncio.set_event_loop_policy
    assert corolla.DefaultEventLoopPolicy is asyncio.DefaultEventLoopPolicy


@pytest.mark.parametrize("name", SUBMODULES)
def test_submodules(name):
    theirs, ours = getattr(asyncio, name), getattr(corolla, name)
    assert isinstance(ours, types.ModuleType)
    assert importlib.import_module(f"corolla.{name}") is ours
    for attribute in vars(theirs):
        if attribute.startswith("__"):
            continue
        value = getattr(ours, attribute)
        if attribute in OURS and attribute in vars(asyncio):
            assert value is getattr(corolla, attribute), attribute
        elif attribute in IDENTICAL:
            assert value is getattr(theirs, attribute), attribute
    assert set(vars(theirs)) <= set(dir(ours))


def test_submodules_programs_use():
    assert corolla.subprocess.PIPE == asyncio.subprocess.PIPE
    assert corolla.subprocess.create_subprocess_exec is corolla.create_subprocess_exec
    assert corolla.subprocess.Process is not asyncio.subprocess.Process
    assert corolla.subprocess.SubprocessStreamProtocol is not asyncio.subprocess.SubprocessStreamProtocol
    assert issubclass(corolla.subprocess.SubprocessStreamProtocol, asyncio.SubprocessProtocol)
    assert {"Process", "create_subprocess_shell"} <= set(corolla.subprocess.__all__)
    assert not hasattr(corolla, "Process")
    assert corolla.exceptions.CancelledError is asyncio.CancelledError
    assert corolla.tasks.Task is corolla.tasks._CTask is corolla.Task
    assert corolla.futures.Future is corolla.Future
    assert corolla.tasks.eager_task_factory is corolla.eager_task_factory
    assert corolla.runners.run is corolla.run
    assert corolla.events.Handle is corolla.Handle
    assert corolla.events._get_running_loop is asyncio._get_running_loop
    assert {"Queue", "QueueShutDown"} <= set(corolla.queues.__all__)
    assert corolla.queues.QueueShutDown is corolla.QueueShutDown
    # A selector's loop is what is asked for by that name.
    assert corolla.unix_events.SelectorEventLoop is asyncio.SelectorEventLoop
    assert corolla.unix_events.EventLoop is corolla.EventLoop
    # asyncio's own are as they were.
    assert asyncio.tasks.Task is not corolla.Task


def test_a_program(capsys):
    program = """
import corolla as asyncio

async def worker(queue, results):
    while True:
        item = await queue.get()
        async with asyncio.timeout(10):
            await asyncio.sleep(0)
        results.append((item, asyncio.current_task().get_name()))
        queue.task_done()

async def main():
    queue, results = asyncio.Queue(), []
    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(worker(queue, results), name=f"worker {i}") for i in range(2)]
        for item in range(4):
            await queue.put(item)
        await queue.join()
        for task in workers:
            task.cancel()
    lock = asyncio.Lock()
    async with lock:
        done, pending = await asyncio.wait([asyncio.create_task(asyncio.sleep(0, "slept"))])
    assert not pending
    results.append(done.pop().result())
    try:
        await asyncio.wait_for(asyncio.Event().wait(), 0.001)
    except asyncio.TimeoutError:
        results.append("timed out")
    results.append(await asyncio.to_thread(sum, [1, 2]))
    return results

print(asyncio.run(main()))
"""
    exec(program, {"__name__": "program"})
    assert capsys.readouterr().out == (
        "[(0, 'worker 0'), (1, 'worker 1'), (2, 'worker 0'), (3, 'worker 1'), 'slept', 'timed out', 3]\n"
    )


def test_streams_and_servers():
    async def serve(reader, writer):
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main():
        assert type(corolla.get_running_loop()) is corolla.EventLoop
        async with await corolla.start_server(serve, "127.0.0.1", 0) as server:
            reader, writer = await corolla.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            return answer

    assert corolla.run(main()) == b"HELLO\n"


# ---- loops without a runner -------------------------------------------------------------------------------------------


def test_get_event_loop_inside_a_loop(run):
    async def main():
        return corolla.get_event_loop() is corolla.get_running_loop()

    assert run(main())


def test_get_event_loop_that_was_set(loop):
    corolla.set_event_loop(loop)
    try:
        assert corolla.get_event_loop() is loop
    finally:
        corolla.set_event_loop(None)
    with pytest.raises(RuntimeError):
        corolla.get_event_loop()


def test_get_event_loop_when_there_is_none(python):
    source = """
    import threading, warnings
    def call():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                loop = corolla.get_event_loop()
            except RuntimeError as error:
                print("RuntimeError", "no current event loop" in str(error))
                return
        assert corolla.get_event_loop() is loop
        assert asyncio.get_event_loop() is loop
        print(type(loop) is corolla.EventLoop, [warning.category.__name__ for warning in caught])
        assert all(warning.filename == "<string>" for warning in caught)
        loop.close()
    call()
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    """
    first = "RuntimeError True" if sys.version_info >= (3, 14) else "True []"
    if (3, 12) <= sys.version_info < (3, 14):
        first = "True ['DeprecationWarning']"
    assert python(source).splitlines() == [first, "RuntimeError True"]
