"""A thousand rounds of each main operation leave everything as it was: blocks, objects, descriptors, malloc'ed bytes."""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import functools
import gc
import io
import logging
import os
import signal
import socket
import threading
import types

import corolla
import impl
import pytest
from refleak.leaks import grown

pytestmark = pytest.mark.timeout(240)


async def returns(value=None):
    return value


async def fails():
    raise LookupError("expected")


# ---- the test of the test ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["object", "block", "descriptor", "bytes"])
def test_leaks_are_seen(what):
    if what in ("block", "bytes") and os.environ.get("COROLLA_SANITIZED"):
        pytest.skip("a sanitizer's allocator counts neither")
    kept = []

    def leak():
        if what == "object":
            kept.append([])
        elif what == "block":
            kept.append(float(len(kept) + 0.5))
        elif what == "descriptor":
            if len(kept) < 300:
                kept.append(os.dup(0))
        else:
            kept.append(bytes(5000))

    rounds = 100 if what == "descriptor" else 1000
    try:
        excess = grown(leak, rounds)
    finally:
        if what == "descriptor":
            for fd in kept:
                os.close(fd)
    expected = {"object": "objects", "block": "blocks", "descriptor": "descriptors", "bytes": "malloc bytes"}[what]
    assert expected in excess


# ---- scheduler --------------------------------------------------------------------------------------------------------


def test_create_task(loop, leaks_nothing):
    async def operation():
        await loop.create_task(returns(1), name="named")
        task = loop.create_task(impl.sleep(0))
        await task
        return [await impl.sleep(0, i) for i in range(3)]

    leaks_nothing(operation)


def test_eager_tasks(loop, leaks_nothing):
    if not impl.IS_COROLLA:
        pytest.skip("about our own")

    async def operation():
        impl.Task(returns(1), loop=loop, eager_start=True)
        await impl.Task(impl.sleep(0), loop=loop, eager_start=True)

    leaks_nothing(operation)


def test_create_task_and_factories(loop, leaks_nothing):
    if not impl.IS_COROLLA:
        pytest.skip("about our own")

    async def operation():
        await impl.api.create_task(returns(1))
        for factory in impl.api.eager_task_factory, impl.api.create_eager_task_factory(functools.partial(impl.Task)):
            loop.set_task_factory(factory)
            await impl.api.create_task(returns(1), name="named")
            await impl.api.create_task(impl.sleep(0), context=contextvars.copy_context())
            coro = returns()
            with contextlib.suppress(TypeError):
                factory(loop, coro, nonsense=1)
            coro.close()
        loop.set_task_factory(None)

    leaks_nothing(operation)


def test_run_and_install(leaks_nothing):
    if not impl.IS_COROLLA:
        pytest.skip("about our own")

    def operation():
        impl.api.install()
        asyncio.run(returns(1))
        impl.api.uninstall()
        impl.api.run(impl.sleep(0))

    leaks_nothing(operation)


def test_call_soon(loop, leaks_nothing):
    def operation():
        for count in (0, 1, 4, 5, 20):
            loop.call_soon(int.__add__, *range(count))
            loop.call_soon(print, *range(count)).cancel()
        loop.call_soon(int, context=contextvars.copy_context())
        loop.call_soon(loop.stop)
        loop.run_forever()

    leaks_nothing(operation)


def test_timers(loop, leaks_nothing):
    def operation():
        handles = [loop.call_later(1000 + i, print, *range(i)) for i in range(8)]
        for handle in handles[::2] + handles[1::2]:
            handle.cancel()
        loop.call_at(loop.time() - 1, int)
        loop.call_later(0, loop.stop)
        loop.run_forever()

    leaks_nothing(operation)


def test_call_soon_threadsafe(loop, leaks_nothing):
    def operation():
        for _ in range(10):
            loop.call_soon_threadsafe(int)
        loop.call_soon_threadsafe(loop.stop)
        loop.run_forever()

    leaks_nothing(operation)


def test_call_soon_threadsafe_from_a_thread(loop, leaks_nothing):
    def operation():
        thread = threading.Thread(target=lambda: [loop.call_soon_threadsafe(call) for call in (int, loop.stop)])
        thread.start()
        loop.run_forever()
        thread.join()

    leaks_nothing(operation, rounds=300)


