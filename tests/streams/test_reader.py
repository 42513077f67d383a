"""StreamReader, driven by hand."""

import asyncio
import gc
import weakref

import corolla
import pytest


@pytest.fixture
def reader(loop):
    return corolla.StreamReader(loop=loop)


def start(coro):
    """The future a coroutine waits on, or None with StopIteration's value if it ended."""
    try:
        return coro.send(None), None
    except StopIteration as stop:
        return None, stop.value


def test_what_is_there_is_read_without_a_future(reader):
    reader.feed_data(b"abc\ndef\nrest")
    for coro, expected in (
        (reader.readline(), b"abc\n"),
        (reader.readuntil(b"\n"), b"def\n"),
        (reader.readexactly(2), b"re"),
        (reader.read(1), b"s"),
        (reader.read(100), b"t"),
        (reader.read(0), b""),
        (reader.readexactly(0), b""),
    ):
        assert start(coro) == (None, expected)


def test_bytes_fed_into_an_empty_buffer_are_handed_out_as_they_are(reader):
    data = bytes(range(200))
    reader.feed_data(data)
    assert start(reader.read(1000))[1] is data
    reader.feed_data(data)
    assert start(reader.readexactly(100))[1] == data[:100]
    reader.feed_data(data)
    assert start(reader.readexactly(300))[1] == data[100:] + data


@pytest.mark.parametrize("kind", [bytearray, memoryview, bytes])
def test_what_is_fed_is_not_what_the_caller_changes_later(reader, kind):
    source = bytearray(b"hello")
    reader.feed_data(kind(source))
    source[:] = b"XXXXX"
    reader.feed_data(b"!")
    assert start(reader.read(10))[1] == b"hello!"


def test_a_fed_bytes_object_stays_as_it_is(reader):
    data = b"constant" * 10
    reader.feed_data(data)
    reader.feed_data(b"more")
    assert start(reader.read(5))[1] == b"const"
    assert data == b"constant" * 10


def test_only_bytes_like_objects_can_be_fed(reader):
    for wrong in ("text", 3, None, [1, 2]):
        with pytest.raises(TypeError):
            reader.feed_data(wrong)
    assert reader._buffer == b""


def test_feed_after_the_end(reader):
    reader.feed_eof()
    with pytest.raises(AssertionError, match="feed_data after feed_eof"):
        reader.feed_data(b"late")


def test_waiting_and_the_end(loop, run, reader):
    async def main():
        reading = loop.create_task(reader.read())
        await asyncio.sleep(0)
        for piece in (b"a", b"bc", b"", b"def"):
            reader.feed_data(piece)
            await asyncio.sleep(0)
            assert not reading.done()
        reader.feed_eof()
        assert await reading == b"abcdef"
        assert reader.at_eof()
        assert await reader.read() == b""
        assert await reader.read(10) == b""
        assert await reader.readline() == b""
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readexactly(3)
        assert (caught.value.partial, caught.value.expected) == (b"", 3)

    run(main())


def test_one_at_a_time(loop, run, reader):
    async def main():
        first = loop.create_task(reader.readline())
        await asyncio.sleep(0)
        for name, coro in (
            ("read", reader.read(1)),
            ("readuntil", reader.readline()),
            ("readexactly", reader.readexactly(1)),
        ):
            with pytest.raises(RuntimeError, match=rf"^{name}\(\) called while another coroutine is already waiting"):
                await coro
        reader.feed_data(b"line\n")
        assert await first == b"line\n"

    run(main())


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("read", (5,)), ("read", ()), ("readline", ()), ("readexactly", (6,)), ("readuntil", (b"--",))],
)
def test_cancelling_a_read_loses_nothing(loop, run, reader, name, arguments):
    async def main():
        reading = loop.create_task(getattr(reader, name)(*arguments))
        await asyncio.sleep(0)
        reader.feed_data(b"ab")  # wakes read(5), in the same turn as the cancellation
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert reader._waiter is None
        reader.feed_data(b"cd")
        reader.feed_eof()
        assert await reader.read() == b"abcd"

    run(main())


