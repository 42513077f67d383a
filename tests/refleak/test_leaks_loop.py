"""The loop's own methods: a thousand rounds leave blocks, objects, descriptors and malloc'ed bytes alone."""

import asyncio
import concurrent.futures
import os
import signal
import socket

import impl
import pytest

pytestmark = pytest.mark.timeout(240)


async def returns(value=None):
    return value


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
