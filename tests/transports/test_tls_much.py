"""TLS where much comes, or is written, at once: records are opened and sealed one after another, in memory that they share."""

import asyncio
import random
import ssl
import weakref
from typing import Any

import corolla
import pytest
from certificates import NAME, client_context, server_context
from transports.support import BufferedRecorder, Recorder
from transports.tls_support import tls_pair


def of_version(context: ssl.SSLContext, version: ssl.TLSVersion) -> ssl.SSLContext:
    context.maximum_version = version
    return context


readers: weakref.WeakKeyDictionary[corolla.StreamReaderProtocol, corolla.StreamReader] = weakref.WeakKeyDictionary()


def stream() -> corolla.StreamReaderProtocol:
    """No subclass: its reader is filled in C."""
    reader = corolla.StreamReader(limit=1 << 20)
    protocol = corolla.StreamReaderProtocol(reader)
    readers[protocol] = reader
    return protocol


async def came(protocol: Any, size: int) -> bytes:
    """So many bytes; a stream's are taken, the others' are all there ever were."""
    if protocol in readers:
        return await readers[protocol].readexactly(size)
    await protocol.until(lambda: len(protocol.data) >= size)
    return protocol.data


FACTORIES = [Recorder, BufferedRecorder, lambda: BufferedRecorder(3000), stream]


# ---- Opening --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("seed", range(4))
def test_any_records_in_any_pieces(run, factory, version, seed):
    """Records of any size, cut anywhere: a few whole ones and a part of one in what comes at once, and its rest in the next."""
    rng = random.Random(seed)
    data = rng.randbytes(700_000)

    async def main():
        context = of_version(server_context(), version)
        async with tls_pair(factory, server=context) as (_, protocol, peer):
            at, least = 0, rng.choice([1, 1000, 16000])
            while at < len(data):
                size = rng.randint(least, 17_000)
                peer.tls.write(data[at : at + size])
                at += size
            records, at = peer.records(), 0
            while at < len(records):
                size = rng.choice([rng.randint(1, 40), rng.randint(1, 20_000), rng.randint(1, 140_000)])
                await peer.send(records[at : at + size])
                at += size
            assert await came(protocol, len(data)) == data

    run(main())


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("rest", [1, 100, 400, 5000])
def test_record_that_had_nearly_come(run, factory, rest):
    """Of one record all but its end is in the engine when much comes: then more is opened than has been taken of that."""
    data = random.Random(rest).randbytes(6 * 16_384)

    async def main():
        async with tls_pair(factory) as (transport, protocol, peer):
            await peer.write(data[:1])  # behind the handshake's last records
            await came(protocol, 1)
            peer.tls.write(data)
            records = peer.records()
            first = len(records) // 6 - rest
            await peer.send(records[:first])
            while transport.get_read_buffer_size() < first:
                await asyncio.sleep(0)
            await peer.send(records[first:])
            taken = 1 if protocol in readers else 0
            assert await came(protocol, len(data) + 1 - taken) == data[: 1 - taken] + data

    run(main())


@pytest.mark.parametrize("size", [1, 8000, 8192, 16_384, 16_385, 33_000, 60_000])
def test_at_once_is_one_call(run, size):
    """Whatever lay in the kernel is one data_received()."""
    data = random.Random(size).randbytes(size)

    async def main():
        async with tls_pair() as (_, protocol, peer):
            await peer.write(data)
            await protocol.until(lambda: protocol.data)
            assert protocol.events[1:] == [("data_received", data)]

    run(main())


@pytest.mark.parametrize("factory", FACTORIES)
def test_much_before_garbage(run, factory):
    """Records before a broken one are delivered, those behind it are not."""

    async def main():
        async with tls_pair(factory) as (transport, protocol, peer):
            peer.tls.write(b"g" * 50_000)
            good = peer.records()
            peer.tls.write(b"b" * 100)
            broken = bytearray(peer.records())
            broken[-1] ^= 1
            peer.tls.write(b"never" * 5000)
            await peer.send(good + bytes(broken) + peer.records())
            assert await came(protocol, 50_000) == b"g" * 50_000
            if protocol in readers:
                with pytest.raises(ssl.SSLError):
                    await readers[protocol].read(1)
            else:
                assert isinstance(await protocol.lost(), ssl.SSLError)
                assert len(protocol.data) == 50_000

    run(main())


@pytest.mark.parametrize("factory", FACTORIES)
def test_much_before_the_end(run, factory):
    """So they are before a close_notify; what comes behind one is no data."""

    async def main():
        async with tls_pair(factory) as (transport, protocol, peer):
            peer.tls.write(b"d" * 50_000)
            records = peer.records()
            await peer.send(records + peer.close_notify() + records)
            assert await came(protocol, 50_000) == b"d" * 50_000
            if protocol in readers:
                assert await readers[protocol].read() == b""
            else:
                assert await protocol.lost() is None
                assert len(protocol.data) == 50_000
            assert transport.get_extra_info("close_notify") is True

    run(main())