def test_an_exception_is_raised_by_who_waits_and_by_who_comes_later(loop, run, reader):
    async def main():
        reading = loop.create_task(reader.readline())
        await asyncio.sleep(0)
        error = ConnectionResetError("gone")
        reader.set_exception(error)
        for coro in (reading, reader.read(1), reader.readexactly(1), reader.readuntil(), reader.readline()):
            with pytest.raises(ConnectionResetError) as caught:
                await coro
            assert caught.value is error
        assert reader.exception() is error

    run(main())


def test_limit(loop):
    for wrong in (0, -1, -(10**30)):
        with pytest.raises(ValueError, match="Limit cannot be <= 0"):
            corolla.StreamReader(limit=wrong, loop=loop)
    with pytest.raises(TypeError):
        corolla.StreamReader(limit="many", loop=loop)
    assert corolla.StreamReader(limit=10**30, loop=loop)._limit > 10**15
    assert corolla.StreamReader(7, loop)._limit == 7
    assert corolla.StreamReader(loop=loop)._limit == 65536


def test_lines_over_the_limit(loop, run):
    async def main():
        reader = corolla.StreamReader(limit=4, loop=loop)
        reader.feed_data(b"abcd\nabcde\nok\n")
        assert await reader.readline() == b"abcd\n"
        with pytest.raises(ValueError, match="^Separator is found, but chunk is longer than limit$"):
            await reader.readline()
        assert await reader.readline() == b"ok\n"
        reader.feed_data(b"abcdef")
        with pytest.raises(ValueError, match="^Separator is not found, and chunk exceed the limit$"):
            await reader.readline()
        assert reader._buffer == b""
        reader.feed_data(b"abcdef\n")
        with pytest.raises(asyncio.LimitOverrunError) as caught:
            await reader.readuntil()
        assert caught.value.consumed == 6
        assert await reader.readexactly(7) == b"abcdef\n"
        reader.feed_data(b"abcdef")
        with pytest.raises(asyncio.LimitOverrunError) as caught:
            await reader.readuntil(b"xy")
        assert caught.value.consumed == 5
        assert reader._buffer == b"abcdef"

    run(main())


def test_separators(loop, run):
    async def main():
        reader = corolla.StreamReader(loop=loop)
        reader.feed_data(b"one--two;three---four")
        assert await reader.readuntil((b";", b"--")) == b"one--"
        assert await reader.readuntil((b"--", b";")) == b"two;"
        assert await reader.readuntil((b"---", b"--")) == b"three--"
        assert await reader.readuntil(bytearray(b"f")) == b"-f"
        reader.feed_eof()
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readuntil((b"nowhere", b"."))
        assert (caught.value.partial, caught.value.expected) == (b"our", None)
        for wrong, error in (
            (b"", ValueError),
            ((), ValueError),
            ((b"a", b""), ValueError),
            ("x", TypeError),
            (3, TypeError),
        ):
            with pytest.raises(error):
                await reader.readuntil(wrong)

    run(main())


def test_a_separator_in_two_pieces(loop, run):
    async def main():
        reader = corolla.StreamReader(loop=loop)
        for cut in range(1, 8):
            reading = loop.create_task(reader.readuntil(b"=END="))
            await asyncio.sleep(0)
            whole = b"ab=END=next"
            reader.feed_data(whole[:cut])
            await asyncio.sleep(0)
            reader.feed_data(whole[cut:])
            assert await reading == b"ab=END="
            assert await reader.read(100) == b"next"

    run(main())


def test_iterating_over_lines(loop, run):
    async def main():
        reader = corolla.StreamReader(loop=loop)
        reader.feed_data(b"a\nb\nc")
        reader.feed_eof()
        assert [line async for line in reader] == [b"a\n", b"b\n", b"c"]

    run(main())


