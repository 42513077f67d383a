"""What goes wrong: protocols that raise, peers that reset, exceptions that leave the loop."""

import asyncio
import contextlib
import gc
import os
import socket

import pytest
from transports.support import BufferedRecorder, Recorder, connection, listener, receive_all, reset, settled


class Boom(Exception):
    pass


def raising(base, callback, exc):
    """A protocol like base whose callback raises."""

    def fail(self, *args):
        getattr(base, callback)(self, *args)
        raise exc

    return type("Protocol", (base,), {callback: fail})


READING = {
    "data_received": Recorder,
    "eof_received": Recorder,
    "get_buffer": BufferedRecorder,
    "buffer_updated": BufferedRecorder,
}


@pytest.mark.parametrize("callback", list(READING))
def test_an_exception_ends_the_connection(run, reports, callback):
    """Transports: an exception in data_received was reported but the transport kept feeding data."""
    exc = Boom("raised")

    async def main():
        async with connection(raising(READING[callback], callback, exc)) as (transport, protocol, peer):
            with contextlib.suppress(OSError):
                peer.sendall(b"abc")
                peer.shutdown(socket.SHUT_WR)
            assert await protocol.lost() is exc
            await settled()
            names = protocol.names()
            assert names.count("connection_lost") == 1
            assert names[-1] == "connection_lost"
            report = reports.pop()
            assert report["message"] == f"Fatal error: protocol.{callback}() call failed."
            assert report["exception"] is exc
            assert report["transport"] is transport
            assert report["protocol"] is protocol

    run(main())


@pytest.mark.parametrize("callback", list(READING))
def test_an_os_error_is_not_reported(run, callback):
    """As asyncio: it is most likely the connection's own."""
    exc = ConnectionResetError("raised")

    async def main():
        async with connection(raising(READING[callback], callback, exc)) as (_, protocol, peer):
            with contextlib.suppress(OSError):
                peer.sendall(b"abc")
                peer.shutdown(socket.SHUT_WR)
            assert await protocol.lost() is exc

    run(main())


def test_connection_made_that_raises(run, reports):
    """As asyncio: reported, and the connection goes on. The creation is told (uvloop commits 87d4f11, c10d08f)."""
    exc = Boom("raised")

    async def main():
        async with connection(raising(Recorder, "connection_made", exc)) as (_, protocol, peer):
            report = reports.pop()
            assert "Exception in callback" in report["message"]
            assert report["exception"] is exc
            peer.sendall(b"abc")
            await protocol.until(lambda: protocol.data == b"abc")

    run(main())


def test_connection_lost_that_raises(run, reports):
    exc = Boom("raised")

    async def main():
        async with connection(raising(Recorder, "connection_lost", exc)) as (transport, protocol, peer):
            fd = transport._sock_fd
            transport.abort()
            await protocol.lost()
            await settled()
            report = reports.pop()
            assert "Exception in callback" in report["message"]
            assert report["exception"] is exc
            assert repr(transport) == f"<TcpTransport closed fd={fd}>"
            assert peer.recv(1) == b""

    run(main())


@pytest.mark.parametrize("callback", ["pause_writing", "resume_writing"])
def test_flow_control_that_raises(run, reports, callback):
    """As asyncio: reported, and the connection goes on."""
    exc = Boom("raised")

    async def main():
        async with connection(raising(Recorder, callback, exc), small=True) as (transport, protocol, peer):
            transport.write(b"x" * 1_000_000)
            received = asyncio.ensure_future(receive_all(peer))
            await protocol.until(lambda: "resume_writing" in protocol.names())
            report = reports.pop()
            assert report["message"] == f"protocol.{callback}() failed"
            assert report["exception"] is exc
            assert report["transport"] is transport
            assert report["protocol"] is protocol
            transport.close()
            assert await received == b"x" * 1_000_000

    run(main())


@pytest.mark.parametrize("bad", [None, 7, "text", b"readonly", memoryview(b"readonly"), bytearray()])
def test_a_buffer_that_is_none(run, reports, bad):
    class Protocol(BufferedRecorder):
        def get_buffer(self, sizehint):
            return bad

    async def main():
        async with connection(Protocol) as (_, protocol, peer):
            peer.sendall(b"abc")
            exc = await protocol.lost()
            report = reports.pop()
            assert report["message"] == "Fatal error: protocol.get_buffer() call failed."
            assert report["exception"] is exc
            if bad == bytearray():
                assert isinstance(exc, RuntimeError)
                assert str(exc) == "get_buffer() returned an empty buffer"

    run(main())


