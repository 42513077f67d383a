"""Readers and writers over TCP."""

import asyncio
import contextlib
import contextvars
import gc
import os
import random
import socket
import struct
import weakref

import corolla
import pytest


@contextlib.asynccontextmanager
async def serving(handler, **options):
    server = await corolla.start_server(handler, "127.0.0.1", 0, **options)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def pair(handler, **options):
    """A reader and a writer connected to a handler."""
    async with serving(handler, **options) as (host, port):
        reader, writer = await corolla.open_connection(host, port)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


def test_echo_of_every_size(run):
    async def main():
        async with pair(echo) as (reader, writer):
            assert type(reader) is corolla.StreamReader
            assert type(writer) is corolla.StreamWriter
            for size in (1, 100, 65536, 65537, 300_000, 3_000_000):
                data = random.Random(size).randbytes(size)
                sending = asyncio.ensure_future(send(writer, data))
                assert await reader.readexactly(size) == data
                await sending
            writer.write_eof()
            assert await reader.read() == b""

    async def send(writer, data):
        writer.write(data)
        await writer.drain()

    run(main())


@pytest.mark.parametrize("limit", [1, 1000, 65536])
def test_what_is_read_does_not_depend_on_how_it_came(run, limit):
    """Reads of any size relative to the limit finish, with every byte in its place.

    Seen in python/asyncio issues 99 and 168, and RustedBytes/rsloop commit ddf5ab6.
    """
    dice = random.Random(limit)
    data = dice.randbytes(2_000_000)

    async def send(reader, writer):
        at = 0
        while at < len(data):
            size = dice.choice((1, 10, 3000, 100_000))
            writer.write(data[at : at + size])
            at += size
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    async def main():
        async with pair(send) as (reader, writer):
            reader._limit = limit
            got = bytearray()
            while len(got) < 1_500_000:
                size = dice.choice((1, 20, 5000, 20_000, 150_000))
                if dice.random() < 0.5:
                    got += await reader.readexactly(min(size, len(data) - len(got)))
                else:
                    got += await reader.read(size)
            got += await reader.read()
            assert got == data

    run(main())


def test_lines(run):
    lines = [b"%d:%s\n" % (i, b"x" * (i * 7919 % 3000)) for i in range(2000)]

    async def send(reader, writer):
        writer.writelines(lines)
        await writer.drain()
        writer.close()

    async def main():
        async with pair(send) as (reader, writer):
            assert [line async for line in reader] == lines

    run(main())


def test_the_end_comes_behind_the_last_bytes(run):
    async def send(reader, writer):
        writer.write(b"last")
        writer.close()

    async def main():
        async with pair(send) as (reader, writer):
            with pytest.raises(asyncio.IncompleteReadError) as caught:
                await reader.readexactly(10)
            assert caught.value.partial == b"last"
            assert reader.at_eof()

    run(main())


def test_a_reset_is_raised(run):
    async def reset(reader, writer):
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def main():
        async with serving(reset) as (host, port):
            reader, writer = await corolla.open_connection(host, port)
            with pytest.raises(ConnectionResetError):
                while True:
                    assert await reader.read() == b""
                    writer.write(b"x")
                    await writer.drain()
            with pytest.raises(ConnectionResetError):
                await writer.wait_closed()

    run(main())


def test_writing_to_one_that_has_gone_ends(run):
    """drain() did not yield when it need not wait, so a loop of write() and drain() never learned of the loss.

    Seen in python/asyncio issues 263 and 301.
    """

    async def leave(reader, writer):
        writer.transport.abort()

    async def main():
        async with serving(leave) as (host, port):
            reader, writer = await corolla.open_connection(host, port)
            with pytest.raises(ConnectionError):
                for _ in range(100_000):
                    writer.write(b"data" * 100)
                    await writer.drain()
            writer.close()

    run(main())


def test_many_wait_in_drain(run):
    async def main():
        hold = asyncio.get_running_loop().create_future()

        async def read_later(reader, writer):
            await hold
            while await reader.read(65536):
                pass
            writer.close()

        async with pair(read_later) as (reader, writer):
            writer.transport.set_write_buffer_limits(high=1000)
            writer.write(bytes(10_000_000))
            drains = [asyncio.ensure_future(writer.drain()) for _ in range(5)]
            await asyncio.sleep(0)
            assert not any(drain.done() for drain in drains)
            drains[1].cancel()
            hold.set_result(None)
            results = await asyncio.gather(*drains, return_exceptions=True)
            assert [type(result) for result in results] == [type(None), asyncio.CancelledError, *[type(None)] * 3]
            assert writer.transport.get_write_buffer_size() <= 1000
            writer.write_eof()
            assert await reader.read() == b""

    run(main())