class Transport:
    """A transport that only remembers whether it reads."""

    def __init__(self):
        self.calls = []

    def pause_reading(self):
        self.calls.append("pause")

    def resume_reading(self):
        self.calls.append("resume")


def test_the_transport_is_paused_at_twice_the_limit(loop, run):
    async def main():
        reader, transport = corolla.StreamReader(limit=10, loop=loop), Transport()
        reader.set_transport(transport)
        with pytest.raises(AssertionError, match="Transport already set"):
            reader.set_transport(transport)
        reader.feed_data(bytes(20))
        assert transport.calls == []
        reader.feed_data(b"x")
        assert transport.calls == ["pause"]
        assert reader._paused
        await reader.readexactly(10)
        assert transport.calls == ["pause"]
        await reader.readexactly(1)
        assert transport.calls == ["pause", "resume"]
        assert not reader._paused

    run(main())


def test_more_than_twice_the_limit_can_be_read(loop, run):
    """readexactly(n) and read(-1) of more than twice the limit deadlocked: the transport was paused and nothing resumed it.

    Seen in python/asyncio issues 99 and 168, and RustedBytes/rsloop commit ddf5ab6.
    """

    async def main():
        reader, transport = corolla.StreamReader(limit=10, loop=loop), Transport()
        reader.set_transport(transport)
        reader.feed_data(bytes(25))
        assert transport.calls == ["pause"]
        reading = loop.create_task(reader.readexactly(100))
        await asyncio.sleep(0)
        assert transport.calls[-1] == "resume"
        for _ in range(3):
            reader.feed_data(bytes(25))
            await asyncio.sleep(0)
        assert await reading == bytes(100)
        reading = loop.create_task(reader.read())
        for _ in range(30):
            await asyncio.sleep(0)
            assert not reader._paused
            reader.feed_data(bytes(25))
        reader.feed_eof()
        assert await reading == bytes(750)

    run(main())


def test_a_transport_that_cannot_pause_is_forgotten(loop):
    class Stubborn(Transport):
        def pause_reading(self):
            raise NotImplementedError

    reader = corolla.StreamReader(limit=1, loop=loop)
    reader.set_transport(Stubborn())
    reader.feed_data(b"123")
    assert reader._transport is None
    assert not reader._paused


def test_reading_after_the_end_of_the_connection(run, reader):
    """A read begun after the stream had been closed could hang for ever.

    Seen in python/cpython issue 79246 (bpo-35065).
    """

    async def main():
        reader.feed_data(b"last words\n...")
        reader.feed_eof()
        assert await reader.readline() == b"last words\n"
        assert await reader.readline() == b"..."
        assert await reader.readline() == b""

    run(main())


def test_repr(loop, reader):
    assert repr(reader) == "<StreamReader>"
    reader.feed_data(b"abc")
    reader.feed_eof()
    assert repr(reader) == "<StreamReader 3 bytes eof>"
    other = corolla.StreamReader(limit=9, loop=loop)
    other.set_exception(ValueError("no"))
    assert repr(other) == "<StreamReader limit=9 exception=ValueError('no')>"


def test_not_initialised():
    bare = corolla.StreamReader.__new__(corolla.StreamReader)
    for call in (
        lambda: bare.feed_data(b"x"),
        lambda: start(bare.read()),
        lambda: start(bare.readline()),
        lambda: start(bare.readexactly(1)),
    ):
        with pytest.raises(RuntimeError):
            call()
    assert bare.exception() is None
    assert bare.at_eof() is False
    assert repr(bare) == "<StreamReader>"
    bare.feed_eof()


def test_attributes_and_weak_references(loop, reader):
    reader.colour = "blue"
    ref = weakref.ref(reader)
    reader.me = reader
    del reader
    gc.collect()
    # The fixture holds it until the test ends.
    assert ref() is not None
    assert ref().colour == "blue"


def test_cycles_are_collected(loop):
    reader = corolla.StreamReader(loop=loop)
    reader.me = reader
    ref = weakref.ref(reader)
    del reader
    gc.collect()
    assert ref() is None