def test_a_protocol_without_methods(run, reports):
    """Whatever object it is, it is reported and nothing crashes."""

    async def main():
        async with connection() as (transport, _, peer):
            transport.set_protocol(object())
            peer.sendall(b"abc")
            peer.shutdown(socket.SHUT_WR)
            while len(reports) < 2:
                await asyncio.sleep(0)
            assert isinstance(reports.pop(0)["exception"], AttributeError)
            assert isinstance(reports.pop(0)["exception"], AttributeError)
            assert transport.is_closing()

    run(main())


# ---- What leaves the loop ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("callback", ["connection_made", "connection_lost", *READING])
def test_exceptions_that_leave_the_loop(loop, callback, kind):
    """Transports: KeyboardInterrupt and SystemExit were swallowed."""
    exc = kind()
    factory = raising(READING.get(callback, Recorder), callback, exc)
    protocol = factory()
    with listener() as server:
        connecting = loop.create_task(loop.create_connection(lambda: protocol, *server.getsockname()))
        if callback == "connection_made":
            with pytest.raises(kind) as caught:
                loop.run_until_complete(connecting)
            assert caught.value is exc
        transport, _ = loop.run_until_complete(connecting)  # what was queued still is
        peer, _ = server.accept()
    peer.settimeout(30)
    peer.sendall(b"abc")
    peer.shutdown(socket.SHUT_WR)
    if callback != "connection_made":
        with pytest.raises(kind) as caught:
            loop.run_until_complete(protocol.lost())
        assert caught.value is exc
    if callback in ("connection_lost",):
        assert peer.recv(1) == b""
    else:
        transport.abort()
        if callback != "connection_lost":
            loop.run_until_complete(protocol.lost())
    loop.run_until_complete(settled())
    assert repr(transport).startswith("<TcpTransport closed")
    peer.close()


def test_keyboard_interrupt_out_of_write(run):
    """pause_writing() is called inside write(): there it comes out."""

    async def main():
        async with connection(raising(Recorder, "pause_writing", KeyboardInterrupt()), small=True) as (transport, _, _):
            with pytest.raises(KeyboardInterrupt):
                transport.write(b"x" * 1_000_000)
            assert transport.get_write_buffer_size() > 0
            assert not transport.is_closing()

    run(main())


def test_cancelled_error_is_an_ordinary_exception_here(run, reports):
    async def main():
        async with connection(raising(Recorder, "data_received", asyncio.CancelledError())) as (_, protocol, peer):
            peer.sendall(b"abc")
            assert isinstance(await protocol.lost(), asyncio.CancelledError)
            assert isinstance(reports.pop()["exception"], asyncio.CancelledError)

    run(main())


# ---- Resets ------------------------------------------------------------------------------------


def test_reset_while_idle(run):
    async def main():
        async with connection() as (_, protocol, peer):
            reset(peer)
            assert isinstance(await protocol.lost(), ConnectionResetError)
            assert protocol.names() == ["connection_made", "connection_lost"]

    run(main())


def test_reset_while_idle_buffered(run):
    async def main():
        async with connection(BufferedRecorder) as (_, protocol, peer):
            reset(peer)
            assert isinstance(await protocol.lost(), ConnectionResetError)
            assert protocol.names() == ["connection_made", "connection_lost"]

    run(main())


def test_reset_while_writing(run):
    async def main():
        async with connection(small=True) as (transport, protocol, peer):
            transport.write(b"x" * 1_000_000)
            reset(peer)
            assert isinstance(await protocol.lost(), ConnectionError)
            assert transport.get_write_buffer_size() == 0
            assert protocol.names() == ["connection_made", "pause_writing", "connection_lost"]

    run(main())


def test_reset_while_paused_and_writing(run):
    async def main():
        async with connection(small=True) as (transport, protocol, peer):
            transport.pause_reading()
            transport.write(b"x" * 1_000_000)
            reset(peer)
            assert isinstance(await protocol.lost(), ConnectionError)

    run(main())


def test_reset_while_paused(run):
    async def main():
        async with connection() as (transport, protocol, peer):
            transport.pause_reading()
            reset(peer)
            await settled()
            assert protocol.names() == ["connection_made"]
            transport.resume_reading()
            assert isinstance(await protocol.lost(), ConnectionResetError)

    run(main())