def test_futures(loop, leaks_nothing):
    def operation():
        for how in range(4):
            future = loop.create_future()
            for _ in range(3):
                future.add_done_callback(returns_nothing)
            future.remove_done_callback(print)
            if how == 0:
                future.set_result([future])
            elif how == 1:
                future.set_exception(LookupError())
                future.exception()
            elif how == 2:
                future.cancel("message")
            repr(future)
        bare = impl.Future(loop=loop)
        bare.attribute = bare
        loop.call_soon(loop.stop)
        loop.run_forever()

    leaks_nothing(operation)


def returns_nothing(future):
    pass


def test_await(loop, leaks_nothing):
    async def wait(future):
        return await future

    async def operation():
        for make in (impl.Future, asyncio.Future):
            future = make(loop=loop)
            tasks = [loop.create_task(wait(future)) for _ in range(3)]
            await impl.sleep(0)
            future.set_result(1)
            for task in tasks:
                await task
        iterator = impl.Future(loop=loop).__await__()
        next(iterator)
        iterator.close()

    leaks_nothing(operation)


@pytest.mark.parametrize("kind", ["Lock", "Semaphore", "BoundedSemaphore"])
def test_locks(loop, leaks_nothing, kind):
    async def worker(lock):
        async with lock:
            await impl.sleep(0)

    class Mine(getattr(impl.api, kind)):
        pass

    async def operation():
        for lock in (getattr(impl.api, kind)(), Mine()):
            lock.attribute = lock
            tasks = [loop.create_task(worker(lock)) for _ in range(4)]
            await impl.sleep(0)
            tasks[1].cancel()
            repr(lock)
            await asyncio.wait(tasks)
            try:
                async with lock:
                    waiting = loop.create_task(lock.acquire())
                    await impl.sleep(0)
                    list(lock._waiters)
                    coro = lock.acquire()
                    coro.send(None)
                    coro.close()
                    raise LookupError
            except LookupError:
                await waiting
            lock.release()
            try:
                lock.release()
            except (RuntimeError, ValueError):
                pass

    leaks_nothing(operation, rounds=500)


def test_conditions(loop, leaks_nothing):
    async def wait(condition):
        async with condition:
            await condition.wait_for(iter([False, True]).__next__)

    class Mine(impl.api.Condition):
        pass

    async def operation():
        for condition in (impl.api.Condition(), Mine(asyncio.Lock()), impl.api.Condition(lock=Mine())):
            condition.attribute = condition
            tasks = [loop.create_task(wait(condition)) for _ in range(4)]
            await impl.sleep(0)
            await impl.sleep(0)
            async with condition:
                condition.notify(2)
                tasks[0].cancel()
                tasks[3].cancel()
                await impl.sleep(0)
                tasks[0].cancel()
                repr(condition)
                condition.notify_all()
            await asyncio.wait(tasks)
            try:
                condition.notify()
            except RuntimeError:
                pass

    leaks_nothing(operation, rounds=300)


def test_barriers(loop, leaks_nothing):
    async def operation():
        barrier = impl.api.Barrier(3)
        barrier.attribute = barrier
        tasks = [loop.create_task(barrier.wait()) for _ in range(5)]
        await impl.sleep(0)
        tasks[0].cancel()
        for _ in range(5):
            await impl.sleep(0)
        repr(barrier)
        await barrier.reset()
        tasks.append(loop.create_task(barrier.wait()))
        await impl.sleep(0)
        await barrier.abort()
        await asyncio.wait(tasks)
        for task in tasks:
            task.cancelled() or task.exception()

    leaks_nothing(operation, rounds=300)


def test_events(loop, leaks_nothing):
    async def operation():
        event = impl.api.Event()
        tasks = [loop.create_task(event.wait()) for _ in range(4)]
        await impl.sleep(0)
        tasks[1].cancel()
        list(event._waiters)
        event.set()
        await asyncio.wait(tasks)
        await event.wait()
        event.attribute = event.wait
        repr(event)

    leaks_nothing(operation)


