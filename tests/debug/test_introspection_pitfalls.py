"""What libraries and debuggers do with a loop and the objects that belong to it, whatever kind they are."""

import asyncio
import gc
import os
import socket
import sys
import time
import weakref

import corolla
import pytest


async def tcp(loop, opened):
    listener = socket.create_server(("127.0.0.1", 0))
    transport, _ = await loop.create_connection(asyncio.Protocol, *listener.getsockname())
    opened += [transport, listener]
    return transport


async def server(loop, opened):
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    opened.append(server)
    return server


async def unix(loop, opened):
    a, b = socket.socketpair()
    transport, _ = await loop.create_unix_connection(asyncio.Protocol, sock=a)
    opened += [transport, b]
    return transport


async def datagram(loop, opened):
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
    opened.append(transport)
    return transport


async def read_pipe(loop, opened):
    r, w = os.pipe()
    transport, _ = await loop.connect_read_pipe(asyncio.Protocol, os.fdopen(r, "rb", 0))
    opened += [transport, os.fdopen(w, "wb", 0)]
    return transport


async def write_pipe(loop, opened):
    r, w = os.pipe()
    transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(w, "wb", 0))
    opened += [transport, os.fdopen(r, "rb", 0)]
    return transport


async def process(loop, opened):
    transport, _ = await loop.subprocess_exec(asyncio.SubprocessProtocol, sys.executable, "-c", "input()")
    opened.append(transport)
    return transport


async def handle(loop, opened):
    return loop.call_soon(int)


async def timer(loop, opened):
    handle = loop.call_later(1000, int)
    opened.append(type("Closes", (), {"close": handle.cancel}))
    return handle


KINDS = {
    tcp: (asyncio.Transport, asyncio.ReadTransport, asyncio.WriteTransport, asyncio.BaseTransport),
    unix: (asyncio.Transport, asyncio.ReadTransport, asyncio.WriteTransport, asyncio.BaseTransport),
    datagram: (asyncio.DatagramTransport, asyncio.BaseTransport),
    read_pipe: (asyncio.ReadTransport, asyncio.BaseTransport),
    write_pipe: (asyncio.WriteTransport, asyncio.BaseTransport),
    process: (asyncio.SubprocessTransport, asyncio.BaseTransport),
    server: (asyncio.Server, asyncio.AbstractServer),
    handle: (asyncio.Handle,),
    timer: (asyncio.TimerHandle, asyncio.Handle),
}


@pytest.fixture
def made(request, loop):
    """An object of that kind; the loop runs once more when it has been closed."""
    opened = []
    yield loop.run_until_complete(request.param(loop, opened))
    for thing in opened:
        thing.close()
    for _ in range(3):
        loop.run_until_complete(asyncio.sleep(0))


def of_kinds(*kinds):
    return pytest.mark.parametrize("made", kinds, indirect=True, ids=lambda kind: kind.__name__)


@pytest.mark.parametrize(("made", "kinds"), KINDS.items(), indirect=["made"], ids=[kind.__name__ for kind in KINDS])
def test_is_an_instance_of(made, kinds):
    """Protocols assert what they were connected to: numberoverzero/bottom issue 51, Fatal1ty/aioapns issue 54,
    Kludex/zuvloop commit 1c2dcd4."""
    for kind in kinds:
        assert isinstance(made, kind)


@of_kinds(*KINDS)
def test_takes_weak_references(made):
    """Libraries key what they know on these objects: RustedBytes/rsloop issue 45 (commit ad14f29), Kludex/zuvloop commits
    4d6398a and 2cce9cb."""
    assert weakref.ref(made)() is made
    assert weakref.WeakKeyDictionary({made: 1})[made] == 1


@of_kinds(*[kind for kind in KINDS if kind not in (handle, timer)])
def test_takes_attributes(made):
    """The same: RustedBytes/rsloop issue 45, Kludex/zuvloop commits 4d6398a and 2cce9cb."""
    made.known = "x"
    assert made.known == "x"
    assert vars(made)["known"] == "x"
    del made.known


def test_the_loop_takes_both(loop):
    """RustedBytes/rsloop issue 45 (commit ad14f29), Kludex/zuvloop commits 4d6398a and 2cce9cb."""
    assert weakref.ref(loop)() is loop
    loop.known = "x"
    assert vars(loop)["known"] == "x"


