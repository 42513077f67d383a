"""Stream: one object for both directions, connect() and the servers."""

import asyncio
import contextlib
import gc
import os
import socket
import struct
import sys
import weakref

import corolla
import pytest


async def echo(stream):
    while data := await stream.read(65536):
        await stream.write(data)


def address(server):
    return server.sockets[0].getsockname()


def test_echo(run):
    async def main():
        async with corolla.StreamServer(echo, "127.0.0.1", 0) as server:
            async with corolla.connect(*address(server)) as stream:
                assert type(stream) is corolla.Stream
                for size in (1, 1000, 100_000, 2_000_000):
                    data = os.urandom(size)
                    writing = asyncio.ensure_future(stream.write(data))
                    assert await stream.readexactly(size) == data
                    await writing
                await stream.writelines([b"a", bytearray(b"b"), memoryview(b"c\n")])
                assert await stream.readline() == b"abc\n"
                await stream.write_eof()
                assert await stream.read() == b""
                assert stream.at_eof()

    run(main())


def test_awaited_without_async_with(run):
    async def main():
        async with corolla.StreamServer(echo, "127.0.0.1", 0) as server:
            stream = await corolla.connect(*address(server))
            await stream.write(b"hello")
            assert await stream.readexactly(5) == b"hello"
            await stream.close()
            assert stream.is_closing()
            await stream.close()

    run(main())


def test_connect_is_awaited_once(run):
    async def main():
        async with corolla.StreamServer(echo, "127.0.0.1", 0) as server:
            connecting = corolla.connect(*address(server))
            stream = await connecting
            with pytest.raises(RuntimeError):
                await connecting
            with pytest.raises(RuntimeError):
                async with connecting:
                    pass
            await stream.close()

    run(main())


def test_connect_that_is_never_awaited():
    with pytest.warns(RuntimeWarning, match="coroutine 'connect' was never awaited"):
        corolla.connect("127.0.0.1", 1)
        gc.collect()


def test_connect_fails(run):
    async def main():
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))  # and does not listen
            with pytest.raises(ConnectionRefusedError):
                async with corolla.connect(*sock.getsockname()):
                    raise AssertionError("not reached")
        with pytest.raises(TypeError):
            corolla.connect(1, 2, 3)
        with pytest.raises(ValueError, match="Limit cannot be <= 0"):
            corolla.connect("127.0.0.1", 1, limit=0)

    run(main())


def test_peek_and_readinto(run):
    async def send(stream):
        await stream.write(b"0123456789")

    async def main():
        async with corolla.StreamServer(send, "127.0.0.1", 0) as server, corolla.connect(*address(server)) as stream:
            assert await stream.peek(3) == b"012"
            while len(await stream.peek()) < 10:
                await asyncio.sleep(0)
            assert await stream.peek() == b"0123456789"
            buffer = bytearray(b"......")
            assert await stream.readinto(memoryview(buffer)[1:5]) == 4
            assert buffer == b".0123."
            assert await stream.readinto(bytearray(100)) == 6
            assert await stream.readinto(buffer) == 0
            assert await stream.peek() == b""
            for wrong, error in ((b"constant", BufferError), (bytearray(), ValueError), ("text", TypeError)):
                with pytest.raises(error):
                    stream.readinto(wrong)

    run(main())


def test_one_task_for_each_direction(run):
    """A stream used from two tasks in the same direction says so, and the first one goes on."""

    async def main():
        hold = asyncio.get_running_loop().create_future()

        async def wait(stream):
            await hold
            await stream.write(b"line\n")
            while await stream.read(65536):
                pass

        async with corolla.StreamServer(wait, "127.0.0.1", 0) as server, corolla.connect(*address(server)) as stream:
            reading = asyncio.ensure_future(stream.readline())
            writing = asyncio.ensure_future(stream.write(bytes(10_000_000)))
            await asyncio.sleep(0)
            for coro in (
                stream.read(),
                stream.readline(),
                stream.readexactly(1),
                stream.peek(),
                stream.readinto(bytearray(1)),
            ):
                with pytest.raises(RuntimeError, match="while another coroutine is already waiting for incoming data"):
                    await coro
            for coro in (stream.write(b"x"), stream.writelines([b"x"]), stream.write_eof()):
                with pytest.raises(RuntimeError, match="called while another coroutine is already writing"):
                    await coro
            hold.set_result(None)
            assert await reading == b"line\n"
            await writing
            await stream.write_eof()

    run(main())