def test_drain_of_a_connection_that_is_lost_meanwhile(run):
    async def main():
        hold = asyncio.get_running_loop().create_future()

        async def wait(reader, writer):
            await hold
            writer.transport.abort()

        async with serving(wait) as (host, port):
            reader, writer = await corolla.open_connection(host, port)
            writer.write(bytes(20_000_000))
            drain = asyncio.ensure_future(writer.drain())
            await asyncio.sleep(0)
            assert not drain.done()
            hold.set_result(None)
            with pytest.raises(ConnectionError):
                await drain
            with pytest.raises(ConnectionError):
                await writer.drain()

    run(main())


def test_drain_without_pressure_is_done_at_once(run):
    async def main():
        async with pair(echo) as (reader, writer):
            with pytest.raises(StopIteration):
                writer.drain().send(None)

    run(main())


def test_a_handler_that_fails_is_reported_and_closes_its_connection(run, reports):
    async def fail(reader, writer):
        raise LookupError("handler")

    async def main():
        async with pair(fail) as (reader, writer):
            assert await reader.read() == b""
        report = reports.pop()
        assert report["message"] == "Unhandled exception in client_connected_cb"
        assert type(report["exception"]) is LookupError
        assert isinstance(report["transport"], asyncio.Transport)

    run(main())


def test_a_handler_that_is_cancelled_closes_its_connection(run):
    async def main():
        task = asyncio.get_running_loop().create_future()

        async def hang(reader, writer):
            task.set_result(asyncio.current_task())
            await reader.read()

        async with pair(hang) as (reader, writer):
            (await task).cancel()
            assert await reader.read() == b""

    run(main())


def test_a_handler_may_be_a_plain_function(run):
    async def main():
        got = asyncio.get_running_loop().create_future()

        async with pair(lambda reader, writer: got.set_result((reader, writer))) as (reader, writer):
            server_reader, server_writer = await got
            server_writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            server_writer.close()

    run(main())


def test_the_handler_runs_in_the_servers_context(run):
    variable = contextvars.ContextVar("variable", default="none")
    seen = []

    async def handler(reader, writer):
        seen.append(variable.get())
        variable.set("changed")
        writer.close()

    async def main():
        variable.set("server's")
        async with serving(handler) as (host, port):
            for _ in range(2):
                reader, writer = await corolla.open_connection(host, port)
                assert await reader.read() == b""
                writer.close()
                await writer.wait_closed()

    run(main())
    assert seen == ["server's", "server's"]


def test_a_writer_dropped_open_closes_with_a_warning(run):
    async def main():
        async with serving(echo) as (host, port):
            reader, writer = await corolla.open_connection(host, port)
            transport = weakref.ref(writer.transport)
            with pytest.warns(ResourceWarning, match="^unclosed <StreamWriter transport=<TcpTransport"):
                del writer
            assert await reader.read() == b""
            await asyncio.sleep(0)
            del reader
            gc.collect()
            assert transport() is None

    run(main())


def test_a_writer_dropped_after_its_loop(loop):
    async def leave(reader, writer):
        writer.close()

    async def main():
        async with serving(leave) as (host, port):
            reader, writer = await corolla.open_connection(host, port)
            assert await reader.read() == b""
            return reader, writer

    reader, writer = loop.run_until_complete(main())
    with pytest.warns(ResourceWarning) as warned:
        loop.close()
        del reader, writer
        gc.collect()
    assert any(str(warning.message) == "loop is closed" for warning in warned)


def test_a_reader_that_nobody_holds_drops_what_comes(run):
    async def main():
        async def send(reader, writer):
            writer.write(bytes(1_000_000))
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            sent.set_result(None)

        sent = asyncio.get_running_loop().create_future()
        async with serving(send) as (host, port):
            reader, writer = await corolla.open_connection(host, port)
            ref = weakref.ref(reader)
            transport, protocol = writer.transport, writer._protocol
            del reader
            writer._reader  # the writer holds it
            assert ref() is not None
            writer.close()
            await writer.wait_closed()
            del writer
            assert ref() is None
            assert protocol._stream_reader is None
            transport.abort()
            await sent

    run(main())


def test_extra_info_and_the_other_methods(run):
    async def main():
        async with pair(echo) as (reader, writer):
            assert writer.get_extra_info("peername")[0] == "127.0.0.1"
            assert writer.get_extra_info("nothing", 7) == 7
            assert writer.get_extra_info(name="nothing", default=8) == 8
            assert writer.can_write_eof() is True
            assert writer.is_closing() is False
            assert repr(writer).startswith("<StreamWriter transport=<TcpTransport fd=")
            assert f"reader={reader!r}" in repr(writer)
            for wrong in ("text", None, 3):
                with pytest.raises(TypeError):
                    writer.write(wrong)
            writer.close()
            assert writer.is_closing() is True
            writer.close()

    run(main())


