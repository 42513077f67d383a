"""TlsTransport: bytes, flow control, the end of a connection. The other end is in the test's hands."""

import array
import asyncio
import contextlib
import contextvars
import gc
import socket
import ssl
import warnings
import weakref

import corolla
import pytest
from certificates import NAME, client_context, server_context
from impl import beyond_stdlib
from transports.support import BufferedRecorder, Recorder, settled
from transports.tls_support import Peer, make_pair, tls_pair, turns

MEGABYTE = bytes(range(256)) * 4096


# ---- Reading ------------------------------------------------------------------------------------------------------


def test_records_in_single_bytes(run):
    """Records that come in pieces of any size are put together; no data is delivered before its record is whole."""

    async def main():
        async with tls_pair() as (_, protocol, peer):
            peer.tls.write(b"first")
            peer.tls.write(b"second")
            records = peer.records()
            for byte in records[:-1]:
                await peer.send(bytes([byte]))
                await turns(2)
            assert protocol.data == b"first"
            await peer.send(records[-1:])
            await protocol.until(lambda: protocol.data == b"firstsecond")

    run(main())


def test_many_records_at_once_are_one_call(run):
    async def main():
        async with tls_pair() as (_, protocol, peer):
            for i in range(50):
                peer.tls.write(b"%02d" % i)
            await peer.send()
            await protocol.until(lambda: protocol.data)
            assert protocol.events[1:] == [("data_received", b"".join(b"%02d" % i for i in range(50)))]

    run(main())


@pytest.mark.parametrize("factory", [Recorder, BufferedRecorder, lambda: BufferedRecorder(1000)])
def test_much(run, factory):
    async def main():
        async with tls_pair(factory) as (_, protocol, peer):
            sending = asyncio.ensure_future(peer.write(MEGABYTE))
            await protocol.until(lambda: len(protocol.data) >= len(MEGABYTE))
            assert protocol.data == MEGABYTE
            await sending

    run(main())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions(run, version):
    context = server_context()
    context.minimum_version = context.maximum_version = version

    async def main():
        async with tls_pair(server=context) as (transport, protocol, peer):
            assert transport.get_extra_info("ssl_object").version() == version.name.replace("_", ".")
            transport.write(b"question")
            assert await peer.read(8) == b"question"
            await peer.write(b"answer")
            await protocol.until(lambda: protocol.data == b"answer")
            transport.close()
            assert await peer.read_to_end() == (b"", True)
            await peer.send(peer.close_notify())
            assert await protocol.lost() is None

    run(main())


class Exact(asyncio.BufferedProtocol):
    """Gives a buffer of that kind, whose size fits no record."""

    def __init__(self, kind):
        self.kind = kind
        self.recorder = Recorder()
        self.got = b""

    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, sizehint):
        assert sizehint >= 0
        self.buffer = self.kind(bytearray(3000))
        return self.buffer

    def buffer_updated(self, nbytes):
        self.got += bytes(memoryview(self.buffer).cast("B")[:nbytes])
        self.recorder.note("updated")


@pytest.mark.parametrize("kind", [bytearray, memoryview, lambda data: array.array("b", bytes(data))])
def test_buffer_of_any_kind(run, kind):
    """Bytes land in the very buffer that get_buffer() returned (python/cpython issue 156275)."""

    async def main():
        async with tls_pair(lambda: Exact(kind)) as (_, protocol, peer):
            await peer.write(MEGABYTE[:100000])
            await protocol.recorder.until(lambda: len(protocol.got) == 100000)
            assert protocol.got == MEGABYTE[:100000]

    run(main())


@pytest.mark.parametrize("buffer", [b"", bytearray(), b"read only", None])
def test_useless_buffer(run, reports, buffer):
    class Useless(Recorder, asyncio.BufferedProtocol):
        def get_buffer(self, sizehint):
            return buffer

    async def main():
        async with tls_pair(Useless) as (_, protocol, peer):
            await peer.write(b"data")
            assert isinstance(await protocol.lost(), (RuntimeError, BufferError, TypeError))
            assert reports.pop()["message"] == "Fatal error on SSL protocol"

    run(main())


def test_set_protocol_switches(run):
    """Plain to buffered and back, inside callbacks, with more records there already (python/cpython issue 77835)."""

    async def main():
        seen = []
        done = asyncio.get_running_loop().create_future()

        class Plain(asyncio.Protocol):
            def data_received(self, data):
                seen.append(("plain", data))
                transport.set_protocol(buffered)
                if len(seen) == 3:
                    done.set_result(None)

        class Buffered(asyncio.BufferedProtocol):
            def get_buffer(self, sizehint):
                self.buffer = bytearray(4)
                return self.buffer

            def buffer_updated(self, nbytes):
                seen.append(("buffered", bytes(self.buffer[:nbytes])))
                transport.set_protocol(plain)

        plain, buffered = Plain(), Buffered()
        async with tls_pair(lambda: buffered) as (transport, _, peer):
            transport.set_protocol(plain)
            await peer.write(b"one")
            while len(seen) < 1:
                await asyncio.sleep(0)
            peer.tls.write(b"four")
            peer.tls.write(b"five!")
            await peer.send()
            await done
            assert seen == [("plain", b"one"), ("buffered", b"four"), ("plain", b"five!")]

    run(main())