def test_a_cancelled_write_gives_the_stream_back(run):
    async def main():
        hold = asyncio.get_running_loop().create_future()

        async def count(stream):
            await hold
            total = 0
            while data := await stream.read(65536):
                total += len(data)
            await stream.write(b"%d" % total)

        async with corolla.StreamServer(count, "127.0.0.1", 0) as server, corolla.connect(*address(server)) as stream:
            writing = asyncio.ensure_future(stream.write(bytes(10_000_000)))
            await asyncio.sleep(0)
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
            hold.set_result(None)
            await stream.write(b"more")
            await stream.write_eof()
            assert await stream.read() == b"10000004"

    run(main())


def test_a_write_that_is_never_awaited(run):
    async def main():
        async with corolla.StreamServer(echo, "127.0.0.1", 0) as server, corolla.connect(*address(server)) as stream:
            with pytest.warns(RuntimeWarning, match="coroutine 'Stream.write' was never awaited"):
                stream.write(b"lost")
                gc.collect()
            await stream.write(b"kept")
            await stream.write_eof()
            assert await stream.read() == b"kept"

    run(main())


def test_writing_to_one_that_has_gone(run):
    async def leave(stream):
        sock = stream.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.abort()

    async def main():
        async with corolla.StreamServer(leave, "127.0.0.1", 0) as server:
            stream = await corolla.connect(*address(server))
            with pytest.raises(ConnectionError):
                for _ in range(100_000):
                    await stream.write(b"data")
            with pytest.raises(ConnectionError):
                await stream.write(b"x")
            with pytest.raises(ConnectionError):
                await stream.close()

    run(main())


def test_after_close(run):
    async def main():
        async with corolla.StreamServer(echo, "127.0.0.1", 0) as server:
            stream = await corolla.connect(*address(server))
            await stream.close()
            for coro in (stream.write(b"x"), stream.write_eof(), stream.writelines([b"x"])):
                with pytest.raises(ConnectionResetError, match="called on a stream that is closing"):
                    await coro
            assert await stream.read() == b""

    run(main())


def test_a_body_that_fails_aborts(run):
    async def main():
        seen = asyncio.get_running_loop().create_future()

        async def handler(stream):
            try:
                seen.set_result(await stream.read())
            except ConnectionResetError as error:
                seen.set_result(error)

        async with corolla.StreamServer(handler, "127.0.0.1", 0) as server:
            with pytest.raises(LookupError, match="body"):
                async with corolla.connect(*address(server)) as stream:
                    raise LookupError("body")
            assert stream.is_closing()
            await seen

    run(main())


def test_close_sends_what_is_queued(run):
    async def main():
        got = asyncio.get_running_loop().create_future()

        async def handler(stream):
            got.set_result(len(await stream.read()))

        async with corolla.StreamServer(handler, "127.0.0.1", 0) as server:
            stream = await corolla.connect(*address(server))
            stream.transport.set_write_buffer_limits(high=100_000_000)
            await stream.write(bytes(20_000_000))
            await stream.close()
            assert await got == 20_000_000

    run(main())


def test_several_wait_for_the_end_and_one_is_cancelled(run):
    async def main():
        hold = asyncio.get_running_loop().create_future()

        async def handler(stream):
            await hold
            await stream.read()

        async with corolla.StreamServer(handler, "127.0.0.1", 0) as server:
            stream = await corolla.connect(*address(server))
            stream.transport.set_write_buffer_limits(high=100_000_000)
            await stream.write(bytes(20_000_000))
            closes = [asyncio.ensure_future(stream.close()) for _ in range(3)]
            await asyncio.sleep(0)
            closes[0].cancel()
            hold.set_result(None)
            results = await asyncio.gather(*closes, return_exceptions=True)
            assert [type(result) for result in results] == [asyncio.CancelledError, type(None), type(None)]

    run(main())


