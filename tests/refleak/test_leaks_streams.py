"""Readers, writers and streams: a thousand rounds leave blocks, objects, descriptors and malloc'ed bytes alone."""

import asyncio
import os
import socket

import corolla
import impl
import pytest

pytestmark = pytest.mark.timeout(240)


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


def test_stream_processes(loop, leaks_nothing):
    async def operation():
        pipes = {"stdin": -1, "stdout": -1, "stderr": -1}
        process = await corolla.create_subprocess_exec("cat", **pipes)
        assert await process.communicate(b"x" * 100_000) == (b"x" * 100_000, b"")
        repr(process._protocol)
        process = await corolla.create_subprocess_shell("read line; echo $line; exit 3", **pipes, limit=100)
        waiting = [loop.create_task(process.wait()) for _ in range(2)]
        task = loop.create_task(process.communicate())
        await asyncio.sleep(0)
        waiting[0].cancel()
        task.cancel()
        await asyncio.wait([task])
        assert await process.communicate() == (b"\n", b"")
        assert await waiting[1] == 3
        process = await corolla.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        process.stdin.write(b"line\n")
        await process.stdin.drain()
        assert await process.stdout.readline() == b"line\n"
        process.stdin.close()
        await process.stdin.wait_closed()
        assert await process.stdout.read() == b""
        assert await process.wait() == 0
        for options in ({"text": True}, {"cwd": "/no/such/place"}):
            try:
                await corolla.create_subprocess_exec("true", **options)
            except (ValueError, FileNotFoundError):
                pass

    leaks_nothing(operation, rounds=100)