def test_data_with_the_last_of_the_handshake(run):
    """What comes in one piece with the end of the handshake is not left lying."""

    async def main():
        loop = asyncio.get_running_loop()
        one, other = socket.socketpair()
        context = server_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # there, the server has the last word
        with other:
            peer = Peer(other, context)
            connecting = asyncio.ensure_future(
                loop.create_connection(Recorder, sock=one, ssl=client_context(), server_hostname=NAME)
            )
            for _ in range(2):
                with pytest.raises(ssl.SSLWantReadError):
                    peer.tls.do_handshake()
                await peer.send()
                await peer.more()
            peer.tls.do_handshake()
            await peer.write(b"early words")
            transport, protocol = await connecting
            await protocol.until(lambda: protocol.data == b"early words")
            transport.abort()
            await settled()

    run(main())


# ---- Flow control of reading -----------------------------------------------------------------------------------------


def test_pause_stops_what_is_decrypted(run):
    """No call between pause_reading() and resume_reading(), also for records that came in one piece; nothing is lost
    (python/cpython issue 89322)."""

    class OneByOne(BufferedRecorder):
        def buffer_updated(self, nbytes):
            super().buffer_updated(nbytes)
            self.transport.pause_reading()

    async def main():
        async with tls_pair(lambda: OneByOne(10)) as (transport, protocol, peer):
            await peer.write(MEGABYTE[:100])
            for i in range(1, 11):
                await protocol.until(lambda i=i: len(protocol.data) == 10 * i)
                assert not transport.is_reading()
                await turns()
                assert len(protocol.data) == 10 * i
                transport.resume_reading()
                assert transport.is_reading()
                if i < 10:
                    assert len(protocol.data) == 10 * i  # not from inside the call
            assert protocol.data == MEGABYTE[:100]

    run(main())


def test_paused_for_long(run):
    """While reading is paused, the transport below is paused once enough has come; all of it comes in the end."""

    async def main():
        async with tls_pair() as (transport, protocol, peer):
            transport.pause_reading()
            low, high = transport.get_read_buffer_limits()
            assert (low, high) == (64 * 1024, 256 * 1024)
            sending = asyncio.ensure_future(peer.write(MEGABYTE * 2))
            while transport.get_read_buffer_size() < high:
                await asyncio.sleep(0)
            await turns(50)
            assert transport.get_read_buffer_size() < high + 256 * 1024
            assert not sending.done()
            assert protocol.data == b""
            transport.resume_reading()
            await protocol.until(lambda: len(protocol.data) == 2 * len(MEGABYTE))
            assert protocol.data == MEGABYTE * 2
            await sending

    run(main())


def test_read_limits_of_nothing(run):
    """With marks of 0, whatever comes while reading is paused pauses the transport below, and resuming goes on."""

    async def main():
        async with tls_pair() as (transport, protocol, peer):
            transport.set_read_buffer_limits(high=0)
            for i in range(3):
                transport.pause_reading()
                peer.tls.write(b"some" * 10000)
                records = peer.records()
                await peer.send(records[:30000])
                await turns()
                transport.resume_reading()
                await peer.send(records[30000:])
                await protocol.until(lambda i=i: len(protocol.data) == 40000 * (i + 1))

    run(main())


@pytest.mark.parametrize("last", ["close_notify", "close_notify and FIN", "FIN"])
def test_paused_to_the_end(run, last):
    """All that was sent before the end reaches a protocol that has paused, once it resumes (uvloop commit 6476aad)."""

    async def main():
        async with tls_pair() as (transport, protocol, peer):
            transport.pause_reading()
            peer.tls.write(MEGABYTE[:50000])
            records = peer.records()
            if last != "FIN":
                records += peer.close_notify()
            await peer.send(records)
            if last != "close_notify":
                peer.sock.shutdown(socket.SHUT_WR)
            await turns(20)
            assert protocol.names() == ["connection_made"]
            transport.resume_reading()
            assert await protocol.lost() is None
            assert protocol.data == MEGABYTE[:50000]
            assert protocol.names() == ["connection_made", "data_received", "eof_received", "connection_lost"]
            assert transport.get_extra_info("close_notify") == (last != "FIN")

    run(main())