def test_a_handler_that_fails_closes_only_its_own_stream(run, reports):
    async def handler(stream):
        if await stream.readline() == b"fail\n":
            raise LookupError("handler")
        await echo(stream)

    async def main():
        async with corolla.StreamServer(handler, "127.0.0.1", 0) as server:
            async with corolla.connect(*address(server)) as good, corolla.connect(*address(server)) as bad:
                await good.write(b"go on\n")
                await bad.write(b"fail\n")
                with contextlib.suppress(ConnectionResetError):
                    assert await bad.read() == b""
                await good.write(b"still here")
                assert await good.readexactly(10) == b"still here"
        report = reports.pop()
        assert report["message"] == "Unhandled exception in a stream handler"
        assert type(report["exception"]) is LookupError

    run(main())


def test_close_lets_handlers_finish_and_then_cancels_them(run):
    async def main():
        loop = asyncio.get_running_loop()
        ended = []
        both = loop.create_future()

        async def handler(stream):
            name = await stream.readline()
            if len(ended_or_running := names) == 1:
                both.set_result(None)
            ended_or_running.append(name)
            try:
                await stream.read()
                ended.append((name, "finished"))
            except asyncio.CancelledError:
                ended.append((name, "cancelled"))
                raise

        names = []
        server = corolla.StreamServer(handler, "127.0.0.1", 0, shutdown_timeout=0.05)
        await server.start_serving()
        assert server.is_serving()
        patient = await corolla.connect(*address(server))
        quick = await corolla.connect(*address(server))
        await patient.write(b"patient\n")
        await quick.write(b"quick\n")
        await both
        closing = asyncio.ensure_future(server.close())
        await asyncio.sleep(0)
        assert not server.is_serving()
        await quick.close()
        await closing
        assert sorted(ended) == [(b"patient\n", "cancelled"), (b"quick\n", "finished")]
        with contextlib.suppress(ConnectionResetError):
            assert await patient.read() == b""
            await patient.close()
        await server.close()
        with pytest.raises(RuntimeError, match="StreamServer is closed"):
            await server.start_serving()

    run(main())


def test_serve_forever_ends_by_cancellation(run):
    async def main():
        server = corolla.StreamServer(echo, "127.0.0.1", 0)
        serving = asyncio.ensure_future(server.serve_forever())
        while not server.is_serving():
            await asyncio.sleep(0)
        async with corolla.connect(*address(server)) as stream:
            await stream.write(b"x")
            assert await stream.readexactly(1) == b"x"
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert not server.is_serving()

    run(main())


def test_closing_the_server_from_a_handler(run):
    async def main():
        async def stop(stream):
            await stream.write(b"bye")
            await server.close()

        server = corolla.StreamServer(stop, "127.0.0.1", 0)
        await server.start_serving()
        async with corolla.connect(*address(server)) as stream:
            assert await stream.read() == b"bye"

    run(main())


def test_server_arguments():
    for wrong, error in (
        (lambda: corolla.StreamServer(None, "127.0.0.1", 0), TypeError),
        (lambda: corolla.StreamServer(echo, "127.0.0.1", 0, limit=0), ValueError),
        (lambda: corolla.StreamServer(echo, "127.0.0.1", 0, shutdown_timeout=-1), ValueError),
    ):
        with pytest.raises(error):
            wrong()


def test_pipes(run):
    async def main():
        read_end, write_end = os.pipe()
        async with (
            corolla.connect_read_pipe(os.fdopen(read_end, "rb", 0)) as reading,
            corolla.connect_write_pipe(os.fdopen(write_end, "wb", 0)) as writing,
        ):
            assert reading.mode is corolla.StreamMode.READ
            assert writing.mode is corolla.StreamMode.WRITE
            await writing.write(b"through a pipe\n")
            assert await reading.readline() == b"through a pipe\n"
            for call in (lambda: reading.write(b""), reading.write_eof):
                with pytest.raises(RuntimeError, match="^The stream is read-only$"):
                    await call()
            for call in (writing.read, writing.readline, writing.peek, writing.at_eof, writing.__aiter__):
                with pytest.raises(RuntimeError, match="^The stream is write-only$"):
                    call()
            await writing.close()
            assert await reading.read() == b""

    run(main())


