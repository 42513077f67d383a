"""What a Stream's reads hold, give once the connection is lost, and refuse."""

import asyncio
import gc
import os
import socket
import struct
import weakref

import corolla
import pytest


def readinto(stream, size=3):
    target = bytearray(size)
    coro = stream.readinto(target)

    async def read():  # and nothing else holds the stream
        return bytes(target[: await coro])

    return read()


# Each gives b"ab\n" of b"ab\n".
READS = {
    "read": lambda stream: stream.read(3),
    "readexactly": lambda stream: stream.readexactly(3),
    "readuntil": lambda stream: stream.readuntil(),
    "readline": lambda stream: stream.readline(),
    "anext": lambda stream: stream.__anext__(),
    "readinto": readinto,
    "peek": lambda stream: stream.peek(),
}


@pytest.fixture(params=list(READS))
def call(request):
    return READS[request.param]


# ---- What it holds


def test_a_read_that_waits_holds_its_stream(run, call):
    async def main():
        ours, theirs = socket.socketpair()
        with theirs:
            stream = await corolla.connect(sock=ours)
            alive = weakref.ref(stream)
            reading = asyncio.ensure_future(call(stream))
            del stream
            await asyncio.sleep(0)
            gc.collect()
            assert alive() is not None
            theirs.send(b"ab\n")
            with pytest.warns(ResourceWarning, match="^unclosed <Stream"):
                assert await reading == b"ab\n"
                assert alive() is None

    run(main())


def test_a_read_holds_its_stream_before_it_begins(run, call):
    async def main():
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.send(b"ab\n")
            with pytest.warns(ResourceWarning, match="^unclosed <Stream"):
                assert await call(await corolla.connect(sock=ours)) == b"ab\n"

    run(main())


def test_a_read_that_is_cancelled_lets_go_of_its_stream(run, call):
    async def main():
        ours, theirs = socket.socketpair()
        with theirs:
            stream = await corolla.connect(sock=ours)
            alive = weakref.ref(stream)
            reading = asyncio.ensure_future(call(stream))
            await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait([reading])
            await stream.close()
            del stream, reading
            assert alive() is None

    run(main())


# ---- Once the connection is lost