@pytest.mark.parametrize("kind", ["Queue", "PriorityQueue", "LifoQueue"])
def test_queues(loop, leaks_nothing, kind):
    async def operation():
        queue = getattr(impl, kind)(2)
        putters = [loop.create_task(queue.put(item)) for item in (3, 1, 2, 4)]
        joiner = loop.create_task(queue.join())
        await impl.sleep(0)
        putters[3].cancel()
        for _ in range(3):
            await queue.get()
            queue.task_done()
        await joiner
        getters = [loop.create_task(queue.get()) for _ in range(3)]
        await impl.sleep(0)
        repr(queue)
        queue.put_nowait(1)
        getters[0].cancel()
        await impl.sleep(0)
        await impl.sleep(0)
        assert len(queue._getters) == 1
        assert not queue._queue
        queue.put_nowait(queue)
        await impl.sleep(0)
        await impl.sleep(0)
        queue.put_nowait(queue)
        for call in (queue.get_nowait, queue.get_nowait, lambda: getattr(impl, kind)(1, 2), queue.task_done):
            try:
                call()
            except (asyncio.QueueEmpty, TypeError):
                pass
        assert queue._finished is queue._finished
        queue.put_nowait(queue)

    leaks_nothing(operation)


def test_task_groups(loop, leaks_nothing):
    async def forever():
        await loop.create_future()

    async def body(how):
        async with impl.TaskGroup() as group:
            group.create_task(impl.sleep(0), name="named")
            group.create_task(returns(), context=contextvars.copy_context())
            if how == "error in a task":
                group.create_task(forever())
                group.create_task(fails())
                await forever()
            if how == "error in the body":
                group.create_task(forever())
                await fails()
            if how == "cancelled":
                await forever()
            if how == "misused":
                group.create_task(1)
            repr(group)
        group.create_task(returns())

    async def operation():
        for how in ("finished", "error in a task", "error in the body", "cancelled", "misused"):
            task = loop.create_task(body(how))
            await impl.sleep(0)
            await impl.sleep(0)
            if how == "cancelled":
                task.cancel()
            try:
                await task
            except (ExceptionGroup, RuntimeError, asyncio.CancelledError):
                pass

    leaks_nothing(operation)


def test_cancel(loop, leaks_nothing):
    async def wait():
        try:
            await loop.create_future()
        finally:
            await impl.sleep(0)

    async def operation():
        for _ in range(3):
            task = loop.create_task(wait())
            await impl.sleep(0)
            task.cancel("message")
            try:
                await task
            except asyncio.CancelledError:
                task.uncancel()
        loop.create_task(wait()).cancel()
        await impl.sleep(0)
        await impl.sleep(0)

    leaks_nothing(operation)


def test_sleep_timeout_and_wait_for(loop, leaks_nothing):
    async def forever():
        await loop.create_future()

    async def operation():
        await corolla.sleep(0.00001)
        for timeout in (1000, 0, -1):
            try:
                async with corolla.timeout(timeout) as scope:
                    await corolla.sleep(0)
                    scope.reschedule(0)
                    await forever()
            except TimeoutError:
                pass
            try:
                await corolla.wait_for(loop.create_task(forever()), min(timeout, 0.00001))
            except TimeoutError:
                pass
        task = loop.create_task(corolla.wait_for(forever(), 1000))
        await corolla.sleep(0)
        task.cancel()
        await corolla.sleep(0)
        await corolla.wait_for(returns(), None)
        corolla.Timeout(1)

    leaks_nothing(operation, rounds=500)


def test_wait_shield_and_as_completed(loop, leaks_nothing):
    async def operation():
        futures = [loop.create_future() for _ in range(2)]
        await corolla.wait(futures, timeout=0)
        loop.call_soon(futures[0].set_result, None)
        await corolla.wait(futures, return_when=corolla.FIRST_COMPLETED)
        async for _ in corolla.as_completed(futures[:1]):
            pass
        for nearest in corolla.as_completed([returns(), futures[1]], timeout=0.00001):
            try:
                await nearest
            except TimeoutError:
                pass
        waiting = corolla.wait(futures)
        waiting.send(None)
        waiting.close()
        shielded = corolla.shield(futures[1])
        shielded.cancel()
        await corolla.shield(returns())
        corolla.shield(futures[1])
        await corolla.ensure_future(Awaitable())
        futures[1].cancel()
        await corolla.sleep(0)

    leaks_nothing(operation, rounds=500)


class Awaitable:
    def __await__(self):
        yield


