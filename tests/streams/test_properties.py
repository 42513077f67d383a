"""Properties of StreamReader: whatever the bytes, the packets they come in and the calls, it does what asyncio's does."""

import asyncio
import fcntl
import itertools
import socket
import sys
import termios

import corolla
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

# The same examples each time: a test passes every time or is a bug.
bounded = settings(derandomize=True, database=None, deadline=None, max_examples=400)

TUPLES = sys.version_info >= (3, 13)  # asyncio's readuntil() takes several separators


# ---- The same calls on a reader of theirs and on one of ours -------------------------------------------------------------


def outcome(error):
    """What an exception says, as something that can be compared."""
    return type(error), str(error), getattr(error, "partial", None), getattr(error, "consumed", None)


class Fed:
    """A reader fed by hand, packet by packet: the next one only when a call waits, or when it is told to."""

    def __init__(self, kind, packets, limit, loop):
        self.reader = kind(limit=limit, loop=loop)
        self.reader.set_transport(self)
        self.packets = iter(packets)
        self.ended = False
        self.paused = False

    def pause_reading(self):
        self.paused = True

    def resume_reading(self):
        self.paused = False

    def feed(self):
        packet = next(self.packets, None)
        if packet is not None:
            self.reader.feed_data(packet)
        elif not self.ended:
            self.ended = True
            self.reader.feed_eof()

    def call(self, name, *args):
        """How that call ends, what it leaves in the buffer, and whether that is the end."""
        try:
            coro = getattr(self.reader, name)(*args)
            while True:
                waiter = coro.send(None)
                while not waiter.done():
                    assert not self.paused, "waits for a transport that is paused"
                    self.feed()
        except StopIteration as stop:
            ended = bytes, stop.value
        except Exception as error:
            ended = outcome(error)
        return ended, bytes(self.reader._buffer), self.reader.at_eof()


def history(kind, packets, limit, calls, loop):
    fed = Fed(kind, packets, limit, loop)
    told = []
    for ahead, name, *args in calls:
        for _ in range(ahead):
            if not fed.paused:
                fed.feed()
        told.append(fed.call(name, *args))
    return told