async def connected(data, **options):
    """A stream that has got data, which is unread, and the socket of its peer."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        stream = await corolla.connect(*listening.getsockname(), **options)
        peer, _ = await asyncio.get_running_loop().sock_accept(listening)
    peer.send(data)
    while len(await stream.peek()) < len(data):
        await asyncio.sleep(0)
    return stream, peer


async def reset(stream, peer):
    """The peer resets the connection, and the stream has heard of it."""
    lost = stream.transport.get_protocol()._get_close_waiter(stream)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    await asyncio.wait([lost])


async def is_over(stream):
    for read in READS.values():
        with pytest.raises(ConnectionResetError):
            await read(stream)
    with pytest.raises(ConnectionResetError):
        await stream.read()
    with pytest.raises(ConnectionResetError):
        await stream.close()


def test_what_had_come_is_read_after_the_connection_is_lost(run, call):
    async def main():
        stream, peer = await connected(b"ab\n")
        await reset(stream, peer)
        assert await call(stream) == b"ab\n"
        if call is READS["peek"]:
            assert await stream.read(3) == b"ab\n"
        assert await stream.read(0) == await stream.readexactly(0) == await stream.peek(0) == b""
        await is_over(stream)

    run(main())


def test_what_does_not_do_stays_when_the_connection_is_lost(run):
    async def main():
        stream, peer = await connected(b"line\nrest")
        await reset(stream, peer)
        assert await stream.readline() == b"line\n"
        for read in (stream.readline, stream.readuntil, stream.__anext__, stream.read, lambda: stream.readexactly(5)):
            with pytest.raises(ConnectionResetError):
                await read()
        assert await readinto(stream, 2) == b"re"
        assert await stream.peek(1) == b"s"
        assert await stream.readexactly(1) == b"s"
        assert await stream.read(100) == b"t"
        await is_over(stream)

    run(main())


def test_more_than_the_limit_is_read_after_the_connection_is_lost(run):
    async def main():
        stream, peer = await connected(b"abc\n" * 100, limit=8)
        assert not stream.transport.is_reading()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        with pytest.raises(ConnectionError):
            while True:
                await stream.write(b"x")
                await asyncio.sleep(0)
        for _ in range(100):
            assert await stream.readline() == b"abc\n"
        for read in (stream.readline, stream.read):
            with pytest.raises(ConnectionError):
                await read()
        with pytest.raises(ConnectionError):
            await stream.close()

    run(main())


@pytest.mark.parametrize(
    "wait", [lambda stream: stream.read(), lambda stream: stream.readexactly(9), lambda stream: stream.readline()]
)
def test_a_read_that_waits_for_more_raises_and_leaves_what_there_is(run, wait):
    async def main():
        stream, peer = await connected(b"part")
        reading = asyncio.ensure_future(wait(stream))
        await asyncio.sleep(0)
        await reset(stream, peer)
        with pytest.raises(ConnectionResetError):
            await reading
        assert await stream.read(100) == b"part"
        await is_over(stream)

    run(main())


def test_the_rest_after_the_end_is_read_though_the_connection_is_lost_then(run):
    async def main():
        for read in (lambda: stream.read(), lambda: stream.readline(), lambda: stream.__anext__()):
            stream, peer = await connected(b"rest")
            stream.transport.get_protocol().eof_received()
            await reset(stream, peer)
            with pytest.raises(ConnectionResetError):
                await stream.readuntil()
            with pytest.raises(ConnectionResetError):
                await stream.readexactly(5)
            assert await read() == b"rest"
            assert stream.at_eof()
            await is_over(stream)

    run(main())


def test_a_stream_reader_raises_at_once_as_asyncios_does(run):
    async def main():
        reader = corolla.StreamReader()
        reader.feed_data(b"line\n")
        reader.set_exception(ConnectionResetError())
        for read in (reader.read, reader.readline, reader.readuntil, lambda: reader.readexactly(1), reader.__anext__):
            with pytest.raises(ConnectionResetError):
                await read()

    run(main())


# ---- What it is asked for


def test_a_target_that_is_emptied_meanwhile(run):
    async def main():
        ours, theirs = socket.socketpair()
        with theirs:
            async with corolla.connect(sock=ours) as stream:
                target = bytearray(4)
                reading = asyncio.ensure_future(stream.readinto(target))
                await asyncio.sleep(0)
                target.clear()
                theirs.send(b"ab")
                with pytest.raises(ValueError, match=r"^readinto\(\) needs a buffer that is not empty$"):
                    await reading
                assert await stream.read(9) == b"ab"

    run(main())


def test_peek_of_nothing_does_not_wait(run):
    async def main():
        ours, theirs = socket.socketpair()
        with theirs:
            async with corolla.connect(sock=ours) as stream:
                assert await stream.peek(0) == b""

    run(main())


def test_numbers_beyond_all_memory(run):
    async def main():
        ours, theirs = socket.socketpair()
        async with corolla.connect(sock=ours) as stream:
            theirs.send(b"abc")
            assert await stream.peek(2**70) == await stream.peek(-(2**70)) == b"abc"
            assert await stream.read(2**70) == b"abc"
            theirs.send(b"def")
            theirs.close()
            with pytest.raises(ValueError):
                await stream.readexactly(-(2**70))
            assert await stream.read(-(2**70)) == b"def"
            with pytest.raises(asyncio.IncompleteReadError):
                await stream.readexactly(2**70)
            for read in (stream.read, stream.peek, stream.readexactly):
                with pytest.raises(TypeError):
                    read("1")

    run(main())


@pytest.mark.parametrize("function", [corolla.connect_read_pipe, corolla.connect_write_pipe])
def test_a_pipe_has_to_be_given(function):
    message = rf"^{function.__name__}\(\) missing 1 required positional argument: 'pipe'$"
    with pytest.raises(TypeError, match=message):
        function()
    with pytest.raises(TypeError, match=message):
        function(limit=10)


def test_a_pipe_by_name(run):
    async def main():
        reading, writing = os.pipe()
        os.write(writing, b"abc")
        os.close(writing)
        async with corolla.connect_read_pipe(pipe=os.fdopen(reading, "rb")) as stream:
            assert await stream.read() == b"abc"

    run(main())