def test_between_threads(loop, leaks_nothing):
    async def operation():
        work = corolla.run_coroutine_threadsafe(returns(), loop)
        await corolla.wrap_future(work)
        await corolla.to_thread(int, "5", base=10)
        work = corolla.run_coroutine_threadsafe(asyncio.Event().wait(), loop)
        await corolla.sleep(0)
        work.cancel()
        corolla.wrap_future(concurrent.futures.Future()).cancel()
        await corolla.sleep(0)
        await corolla.sleep(0)

    leaks_nothing(operation, rounds=300)
    loop.run_until_complete(loop.shutdown_default_executor())


def test_exceptions(loop, leaks_nothing):
    @types.coroutine
    def garbage():
        yield 5

    async def yields():
        await garbage()

    async def operation():
        loop.call_soon(int, "no number")
        for coro in (fails(), yields()):
            try:
                await loop.create_task(coro)
            except (LookupError, RuntimeError):
                pass
        loop.create_task(fails())  # never retrieved
        await impl.sleep(0)
        await impl.sleep(0)

    leaks_nothing(operation)


def test_interrupts(loop, leaks_nothing):
    def interrupt():
        raise KeyboardInterrupt

    async def interrupted():
        raise SystemExit

    def operation():
        for cause in (lambda: loop.call_soon(interrupt), lambda: loop.create_task(interrupted())):
            cause()
            try:
                loop.run_forever()
            except (KeyboardInterrupt, SystemExit):
                pass

    leaks_nothing(operation)


def test_destroyed_while_pending(loop, leaks_nothing):
    async def wait():
        await loop.create_future()

    def operation():
        loop.create_task(wait())
        loop.call_soon(loop.stop)
        loop.run_forever()
        if loop.time() % 1 < 0.05:
            gc.collect()

    leaks_nothing(operation, rounds=500)


def test_c_coroutines(loop, leaks_nothing):
    def operation():
        impl.sleep(0).close()
        coro = impl.sleep(1000, "result")
        try:
            coro.throw(LookupError)
        except LookupError:
            pass

    leaks_nothing(operation)


def test_debug_mode(loop, leaks_nothing):
    loop.set_debug(True)

    async def operation():
        loop.call_soon(int)
        loop.call_later(1000, int).cancel()
        await loop.create_task(returns())

    leaks_nothing(operation, rounds=300)


def test_standard_library_on_top(loop, leaks_nothing):
    async def operation():
        await asyncio.gather(returns(), impl.sleep(0), asyncio.sleep(0))
        await asyncio.wait_for(impl.sleep(0), 10)
        try:
            async with asyncio.timeout(0):
                await asyncio.sleep(1000)
        except TimeoutError:
            pass
        async with asyncio.TaskGroup() as group:
            group.create_task(returns())
            group.create_task(impl.sleep(0))
        queue = asyncio.Queue(1)
        getter = loop.create_task(queue.get())
        await queue.put(1)
        await getter
        await asyncio.wait([loop.create_task(returns())])
        async for _ in numbers():
            break

    leaks_nothing(operation, rounds=500)


async def numbers():
    yield 1
    yield 2


def test_loops(leaks_nothing):
    def operation():
        loop = impl.new_event_loop()
        loop.call_soon(print)
        loop.call_later(1000, print)
        loop.run_until_complete(returns())
        loop.call_soon(print)
        loop.call_soon_threadsafe(print)
        loop.create_future().add_done_callback(print)
        loop.close()

    leaks_nothing(operation)


def test_loops_with_everything(leaks_nothing):
    def operation():
        loop = impl.new_event_loop()
        loop.itself = loop
        read, write = os.pipe()
        loop.add_reader(read, print)
        loop.add_signal_handler(signal.SIGUSR1, print)
        loop.set_exception_handler(print)
        loop.run_until_complete(loop.run_in_executor(None, int))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.remove_reader(read)
        loop.close()
        os.close(read)
        os.close(write)

    leaks_nothing(operation, rounds=300)


# ---- threads, names, descriptors, signals -----------------------------------------------------------------------------


def test_run_in_executor(loop, leaks_nothing):
    def fail():
        raise LookupError

    with concurrent.futures.ThreadPoolExecutor(1) as executor:

        async def operation():
            await loop.run_in_executor(executor, int)
            try:
                await loop.run_in_executor(executor, fail)
            except LookupError:
                pass

        leaks_nothing(operation)


def test_getaddrinfo(loop, leaks_nothing):
    async def operation():
        await loop.getaddrinfo("127.0.0.1", 80)
        await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
        await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
        try:
            await loop.getaddrinfo("127.0.0.1", "no such service")
        except OSError:
            pass

    leaks_nothing(operation, rounds=300)