def test_what_it_says_of_itself(run):
    async def main():
        sides = []

        async def handler(stream):
            sides.append((stream.is_server_side(), stream.mode, stream.limit))

        async with corolla.StreamServer(handler, "127.0.0.1", 0, limit=123) as server:
            async with corolla.connect(*address(server), limit=77) as stream:
                assert (stream.is_server_side(), stream.mode, stream.limit) == (False, corolla.StreamMode.READWRITE, 77)
                assert repr(stream).startswith("<Stream 0 bytes unread transport=<TcpTransport")
                assert stream.get_extra_info("peername") == address(server)
                assert stream.can_write_eof()
                assert await stream.read() == b""
                stream.name = "mine"
                assert weakref.ref(stream)().name == "mine"
        assert sides == [(True, corolla.StreamMode.READWRITE, 123)]

    run(main())


def test_iterating(run):
    async def lines(stream):
        async for line in stream:
            await stream.write(line.upper())

    async def main():
        async with corolla.StreamServer(lines, "127.0.0.1", 0) as server, corolla.connect(*address(server)) as stream:
            await stream.write(b"one\ntwo\nthree")
            await stream.write_eof()
            assert [line async for line in stream] == [b"ONE\n", b"TWO\n", b"THREE"]

    run(main())


def test_cannot_be_made_by_hand():
    with pytest.raises(TypeError):
        corolla.Stream()


def test_a_handlers_task_that_cannot_be_watched(loop, run, reports):
    class Deaf(asyncio.Task):
        def add_done_callback(self, *args, **kwargs):
            raise LookupError("deaf")

    began = []

    async def handler(stream):
        began.append(stream)

    async def main():
        def make(loop, coro, **options):
            return (Deaf if coro.__name__ == "handler" else asyncio.Task)(coro, loop=loop, **options)

        async with corolla.StreamServer(handler, "127.0.0.1", 0) as server:
            loop.set_task_factory(make)
            with contextlib.suppress(ConnectionError):
                async with corolla.connect(*address(server)) as stream:
                    assert await stream.read() == b""
            loop.set_task_factory(None)
            assert not server._acceptor.tasks
        assert began == []
        report = reports.pop()
        assert report["message"] == "Exception in callback protocol.connection_made()"
        assert isinstance(report["exception"], LookupError)

    run(main())


def test_a_stream_dropped_open_warns_and_closes(run):
    async def main():
        async with corolla.StreamServer(echo, "127.0.0.1", 0) as server:
            stream = await corolla.connect(*address(server))
            with pytest.warns(ResourceWarning, match="^unclosed <Stream"):
                del stream
                gc.collect()

    run(main())


def test_sendfile(run, tmp_path):
    content = os.urandom(300_000)
    (tmp_path / "file").write_bytes(content)

    async def send(stream):
        await stream.write(b"head")
        with open(tmp_path / "file", "rb") as file:
            assert await stream.sendfile(file) == 300_000
            assert await stream.sendfile(file, 100, 50) == 50
        await stream.write(b"tail")

    async def main():
        async with corolla.StreamServer(send, "127.0.0.1", 0) as server, corolla.connect(*address(server)) as stream:
            assert await stream.read() == b"head" + content + content[100:150] + b"tail"

    run(main())


def test_on_a_foreign_loop():
    async def main():
        async with corolla.StreamServer(echo, "127.0.0.1", 0) as server, corolla.connect(*address(server)) as stream:
            data = bytes(range(256)) * 500
            writing = asyncio.ensure_future(stream.write(data))
            assert await stream.readexactly(len(data)) == data
            await writing

    asyncio.run(main())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout is new in 3.11")
def test_a_read_with_a_timeout_loses_nothing(run):
    async def main():
        async def slow(stream):
            await stream.write(b"ab")
            await stream.read(1)
            await stream.write(b"cd\n")

        async with corolla.StreamServer(slow, "127.0.0.1", 0) as server, corolla.connect(*address(server)) as stream:
            assert await stream.peek(2) == b"ab"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await stream.readline()
            await stream.write(b".")
            assert await stream.readline() == b"abcd\n"

    run(main())


def test_two_handlers_close_the_server(run):
    async def main():
        both = asyncio.Barrier(2)

        async def stop(stream):
            await both.wait()
            await server.close()
            await stream.write(b"bye")

        server = corolla.StreamServer(stop, "127.0.0.1", 0, shutdown_timeout=None)
        await server.start_serving()
        async with corolla.connect(*address(server)) as one, corolla.connect(*address(server)) as two:
            assert await one.read() == await two.read() == b"bye"
        await server.close()

    run(main())


