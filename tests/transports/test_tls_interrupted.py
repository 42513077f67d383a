"""TLS and what runs in the middle of a record: signals' handlers and the ssl module's callbacks, KeyboardInterrupt out of them."""

import asyncio
import ctypes
import operator
import signal
import ssl
import time
from functools import partial

import corolla
import pytest
from certificates import client_context
from transports.support import settled
from transports.test_tls_within import Talker, over_pipes
from transports.tls_support import tls_pair

RECORD = 16_384


class Told:
    """Calls a function at the n-th record that is opened ("read") or sealed ("write"); what it raises comes out of the engine
    behind that record, as out of a signal's handler."""

    def __init__(self):
        self.context = client_context()
        self.context._msg_callback = self.called
        self.direction, self.left, self.function = "", 0, None

    def at(self, direction, record, function):
        self.direction, self.left, self.function = direction, record, function

    def called(self, conn, direction, version, content_type, msg_type, data):
        if direction == self.direction and content_type == 0x100:  # its header
            self.left -= 1
            if self.left == 0:
                self.direction = ""
                self.function()


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize("method", ["write", "writelines"])
@pytest.mark.parametrize("record", [1, 2, 7, 8, 9, 12])
def test_interrupted_while_sealing(run, method, record):
    """Each byte arrives, once, in order: also those behind the record that was interrupted."""
    data = bytes(range(256)) * 768  # twelve records

    async def main():
        told = Told()
        async with tls_pair(client=told.context) as (transport, protocol, peer):
            transport.write(b"before")
            assert await peer.read(6) == b"before"
            told.at("write", record, interrupt)
            with pytest.raises(KeyboardInterrupt):
                transport.write(data) if method == "write" else transport.writelines([data[:50_000], data[50_000:]])
            assert await peer.read(len(data)) == data
            transport.write(b"behind")
            assert await peer.read(6) == b"behind"
            assert protocol.names() == ["connection_made"]

    run(main())


def test_interrupted_and_closed(run):
    """close() behind an interrupted write() sends the rest first."""
    data = bytes(range(256)) * 512

    async def main():
        told = Told()
        async with tls_pair(client=told.context) as (transport, protocol, peer):
            told.at("write", 3, interrupt)
            with pytest.raises(KeyboardInterrupt):
                transport.write(data)
            transport.close()
            assert await peer.read_to_end() == (data, True)
            await peer.send(peer.close_notify())
            assert await protocol.lost() is None

    run(main())


@pytest.mark.parametrize("record", [1, 2, 5])
def test_interrupted_close(run, record):
    """An interrupted close() goes on when the loop runs again."""
    data = bytes(range(256)) * 2048

    async def main():
        told = Told()
        async with tls_pair(client=told.context, small=True) as (transport, protocol, peer):
            transport.write(data)
            assert transport.get_write_buffer_size() > 0
            told.at("write", record, interrupt)
            with pytest.raises(KeyboardInterrupt):
                transport.close()
            assert transport.is_closing()
            assert await peer.read_to_end() == (data, True)
            await peer.send(peer.close_notify())
            assert await protocol.lost() is None

    run(main())


@pytest.mark.parametrize(("records", "record"), [(1, 1), (3, 3), (3, 1)])
def test_closed_and_interrupted_while_sealing(run, records, record):
    """A handler that closes the connection and raises KeyboardInterrupt: what was written is sent, then it is closed."""
    data = b"d" * RECORD * records

    async def main():
        told = Told()

        def both():
            transport.close()
            raise KeyboardInterrupt

        async with tls_pair(client=told.context) as (transport, protocol, peer):
            told.at("write", record, both)
            with pytest.raises(KeyboardInterrupt):
                transport.write(data)
            assert await peer.read_to_end() == (data, True)
            await peer.send(peer.close_notify())
            assert await protocol.lost() is None

    run(main())


@pytest.mark.parametrize("kind", ["protocol", "stream"])
@pytest.mark.parametrize("record", [1, 2, 3])
def test_interrupted_while_opening(loop, kind, record):
    """The ssl module loses the record that was interrupted; those behind it, which came with it, are delivered."""
    parts = [bytes([i]) * RECORD for i in range(5)]
    told = Told()

    async def begin():
        pair = tls_pair(client=told.context)
        transport, protocol, peer = await pair.__aenter__()
        await peer.write(b"x")  # behind the handshake's last records
        await protocol.until(lambda: protocol.data)
        reader = corolla.StreamReader(limit=1 << 20)
        if kind == "stream":
            streaming = corolla.StreamReaderProtocol(reader)
            transport.set_protocol(streaming)
            streaming.connection_made(transport)
        return pair, protocol, peer, reader

    async def much(peer):
        peer.tls.write(b"".join(parts))
        peer.sock.setsockopt(1, 7, 1 << 20)  # SOL_SOCKET, SO_SNDBUF: all of it at once
        assert peer.sock.send(records := peer.records()) == len(records)
        told.at("read", record, interrupt)
        await asyncio.get_running_loop().create_future()

    async def rest(pair, protocol, peer, reader):
        await peer.write(b"tail")
        expected = b"".join(parts[: record - 1] + parts[record:]) + b"tail"
        if kind == "stream":
            assert await reader.readexactly(len(expected)) == expected
        else:
            await protocol.until(lambda: protocol.data.endswith(b"tail"))
            assert protocol.data[1:] == expected
        await pair.__aexit__(None, None, None)

    pair, protocol, peer, reader = loop.run_until_complete(begin())
    waiting = loop.create_task(much(peer))
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(waiting)
    waiting.cancel()
    loop.run_until_complete(rest(pair, protocol, peer, reader))