def test_readers_and_writers(loop, leaks_nothing):
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.send(b"x")

    async def operation():
        readable, writable = loop.create_future(), loop.create_future()
        loop.add_reader(ours, lambda: readable.done() or readable.set_result(None))
        loop.add_writer(ours, lambda: writable.done() or writable.set_result(None))
        await readable
        await writable
        loop.add_reader(ours, print)  # replaces the other
        assert loop.remove_reader(ours)
        assert loop.remove_writer(ours)
        assert not loop.remove_writer(ours)

    with ours, theirs:
        leaks_nothing(operation)


def test_signals(loop, leaks_nothing):
    async def operation():
        caught = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, caught.set_result, None)
        os.kill(os.getpid(), signal.SIGUSR1)
        await caught
        assert loop.remove_signal_handler(signal.SIGUSR1)

    leaks_nothing(operation)


# ---- the network ------------------------------------------------------------------------------------------------------


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Client(asyncio.Protocol):
    def __init__(self, loop):
        self.received, self.lost = loop.create_future(), loop.create_future()

    def data_received(self, data):
        self.received.set_result(data)

    def connection_lost(self, error):
        self.lost.set_result(error)


def test_connections(loop, leaks_nothing):
    server = loop.run_until_complete(loop.create_server(Echo, "127.0.0.1", 0))
    port = server.sockets[0].getsockname()[1]

    async def operation():
        transport, protocol = await loop.create_connection(lambda: Client(loop), "127.0.0.1", port)
        transport.write(b"hello")
        transport.writelines([b"wor", bytearray(b"ld")])
        transport.get_extra_info("peername")
        transport.pause_reading()
        transport.resume_reading()
        assert (await protocol.received)[:5] == b"hello"
        transport.close()
        assert await protocol.lost is None

    leaks_nothing(operation)
    server.close()
    loop.run_until_complete(server.wait_closed())


def test_unix_connections(loop, leaks_nothing, tmp_path):
    path = str(tmp_path / "sock")
    server = loop.run_until_complete(loop.create_unix_server(Echo, path))

    async def operation():
        transport, protocol = await loop.create_unix_connection(lambda: Client(loop), path)
        transport.write(b"hello")
        transport.get_extra_info("peername")
        assert await protocol.received == b"hello"
        transport.close()
        assert await protocol.lost is None

    leaks_nothing(operation)
    server.close()
    loop.run_until_complete(server.wait_closed())


def test_unix_servers(loop, leaks_nothing, tmp_path):
    path = str(tmp_path / "sock")

    async def operation():
        async with await loop.create_unix_server(Echo, path) as server:
            repr(server.sockets)
        server = await loop.create_unix_server(Echo, path, cleanup_socket=False)
        server.close()  # leaves a stale one
        for create in (loop.create_unix_server, loop.create_unix_connection):
            for arguments in ((path + "/below",), (7,), ("",)):
                try:
                    await create(Echo, *arguments)
                except (OSError, TypeError, IndexError):
                    pass
        os.unlink(path)

    logging.disable()
    try:
        leaks_nothing(operation, rounds=300)
    finally:
        logging.disable(logging.NOTSET)


def test_unix_connections_that_wait(loop, leaks_nothing, tmp_path):
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as filler:
        listening.bind(path)
        listening.listen(0)
        filler.connect(path)

        async def operation():
            waiting = [loop.create_task(loop.create_unix_connection(Echo, path)) for _ in range(3)]
            await asyncio.sleep(0)
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)

        leaks_nothing(operation)


def test_accepted_sockets(loop, leaks_nothing):
    async def operation():
        ours, theirs = socket.socketpair()
        transport, protocol = await loop.connect_accepted_socket(lambda: Client(loop), ours)
        theirs.sendall(b"hello")
        assert await protocol.received == b"hello"
        theirs.close()
        assert await protocol.lost is None

    leaks_nothing(operation)


def test_pipes(loop, leaks_nothing):
    async def operation():
        reader, writer = os.pipe()
        protocol = Client(loop)
        into, _ = await loop.connect_read_pipe(lambda: protocol, open(reader, "rb", 0))
        out, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, open(writer, "wb", 0))
        out.write(b"hello")
        out.writelines([b"wor", bytearray(b"ld")])
        into.get_extra_info("pipe")
        into.pause_reading()
        into.resume_reading()
        assert (await protocol.received)[:5] == b"hello"
        out.close()
        assert await protocol.lost is None

    leaks_nothing(operation)