def test_no_handler_begins_once_the_server_is_closed(run):
    async def main():
        begun = []

        async def handler(stream):
            begun.append(stream)

        server = corolla.StreamServer(handler, "127.0.0.1", 0)
        await server.start_serving()
        acceptor = server._acceptor
        await server.close()
        ours, theirs = socket.socketpair()
        with theirs:
            # As a connection that was accepted just before.
            await asyncio.get_running_loop().connect_accepted_socket(acceptor, ours)
            await asyncio.sleep(0)
            assert theirs.recv(1) == b""
        assert begun == []

    run(main())


def test_started_by_two_tasks_and_closed_meanwhile(run):
    async def main():
        server = corolla.StreamServer(echo, "127.0.0.1", 0)
        await asyncio.gather(server.start_serving(), server.start_serving())
        assert len(server.sockets) == 1
        assert server._acceptor is not None
        async with corolla.connect(*address(server)) as stream:
            await stream.write(b"x")
            assert await stream.readexactly(1) == b"x"
        await server.close()
        server = corolla.StreamServer(echo, "localhost", 0)
        starting = asyncio.ensure_future(server.start_serving())
        await asyncio.sleep(0)
        await server.close()
        with pytest.raises(RuntimeError, match="StreamServer is closed"):
            await starting

    run(main())


def test_serve_forever_twice_leaves_the_first_alone(run):
    async def main():
        server = corolla.StreamServer(echo, "127.0.0.1", 0)
        serving = asyncio.ensure_future(server.serve_forever())
        while not server.is_serving():
            await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already"):
            await server.serve_forever()
        assert server.is_serving()
        serving.cancel()
        await asyncio.wait([serving])

    run(main())


@pytest.mark.parametrize("kind", ["path", "Path", "abstract"])
def test_unix(run, tmp_path, kind):
    path = {"path": str(tmp_path / "s"), "Path": tmp_path / "s", "abstract": f"\0corolla-{os.getpid()}-{id(run)}"}[kind]

    async def main():
        async with corolla.UnixStreamServer(echo, path, limit=50) as server:
            assert server.is_serving()
            assert len(server.sockets) == 1
            async with corolla.connect_unix(path, limit=77) as stream:
                assert type(stream) is corolla.Stream
                assert stream.limit == 77
                data = os.urandom(1_000_000)
                writing = asyncio.ensure_future(stream.write(data))
                assert await stream.readexactly(len(data)) == data
                await writing
                await stream.write_eof()
                assert await stream.read() == b""
        assert not server.is_serving()
        with pytest.raises((FileNotFoundError, ConnectionRefusedError)):
            await corolla.connect_unix(path)

    run(main())
    assert list(tmp_path.iterdir()) == []


def test_unix_arguments(run, tmp_path):
    async def main():
        with pytest.raises(ValueError, match="Limit cannot be <= 0"):
            corolla.connect_unix(str(tmp_path), limit=0)
        with pytest.raises(TypeError):
            corolla.connect_unix("one", "two")
        with pytest.raises(ValueError, match="no path and sock"):
            await corolla.connect_unix()
        with pytest.raises(OSError):
            async with corolla.UnixStreamServer(echo, str(tmp_path / "no" / "such")):
                raise AssertionError("not reached")
        ours, theirs = socket.socketpair()
        async with corolla.connect_unix(sock=ours) as stream:
            with theirs:
                theirs.sendall(b"line\n")
                assert await stream.readline() == b"line\n"

    run(main())


def test_the_pair_over_unix(run, tmp_path):
    async def main():
        async def lines(reader, writer):
            async for line in reader:
                writer.write(line.upper())
            writer.close()

        path = str(tmp_path / "s")
        async with await corolla.start_unix_server(lines, path):
            reader, writer = await corolla.open_unix_connection(path)
            writer.write(b"one\ntwo\n")
            await writer.drain()
            writer.write_eof()
            assert await reader.read() == b"ONE\nTWO\n"
            writer.close()
            await writer.wait_closed()

    run(main())