def test_reset_while_closing(run):
    async def main():
        async with connection(small=True) as (transport, protocol, peer):
            transport.write(b"x" * 1_000_000)
            transport.close()
            reset(peer)
            assert isinstance(await protocol.lost(), ConnectionError)
            assert protocol.names() == ["connection_made", "pause_writing", "connection_lost"]

    run(main())


def test_reset_after_write_eof(run):
    async def main():
        async with connection() as (transport, protocol, peer):
            transport.write_eof()
            assert await receive_all(peer) == b""
            reset(peer)
            assert isinstance(await protocol.lost(), ConnectionResetError)

    run(main())


def test_reset_after_write_eof_with_a_queue(run):
    async def main():
        async with connection(small=True) as (transport, protocol, peer):
            transport.write(b"x" * 1_000_000)
            transport.write_eof()
            reset(peer)
            assert isinstance(await protocol.lost(), ConnectionError)

    run(main())


def test_reset_after_eof_kept_open(run):
    async def main():
        async with connection() as (transport, protocol, peer):
            protocol.keep_open = True
            peer.shutdown(socket.SHUT_WR)
            await protocol.until(lambda: "eof_received" in protocol.names())
            reset(peer)
            while not transport.is_closing():
                transport.write(b"x")
                await asyncio.sleep(0)
            assert isinstance(await protocol.lost(), ConnectionError)

    run(main())


def test_write_to_a_reset_connection(run):
    """The error is found by write() itself: it does not raise, the protocol is told once."""

    async def main():
        async with connection() as (transport, protocol, peer):
            transport.pause_reading()
            reset(peer)
            for _ in range(4):
                transport.write(b"x")
                transport.write(b"y")
            assert isinstance(await protocol.lost(), ConnectionError)
            await settled()
            assert protocol.names() == ["connection_made", "connection_lost"]

    run(main())


def test_write_eof_on_a_reset_connection(run):
    async def main():
        async with connection() as (transport, protocol, peer):
            transport.pause_reading()
            reset(peer)
            try:
                transport.write_eof()
            except OSError as exc:
                assert exc.errno == 107  # ENOTCONN, as asyncio
            transport.abort()
            await protocol.lost()

    run(main())


def test_reset_before_connection_made(loop):
    """The peer resets before the protocol has heard of the connection."""
    protocol = Recorder()

    async def main():
        with listener() as server:
            connecting = asyncio.ensure_future(loop.create_connection(lambda: protocol, *server.getsockname()))
            server.setblocking(False)
            peer, _ = await loop.sock_accept(server)
            reset(peer)
            with contextlib.suppress(ConnectionError):
                await connecting
                await protocol.lost()
        await settled()
        assert protocol.names() in ([], ["connection_made", "connection_lost"])

    loop.run_until_complete(main())


# ---- Descriptors -------------------------------------------------------------------------------


def test_a_number_that_is_in_use(run):
    """RuntimeError for a second transport or a reader on the same descriptor, as asyncio."""

    async def main():
        loop = asyncio.get_running_loop()
        async with connection() as (transport, protocol, peer):
            sock = transport._sock
            with pytest.raises(RuntimeError, match="is used by transport"):
                await loop.create_connection(Recorder, sock=sock)
            with pytest.raises(RuntimeError, match="is used by transport"):
                loop.add_reader(sock, print)
            with pytest.raises(RuntimeError, match="is used by transport"):
                await loop.sock_recv(sock, 1)
            peer.sendall(b"abc")
            await protocol.until(lambda: protocol.data == b"abc")

    run(main())


def test_socket_closed_behind_our_back(run):
    """The number goes to somebody else, whom we then neither close nor read from."""

    async def main():
        loop = asyncio.get_running_loop()
        ours, peer = socket.socketpair()
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        number = ours.fileno()
        ours.close()
        probe, other = socket.socketpair()
        assert number in (probe.fileno(), other.fileno())
        transport.abort()
        assert await protocol.lost() is None
        await settled()
        probe.sendall(b"abc")
        assert other.recv(10) == b"abc"
        for sock in (probe, other, peer):
            sock.close()

    run(main())


def test_closing_does_not_close_a_number_twice(run):
    """Transports: each descriptor has one owner; a probe that reuses the number finds it still open."""

    async def main():
        async with connection() as (transport, protocol, _):
            number = transport._sock_fd
            transport.get_extra_info("socket")
            transport.close()
            await protocol.lost()
            await settled()
            with pytest.raises(OSError):
                os.fstat(number)
            probe = os.dup2(0, number)
            transport.close()
            transport.abort()
            del transport
            gc.collect()
            os.fstat(probe)
            os.close(probe)

    run(main())