def test_pipes_that_fail(loop, leaks_nothing):
    async def operation():
        reader, writer = os.pipe()
        lost = Client(loop)
        task = loop.create_task(loop.connect_read_pipe(asyncio.Protocol, open(reader, "rb", 0)))
        await impl.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        out, _ = await loop.connect_write_pipe(lambda: lost, open(writer, "wb", 0))
        out.write(b"to nobody")
        await lost.lost
        with open("/dev/zero", "rb", 0) as file, open(__file__, "rb", 0) as refused:
            try:
                await loop.connect_read_pipe(asyncio.Protocol, refused)
            except ValueError:
                pass
            file.fileno()

    leaks_nothing(operation)


def test_sendfile(loop, leaks_nothing):
    server = loop.run_until_complete(loop.create_server(Echo, "127.0.0.1", 0))
    port = server.sockets[0].getsockname()[1]

    class Sender(Client):
        def data_received(self, data):
            """What comes back comes in pieces."""

    async def operation():
        transport, protocol = await loop.create_connection(lambda: Sender(loop), "127.0.0.1", port)
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setblocking(False)
        with open(__file__, "rb") as file, sock:
            assert await loop.sendfile(transport, file, 0, 10) == 10
            assert await loop.sock_sendfile(sock, file, 3, 10) == 10
            assert await loop.sendfile(transport, io.BytesIO(b"x" * 10), 5) == 5
            assert await loop.sock_sendfile(sock, io.BytesIO(b"x" * 10)) == 10
            for odd in ({"offset": -1}, {"count": 0}, {"fallback": False}):
                try:
                    await loop.sendfile(transport, io.BytesIO(), **odd)
                except (ValueError, RuntimeError):
                    pass
        transport.close()
        assert await protocol.lost is None

    leaks_nothing(operation)
    server.close()
    loop.run_until_complete(server.wait_closed())


def test_connections_that_fail(loop, leaks_nothing):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

        async def operation():
            try:
                await loop.create_connection(asyncio.Protocol, "127.0.0.1", port)
            except ConnectionRefusedError:
                pass
            task = loop.create_task(loop.create_connection(asyncio.Protocol, "127.0.0.1", port))
            await impl.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()

        leaks_nothing(operation)


def test_servers(loop, leaks_nothing):
    async def operation():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        repr(server.sockets)
        server.close()
        await server.wait_closed()

    leaks_nothing(operation)


def test_streams(loop, leaks_nothing):
    async def echo(reader, writer):
        writer.write(await reader.readline())
        writer.close()
        await writer.wait_closed()

    server = loop.run_until_complete(asyncio.start_server(echo, "127.0.0.1", 0))
    port = server.sockets[0].getsockname()[1]

    async def operation():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"line\n")
        assert await reader.readline() == b"line\n"
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()

    leaks_nothing(operation, rounds=500)
    server.close()
    loop.run_until_complete(server.wait_closed())


def test_stream_pairs(loop, leaks_nothing):
    async def echo(reader, writer):
        async for line in reader:
            writer.writelines([line[:1], line[1:]])
            await writer.drain()
        writer.close()

    server = loop.run_until_complete(corolla.start_server(echo, "127.0.0.1", 0))
    port = server.sockets[0].getsockname()[1]

    async def operation():
        reader, writer = await corolla.open_connection("127.0.0.1", port)
        writer.write(b"line\nrest")
        writer.write_eof()
        assert await reader.readuntil((b"e\n", b"x")) == b"line\n"
        assert await reader.readexactly(2) == b"re"
        assert await reader.read() == b"st"
        writer.close()
        await writer.wait_closed()

    leaks_nothing(operation, rounds=500)
    server.close()
    loop.run_until_complete(server.wait_closed())


