"""Writing: every kind of bytes, partial sends, flow control, half-close, writes that come too late."""

import array
import asyncio
import gc
import logging
import mmap
import os
import socket
import sys
import weakref

import pytest
from transports.support import Recorder, connection, receive, receive_all, settled

MEGA = 1_000_000


class Bytes(bytes):
    pass


def of_type(kind, data):
    if kind == "memoryview":
        return memoryview(data)
    if kind == "writable memoryview":
        return memoryview(bytearray(data))
    if kind == "memoryview of ints":
        return memoryview(array.array("I", data))
    if kind == "memoryview with a shape":
        return memoryview(data).cast("B", [len(data) // 4, 2, 2])
    if kind == "array":
        return array.array("d", data)
    if kind == "mmap":
        view = mmap.mmap(-1, len(data))
        view[:] = data
        return view
    return {"bytes": bytes, "subclass": Bytes, "bytearray": bytearray}[kind](data)


KINDS = (
    "bytes",
    "subclass",
    "bytearray",
    "memoryview",
    "writable memoryview",
    "memoryview of ints",
    "memoryview with a shape",
    "array",
    "mmap",
)


def scribble(data):
    """Overwrites what can be."""
    if isinstance(data, (bytearray, mmap.mmap)):
        data[:] = b"\0" * len(data)
    elif isinstance(data, memoryview) and not data.readonly:
        data.cast("B")[:] = b"\0" * data.nbytes
    elif isinstance(data, array.array):
        for i in range(len(data)):
            data[i] = 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lines", [False, True])
def test_every_kind_of_bytes(run, kind, lines):
    """Transports: memoryviews sliced by elements after a partial send; queued views of mutable buffers that changed."""

    async def main():
        async with connection(small=True) as (transport, _, peer):
            sent = os.urandom(MEGA)
            data = of_type(kind, sent)
            if lines:
                transport.writelines([data])
            else:
                transport.write(data)
            assert 0 < transport.get_write_buffer_size() < MEGA
            scribble(data)
            transport.write(b"end")
            transport.close()
            assert await receive_all(peer) == sent + b"end"

    run(main())


def test_bytes_are_queued_by_reference(run):
    async def main():
        async with connection(small=True) as (transport, protocol, peer):
            data = os.urandom(MEGA)
            before = sys.getrefcount(data)
            transport.write(data)
            transport.write(data)
            assert sys.getrefcount(data) == before + 2
            transport.abort()
            assert sys.getrefcount(data) == before

    run(main())


def test_a_bytearray_is_free_after_write(run):
    async def main():
        async with connection(small=True) as (transport, _, _):
            data = bytearray(MEGA)
            transport.write(data)
            data.clear()
            transport.writelines([memoryview(data), data])
            data.extend(b"abc")

    run(main())


def test_bad_arguments(run):
    async def main():
        async with connection() as (transport, protocol, peer):
            for bad in ("text", 1, None, [b"x"], object()):
                with pytest.raises(
                    TypeError, match=f"data argument must be a bytes-like object, not '{type(bad).__name__}'"
                ):
                    transport.write(bad)
            for bad in (1, None):
                with pytest.raises(TypeError):
                    transport.writelines(bad)
            for bad in (["text"], [b"abc", 1], "text"):
                with pytest.raises(TypeError):
                    transport.writelines(bad)
            with pytest.raises(BufferError):
                transport.write(memoryview(b"abcdef")[::2])
            with pytest.raises(BufferError):
                transport.writelines([b"x", bytearray(3), memoryview(b"abcdef")[::2]])
            with pytest.raises(TypeError):
                transport.write()
            transport.write(b"good")
            assert await receive(peer, 4) == b"good"
            assert not transport.is_closing()
            assert protocol.events == ["connection_made"]

    run(main())


@pytest.mark.parametrize("count", [1, 3, 16, 17, 100, 5000])
def test_writelines(run, count):
    """Transports: writelines() did not register for writability after a short sendmsg."""

    async def main():
        async with connection(small=True) as (transport, _, peer):
            lines = [os.urandom(i % 7 * 100) for i in range(count)]
            kinds = (bytes, bytearray, memoryview)
            transport.writelines(kinds[i % 3](line) for i, line in enumerate(lines))
            transport.writelines([])
            transport.writelines([b"", b""])
            transport.write(b"end")
            transport.close()
            assert await receive_all(peer) == b"".join(lines) + b"end"

    run(main())


def test_partial_sends_keep_the_order(run):
    """Transports: data was lost around partial sends; get_write_buffer_size() is exact."""

    async def main():
        async with connection(small=True) as (transport, protocol, peer):
            sent = bytearray()
            received = asyncio.ensure_future(receive_all(peer))
            for i in range(600):
                data = os.urandom(i * 7 % 5000 + 1)
                before = transport.get_write_buffer_size()
                if i % 3 == 0:
                    transport.writelines([data[:10], bytearray(data[10:])])
                else:
                    transport.write(data if i % 3 == 1 else bytearray(data))
                assert before <= transport.get_write_buffer_size() <= before + len(data)
                sent += data
                if i % 50 == 0:
                    await asyncio.sleep(0)
            transport.close()
            assert await received == sent
            assert transport.get_write_buffer_size() == 0

    run(main())


def test_several_writes_a_turn(run):
    """What is held back to the end of the turn arrives too, and nothing waits for anything else."""

    async def main():
        async with connection() as (transport, _, peer):
            for i in range(20):
                transport.write(b"header %d\n" % i)
                transport.write(b"body %d\n" % i)
                await asyncio.sleep(0)
                expected = b"header %d\nbody %d\n" % (i, i)
                assert await receive(peer, len(expected)) == expected

    run(main())


def test_close_behind_writes_that_are_held_back(run):
    async def main():
        async with connection() as (transport, protocol, peer):
            for _ in range(10):
                transport.write(b"a")
                transport.write(b"b")
                await asyncio.sleep(0)
            transport.write(b"c")
            transport.write(b"d")
            transport.close()
            assert await receive_all(peer) == b"ab" * 10 + b"cd"
            assert await protocol.lost() is None
            assert protocol.names().count("connection_lost") == 1

    run(main())


# ---- Flow control ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["write", "writelines"])
def test_flow_control(run, method):
    """Transports: writelines() never checked the high-water mark."""

    async def main():
        async with connection(small=True) as (transport, protocol, peer):
            assert transport.get_write_buffer_limits() == (16384, 65536)
            data = b"x" * 60_000
            total = 0
            while "pause_writing" not in protocol.names():
                assert transport.get_write_buffer_size() <= 65536
                transport.write(data) if method == "write" else transport.writelines([data[:1], data[1:]])
                total += len(data)
            assert transport.get_write_buffer_size() > 65536
            transport.write(data)
            total += len(data)
            assert protocol.names().count("pause_writing") == 1
            received = asyncio.ensure_future(receive(peer, total))
            await protocol.until(lambda: "resume_writing" in protocol.names())
            assert transport.get_write_buffer_size() <= 16384
            assert await received == b"x" * total
            assert protocol.names()[1:] == ["pause_writing", "resume_writing"]

    run(main())


@pytest.mark.parametrize("writes", [1, 2, 5])
def test_limits_of_zero_always_resume(run, writes):
    """Transports: with a zero high-water mark the protocol was paused and nothing ever resumed it."""

    async def main():
        async with connection() as (transport, protocol, peer):
            transport.set_write_buffer_limits(0, 0)
            for _ in range(20):
                for _ in range(writes):
                    transport.write(b"x" * 1000)
                await protocol.until(
                    lambda: protocol.names().count("pause_writing") == protocol.names().count("resume_writing")
                )
                assert transport.get_write_buffer_size() == 0
                assert await receive(peer, 1000 * writes) == b"x" * 1000 * writes
            transport.write(b"y" * 20_000_000)
            assert protocol.names()[-1] == "pause_writing"
            received = asyncio.ensure_future(receive(peer, 20_000_000))
            await protocol.until(lambda: protocol.names()[-1] == "resume_writing")
            assert transport.get_write_buffer_size() == 0
            await received

    run(main())


def test_drain_of_the_standard_library_streams(run):
    async def main():
        async def handle(reader, writer):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.transport.set_write_buffer_limits(0)
            data = os.urandom(3 * MEGA)

            async def write():
                for i in range(0, len(data), 50_000):
                    writer.write(data[i : i + 50_000])
                    await writer.drain()
                writer.write_eof()

            writing = asyncio.create_task(write())
            assert await reader.read() == data
            await writing
            writer.close()
            await writer.wait_closed()

    run(main())


def test_a_write_loop_against_a_vanished_peer_ends(run):
    """Streams: drain() did not yield, so a write loop wrote to a dead socket without end."""

    async def main():
        async with connection() as (_, _, _):
            pass
        server = socket.create_server(("127.0.0.1", 0))
        _, writer = await asyncio.open_connection(*server.getsockname())
        server.accept()[0].close()
        server.close()
        with pytest.raises(ConnectionError):
            for _ in range(100_000):
                writer.write(b"x" * 100)
                await writer.drain()
        writer.close()
        with pytest.raises(ConnectionError):
            await writer.wait_closed()

    run(main())


def test_limits(run):
    async def main():
        async with connection() as (transport, _, _):
            limits = transport.get_write_buffer_limits
            for args, expected in (
                ((), (16384, 65536)),
                ((1000,), (250, 1000)),
                ((None, 10), (10, 40)),
                ((100, 7), (7, 100)),
                ((0,), (0, 0)),
                ((0, 0), (0, 0)),
                ((None, None), (16384, 65536)),
                ((True,), (0, 1)),
            ):
                transport.set_write_buffer_limits(*args)
                assert limits() == expected
            transport.set_write_buffer_limits(low=5, high=50)
            assert limits() == (5, 50)
            for bad in ((1, 2), (-1,), (10, -1), (-5, -5)):
                with pytest.raises(ValueError, match=r"high \(.*\) must be >= low \(.*\) must be >= 0"):
                    transport.set_write_buffer_limits(*bad)
            for bad in (("x",), (1, []), (1, 2, 3)):
                with pytest.raises(TypeError):
                    transport.set_write_buffer_limits(*bad)
            assert limits() == (5, 50)
            transport.set_write_buffer_limits(10**30, 10**29)
            assert limits()[1] >= 2**62

    run(main())


def test_lower_limits_pause_at_once(run):
    async def main():
        async with connection(small=True) as (transport, protocol, peer):
            transport.set_write_buffer_limits(10 * MEGA)
            transport.write(b"x" * 3 * MEGA)
            assert protocol.names() == ["connection_made"]
            transport.set_write_buffer_limits(100)
            assert protocol.names() == ["connection_made", "pause_writing"]
            received = asyncio.ensure_future(receive(peer, 3 * MEGA))
            await protocol.until(lambda: protocol.names()[-1] == "resume_writing")
            await received

    run(main())


@pytest.mark.parametrize("callback", ["pause_writing", "resume_writing"])
@pytest.mark.parametrize("how", ["close", "abort", "write", "write_eof"])
def test_reentry_from_flow_control(run, callback, how):
    """Transports: closing from resume_writing() ran the connection-lost routine twice; aborting from pause_writing() was
    followed by a resume call."""

    async def main():
        class Protocol(Recorder):
            def act(self):
                if how == "write":
                    self.transport.write(b"more")
                else:
                    getattr(self.transport, how)()

        def calling(self):
            getattr(Recorder, callback)(self)
            self.act()

        setattr(Protocol, callback, calling)
        async with connection(Protocol, small=True) as (transport, protocol, peer):
            transport.write(b"x" * MEGA)
            received = asyncio.ensure_future(receive_all(peer))
            if how in ("close", "abort"):
                await protocol.lost()
            else:
                await protocol.until(lambda: "resume_writing" in protocol.names())
                transport.close()
                await protocol.lost()
            await settled()
            names = protocol.names()
            assert names.count("connection_lost") == 1
            assert names[-1] == "connection_lost"
            if callback == "pause_writing" and how in ("close", "abort"):
                assert names == ["connection_made", "pause_writing", "connection_lost"]
            data = await received
            if how != "abort":
                assert data == b"x" * MEGA + (b"more" if how == "write" else b"")

    run(main())


# ---- write_eof() -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 3, 2 * MEGA])
def test_write_eof(run, size):
    """Transports: write_eof() shut the socket down before buffered data left."""

    async def main():
        async with connection(small=True) as (transport, protocol, peer):
            assert transport.can_write_eof()
            data = os.urandom(size)
            transport.write(data)
            transport.write_eof()
            transport.write_eof()
            assert await receive_all(peer) == data
            for write in (lambda: transport.write(b"x"), lambda: transport.write(b"")):
                with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof\(\)"):
                    write()
            with pytest.raises(RuntimeError, match=r"Cannot call writelines\(\) after write_eof\(\)"):
                transport.writelines([])
            assert not transport.is_closing()
            peer.sendall(b"the other way is open")
            await protocol.until(lambda: protocol.data == b"the other way is open")
            peer.shutdown(socket.SHUT_WR)
            assert await protocol.lost() is None

    run(main())


def test_write_eof_behind_writes_that_are_held_back(run):
    async def main():
        async with connection() as (transport, protocol, peer):
            for _ in range(10):
                transport.write(b"a")
                transport.write(b"b")
                await asyncio.sleep(0)
            transport.write(b"c")
            transport.write_eof()
            assert await receive_all(peer) == b"ab" * 10 + b"c"
            assert not transport.is_closing()

    run(main())


def test_write_eof_from_inside_the_iterable(run):
    """Transports: write_eof() was re-entered from an iterator so that data was queued after EOF."""

    async def main():
        async with connection() as (transport, protocol, peer):

            def lines():
                yield b"abc"
                transport.write_eof()
                yield b"def"

            with pytest.raises(RuntimeError, match="after write_eof"):
                transport.writelines(lines())
            assert await receive_all(peer) == b""

    run(main())


@pytest.mark.parametrize("how", ["close", "abort"])
def test_closing_from_inside_the_iterable(run, how):
    async def main():
        async with connection() as (transport, protocol, peer):

            def lines():
                yield b"abc"
                getattr(transport, how)()
                yield bytearray(b"def")

            transport.writelines(lines())
            await protocol.lost()
            assert await receive_all(peer) == b""

    run(main())


def test_a_list_that_changes_meanwhile(run):
    """writelines() keeps what it was given, whatever an item's buffer hook does to the list."""

    async def main():
        async with connection() as (transport, _, peer):
            lines = [b"abc", b"def"]

            class Changing(list):
                def __iter__(self):
                    for line in lines:
                        yield line
                        self.clear()

            transport.writelines(Changing(lines))
            assert await receive(peer, 6) == b"abcdef"

    run(main())


# ---- Too late ----------------------------------------------------------------------------------


def test_writes_after_close_are_dropped(run):
    """Transports: write() on a closing or lost transport raised RuntimeError instead of being dropped."""

    async def main():
        async with connection(small=True) as (transport, protocol, peer):
            data = os.urandom(MEGA)
            transport.write(data)
            transport.close()
            size = transport.get_write_buffer_size()
            transport.write(b"late")
            transport.writelines([b"late", b"later"])
            transport.write_eof()
            assert transport.get_write_buffer_size() == size
            with pytest.raises(TypeError):
                transport.write("text")
            assert await receive_all(peer) == data
            await protocol.lost()
            transport.write(b"late")
            transport.write_eof()
            await settled()
            transport.write(b"late")
            transport.writelines([b"late"])
            with pytest.raises(TypeError):
                transport.write("text")

    run(main())


def test_writes_into_the_void_are_counted(run, caplog):
    async def main():
        async with connection() as (transport, protocol, peer):
            transport.abort()
            with caplog.at_level(logging.WARNING, logger="asyncio"):
                for _ in range(4):
                    transport.write(b"x")
                assert caplog.messages == []
                transport.write(b"x")
                transport.writelines([b"x"])
            assert caplog.messages == ["socket.send() raised exception."] * 2
            assert transport._conn_lost == 7

    run(main())


def test_queue_is_freed_with_the_transport(run):
    async def main():
        async with connection(small=True) as (transport, protocol, peer):

            class Payload(bytearray):
                pass

            payload = Payload(MEGA)
            ref = weakref.ref(payload)
            transport.write(payload)
            del payload
            gc.collect()
            assert ref() is None  # copied, not kept
            transport.abort()
            assert transport.get_write_buffer_size() == 0

    run(main())