# ---- Writing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_write_kinds(run, kind):
    async def main():
        async with tls_pair() as (transport, _, peer):
            data = bytearray(b"some data")
            transport.write(kind(data))
            data[:] = b"?" * 9
            transport.writelines([b"", kind(b"a"), b"b", memoryview(b"c")])
            assert await peer.read(12) == b"some dataabc"

    run(main())


def test_write_refuses(run):
    async def main():
        async with tls_pair() as (transport, _, peer):
            for wrong in ("text", None, 5, [b"x"]):
                with pytest.raises(TypeError, match="data: expecting a bytes-like instance, got"):
                    transport.write(wrong)
            with pytest.raises(TypeError):
                transport.writelines([b"not sent", "text"])
            with pytest.raises(NotImplementedError):
                transport.write_eof()
            assert transport.can_write_eof() is False
            transport.write(b"sent")
            assert await peer.read(4) == b"sent"

    run(main())


def test_sent_before_write_returns(run):
    """A program that blocks behind write() has been heard, as on asyncio."""

    async def main():
        async with tls_pair() as (transport, _, peer):
            transport.write(b"hello")
            peer.incoming.write(peer.sock.recv(65536))
            assert peer.tls.read(100) == b"hello"

    run(main())


@beyond_stdlib("asyncio does not")
def test_small_writes_share_a_record(run):
    """Where the last turns had several writes, those of a turn are sealed together; one write a turn is sent at once."""

    async def main():
        async with tls_pair() as (transport, _, peer):

            async def record_of(*pieces):
                await asyncio.sleep(0)
                for piece in pieces:
                    transport.write(piece)
                await turns(3)
                peer.incoming.write(peer.sock.recv(65536))
                got = []
                while sum(map(len, got)) < sum(map(len, pieces)):
                    got.append(peer.tls.read(65536))
                return got

            for _ in range(3):
                await record_of(b"head", b"body")
            assert await record_of(b"head", b"body") == [b"headbody"]
            assert await record_of(*[b"x" * 100] * 200) == [b"x" * 16384, b"x" * 3616]
            await record_of(b"alone")
            transport.write(b"at once")
            peer.incoming.write(peer.sock.recv(65536))
            assert peer.tls.read(100) == b"at once"

    run(main())


def test_flow_control(run):
    """pause_writing() above the mark, resume_writing() below, and all arrives."""

    async def main():
        async with tls_pair(small=True) as (transport, protocol, peer):
            assert transport.get_write_buffer_limits() == (128 * 1024, 512 * 1024)
            transport.set_write_buffer_limits(high=100000)
            assert transport.get_write_buffer_limits() == (25000, 100000)
            count = 0
            while "pause_writing" not in protocol.names():
                transport.write(b"x" * 10000)
                count += 10000
                assert count < 1000000
            assert transport.get_write_buffer_size() > 100000
            assert await peer.read(count) == b"x" * count
            await protocol.until(lambda: "resume_writing" in protocol.names())
            assert protocol.names() == ["connection_made", "pause_writing", "resume_writing"]
            assert transport.get_write_buffer_size() == 0

    run(main())


def test_flow_control_of_writelines(run):
    """writelines() minds the mark as well (python/cpython issue 127655)."""

    async def main():
        async with tls_pair(small=True) as (transport, protocol, peer):
            transport.set_write_buffer_limits(high=100000)
            transport.writelines([b"x" * 1000] * 1000)
            assert protocol.names() == ["connection_made", "pause_writing"]
            assert await peer.read(1000000) == b"x" * 1000000
            await protocol.until(lambda: "resume_writing" in protocol.names())

    run(main())


@pytest.mark.parametrize("limits", [{"high": 10, "low": 20}, {"low": -1}])
def test_limits_refused(run, limits):
    async def main():
        async with tls_pair() as (transport, _, _):
            for method in (transport.set_write_buffer_limits, transport.set_read_buffer_limits):
                with pytest.raises(ValueError, match="must be >= low"):
                    method(**limits)

    run(main())


