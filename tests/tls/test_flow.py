"""Bytes through TLS: whole, in order, in both directions at once, and no more of them in memory than was agreed."""

import array
import asyncio
import contextlib
import contextvars
import os
import random

import impl
import pytest
from tls.support import NAME, Echo, connected, serving
from transports.support import HOST, BufferedRecorder, Recorder, settled


class Pausing(Recorder):
    """Pauses reading after everything it gets, and resumes a few turns later: nothing may come in between."""

    early = 0
    size = 0
    paused = False

    def data_received(self, data):
        self.early += self.paused
        self.size += len(data)
        super().data_received(data)
        self.paused = True
        self.transport.pause_reading()
        asyncio.get_running_loop().call_soon(self.wait, 3)

    def wait(self, turns):
        if turns:
            asyncio.get_running_loop().call_soon(self.wait, turns - 1)
        else:
            self.paused = False
            self.transport.resume_reading()


def test_paused_between_records(run, certs, side, version):
    """PITFALLS, TLS: pause_reading() did not stop data_received() for records already decrypted (python/cpython issue 89322)."""
    rng = random.Random(5)
    chunks = [rng.randbytes(rng.choice([1, 10, 1000, 16384, 40000])) for _ in range(150)]
    data = b"".join(chunks)

    async def main():
        async with connected(certs, side, Pausing, version) as (transport, protocol, peer):
            sending = asyncio.ensure_future(peer.raw(b"".join(map(peer.sealed, chunks))))
            await protocol.until(lambda: protocol.size == len(data))
            await sending
            assert protocol.data == data
            assert protocol.early == 0

    run(main())