def test_arguments():
    for wrong in ((), ("a", "b", "c", "d")):
        with pytest.raises(TypeError):
            corolla.start_server(*wrong)
    with pytest.raises(TypeError):
        corolla.open_connection("host", 1, host="host")
    with pytest.raises(ValueError, match="Limit cannot be <= 0"):
        corolla.open_connection("host", 1, limit=0)
    bare = corolla.StreamWriter.__new__(corolla.StreamWriter)
    for call in (bare.close, bare.is_closing, bare.write_eof, lambda: bare.write(b""), lambda: bare.drain().send(None)):
        with pytest.raises(RuntimeError):
            call()
    assert repr(bare) == "<StreamWriter transport=None>"
    bare = corolla.StreamReaderProtocol.__new__(corolla.StreamReaderProtocol)
    for call in (
        bare.pause_writing,
        bare.resume_writing,
        lambda: bare.connection_lost(None),
        lambda: bare.connection_made(None),
    ):
        with pytest.raises(RuntimeError):
            call()


def test_on_a_foreign_loop():
    async def main():
        async with pair(echo) as (reader, writer):
            data = bytes(range(256)) * 1000
            writer.write(data)
            await writer.drain()
            assert await reader.readexactly(len(data)) == data
            writer.write_eof()
            assert await reader.read() == b""

    asyncio.run(main())


def test_a_lost_connection_that_nobody_waited_for_is_no_report(run):
    async def reset(reader, writer):
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def main():
        async with serving(reset) as (host, port):
            reader, writer = await corolla.open_connection(host, port)
            closed = writer._protocol._closed
            with pytest.raises(ConnectionResetError):
                while True:
                    await reader.read()
                    writer.write(b"x")
                    await writer.drain()
            writer.close()
            del reader, writer
            assert closed.done()
            del closed

    run(main())


def test_reading_stops_while_nobody_reads(run):
    async def main():
        sent = 0

        async def send(reader, writer):
            nonlocal sent
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(bytes(10_000))
                    await writer.drain()
                    sent += 10_000

        async with serving(send) as (host, port):
            reader, writer = await corolla.open_connection(host, port, limit=10_000)
            while not reader._paused:
                await asyncio.sleep(0)
            assert len(reader._buffer) > 20_000
            assert not writer.transport.is_reading()
            held = len(reader._buffer)
            for _ in range(100):
                await asyncio.sleep(0)
            assert len(reader._buffer) == held
            await reader.readexactly(held)
            assert writer.transport.is_reading()
            writer.transport.abort()

    run(main())


def test_reads_beyond_the_limit_from_a_pipe(run):
    """As from a socket: the pipe's transport, paused over the limit, is resumed for whoever wants more.

    Seen in python/asyncio issues 99 and 168, and RustedBytes/rsloop commit ddf5ab6.
    """
    data = random.Random(1).randbytes(1_000_000)

    async def main():
        loop = asyncio.get_running_loop()
        ends = os.pipe()
        reader = corolla.StreamReader(limit=100, loop=loop)
        protocol = corolla.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.connect_read_pipe(lambda: protocol, open(ends[0], "rb", 0))
        async with corolla.connect_write_pipe(open(ends[1], "wb", 0)) as writing:
            sending = asyncio.ensure_future(writing.write(data))
            assert await reader.read(1) == data[:1]
            while not reader._paused:
                await asyncio.sleep(0)
            assert await reader.readexactly(500_000) == data[1:500_001]
            rest = asyncio.ensure_future(reader.read())
            await sending
        assert await rest == data[500_001:]
        transport.close()

    run(main())


@pytest.mark.parametrize("how", ["close", "abort"])
def test_reading_after_close(run, how):
    """What has come is read, and then the end, also by a read that begins after the stream was closed.

    Seen in python/cpython issue 79246 (bpo-35065).
    """

    async def send(reader, writer):
        writer.write(b"line\nrest")
        await writer.drain()
        await reader.read()
        writer.close()

    async def main():
        async with serving(send) as address:
            reader, writer = await corolla.open_connection(*address)
            assert await reader.readexactly(1) == b"l"
            if how == "close":
                writer.close()
            else:
                writer.transport.abort()
            assert await reader.readline() == b"ine\n"
            await writer.wait_closed()
            assert await reader.readline() == b"rest"
            assert await reader.read() == b""
            assert await reader.readline() == b""
            with pytest.raises(asyncio.IncompleteReadError):
                await reader.readexactly(1)

    run(main())