def test_written_in_connection_made(run):
    class Eager(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(b"hello")
            transport.writelines([b" ", b"there"])

    async def main():
        async with tls_pair(Eager) as (_, _, peer):
            assert await peer.read(11) == b"hello there"

    run(main())


def test_writes_in_vain(run, caplog):
    async def main():
        async with tls_pair() as (transport, _, _):
            transport.abort()
            for _ in range(5):
                transport.write(b"lost")
            assert not caplog.records
            transport.write(b"lost")
            transport.writelines([b"lost"])
            assert [record.getMessage() for record in caplog.records] == ["SSL connection is closed"] * 2

    run(main())


# ---- The end -------------------------------------------------------------------------------------------------------------


def test_close_sends_everything_first(run):
    """close_notify comes behind all that was written, FIN behind close_notify (python/cpython issue 74883)."""

    async def main():
        async with tls_pair(small=True) as (transport, protocol, peer):
            transport.write(MEGABYTE)
            transport.close()
            assert transport.is_closing()
            assert await peer.read_to_end() == (MEGABYTE, True)
            assert not peer.ended
            await peer.send(peer.close_notify())
            assert await protocol.lost() is None
            await peer.more()
            assert peer.ended

    run(main())


def test_peer_closes(run):
    async def main():
        async with tls_pair() as (transport, protocol, peer):
            peer.tls.write(b"last words")
            await peer.send(peer.records() + peer.close_notify())
            assert await protocol.lost() is None
            assert protocol.events[1:] == [
                ("data_received", b"last words"),
                "eof_received",
                ("connection_lost", None),
            ]
            assert await peer.read_to_end() == (b"", True)
            assert transport.is_closing()
            assert transport.get_extra_info("close_notify") is True

    run(main())


def test_truncated(run):
    """An end without close_notify: asyncio's callbacks are the same, so close_notify tells."""

    async def main():
        async with tls_pair() as (transport, protocol, peer):
            peer.tls.write(b"cut")
            records = peer.records()
            await peer.send(records + records[:7])
            peer.sock.shutdown(socket.SHUT_WR)
            assert await protocol.lost() is None
            assert protocol.names() == ["connection_made", "data_received", "eof_received", "connection_lost"]
            assert transport.get_extra_info("close_notify") is False

    run(main())


@pytest.mark.parametrize("when", ["reading", "paused", "closing"])
def test_truncated_is_not_answered(run, when):
    """asyncio says no close_notify to a peer whose end has come without one."""

    async def main():
        async with tls_pair() as (transport, protocol, peer):
            loop = asyncio.get_running_loop()
            if when == "paused":
                transport.pause_reading()
            elif when == "closing":
                transport.close()
                assert await loop.sock_recv(peer.sock, 100)  # ours came before
            await peer.send(peer.tls.write(b"last") and peer.records())
            peer.sock.shutdown(socket.SHUT_WR)
            if when == "paused":
                await turns(20)
                assert protocol.names() == ["connection_made"]
                transport.resume_reading()
            assert await protocol.lost() is None
            assert await loop.sock_recv(peer.sock, 100) == b""
            assert "eof_received" in protocol.names()

    run(main())


def test_eof_received_true_has_no_effect(run, caplog):
    async def main():
        async with tls_pair() as (_, protocol, peer):
            protocol.keep_open = True
            await peer.send(peer.close_notify())
            assert await protocol.lost() is None
            message = "returning true from eof_received() has no effect when using ssl"
            assert [record.getMessage() for record in caplog.records] == [message]

    run(main())


def test_peer_that_goes_on_sending(run):
    """After close() what comes is dropped, and not listened to for long; the protocol hears nothing of it (uvloop issue
    471)."""

    async def main():
        async with tls_pair(ssl_shutdown_timeout=1000) as (transport, protocol, peer):
            transport.close()
            assert await peer.read_to_end() == (b"", True)
            with pytest.raises((ConnectionError, BrokenPipeError)):
                for _ in range(1000):
                    await peer.write(bytes(16384))
            assert await protocol.lost() is None
            assert protocol.data == b""

    run(main())


def test_words_on_their_way(run):
    """What a peer had sent before it saw our close_notify does not spoil an orderly end."""

    async def main():
        async with tls_pair() as (transport, protocol, peer):
            await peer.write(b"x" * 1000)
            transport.close()
            await peer.write(b"y" * 1000)
            assert await peer.read_to_end() == (b"", True)
            await turns()
            assert "connection_lost" not in protocol.names()
            await peer.send(peer.close_notify())
            assert await protocol.lost() is None
            assert protocol.data == b""

    run(main())


def test_shutdown_that_is_not_answered(run):
    """Ends by ssl_shutdown_timeout (python/cpython issue 74883)."""

    async def main():
        async with tls_pair(ssl_shutdown_timeout=0.05) as (transport, protocol, peer):
            transport.close()
            error = await protocol.lost()
            assert isinstance(error, TimeoutError)
            assert str(error) == "SSL shutdown timed out"
            assert await peer.read_to_end() == (b"", True)

    run(main())


def test_garbage(run):
    """What is no TLS record ends the connection with the error of the ssl module."""

    async def main():
        async with tls_pair() as (_, protocol, peer):
            await peer.send(b"GET / HTTP/1.1\r\n\r\n")
            assert isinstance(await protocol.lost(), ssl.SSLError)
            assert protocol.names() == ["connection_made", "connection_lost"]

    run(main())


def test_data_before_garbage(run):
    """Records before a broken one are delivered."""

    async def main():
        async with tls_pair() as (_, protocol, peer):
            peer.tls.write(b"good")
            good = peer.records()
            peer.tls.write(b"bad")
            bad = bytearray(peer.records())
            bad[-1] ^= 1
            await peer.send(good + bytes(bad))
            assert isinstance(await protocol.lost(), ssl.SSLError)
            assert protocol.data == b"good"

    run(main())


@pytest.mark.parametrize("where", ["data_received", "eof_received", "pause_writing"])
@pytest.mark.parametrize("how", ["abort", "close"])
def test_end_from_inside(run, where, how):
    class Ender(Recorder):
        def note(self, *event):
            super().note(*event)
            if event[0] == where or event == (where,):
                getattr(self.transport, how)()
                getattr(self.transport, how)()
                self.transport.write(b"in vain")

    async def main():
        async with tls_pair(Ender, small=True) as (transport, protocol, peer):
            transport.set_write_buffer_limits(high=1000)
            await peer.write(b"data")
            await protocol.until(lambda: protocol.data)
            if where == "eof_received":
                await peer.send(peer.close_notify())
            elif where == "pause_writing":
                transport.write(bytes(1000000))
            if how == "close":
                assert (await peer.read_to_end())[1]
                await peer.send(peer.close_notify())
            assert await protocol.lost() is None
            assert protocol.names()[-1] == "connection_lost"
            assert protocol.names().count("connection_lost") == 1

    run(main())


@pytest.mark.parametrize("how", ["abort", "close"])
def test_end_in_connection_made(run, how):
    class Ender(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            getattr(transport, how)()

    async def main():
        loop = asyncio.get_running_loop()
        one, other = socket.socketpair()
        protocol = Ender()
        with other:
            peer = Peer(other, server_context())
            connecting = asyncio.ensure_future(
                loop.create_connection(lambda: protocol, sock=one, ssl=client_context(), server_hostname=NAME)
            )
            try:
                await peer.shake_hands()
                if how == "close":
                    assert await peer.read_to_end() == (b"", True)
                    await peer.send(peer.close_notify())
            except ssl.SSLEOFError:
                assert how == "abort"
            assert await connecting == (protocol.transport, protocol)
            assert await protocol.lost() is None

    run(main())


@pytest.mark.parametrize("where", ["connection_made", "data_received", "eof_received"])
def test_callback_that_raises(run, reports, where):
    class Clumsy(Recorder):
        def note(self, *event):
            super().note(*event)
            if event[0] == where:
                raise ZeroDivisionError

    async def main():
        loop = asyncio.get_running_loop()
        one, other = socket.socketpair()
        protocol = Clumsy()
        with other:
            peer = Peer(other, server_context())
            connecting = asyncio.ensure_future(
                loop.create_connection(lambda: protocol, sock=one, ssl=client_context(), server_hostname=NAME)
            )
            if where == "connection_made":
                with pytest.raises(ssl.SSLEOFError):
                    await peer.shake_hands()
                with pytest.raises(ZeroDivisionError):
                    await connecting
            else:
                await peer.shake_hands()
                await connecting
                peer.tls.write(b"data")
                await peer.send(peer.records() + peer.close_notify())
            assert isinstance(await protocol.lost(), ZeroDivisionError)
        report = reports.pop()
        assert isinstance(report["exception"], ZeroDivisionError)
        assert protocol.names()[-1] == "connection_lost"

    run(main())


def test_interrupt_in_data_received(loop):
    """KeyboardInterrupt leaves the loop at once, and the connection goes on when the loop does."""

    class Interrupted(BufferedRecorder):
        def __init__(self):
            super().__init__(9)

        def buffer_updated(self, nbytes):
            super().buffer_updated(nbytes)
            if self.data == b"interrupt":
                raise KeyboardInterrupt

    async def send(peer, data):
        for record in data:
            peer.tls.write(record)
        await peer.send()
        await asyncio.get_running_loop().create_future()

    transport, protocol, peer = loop.run_until_complete(make_pair(Interrupted))
    task = loop.create_task(send(peer, [b"interrupt", b"more"]))
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(task)
    task.cancel()

    async def go_on():
        await protocol.until(lambda: protocol.data == b"interruptmore")

    loop.run_until_complete(go_on())
    transport.abort()
    loop.run_until_complete(protocol.lost())
    peer.sock.close()


# ---- What it tells --------------------------------------------------------------------------------------------------------


def test_extra_info(run):
    async def main():
        context = client_context()
        async with tls_pair(client=context) as (transport, _, peer):
            info = transport.get_extra_info
            tls = info("ssl_object")
            assert isinstance(tls, ssl.SSLObject)
            assert info("sslcontext") is context
            assert info("peercert") == tls.getpeercert()
            assert info("peercert") is info("peercert")
            assert info("cipher") == tls.cipher() == peer.tls.cipher()
            assert info("compression") is None
            assert info("close_notify") is False
            assert info("socket").family == socket.AF_UNIX
            assert info("nothing") is None
            assert info("nothing", 5) == 5
            assert info(name="nothing", default=6) == 6

    run(main())


def test_what_it_is(run):
    async def main():
        async with tls_pair() as (transport, protocol, _):
            assert isinstance(transport, asyncio.Transport)
            assert isinstance(transport, corolla.TlsTransport)
            assert isinstance(transport, asyncio.sslproto._SSLProtocolTransport)
            assert transport._start_tls_compatible is True
            assert transport.get_protocol() is protocol
            transport.remark = "kept"
            assert transport.remark == "kept"
            assert weakref.ref(transport)() is transport
            assert repr(transport).startswith("<TlsTransport over <UnixTransport fd=")
            with pytest.raises(TypeError):
                type(transport)()
            transport.close()
            assert repr(transport).startswith("<TlsTransport closing over ")

    run(main())


def test_context(run):
    """The protocol's methods run in the context that the connection was made in, whoever causes the call."""
    variable = contextvars.ContextVar("variable", default="none")

    class Noting(Recorder):
        def note(self, *event):
            super().note(*event)
            seen.append(variable.get())

    seen = []

    async def main():
        variable.set("maker's")
        async with tls_pair(Noting) as (_, protocol, peer):
            variable.set("changed")
            await peer.write(b"data")
            await protocol.until(lambda: protocol.data)
            await peer.send(peer.close_notify())
            await protocol.lost()
            assert seen == ["maker's"] * 4

    run(main())


def test_engine_of_a_subclass(run):
    """sslobject_class: its own methods are what is called."""
    calls = set()

    class Counting(ssl.SSLObject):
        def __getattribute__(self, name):
            calls.add(name)
            return super().__getattribute__(name)

    async def main():
        context = client_context()
        context.sslobject_class = Counting
        async with tls_pair(client=context) as (transport, protocol, peer):
            transport.write(MEGABYTE[:100000])
            assert await peer.read(100000) == MEGABYTE[:100000]
            await peer.write(MEGABYTE[:100000])
            await protocol.until(lambda: len(protocol.data) == 100000)
            assert protocol.data == MEGABYTE[:100000]
            transport.close()
            assert await peer.read_to_end() == (b"", True)
            await peer.send(peer.close_notify())
            assert await protocol.lost() is None
        assert calls >= {"do_handshake", "read", "write", "unwrap", "getpeercert", "cipher"}

    run(main())


@pytest.mark.parametrize("method", ["read", "write", "unwrap", "do_handshake"])
def test_engine_that_fails(run, reports, method):
    broken = False

    class Failing(ssl.SSLObject):
        def read(self, *args):
            return self.call("read", *args)

        def write(self, *args):
            return self.call("write", *args)

        def unwrap(self):
            return self.call("unwrap")

        def do_handshake(self):
            return self.call("do_handshake")

        def call(self, name, *args):
            if broken and name == method:
                raise LookupError(method)
            return getattr(super(), name)(*args)

    async def main():
        nonlocal broken
        context = client_context()
        context.sslobject_class = Failing
        if method == "do_handshake":
            broken = True
            one, other = socket.socketpair()
            with other, pytest.raises(LookupError):
                await asyncio.get_running_loop().create_connection(
                    Recorder, sock=one, ssl=context, server_hostname=NAME
                )
        else:
            async with tls_pair(client=context) as (transport, protocol, peer):
                broken = True
                if method == "read":
                    await peer.write(b"data")
                elif method == "write":
                    transport.write(b"data")
                else:
                    transport.close()
                assert isinstance(await protocol.lost(), LookupError)
        assert isinstance(reports.pop()["exception"], LookupError)

    run(main())


# ---- The handshake ----------------------------------------------------------------------------------------------------------


def test_handshake_cut_anywhere(run):
    """A peer that ends, or resets, after any byte of its part of the handshake: create_connection() fails and the protocol
    hears nothing (python/asyncio issue 472, uvloop PR 308, uvloop issue 246)."""

    async def attempt(size, context):
        loop = asyncio.get_running_loop()
        one, other = socket.socketpair()
        protocol = Recorder()
        with other:
            peer = Peer(other, context)
            connecting = asyncio.ensure_future(
                loop.create_connection(lambda: protocol, sock=one, ssl=client_context(), server_hostname=NAME)
            )
            await peer.more()
            with pytest.raises(ssl.SSLWantReadError):
                peer.tls.do_handshake()
            flight = peer.records()
            await peer.send(flight[:size])
        with pytest.raises(ConnectionError):
            await connecting
        assert protocol.events == []
        return len(flight)

    async def main():
        context = server_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        length = await attempt(0, context)
        for size in [*range(1, 12), *range(12, length - 12, 53), *range(length - 12, length)]:
            await attempt(size, context)

    run(main())


def test_handshake_timeout(run):
    async def main():
        loop = asyncio.get_running_loop()
        one, other = socket.socketpair()
        protocol = Recorder()
        with other, pytest.raises(ConnectionAbortedError) as caught:
            await loop.create_connection(
                lambda: protocol,
                sock=one,
                ssl=client_context(),
                server_hostname=NAME,
                ssl_handshake_timeout=0.05,
            )
        assert str(caught.value) == "SSL handshake is taking longer than 0.05 seconds: aborting the connection"
        assert protocol.events == []

    run(main())


@beyond_stdlib("asyncio does not")
def test_alert_is_sent(run):
    """Who does not trust a certificate says so before it hangs up."""

    async def main():
        loop = asyncio.get_running_loop()
        one, other = socket.socketpair()
        with other:
            peer = Peer(other, server_context())
            connecting = asyncio.ensure_future(
                loop.create_connection(Recorder, sock=one, ssl=client_context(trusting=False), server_hostname=NAME)
            )
            with pytest.raises(ssl.SSLError, match="(?i)unknown.ca"):
                await peer.shake_hands()
            with pytest.raises(ssl.SSLCertVerificationError):
                await connecting

    run(main())


class Foreign(asyncio.Transport):
    """Somebody's own transport: a list in place of a connection. Calls its protocol from inside whatever calls it."""

    _start_tls_compatible = True

    def __init__(self):
        super().__init__()
        self.sent = b""
        self.lost_with = []
        self.reading = True
        self.protocol = None

    def get_protocol(self):
        return self.protocol

    def write(self, data):
        self.sent += data

    def take(self):
        sent, self.sent = self.sent, b""
        return sent

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def set_protocol(self, protocol):
        self.protocol = protocol

    def is_closing(self):
        return bool(self.lost_with)

    def close(self):
        if not self.lost_with:
            self.lost_with.append(None)
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close


def test_over_a_foreign_transport(run):
    """start_tls over a transport of Python's that calls from inside a task: the task stays the current one."""
    variable = contextvars.ContextVar("variable")

    async def main():
        loop = asyncio.get_running_loop()
        variable.set("mine")
        below, protocol = Foreign(), Recorder()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = server_context().wrap_bio(incoming, outgoing, server_side=True)
        starting = asyncio.ensure_future(loop.start_tls(below, protocol, client_context(), server_hostname=NAME))
        task = asyncio.current_task()
        for _ in range(3):
            while not below.sent:
                assert not starting.done()
                await asyncio.sleep(0)
            incoming.write(below.take())
            try:
                server.do_handshake()
            except ssl.SSLWantReadError:
                below.protocol.data_received(outgoing.read())
                assert asyncio.current_task() is task
                assert variable.get() == "mine"
            else:
                break
        transport = await starting
        transport.write(b"hello")
        incoming.write(below.take())
        assert server.read(100) == b"hello"
        server.write(b"answer")
        below.protocol.data_received(outgoing.read())
        assert protocol.data == b"answer"
        assert asyncio.current_task() is task
        with pytest.raises(ssl.SSLWantReadError):
            server.unwrap()
        below.protocol.data_received(outgoing.read())
        assert await protocol.lost() is None
        assert protocol.names() == ["data_received", "eof_received", "connection_lost"]

    run(main())


def test_start_tls_with_the_hello_there_already(run):
    """The handshake is not begun inside the task that asks for it, and so does not disturb it."""

    async def main():
        loop = asyncio.get_running_loop()
        hello, words = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = client_context().wrap_bio(words, hello, server_hostname=NAME)
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        one, other = socket.socketpair()
        other.setblocking(False)
        with other:
            reader, writer = await asyncio.open_connection(sock=one)
            await loop.sock_sendall(other, b"STARTTLS\n" + hello.read())
            assert await reader.readline() == b"STARTTLS\n"
            protocol = Recorder()
            upgrading = asyncio.ensure_future(
                loop.start_tls(writer.transport, protocol, server_context(), server_side=True)
            )
            while True:
                words.write(await loop.sock_recv(other, 65536))
                try:
                    client.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                break
            await loop.sock_sendall(other, hello.read())
            transport = await upgrading
            client.write(b"secret")
            await loop.sock_sendall(other, hello.read())
            await protocol.until(lambda: protocol.data == b"secret")
            transport.abort()
            await protocol.lost()
            assert await reader.read(0) == b""

    run(main())


def test_start_tls_of_what_is_gone(run):
    async def main():
        loop = asyncio.get_running_loop()
        one, other = socket.socketpair()
        with other:
            transport, _ = await loop.create_connection(Recorder, sock=one)
            transport.abort()
            await settled()
            with pytest.raises(ConnectionError):
                await loop.start_tls(transport, Recorder(), client_context(), server_hostname=NAME)

    run(main())


# ---- Life --------------------------------------------------------------------------------------------------------------------


def test_nothing_left_without_the_collector(run):
    """Connections, failed handshakes and aborts leave no SSL object, context or timer, with the collector off
    (python/cpython issues 78926, 109534; uvloop issue 220)."""
    kept = weakref.WeakSet()

    class Marked(ssl.SSLObject):
        @classmethod
        def _create(cls, *args, **kwargs):
            made = super()._create(*args, **kwargs)
            kept.add(made)
            return made

    def marked(context):
        context.sslobject_class = Marked
        kept.add(context)
        return context

    async def ended(how):
        async with tls_pair(client=marked(client_context())) as (transport, protocol, peer):
            if how == "close":
                transport.close()
                await peer.read_to_end()
                await peer.send(peer.close_notify())
            elif how == "peer closes":
                await peer.send(peer.close_notify())
            elif how == "cut":
                peer.sock.shutdown(socket.SHUT_WR)
            else:
                transport.abort()
            await protocol.lost()

    async def failed(how):
        loop = asyncio.get_running_loop()
        one, other = socket.socketpair()
        with other:
            connecting = asyncio.ensure_future(
                loop.create_connection(
                    Recorder, sock=one, ssl=marked(client_context(trusting=False)), server_hostname=NAME
                )
            )
            if how == "garbage":
                await loop.sock_sendall(other, b"x" * 100)
            elif how == "cut":
                other.shutdown(socket.SHUT_WR)
            elif how == "distrust":
                peer = Peer(other, server_context())
                with pytest.raises(ssl.SSLError):
                    await peer.shake_hands()
            else:
                await turns(3)
                connecting.cancel()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await connecting
            del connecting  # its exception's traceback has this frame
            await settled()

    async def alone(function, how):
        await function(how)
        await turns()
        assert not kept, how

    gc.collect()
    gc.disable()
    try:
        for function, hows in (
            (ended, ("close", "peer closes", "cut", "abort")),
            (failed, ("garbage", "cut", "distrust", "cancel")),
        ):
            for how in hows:
                run(alone(function, how))
    finally:
        gc.enable()


def test_unclosed(loop):
    """ResourceWarning for a connection that nobody closed."""

    async def begin():
        transport, _, peer = await make_pair()
        transport.pause_reading()
        return peer

    peer = loop.run_until_complete(begin())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.close()
        gc.collect()
    assert any("unclosed transport <TlsTransport" in str(warning.message) for warning in caught)
    peer.sock.close()


def test_closed_loop_with_open_connection_is_collected(loop):
    async def begin():
        transport, _, peer = await make_pair()
        transport.write(b"data")
        transport.close()
        return weakref.ref(transport), peer

    transport, peer = loop.run_until_complete(begin())
    assert transport() is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loop.close()
        gc.collect()
        assert transport() is None
    peer.sock.close()


# ---- Server ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
def test_server_ends_its_clients(run, method):
    """close_clients() is TLS's close: with a close_notify; wait_closed() waits for all of it."""

    async def main():
        loop = asyncio.get_running_loop()
        made = []

        def factory():
            made.append(Recorder())
            return made[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0, ssl=server_context())
        client, protocol = await loop.create_connection(
            Recorder, *server.sockets[0].getsockname(), ssl=client_context(), server_hostname=NAME
        )
        client.write(b"hello")
        while not made:
            await asyncio.sleep(0)
        await made[0].until(lambda: made[0].data)
        server.close()
        getattr(server, method)()
        await server.wait_closed()
        assert made[0].names()[-1] == "connection_lost"
        await protocol.lost()
        assert client.get_extra_info("close_notify") == (method == "close_clients")

    run(main())


def test_server_debug_reports_a_failed_handshake(loop, reports):
    async def main():
        server = await loop.create_server(Recorder, "127.0.0.1", 0, ssl=server_context())
        with socket.create_connection(server.sockets[0].getsockname()) as sock:
            sock.setblocking(False)
            await loop.sock_sendall(sock, b"GET / HTTP/1.0\r\n\r\n")
            while True:
                try:
                    if not await loop.sock_recv(sock, 1000):
                        break
                except ConnectionResetError:
                    break
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())
    assert not reports
    loop.set_debug(True)
    loop.run_until_complete(main())
    assert reports.pop()["message"] == "Error on transport creation for incoming connection"