@pytest.mark.parametrize("size", [100, 50_000])
def test_aborted_while_opening(run, size):
    """By code that the ssl module runs, over a transport that calls connection_lost() at once: no protocol is left to be
    given anything."""

    async def main():
        told = Told()
        ours, theirs = await over_pipes(context=told.context)
        told.at("read", 1, lambda: ours.transport.abort())
        theirs.transport.write(b"x" * size)
        await settled()
        assert ours.names() == ["connection_lost"]

    run(main())


def test_aborted_delivers_nothing(run):
    """The same over a socket, where connection_lost() comes later."""

    async def main():
        told = Told()
        async with tls_pair(client=told.context) as (transport, protocol, peer):
            told.at("read", 2, transport.abort)
            await peer.write(b"x" * 50_000)
            assert await protocol.lost() is None
            assert protocol.data == b""

    run(main())


def test_another_is_closed_meanwhile(run):
    """Closing a connection drops what it has not read: not into memory where another's bytes are."""

    async def main():
        told = Told()
        async with (
            tls_pair() as (other, other_protocol, other_peer),
            tls_pair(client=told.context) as (mine, first, peer),
        ):
            await peer.write(b"x")
            await first.until(lambda: first.data)
            other.pause_reading()
            await other_peer.write(b"o" * 60_000)
            while other.get_read_buffer_size() < 60_000:
                await asyncio.sleep(0)
            reader = corolla.StreamReader(limit=1 << 20)
            protocol = corolla.StreamReaderProtocol(reader)
            mine.set_protocol(protocol)
            protocol.connection_made(mine)
            told.at("read", 3, other.close)
            await peer.write(b"m" * 60_000)
            assert await reader.readexactly(60_000) == b"m" * 60_000
            await other_peer.send(other_peer.close_notify())
            await other_protocol.lost()

    run(main())


@pytest.mark.parametrize("kind", ["protocol", "stream"])
def test_another_is_read_meanwhile(run, kind):
    """Nor into memory where another's bytes are does a connection read that something comes on just then."""

    async def main():
        told = Told()
        ours, theirs = await over_pipes()
        async with tls_pair(client=told.context) as (transport, protocol, peer):
            await peer.write(b"x")
            await protocol.until(lambda: protocol.data)
            reader = corolla.StreamReader(limit=1 << 20)
            if kind == "stream":
                streaming = corolla.StreamReaderProtocol(reader)
                transport.set_protocol(streaming)
                streaming.connection_made(transport)
            told.at("read", 2, lambda: theirs.transport.write(b"o" * 5000))
            await peer.write(b"m" * 60_000)
            if kind == "stream":
                assert await reader.readexactly(60_000) == b"m" * 60_000
            else:
                await protocol.until(lambda: len(protocol.data) > 60_000)
                assert protocol.data == b"x" + b"m" * 60_000
            assert ours.data == b"o" * 5000
        ours.transport.abort()
        theirs.transport.abort()

    run(main())


def test_more_comes_while_opening(run):
    """Over a transport that delivers at once: behind what had come before it."""

    async def main():
        told = Told()
        ours, theirs = await over_pipes(context=told.context)
        told.at("read", 1, lambda: theirs.transport.write(b"n" * 100))
        theirs.transport.write(b"o" * 100_000)
        assert ours.data == b"o" * 100_000 + b"n" * 100
        ours.transport.abort()
        theirs.transport.abort()

    run(main())


def test_closed_while_opening(run):
    """The peer's close_notify, which came with what is dropped, is not waited for any longer."""

    async def main():
        told = Told()
        async with tls_pair(client=told.context, ssl_shutdown_timeout=1000) as (transport, protocol, peer):
            told.at("read", 2, transport.close)
            peer.tls.write(b"x" * 40_000)
            records = peer.records()
            await peer.send(records + peer.close_notify())
            assert await protocol.lost() is None
            assert protocol.data == b""
            assert transport.get_extra_info("close_notify") is True

    run(main())


def raise_in_c(number):
    """A call that leaves the signal to be handled by whoever looks next, which is not the interpreter's loop: no bytecode is run
    between the calls of operator.call() by map()."""
    return partial(ctypes.PyDLL(None)["raise"], number)