def test_readers_fed_by_hand(loop, leaks_nothing):
    async def operation():
        reader = corolla.StreamReader(limit=10, loop=loop)
        reading = [loop.create_task(reader.readexactly(5)), loop.create_task(reader.read())]
        await impl.sleep(0)
        reading[0].cancel()
        await asyncio.wait(reading)
        assert type(reading[1].exception()) is RuntimeError  # one waits already
        reader.feed_data(b"x" * 30)
        for coro in (reader.readuntil(b"--"), reader.readline(), reader.readexactly(3)):
            try:
                await coro
            except (ValueError, asyncio.LimitOverrunError, asyncio.IncompleteReadError):
                reader.feed_eof()
        reader.set_exception(LookupError())
        try:
            await reader.read()
        except LookupError as error:
            error.__traceback__ = None
        reader.readline().close()

    leaks_nothing(operation)


def test_new_streams(loop, leaks_nothing):
    async def handler(stream):
        if await stream.readline() == b"fail\n":
            raise LookupError
        assert await stream.peek(1) == b"r"
        await stream.write(await stream.read())

    server = corolla.StreamServer(handler, "127.0.0.1", 0)
    loop.run_until_complete(server.start_serving())
    port = server.sockets[0].getsockname()[1]

    async def operation():
        async with corolla.connect("127.0.0.1", port) as stream:
            await stream.writelines([b"line\n", b"rest"])
            await stream.write_eof()
            buffer = bytearray(2)
            assert await stream.readinto(buffer)
            assert await stream.read()
        failing = await corolla.connect("127.0.0.1", port)
        await failing.write(b"fail\n")
        try:
            await failing.read()
            await failing.close()
        except ConnectionError:
            failing.abort()

    leaks_nothing(operation, rounds=500)
    loop.run_until_complete(server.close())


def test_stream_servers(loop, leaks_nothing, tmp_path):
    async def handler(stream):
        await stream.write(b"hello")
        await stream.read()

    async def operation():
        async with corolla.UnixStreamServer(handler, str(tmp_path / "s"), shutdown_timeout=0):
            stream = await corolla.connect_unix(str(tmp_path / "s"))
            assert await stream.readexactly(5) == b"hello"
        try:
            await stream.read()
        except ConnectionError:
            pass
        stream.abort()

    leaks_nothing(operation, rounds=500)


def test_stream_pipes(loop, leaks_nothing):
    async def operation():
        ends = os.pipe()
        async with corolla.connect_read_pipe(open(ends[0], "rb", 0)) as reading:
            async with corolla.connect_write_pipe(open(ends[1], "wb", 0)) as writing:
                await writing.write(b"through")
                assert await reading.readexactly(7) == b"through"
            assert await reading.read() == b""

    leaks_nothing(operation)


def test_stream_connections_that_fail(loop, leaks_nothing):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))

        async def operation():
            for connect in (corolla.connect, corolla.open_connection):
                try:
                    await connect(*unused.getsockname())
                except ConnectionRefusedError:
                    pass
            try:
                corolla.connect(limit=0)
            except ValueError:
                pass

            async def enter():
                async with corolla.connect(*unused.getsockname()):
                    pass

            task = loop.create_task(enter())
            await impl.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()

        leaks_nothing(operation)


def test_sock_calls(loop, leaks_nothing):
    with socket.socket() as listener:
        listener.setblocking(False)
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        async def operation():
            client = socket.socket()
            client.setblocking(False)
            accepting = loop.create_task(loop.sock_accept(listener))
            await loop.sock_connect(client, listener.getsockname())
            peer, _address = await accepting
            with client, peer:
                receiving = loop.create_task(loop.sock_recv(peer, 100))
                await impl.sleep(0)
                await loop.sock_sendall(client, b"x" * 10)
                assert await receiving == b"x" * 10
                await loop.sock_sendall(peer, bytearray(5))
                assert await loop.sock_recv_into(client, bytearray(10)) == 5
                cancelled = loop.create_task(loop.sock_recv(client, 10))
                await impl.sleep(0)
                cancelled.cancel()
                await asyncio.wait([cancelled])

        leaks_nothing(operation, rounds=500)


def test_sock_calls_for_datagrams(loop, leaks_nothing):
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        for sock in (one, other):
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)

        async def operation():
            receiving = loop.create_task(loop.sock_recvfrom(one, 100))
            await impl.sleep(0)
            await loop.sock_sendto(other, b"x", one.getsockname())
            data, address = await receiving
            await loop.sock_sendto(one, data, ("localhost", address[1]))
            assert await loop.sock_recvfrom_into(other, bytearray(10)) == (1, one.getsockname())
            for bad in (("127.0.0.1", 70_000), None):
                try:
                    await loop.sock_sendto(one, b"x", bad)
                except (OverflowError, TypeError):
                    pass

        leaks_nothing(operation, rounds=500)


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, loop):
        self.received, self.lost = loop.create_future(), loop.create_future()

    def datagram_received(self, data, addr):
        if not self.received.done():
            self.received.set_result((data, addr))

    def connection_lost(self, exc):
        self.lost.set_result(exc)