def test_the_clock_is_the_monotonic_one(loop):
    """In one run, in another, and after waiting: Kludex/zuvloop commit aa20fec (aiohttp expired what was fresh)."""

    async def compare():
        for delay in (0, 0.01):
            before = time.monotonic()
            now = loop.time()
            assert before <= now <= time.monotonic()
            await asyncio.sleep(delay)

    for _ in range(2):
        loop.run_until_complete(compare())
    before = time.monotonic()
    assert before <= loop.time() <= time.monotonic()


# ---- repr -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("debug", [False, True])
def test_a_future_in_the_arguments_of_its_callback(loop, debug):
    """repr is finite and short: python/cpython issues 93837, 90381, 122296."""
    loop.set_debug(debug)
    future = loop.create_future()
    circle = [future]
    circle.append(circle)
    handle = loop.call_soon(int, circle, future)
    circle.append(handle)
    future.add_done_callback(lambda _, kept=circle: None)
    future.set_result(circle)
    for thing in (future, handle):
        assert len(repr(thing)) < 2000
    handle.cancel()
    assert len(repr(handle)) < 2000
    loop.run_until_complete(future)
    circle.clear()


@pytest.mark.parametrize("debug", [False, True])
def test_tasks_that_wait_for_each_other(loop, debug):
    """The same of tasks: python/cpython issues 93837, 90381, 122296."""
    loop.set_debug(debug)
    tasks = []

    async def wait(i):
        await asyncio.sleep(0)
        await asyncio.shield(tasks[1 - i])

    async def main():
        tasks.extend(corolla.create_task(wait(i)) for i in range(2))
        for _ in range(5):
            await asyncio.sleep(0)
        for task in tasks:
            assert len(repr(task)) < 2000
            task.cancel()
        await asyncio.wait(tasks)

    loop.run_until_complete(main())
    tasks.clear()


# ---- Who awaits whom ------------------------------------------------------------------------------------------------


def test_awaited_by_ends_with_the_wait(loop):
    """The links that debuggers follow are cleared on completion: astral-sh/python-build-standalone issue 717,
    python/cpython PR 151536 (issue 151535)."""
    waits = loop.create_future()

    async def inner():
        await waits

    async def outer(task):
        await task

    async def main():
        first = corolla.create_task(inner())
        second = corolla.create_task(outer(first))
        for _ in range(3):
            await asyncio.sleep(0)
        assert set(waits._asyncio_awaited_by) == {first}
        assert set(first._asyncio_awaited_by) == {second}
        assert second._fut_waiter is first
        assert first._fut_waiter is waits
        assert not second._asyncio_awaited_by
        waits.set_result(None)
        await second
        for thing in (waits, first, second):
            assert not thing._asyncio_awaited_by
        assert second._fut_waiter is first._fut_waiter is None
        return weakref.ref(first)

    first = loop.run_until_complete(main())
    gc.collect()
    assert first() is None


@pytest.mark.skipif(sys.version_info < (3, 14), reason="asyncio.capture_call_graph() came with 3.14")
def test_the_call_graph(loop):
    """astral-sh/python-build-standalone issue 717: tasks of ours are in it."""

    async def inner():
        return asyncio.capture_call_graph(asyncio.current_task())

    async def main():
        return await corolla.create_task(inner()), asyncio.current_task()

    graph, task = loop.run_until_complete(main())
    assert [call.future for call in graph.awaited_by] == [task]


def test_awaited_by_in_a_circle(loop):
    """A circle of waits is reported as it is, with no recursion: python/cpython PR 151536 (issue 151535)."""
    tasks = []

    async def wait(i):
        await asyncio.sleep(0)
        await tasks[1 - i]

    async def main():
        tasks.extend(corolla.create_task(wait(i)) for i in range(2))
        for _ in range(3):
            await asyncio.sleep(0)
        assert set(tasks[0]._asyncio_awaited_by) == {tasks[1]}
        assert set(tasks[1]._asyncio_awaited_by) == {tasks[0]}
        assert all(len(repr(task)) < 2000 for task in tasks)
        for task in tasks:
            task._log_destroy_pending = False

    loop.run_until_complete(main())
    tasks.clear()
    gc.collect()