def test_asked_while_sealing(run):
    """Something comes, and is answered, in the middle of a write of many records: the answer does not overtake those that
    are sealed."""
    heard = []
    data = bytes(range(256)) * 400

    async def main():
        ours, theirs = await over_pipes()
        begin = time.monotonic()
        while time.monotonic() - begin < 0.02:  # quiet for long enough that the engine is read until it has an answer
            await asyncio.sleep(0)

        def handler(*args):
            heard.append(len(theirs.data))
            theirs.transport.write(b"hello")

        before = signal.signal(signal.SIGUSR1, handler)
        try:
            list(map(operator.call, [raise_in_c(signal.SIGUSR1), partial(ours.transport.write, data)]))
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert heard == [0]
        assert ours.data == b"hello"
        assert theirs.data == data
        ours.transport.write(b"more")
        assert theirs.data == data + b"more"
        ours.transport.abort()
        theirs.transport.abort()

    run(main())


@pytest.mark.parametrize("raised", [KeyboardInterrupt, ZeroDivisionError])
def test_signal_while_sealing(run, reports, raised):
    """A handler that raises, out of write(): KeyboardInterrupt ends no connection, anything else does, as on asyncio."""
    data = bytes(range(256)) * 400

    async def main():
        def handler(*args):
            raise raised

        async with tls_pair() as (transport, protocol, peer):
            before = signal.signal(signal.SIGUSR1, handler)
            try:
                calls = map(operator.call, [raise_in_c(signal.SIGUSR1), partial(transport.write, data)])
                if raised is KeyboardInterrupt:
                    with pytest.raises(KeyboardInterrupt):
                        list(calls)
                else:
                    list(calls)
            finally:
                signal.signal(signal.SIGUSR1, before)
            if raised is KeyboardInterrupt:
                assert await peer.read(len(data)) == data
            else:
                assert isinstance(await protocol.lost(), ZeroDivisionError)

    run(main())
    assert [type(context["exception"]) for context in reports] == [raised] * (raised is ZeroDivisionError)
    reports.clear()


@pytest.mark.parametrize("method", ["write", "writelines"])
def test_written_from_within_the_last_send(run, method):
    """Behind the records there is something else for the wire, whose arrival makes the protocol write: that goes, too."""
    stir = []

    class Stirring(ssl.SSLObject):
        def read(self, len=1024, buffer=None):
            try:
                return super().read(len)
            finally:
                if stir:
                    self.write(stir.pop())  # as the answer to a KeyUpdate would be

    class Ours(Talker):
        def data_received(self, data):
            super().data_received(data)
            if data == b"come again":
                self.transport.write(b"late")

    class Theirs(Talker):
        def data_received(self, data):
            super().data_received(data)
            if data == b"hello":
                stir.append(b"stirred")
                self.transport.write(b"come")
            elif data == b"stirred":
                self.transport.write(b"come again")

    async def main():
        context = client_context()
        context.sslobject_class = Stirring
        ours, theirs = await over_pipes(Ours, Theirs, context)
        ours.transport.write(b"hello") if method == "write" else ours.transport.writelines([b"hel", b"lo"])
        assert theirs.data == b"hellostirredlate"
        assert ours.transport.get_write_buffer_size() == 0
        ours.transport.abort()
        theirs.transport.abort()

    run(main())


def test_more_comes_where_nothing_is_read(run):
    """From inside the read that finds nothing: it is read before anything else comes."""
    hook = []

    class Last(ssl.SSLObject):
        def read(self, len=1024, buffer=None):
            try:
                return super().read(len)
            except ssl.SSLWantReadError:
                if hook:
                    hook.pop()()
                raise

    async def main():
        context = client_context()
        context.sslobject_class = Last
        ours, theirs = await over_pipes(context=context)
        pipe = ours.transport._ssl_protocol._transport
        pipe.reading = False
        theirs.transport.write(b"first")
        theirs.transport.write(b"second")
        first, second = pipe.waiting
        hook.append(lambda: pipe.protocol.data_received(second))
        pipe.protocol.data_received(first)
        assert not hook
        assert ours.data == b"firstsecond"
        ours.transport.abort()
        theirs.transport.abort()

    run(main())


def test_record_of_the_ssl_module(run):
    """What Told relies on: a header is told for each record, and what its function raises comes out of the call."""

    async def main():
        told = Told()
        async with tls_pair(client=told.context) as (transport, _, peer):
            told.at("write", 1, interrupt)
            with pytest.raises(KeyboardInterrupt):
                transport.write(b"once")
            assert await peer.read(4) == b"once"
            transport.write(b"twice")
            assert await peer.read(5) == b"twice"
            with pytest.raises(ssl.SSLWantReadError):
                peer.tls.read(1)

    run(main())
