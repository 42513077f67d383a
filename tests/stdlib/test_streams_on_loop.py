"""asyncio's own streams over TCP, on our loop's transports."""

import asyncio
import contextlib

import pytest


@contextlib.asynccontextmanager
async def serving(handler, **options):
    """An asyncio server on a free port of 127.0.0.1, and its address."""
    failures = []

    async def handle(reader, writer):
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        except BaseException as error:
            failures.append(error)
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, **options)
    async with server:
        yield server.sockets[0].getsockname()
    assert failures == []


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def echo_and_close(reader, writer):
    await echo(reader, writer)
    writer.close()


async def finish(writer):
    writer.close()
    await writer.wait_closed()


def test_echo(run):
    async def main():
        async with serving(echo) as (host, port):
            reader, writer = await asyncio.open_connection(host, port)
            for size in (0, 1, 100, 65536, 300_000):
                data = bytes(i % 251 for i in range(size))
                writer.write(data)
                await writer.drain()
                assert await reader.readexactly(size) == data
            writer.write_eof()
            assert await reader.read() == b""
            await finish(writer)

    run(main())


def test_lines(run):
    async def lines(reader, writer):
        async for line in reader:
            writer.writelines([line.upper(), b"--\n"])
            await writer.drain()

    async def main():
        async with serving(lines) as (host, port):
            reader, writer = await asyncio.open_connection(host, port)
            for word in (b"one", b"two", b"three"):
                writer.write(word + b"\n")
                assert await reader.readline() == word.upper() + b"\n"
                assert await reader.readuntil(b"--\n") == b"--\n"
            await finish(writer)

    run(main())


def test_large_transfer_with_flow_control(run):
    total = 8 * 1024 * 1024

    async def source(reader, writer):
        sent = 0
        chunk = bytes(range(256)) * 256
        while sent < total:
            writer.write(chunk)
            await writer.drain()
            sent += len(chunk)

    async def main():
        async with serving(source) as (host, port):
            reader, writer = await asyncio.open_connection(host, port, limit=4096)
            got = 0
            while data := await reader.read(100_000):
                assert data[0] == got % 256
                got += len(data)
            assert got == total
            await finish(writer)

    run(main())


def test_many_connections(run):
    async def client(host, port, i):
        reader, writer = await asyncio.open_connection(host, port)
        message = f"client {i}\n".encode() * 100
        writer.write(message)
        writer.write_eof()
        assert await reader.read() == message
        await finish(writer)

    async def main():
        async with serving(echo, backlog=200) as (host, port):
            await asyncio.gather(*(client(host, port, i) for i in range(100)))

    run(main())


def test_the_peer_goes_away(run):
    async def hang_up(reader, writer):
        await reader.read(1)
        writer.transport.abort()

    async def main():
        async with serving(hang_up) as (host, port):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"x")
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            with contextlib.suppress(ConnectionError):
                await finish(writer)

    run(main())


def test_incomplete_and_overrun(run):
    async def short(reader, writer):
        writer.write(b"abc")

    async def long(reader, writer):
        writer.write(b"x" * 1000)
        await writer.drain()

    async def main():
        async with serving(short) as (host, port):
            reader, writer = await asyncio.open_connection(host, port)
            with pytest.raises(asyncio.IncompleteReadError) as caught:
                await reader.readexactly(10)
            assert caught.value.partial == b"abc"
            await finish(writer)
        async with serving(long) as (host, port):
            reader, writer = await asyncio.open_connection(host, port, limit=100)
            with pytest.raises(asyncio.LimitOverrunError):
                await reader.readuntil(b"\n")
            await finish(writer)

    run(main())


def test_extra_info(run):
    async def main():
        async with serving(echo) as (host, port):
            _reader, writer = await asyncio.open_connection(host, port)
            assert writer.get_extra_info("peername") == (host, port)
            assert writer.get_extra_info("sockname")[0] == host
            assert writer.get_extra_info("socket").getpeername() == (host, port)
            assert writer.get_extra_info("nothing of the kind", "default") == "default"
            assert writer.can_write_eof()
            assert not writer.is_closing()
            await finish(writer)
            assert writer.is_closing()

    run(main())


def test_refused(run):
    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        server.close()
        await server.wait_closed()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, port)

    run(main())


def test_a_read_that_is_cancelled(run):
    async def main():
        async with serving(echo) as (host, port):
            reader, writer = await asyncio.open_connection(host, port)
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(reader.read(10), 0.001)
            writer.write(b"still there")
            assert await reader.readexactly(11) == b"still there"
            await finish(writer)

    run(main())


def test_a_handler_that_fails(run, reports):
    async def main():
        connected = asyncio.Event()

        async def fails(reader, writer):
            connected.set()
            try:
                raise LookupError("in the handler")
            finally:
                writer.close()

        server = await asyncio.start_server(fails, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            await connected.wait()
            assert await reader.read() == b""
            await finish(writer)

    run(main())
    for report in reports:
        assert isinstance(report["exception"], LookupError)
    reports.clear()


def test_serve_forever_is_cancelled(run):
    async def main():
        server = await asyncio.start_server(echo_and_close, "127.0.0.1", 0)
        task = asyncio.create_task(server.serve_forever())
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        writer.write_eof()
        assert await reader.read() == b""
        await finish(writer)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not server.is_serving()

    run(main())


def test_in_debug_mode(loop, run):
    loop.set_debug(True)
    test_echo(run)