def test_on_a_foreign_loop():
    async def main():
        reader = corolla.StreamReader()
        reading = asyncio.create_task(reader.readline())
        await asyncio.sleep(0)
        assert isinstance(reader._waiter, asyncio.Future)
        reader.feed_data(b"line\nmore")
        assert await reading == b"line\n"
        reading = asyncio.create_task(reader.readexactly(10))
        await asyncio.sleep(0)
        reader.set_exception(OSError("foreign"))
        with pytest.raises(OSError, match="foreign"):
            await reading

    asyncio.run(main())


def test_a_subclass_with_feed_data_of_its_own(loop, run):
    class Counting(corolla.StreamReader):
        seen = 0

        def feed_data(self, data):
            self.seen += len(data)
            super().feed_data(data)

    async def main():
        reader = Counting()

        async def serve(_reader, writer):
            writer.write(b"12345")
            writer.close()

        server = await corolla.start_server(serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        transport, _ = await loop.create_connection(lambda: corolla.StreamReaderProtocol(reader), host, port)
        assert await reader.read() == b"12345"
        assert reader.seen == 5
        transport.close()
        server.close()
        await server.wait_closed()

    run(main())


def test_bytes_that_another_took_are_no_end(run):
    """Woken for bytes that another task has read by then, read() waits on; b'' would say that this was all."""

    async def main():
        reader = corolla.StreamReader(loop=asyncio.get_running_loop())
        reading = asyncio.ensure_future(reader.read(1))
        await asyncio.sleep(0)
        reader.feed_data(b"x")
        with pytest.raises(StopIteration) as stolen:
            reader.read(1).send(None)
        assert stolen.value.value == b"x"
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not reading.done()
        reader.feed_data(b"y")
        assert await reading == b"y"

    run(main())


def test_what_is_no_exception_is_a_type_error(run):
    async def main():
        reader = corolla.StreamReader(loop=asyncio.get_running_loop())
        reader.set_exception(5)
        with pytest.raises(TypeError, match="exceptions must derive from BaseException"):
            await reader.read()
        reader.set_exception(LookupError)
        with pytest.raises(LookupError):
            await reader.readline()

    run(main())


def test_init_again_forgets_who_waited(run):
    async def main():
        loop = asyncio.get_running_loop()
        reader = corolla.StreamReader(limit=10, loop=loop)
        waiting = reader.read()
        waiting.send(None)
        reader.__init__(limit=10, loop=loop)
        paused = []

        class Transport:
            def pause_reading(self):
                paused.append(True)

            def resume_reading(self):
                paused.append(False)

        reader.set_transport(Transport())
        reader.feed_data(b"x" * 21)
        assert paused == [True]
        waiting.close()
        assert await reader.read(100) == b"x" * 21

    run(main())


def test_a_read_that_is_dropped_gives_the_reader_back(run):
    async def main():
        reader = corolla.StreamReader(loop=asyncio.get_running_loop())
        dropped = reader.read(1)
        dropped.send(None)
        del dropped
        reading = asyncio.ensure_future(reader.read(1))
        await asyncio.sleep(0)
        reader.feed_data(b"x")
        assert await reading == b"x"

    run(main())


def test_a_reader_that_fails_at_the_end_leaves_nobody_waiting(run):
    class Reader(corolla.StreamReader):
        def feed_eof(self):
            raise LookupError("feed_eof")

    async def main():
        loop = asyncio.get_running_loop()
        reader = Reader(loop=loop)
        protocol = corolla.StreamReaderProtocol(reader, loop=loop)
        closed = protocol._closed
        protocol.pause_writing()
        draining = asyncio.ensure_future(protocol._drain_helper())
        await asyncio.sleep(0)
        with pytest.raises(LookupError):
            protocol.connection_lost(None)
        assert closed.done()
        await draining
        with pytest.raises(ConnectionResetError):
            await protocol._drain_helper()

    run(main())