def test_large_both_ways_at_once(run, certs, side, version):
    """10 MiB each way, the application pausing now and then, and writing only while it may."""
    size = 10 << 20
    block = os.urandom(1 << 16)
    data = block * (size // len(block))

    class Both(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            self.may_write = asyncio.Event()
            self.may_write.set()
            self.received = bytearray()

        def data_received(self, data):
            self.received += data
            if len(self.received) % 5 == 0:
                self.transport.pause_reading()
                asyncio.get_running_loop().call_soon(self.transport.resume_reading)
            if len(self.received) >= size:
                self.note("all")

        def pause_writing(self):
            self.note("pause_writing")
            self.may_write.clear()

        def resume_writing(self):
            self.note("resume_writing")
            self.may_write.set()

    async def main():
        async with connected(certs, side, Both, version) as (transport, protocol, peer):

            async def write():
                rng = random.Random(3)
                at = 0
                while at < size:
                    step = rng.choice([1, 100, 16384, 65536, 400_000])
                    transport.write(data[at : at + step])
                    at += step
                    await protocol.may_write.wait()

            # The peer reads and writes in one task: its TLS is one object.
            async def exchange():
                received = bytearray()
                sent = 0
                while len(received) < size or sent < size:
                    if sent < size:
                        await peer.send(data[sent : sent + 65536])
                        sent += 65536
                    if len(received) < size:
                        received += await peer.read(262144)
                return received

            _, received = await asyncio.gather(write(), exchange())
            await protocol.until(lambda: len(protocol.received) >= size)
            assert received == data
            assert protocol.received == data

    run(main())


def test_any_sizes(run, certs, side, version):
    """Around the length of a record, and of nothing."""
    sizes = [0, 1, 2, 16383, 16384, 16385, 0, 32768, 32769, 65535, 65536, 65537, 262143, 262144, 262145, 1]
    data = b"".join(bytes([number]) * size for number, size in enumerate(sizes))

    async def main():
        async with connected(certs, side, Echo, version) as (transport, protocol, peer):
            for number, size in enumerate(sizes):
                transport.write(bytes([number]) * size)
            assert await peer.exactly(len(data)) == data
            transport.writelines(bytes([number]) * size for number, size in enumerate(sizes))
            assert await peer.exactly(len(data)) == data
            for number, size in enumerate(sizes):
                await peer.send(bytes([number]) * size)
                assert await peer.exactly(size) == bytes([number]) * size

    run(main())


def test_many_small_writes(run, certs, side, version):
    async def main():
        async with connected(certs, side, version=version) as (transport, protocol, peer):
            data = b"".join(b"%d," % number for number in range(20000))
            for number in range(20000):
                transport.write(b"%d," % number)
            assert await peer.exactly(len(data)) == data

    run(main())


def test_what_may_be_written(run, certs, side):
    """PITFALLS, transports: a mutable buffer changed after write() went out changed (Kludex/zuvloop commit de6d531); views that
    are not of bytes were cut by elements (python/cpython issue 135862)."""

    class Bytes(bytes):
        pass

    async def main():
        async with connected(certs, side) as (transport, protocol, peer):
            reused = bytearray(b"first")
            transport.write(reused)
            reused[:] = b"XXXXX"
            transport.write(memoryview(b"-view-")[1:5])
            transport.write(Bytes(b"-subclass-"))
            numbers = array.array("I", range(10))
            if impl.IS_COROLLA:  # asyncio counts elements, and says that it has sent what it has not
                transport.write(memoryview(numbers))
            else:
                transport.write(memoryview(numbers).cast("B"))
            transport.writelines([b"a", bytearray(b"b"), memoryview(b"c")])
            expected = b"first" + b"view" + b"-subclass-" + numbers.tobytes() + b"abc"
            assert await peer.exactly(len(expected)) == expected
            for wrong in ("text", None, 5, [b"x"]):
                with pytest.raises(TypeError):
                    transport.write(wrong)

    run(main())


def test_mutable_buffer_behind_a_backlog(run, certs, side):
    """The same while the peer takes nothing."""

    async def main():
        async with connected(certs, side, small=True) as (transport, protocol, peer):
            transport.write(bytes(3_000_000))
            reused = bytearray(b"first" * 10000)
            transport.write(reused)
            reused[:] = b"XXXXX" * 10000
            assert (await peer.exactly(3_050_000))[3_000_000:] == b"first" * 10000

    run(main())


# ---- flow control ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["write", "writelines", "many writes", "again in pause_writing"])
def test_writing_is_paused_above_the_mark(run, certs, side, version, how):
    """PITFALLS, transports: writelines() never checked the high-water mark (python/cpython issue 127655); every path that adds
    bytes pauses, the output of TLS too."""

    class Again(Recorder):
        def pause_writing(self):
            super().pause_writing()
            if how.startswith("again") and len(self.events) < 5:
                self.transport.write(bytes(500_000))

    async def main():
        async with connected(certs, side, Again, version, small=True) as (transport, protocol, peer):
            size = 4_000_000
            if how == "writelines":
                transport.writelines([bytes(size // 4)] * 4)
            elif how == "many writes":
                for _ in range(size // 1000):
                    transport.write(bytes(1000))
            else:
                transport.write(bytes(size))
            if not impl.IS_COROLLA:
                # asyncio hands the first of it to the transport below, whatever that takes.
                transport.write(bytes(600_000))
                size += 600_000
            assert protocol.names() == ["connection_made", "pause_writing"]
            assert transport.get_write_buffer_size() > transport.get_write_buffer_limits()[1]
            if how.startswith("again"):
                size += 500_000
            await peer.exactly(size)
            await protocol.until(lambda: protocol.names()[-1] == "resume_writing")
            assert protocol.names() == ["connection_made", "pause_writing", "resume_writing"]
            assert transport.get_write_buffer_size() <= transport.get_write_buffer_limits()[0]

    run(main())


@impl.beyond_stdlib("it takes an empty buffer for one above a mark of zero")
def test_drain_with_limits_of_zero(run, certs, side):
    """PITFALLS, transports: with a zero high-water mark the protocol was paused and nothing resumed it (Kludex/zuvloop commit
    069cf9e)."""

    async def main():
        async with connected(certs, side) as (transport, protocol, peer):
            transport.set_write_buffer_limits(0)
            assert transport.get_write_buffer_limits() == (0, 0)
            for size in (1, 100, 1_000_000):
                transport.write(bytes(size))
                await peer.exactly(size)
                flow = [name for name in protocol.names() if name.endswith("writing")]
                if flow and flow[-1] == "pause_writing":
                    await protocol.until(lambda: protocol.names()[-1] == "resume_writing")
                assert transport.get_write_buffer_size() == 0

    run(main())


def test_limits(run, certs, side):
    async def main():
        async with connected(certs, side) as (transport, protocol, peer):
            assert transport.get_write_buffer_limits() == (128 * 1024, 512 * 1024)
            transport.set_write_buffer_limits(high=1000)
            assert transport.get_write_buffer_limits() == (250, 1000)
            transport.set_write_buffer_limits(low=1000)
            assert transport.get_write_buffer_limits() == (1000, 4000)
            transport.set_write_buffer_limits(high=10, low=5)
            assert transport.get_write_buffer_limits() == (5, 10)
            with pytest.raises(ValueError, match="must be >= low"):
                transport.set_write_buffer_limits(high=1, low=2)
            with pytest.raises(ValueError):
                transport.set_write_buffer_limits(high=-1)
            assert transport.get_write_buffer_limits() == (5, 10)
            transport.set_write_buffer_limits()
            assert transport.get_write_buffer_limits() == (128 * 1024, 512 * 1024)

    run(main())


def test_lowering_the_mark_pauses(run, certs, side):
    async def main():
        async with connected(certs, side, small=True) as (transport, protocol, peer):
            transport.set_write_buffer_limits(high=100_000_000)
            transport.write(bytes(3_000_000))
            transport.write(bytes(3_000_000))
            assert protocol.names() == ["connection_made"]
            transport.set_write_buffer_limits(high=1000)
            assert protocol.names() == ["connection_made", "pause_writing"]
            await peer.exactly(6_000_000)
            await protocol.until(lambda: protocol.names()[-1] == "resume_writing")

    run(main())


def test_a_paused_reader_stalls_its_peer(run, certs, side, version):
    """What comes in while reading is paused is bounded, and comes when it is resumed."""

    async def main():
        async with connected(certs, side, version=version) as (transport, protocol, peer):
            transport.pause_reading()
            chunk = bytes(65536)
            sent = stalled = 0
            peer.sock.setblocking(False)
            pending = b""
            while stalled < 100:
                pending = pending or peer.sealed(chunk)
                try:
                    count = peer.sock.send(pending)
                except BlockingIOError:
                    stalled += 1
                else:
                    stalled = 0
                    sent += count
                    pending = pending[count:]
                assert sent < 40_000_000
                await asyncio.sleep(0)
            assert protocol.data == b""
            await asyncio.gather(peer.raw(pending + peer.notify()), asyncio.to_thread(lambda: None), resume(transport))
            with contextlib.suppress(OSError):
                await peer.rest()
            await protocol.lost()
            assert len(protocol.data) % len(chunk) == 0
            assert len(protocol.data) > sent * 0.9

    async def resume(transport):
        transport.resume_reading()

    run(main())


def test_pause_and_resume_again(run, certs, side):
    """As often as one likes, in any order."""

    async def main():
        async with connected(certs, side) as (transport, protocol, peer):
            assert transport.is_reading()
            transport.pause_reading()
            transport.pause_reading()
            assert not transport.is_reading()
            await peer.send(b"one")
            await settled()
            transport.resume_reading()
            transport.pause_reading()
            await peer.send(b"two")
            await settled()
            transport.resume_reading()
            transport.resume_reading()
            assert transport.is_reading()
            await protocol.until(lambda: protocol.data == b"onetwo")

    run(main())


# ---- buffered protocols ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bytearray", "memoryview", "array", "mmap"])
@pytest.mark.parametrize("size", [1, 7, 16384, 300_000])
def test_buffered(run, certs, side, kind, size):
    """PITFALLS, TLS: a BufferedProtocol returning a bytearray got zero bytes with a correct count (python/cpython issue
    156275)."""
    if kind != "memoryview" and not impl.IS_COROLLA:
        pytest.skip("asyncio reads into copies of some")
    data = os.urandom(min(500 * size, 200_000))

    class Buffered(BufferedRecorder):
        def __init__(self):
            import mmap

            super().__init__()
            makers = {"bytearray": bytearray, "memoryview": lambda n: memoryview(bytearray(n))}
            makers |= {"array": lambda n: array.array("B", bytes(n)), "mmap": lambda n: mmap.mmap(-1, n)}
            self.buffer = makers[kind](size)
            self.hints = []

        def get_buffer(self, sizehint):
            self.hints.append(sizehint)
            return self.buffer

    async def main():
        async with connected(certs, side, Buffered) as (transport, protocol, peer):
            await peer.send(data)
            await protocol.until(lambda: len(protocol.data) == len(data))
            assert protocol.data == data
            assert all(isinstance(hint, int) and hint >= -1 for hint in protocol.hints)
            await peer.raw(peer.notify())
            await protocol.lost()
            assert protocol.names()[-2:] == ["eof_received", "connection_lost"]
            if kind == "mmap":
                protocol.buffer.close()

    run(main())


def test_protocol_set_anew(run, certs, side):
    """PITFALLS, transports: whether a protocol is buffered was decided once, so set_protocol() dropped bytes (python/cpython issue
    77835; Kludex/zuvloop commit a4dc223). In a callback, paused and between."""

    async def main():
        async with connected(certs, side) as (transport, first, peer):
            second, third, fourth = BufferedRecorder(), Recorder(), BufferedRecorder(5)
            await peer.send(b"first")
            await first.until(lambda: first.data == b"first")
            transport.set_protocol(second)
            assert transport.get_protocol() is second
            await peer.send(b"second")
            await second.until(lambda: second.data == b"second")
            transport.pause_reading()
            await peer.send(b"third")
            await settled()
            transport.set_protocol(third)
            transport.resume_reading()
            await third.until(lambda: third.data == b"third")

            class Switching(Recorder):
                def data_received(self, data):
                    super().data_received(data)
                    transport.set_protocol(fourth)

            switching = Switching()
            transport.set_protocol(switching)
            await peer.send(b"switch")
            await switching.until(lambda: switching.data == b"switch")
            await peer.send(b"fourth")
            await fourth.until(lambda: fourth.data == b"fourth")
            await peer.raw(peer.notify())
            await fourth.lost()
            assert fourth.names()[-2:] == ["eof_received", "connection_lost"]
            assert "connection_lost" not in [*first.names(), *second.names(), *third.names()]

    run(main())


# ---- what callbacks run in ---------------------------------------------------------------------


def test_context_of_callbacks(run, certs, side):
    """PITFALLS, scheduler: resume_reading() called from another task re-registered the reader with that task's context
    (python/cpython issue 140947)."""
    var = contextvars.ContextVar("var", default="none")

    class Noting(Recorder):
        def note(self, *event):
            seen.append((event[0], var.get()))
            super().note(*event)

    seen = []

    async def other(transport):
        var.set("other's")
        transport.pause_reading()
        transport.set_write_buffer_limits(0)
        transport.write(bytes(2_000_000))
        await asyncio.sleep(0)
        transport.resume_reading()

    async def main():
        var.set("maker's")
        async with connected(certs, side, Noting, small=True) as (transport, protocol, peer):
            var.set("changed")
            await peer.send(b"one")
            await protocol.until(lambda: protocol.data == b"one")
            await asyncio.create_task(other(transport))
            await peer.send(b"two")
            await peer.exactly(2_000_000)
            await protocol.until(lambda: protocol.data == b"onetwo")
            await peer.raw(peer.notify())
            await protocol.lost()
        return [entry for entry in seen if entry[0] not in ("pause_writing",)]

    found = run(main())
    assert {name for name, _ in found} >= {"connection_made", "data_received", "eof_received", "connection_lost"}
    if impl.IS_COROLLA:
        assert {value for _, value in found} == {"maker's"}, found


# ---- streams -----------------------------------------------------------------------------------


def test_streams_read_past_their_limit(run, certs, version):
    """PITFALLS, streams: readexactly(n) or read(-1) with more than twice the limit deadlocked (python/asyncio issues 99, 168)."""
    data = os.urandom(3_000_000)

    async def main():
        async def serve(reader, writer):
            assert await reader.readexactly(len(data)) == data
            writer.write(data)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            done.set_result(None)

        done = asyncio.get_running_loop().create_future()
        start, connect = impl.api.start_server, impl.api.open_connection
        server = await start(serve, HOST, 0, ssl=certs.server(version=version), limit=1024)
        port = server.sockets[0].getsockname()[1]
        context = certs.client(version=version)
        reader, writer = await connect(HOST, port, ssl=context, server_hostname=NAME, limit=1024)
        writer.write(data)
        await writer.drain()
        assert await reader.read(-1) == data
        writer.close()
        await writer.wait_closed()
        await done
        server.close()
        await server.wait_closed()

    run(main())


@impl.beyond_stdlib("its TLS transport does not say that the one below is closing")
def test_writing_to_a_peer_that_is_gone_ends(run, certs, side):
    """PITFALLS, streams: a write loop starved connection_lost() and wrote to a dead socket without end (python/asyncio issues 263,
    301)."""

    async def main():
        loop = asyncio.get_running_loop()
        reader = impl.api.StreamReader(loop=loop)
        async with connected(certs, side, lambda: impl.api.StreamReaderProtocol(reader)) as (transport, protocol, peer):
            writer = impl.api.StreamWriter(transport, protocol, reader, loop)
            peer.reset()
            with pytest.raises(ConnectionError):
                for _ in range(10_000):
                    writer.write(bytes(1000))
                    await writer.drain()

    run(main())


@pytest.mark.parametrize("connections", [30])
def test_many_connections_at_once(run, certs, version, connections):
    data = os.urandom(100_000)

    async def one(port, context):
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_connection(Recorder, HOST, port, ssl=context, server_hostname=NAME)
        transport.write(data)
        await protocol.until(lambda: len(protocol.data) == len(data))
        assert protocol.data == data
        transport.close()
        await protocol.lost()

    async def main():
        context = certs.client(version=version)
        async with serving(certs.server(version=version), Echo) as service:
            await asyncio.gather(*(one(service.port, context) for _ in range(connections)))
            for protocol in service.protocols:
                assert await protocol.lost() is None
                assert protocol.data == data

    run(main())