@pytest.mark.parametrize("factory", FACTORIES[:2])
def test_paused_in_the_middle(run, factory):
    """What had come with it waits in the engine, all of it, until reading is resumed."""

    class Pausing(factory):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()

        def buffer_updated(self, nbytes):
            super().buffer_updated(nbytes)
            self.recorder.transport.pause_reading()

    async def main():
        async with tls_pair(Pausing) as (transport, protocol, peer):
            await peer.write(b"1" * 10)
            await protocol.until(lambda: len(protocol.data) == 10)
            await peer.write(b"2" * 60_000)
            while transport.get_read_buffer_size() < 60_000:
                await asyncio.sleep(0)
            assert len(protocol.data) == 10
            while len(protocol.data) < 60_010:
                transport.resume_reading()
                await asyncio.sleep(0)
            assert protocol.data == b"1" * 10 + b"2" * 60_000

    run(main())


def test_sealed_between(run):
    """A protocol that answers out of data_received() while more has come: neither disturbs the other's bytes."""

    class Answering(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.write(data[::-1])

    data = random.Random(1).randbytes(100_000)

    async def main():
        async with tls_pair(Answering) as (_, protocol, peer):
            reading = asyncio.ensure_future(peer.read(len(data)))
            for at in range(0, len(data), 20_000):
                await peer.write(data[at : at + 20_000])
            assert await came(protocol, len(data)) == data
            answers = b"".join(e[1][::-1] for e in protocol.events if e[0] == "data_received")
            assert await reading == answers

    run(main())


# ---- Sealing --------------------------------------------------------------------------------------------------------


class Below(asyncio.Transport):
    """A list in place of a connection."""

    _start_tls_compatible = True

    def __init__(self):
        super().__init__()
        self.sent = []
        self.protocol = None

    def get_protocol(self):
        return self.protocol

    def set_protocol(self, protocol):
        self.protocol = protocol

    def write(self, data):
        self.sent.append(data)

    def take(self):
        sent, self.sent = self.sent, []
        return b"".join(sent)

    def pause_reading(self):
        pass

    resume_reading = pause_reading

    def is_closing(self):
        return False

    def close(self):
        asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close


@pytest.mark.parametrize(
    ("sizes", "calls"),
    [([100], 1), ([16_384], 1), ([16_385], 1), ([131_072], 1), ([131_073], 2), ([300_000], 3), ([10] * 3000, 1)],
)
@pytest.mark.parametrize("subclass", [False, True])
def test_records_leave_together(run, sizes, calls, subclass):
    """Up to 128 KiB are one write() of the transport below, in which a system call may be."""
    data = [random.Random(i).randbytes(size) for i, size in enumerate(sizes)]

    class Own(ssl.SSLObject):
        pass

    async def main():
        loop = asyncio.get_running_loop()
        below, protocol = Below(), Recorder()
        context = client_context()
        if subclass:
            context.sslobject_class = Own
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = server_context().wrap_bio(incoming, outgoing, server_side=True)
        starting = asyncio.ensure_future(loop.start_tls(below, protocol, context, server_hostname=NAME))
        while not starting.done():
            await asyncio.sleep(0)
            incoming.write(below.take())
            try:
                server.do_handshake()
            except ssl.SSLWantReadError:
                pass
            below.protocol.data_received(outgoing.read())
        transport = await starting
        transport.write(data[0]) if len(data) == 1 else transport.writelines(data)
        assert len(below.sent) == calls
        incoming.write(below.take())
        expected, got = b"".join(data), b""
        while len(got) < len(expected):
            got += server.read(1 << 20)
        assert got == expected
        transport.abort()
        await protocol.lost()

    run(main())


@pytest.mark.parametrize("small", [False, True])
def test_written_and_written_lines(run, small):
    """Much and little in turn arrives in order, also where the kernel takes a part of it at a time."""
    rng = random.Random(2)
    parts = [rng.randbytes(rng.choice([1, 100, 16_384, 40_000, 200_000])) for _ in range(12)]

    async def main():
        async with tls_pair(small=small) as (transport, _, peer):
            for i, part in enumerate(parts):
                if i % 3 == 2:
                    transport.writelines([part[:7], bytearray(part[7:5000]), memoryview(part[5000:])])
                else:
                    transport.write(part)
            data = b"".join(parts)
            assert await peer.read(len(data)) == data

    run(main())