def test_datagram_endpoints(loop, leaks_nothing):
    def factory():
        return Datagrams(loop)

    async def operation():
        server, serving = await loop.create_datagram_endpoint(factory, local_addr=("127.0.0.1", 0))
        address = server.get_extra_info("sockname")
        client, asking = await loop.create_datagram_endpoint(
            factory, remote_addr=("localhost", address[1]), family=socket.AF_INET
        )
        client.sendto(b"question")
        data, sender = await serving.received
        server.sendto(data, sender)
        server.sendto(bytearray(data), ("localhost", sender[1]))
        assert await asking.received == (b"question", address)
        for address in (("127.0.0.1", 1), "nonsense", ("127.0.0.1", 2**20)):
            try:
                client.sendto(b"x", address)
            except (ValueError, TypeError, OverflowError):
                pass
        server.set_protocol(serving)
        repr(server)
        server.close()
        client.abort()
        await serving.lost
        await asking.lost

    leaks_nothing(operation, rounds=500)


def test_datagram_queues(loop, leaks_nothing):
    async def operation():
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with other:
            transport, protocol = await loop.create_datagram_endpoint(lambda: Datagrams(loop), sock=one)
            while transport.get_write_buffer_size() == 0:
                transport.sendto(b"x" * 20_000)
            for _ in range(20):
                transport.sendto(bytearray(5_000))
            transport.abort()
            await protocol.lost

    leaks_nothing(operation, rounds=300)


def test_datagram_endpoints_that_fail(loop, leaks_nothing):
    def bad_factory():
        raise LookupError

    async def operation():
        for factory, kwargs in (
            (bad_factory, {"local_addr": ("127.0.0.1", 0)}),
            (asyncio.DatagramProtocol, {"local_addr": ("192.0.2.1", 5)}),
            (asyncio.DatagramProtocol, {"local_addr": ("127.0.0.1", 0), "remote_addr": ("::1", 5)}),
            (asyncio.DatagramProtocol, {"local_addr": 5}),
        ):
            try:
                await loop.create_datagram_endpoint(factory, **kwargs)
            except (LookupError, OSError, ValueError, TypeError):
                pass
        task = loop.create_task(loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)))
        await impl.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    leaks_nothing(operation, rounds=300)


def test_contexts_lent_and_kept(loop, leaks_nothing):
    variable = contextvars.ContextVar("variable")

    def callback(number):
        if number % 2:
            variable.set(object())
        if number % 3 == 0:
            loop.call_soon(callback, 1)

    async def child(number):
        if number % 2:
            variable.set(object())
        if number % 3 == 0:
            await impl.sleep(0)

    async def operation():
        variable.set(object())
        handles = [loop.call_soon(callback, number) for number in range(6)]
        handles += [loop.call_later(0, callback, number) for number in range(6)]
        loop.call_soon_threadsafe(callback, 3)
        future = loop.create_future()
        future.add_done_callback(lambda future: variable.set(future))
        future.set_result(None)
        tasks = [loop.create_task(child(number)) for number in range(6)]
        handles[0]._context.run(variable.set, handles)
        handles[1].cancel()
        handles[-1].cancel()
        for task in tasks:
            await task
        for _ in range(3):
            await impl.sleep(0)
        handles[2]._context.run(variable.set, handles)

    leaks_nothing(operation)


def test_ends_of_iterators_and_bound_methods(loop, leaks_nothing):
    lock = corolla.Lock()

    async def operation():
        future = loop.create_future()
        future.set_result(object())
        for step in (next, lambda iterator: iterator.send(None)):
            try:
                step(future.__await__())
            except StopIteration as stop:
                assert stop.args == (stop.value,)
                repr(stop)
        await future
        async with lock:
            pass
        enter, leave = lock.__aenter__, lock.__aexit__
        assert (enter == lock.__aenter__, enter.__name__, repr(leave)) is not None
        await enter()
        await leave(None, None, None)

    leaks_nothing(operation)