@pytest.fixture(scope="module")
def any_loop():
    """For the futures; it never runs."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


data = st.lists(st.sampled_from([b"a", b"b", b"\r", b"\n", b"\r\n", b"ab"]), max_size=60).map(b"".join)
limits = st.one_of(st.integers(1, 30), st.just(65536))
bytes_of = st.lists(st.sampled_from([b"a", b"b", b"\r", b"\n"]), min_size=1, max_size=3).map(b"".join)
separator = st.one_of(bytes_of, st.sampled_from([b"\n", b"\r\n", b"aba", b""]))
if TUPLES:
    separator = st.one_of(separator, st.lists(bytes_of, max_size=4).map(tuple), st.lists(separator).map(tuple))
calls = st.one_of(
    st.tuples(st.just("read"), st.integers(-1, 40)),
    st.tuples(st.just("readexactly"), st.integers(-1, 40)),
    st.tuples(st.just("readline")),
    st.tuples(st.just("readuntil"), separator),
)


def cut(whole, places):
    edges = [0, *sorted(place for place in places if 0 < place < len(whole)), len(whole)]
    return [whole[a:b] for a, b in itertools.pairwise(edges) if a < b]


@bounded
@given(
    data,
    st.sets(st.integers(1, 120), max_size=30),
    limits,
    st.lists(st.tuples(st.integers(0, 4), calls).map(lambda call: (call[0], *call[1])), max_size=12),
)
def test_any_packets(any_loop, whole, places, limit, calls):
    packets = cut(whole, places)
    theirs = history(asyncio.StreamReader, packets, limit, calls, any_loop)
    assert history(corolla.StreamReader, packets, limit, calls, any_loop) == theirs
    # The buffer keeps bytes objects by reference where it can, and copies the rest.
    copies = [bytearray(packet) for packet in packets]
    assert history(corolla.StreamReader, copies, limit, calls, any_loop) == theirs


@bounded
@given(data, st.sets(st.integers(1, 120), max_size=30), st.sets(st.integers(1, 120), max_size=30), calls)
def test_what_is_complete_does_not_depend_on_the_packets(any_loop, whole, some, others, call):
    if call[0] == "read" and call[1] > 0:
        return  # as much as there is
    first, second = (
        history(corolla.StreamReader, cut(whole, places), 65536, [(0, *call), (0, "read", -1)], any_loop)
        for places in (some, others)
    )
    assert [ended for ended, _, _ in first] == [ended for ended, _, _ in second]


# ---- Limits and separators at every boundary ----------------------------------------------------------------------------


def every_cut(whole):
    for chosen in itertools.product((False, True), repeat=len(whole) - 1):
        yield cut(whole, [place + 1 for place, wanted in enumerate(chosen) if wanted])


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"aab", b"ab\n"])
@pytest.mark.parametrize("length", range(6))
def test_every_boundary(any_loop, end, length):
    """A line as long as the limit, one shorter and one longer, cut at every set of places; separators within separators."""
    whole = b"aaaaaa"[:length] + end + b"a"
    several = [(end, b"\n\n"), (b"ab", b"\n"), (end, end + b"a"), (end, end[-1:])] if TUPLES else []
    for limit in range(max(1, length - 2), length + 4):
        for packets in every_cut(whole):
            for call in [("readline",), *(("readuntil", sep) for sep in (end, *several))]:
                script = [(0, *call), (0, *call), (1, "read", 100)]
                theirs = history(asyncio.StreamReader, packets, limit, script, any_loop)
                assert history(corolla.StreamReader, packets, limit, script, any_loop) == theirs, (limit, packets, call)


# ---- Over a socket --------------------------------------------------------------------------------------------------------


def unread(sock):
    """How many bytes (as the kernel counts them) that it sent the other side has not taken yet."""
    return int.from_bytes(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


async def send(sock, packets, reading):
    """Each packet once the one before was taken and all that could be made of it has been."""
    for packet in packets:
        sock.send(packet)
        while unread(sock) and not reading.done():
            await asyncio.sleep(0)
        for _ in range(4):
            await asyncio.sleep(0)
    sock.shutdown(socket.SHUT_WR)


async def read(stream, calls):
    told = []
    for name, *args in calls:
        try:
            told.append((bytes, await getattr(stream, name)(*args)))
        except Exception as error:
            told.append(outcome(error))
    told.append(await stream.read())
    return told


def on_pair(connect, packets, calls):
    async def main():
        ours, theirs = socket.socketpair()
        with theirs:
            stream, close = await connect(ours)
            reading = asyncio.ensure_future(read(stream, calls))
            await send(theirs, packets, reading)
            told = await reading
            await close()
            return told

    return main()


def pair_of(module, limit):
    async def connect(sock):
        reader, writer = await module.open_connection(sock=sock, limit=limit)

        async def close():
            writer.close()
            await writer.wait_closed()

        return reader, close

    return connect


def stream_of(limit):
    async def connect(sock):
        stream = await corolla.connect(sock=sock, limit=limit)
        return stream, stream.close

    return connect


@settings(bounded, max_examples=120)
@given(data, st.sets(st.integers(1, 120), max_size=10), limits, st.lists(calls, max_size=8))
def test_over_a_socket(whole, places, limit, calls):
    packets = cut(whole, places)
    expected = asyncio.run(on_pair(pair_of(asyncio, limit), packets, calls))
    for run in (corolla.run, asyncio.run):
        assert run(on_pair(pair_of(corolla, limit), packets, calls)) == expected
        assert run(on_pair(stream_of(limit), packets, calls)) == expected


@settings(bounded, max_examples=40)
@given(
    st.lists(st.binary(max_size=300), max_size=20).map(lambda parts: b"\n".join(parts) * 400),
    st.sets(st.integers(1, 200_000), max_size=10),
    st.lists(st.integers(0, 70_000), max_size=8),
)
def test_over_tcp(whole, places, sizes):
    """Large packets, which go straight into the reader's buffer; every byte once and in its place."""

    async def handler(stream):
        for packet in cut(whole, places):
            await stream.write(packet)

    async def main():
        got = b""
        async with corolla.StreamServer(handler, "127.0.0.1", 0) as server:
            address = server.sockets[0].getsockname()
            async with corolla.connect(*address, limit=1000) as stream:
                for size in sizes:
                    try:
                        part = await stream.readexactly(size)
                    except asyncio.IncompleteReadError as error:
                        part = error.partial
                        assert len(part) < size
                    got += part
                    got += await stream.read(size // 2)
                got += await stream.read()
        assert got == whole

    corolla.run(main())
