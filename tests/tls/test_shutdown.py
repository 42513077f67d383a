"""The end of a TLS connection: said or cut, answered or not, from either end and in any state."""

import asyncio
import contextlib
import itertools
import os
import ssl

import impl
import pytest
from tls.support import Echo, begun, connected
from transports.support import Recorder, settled

ORDER = ["connection_made", "data_received", "eof_received", "connection_lost"]


def in_order(names):
    """Made, data*, eof?, lost."""
    found = [ORDER.index(name) for name in names if name in ORDER]
    return found == sorted(found) and names.count("connection_lost") <= 1 and names.count("eof_received") <= 1


def test_close_is_said(run, certs, side, version):
    """PITFALLS, TLS: the socket was closed before close_notify was written (python/cpython issue 74883)."""
    data = os.urandom(3_000_000)

    async def main():
        async with connected(certs, side, version=version) as (transport, protocol, peer):
            transport.write(data)
            transport.close()
            assert transport.is_closing()
            assert await peer.rest() == data  # and close_notify, or that would have raised
            await peer.raw(peer.notify())
            assert await peer.ended()
            assert await protocol.lost() is None
            assert in_order(protocol.names())

    run(main())


def test_close_answered_by_a_fin_alone(run, certs, side, version):
    """As most do: the peer has read close_notify, and closes."""

    async def main():
        async with connected(certs, side, version=version) as (transport, protocol, peer):
            transport.close()
            assert await peer.read() == b""
            peer.close()
            assert await protocol.lost() is None

    run(main())


def test_unanswered_close(run, certs, side, version):
    """PITFALLS, TLS: waited for ever for a peer that never answers (python/cpython PRs 2269 and 4402, bpo-29406)."""

    async def main():
        async with connected(certs, side, version=version, ssl_shutdown_timeout=0.05) as (transport, protocol, peer):
            transport.close()
            assert await peer.read() == b""
            exc = await protocol.lost()
            assert exc is None or (isinstance(exc, TimeoutError) and str(exc) == "SSL shutdown timed out")
            await peer.ended()
            assert protocol.names()[-1] == "connection_lost"

    run(main())


def test_close_while_the_peer_takes_nothing(run, certs, side):
    """The data is not out yet when the time for the shutdown is over."""

    async def main():
        kwargs = {"ssl_shutdown_timeout": 0.05, "small": True}
        async with connected(certs, side, **kwargs) as (transport, protocol, peer):
            transport.write(bytes(8_000_000))
            transport.close()
            await protocol.lost()
            assert protocol.names().count("connection_lost") == 1

    run(main())


def test_the_peer_closes(run, certs, side, version):
    """It is answered with a close_notify, too."""

    async def main():
        async with connected(certs, side, version=version) as (transport, protocol, peer):
            await peer.raw(peer.sealed(b"last words") + peer.notify())
            assert await peer.rest() == b""
            assert await peer.ended()
            assert await protocol.lost() is None
            assert transport.is_closing()
            assert protocol.data == b"last words"
            assert protocol.names() == ORDER

    run(main())


@pytest.mark.parametrize("how", ["close_notify", "fin"])
def test_the_peer_closes_before_it_reads(run, certs, side, version, how):
    """What we had written by then still goes out, all of it, and then our close_notify."""
    data = os.urandom(4_000_000)

    async def main():
        async with connected(certs, side, version=version, small=True) as (transport, protocol, peer):
            transport.write(data)
            if how == "fin":
                peer.sock.shutdown(1)
            else:
                await peer.raw(peer.notify())
            await protocol.until(lambda: "eof_received" in protocol.names())
            received = b""
            with contextlib.suppress(ssl.SSLEOFError):
                while chunk := await peer.read():
                    received += chunk
            assert received == data
            await protocol.lost()

    run(main())


@pytest.mark.parametrize("keep_open", [False, True])
def test_the_answer_in_eof_received(run, certs, side, keep_open, caplog):
    """A half-closed connection is nothing that TLS as asyncio has it knows: what eof_received() returns changes nothing."""

    async def main():
        async with connected(certs, side) as (transport, protocol, peer):
            protocol.keep_open = keep_open
            await peer.raw(peer.notify())
            assert await peer.rest() == b""
            assert await protocol.lost() is None
            assert protocol.names() == ["connection_made", "eof_received", "connection_lost"]

    run(main())


def test_cut(run, certs, side, version):
    """A FIN without a close_notify: the data before it counts, and the connection is over."""

    async def main():
        async with connected(certs, side, version=version) as (transport, protocol, peer):
            await peer.send(b"cut off he")
            peer.close()
            await protocol.lost()
            assert protocol.data == b"cut off he"
            assert in_order(protocol.names())
            assert protocol.names()[-1] == "connection_lost"

    run(main())


def test_cut_within_a_record(run, certs, side, version):
    """Nothing of a record is believed that did not come whole."""

    async def main():
        for at in (0, 1, 4, 5, 6, 20, 40):
            async with connected(certs, side, version=version) as (transport, protocol, peer):
                whole, half = peer.sealed(b"whole"), peer.sealed(b"half of it")
                await peer.raw(whole + half[:at])
                peer.close()
                await protocol.lost()
                assert protocol.data == (b"whole" if at < len(half) else b"wholehalf of it")
                assert protocol.names().count("connection_lost") == 1

    run(main())


def test_reset(run, certs, side, version):
    async def main():
        async with connected(certs, side, version=version) as (transport, protocol, peer):
            peer.reset()
            assert isinstance(await protocol.lost(), ConnectionResetError)
            assert protocol.names() == ["connection_made", "connection_lost"]

    run(main())


@pytest.mark.parametrize("what", ["bit", "clear text", "alert"])
def test_damaged_records(run, certs, side, version, what):
    async def main():
        async with connected(certs, side, version=version) as (transport, protocol, peer):
            await peer.send(b"good")
            await protocol.until(lambda: protocol.data == b"good")
            record = bytearray(peer.sealed(b"changed on the way"))
            record[-3] ^= 4
            await peer.raw(
                {
                    "bit": bytes(record),
                    "clear text": b"GET / HTTP/1.1\r\n\r\n",
                    "alert": b"\x15\x03\x03\x00\x02\x02\x0a",
                }[what]
            )
            assert isinstance(await protocol.lost(), ssl.SSLError)
            assert protocol.data == b"good"
            assert in_order(protocol.names())
            await peer.ended()

    run(main())


@pytest.mark.parametrize("end", ["fin", "nothing"])
@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("buffered", [0, 100_000])
def test_data_and_the_end_in_one_segment(run, certs, side, version, end, paused, buffered):
    """PITFALLS, TLS: data decrypted or pending at EOF during flushing, or while the app had paused reading, was thrown away
    (uvloop commit 6476aad, PR 661). buffered: bytes of ours still to be sent."""
    data = os.urandom(50_000)

    async def main():
        async with connected(certs, side, version=version) as (transport, protocol, peer):
            if paused:
                transport.pause_reading()
            transport.write(bytes(buffered)) if buffered else None
            await peer.raw(peer.sealed(data) + peer.notify())
            if end == "fin":
                peer.sock.shutdown(1)
            if paused:
                for _ in range(50):
                    await asyncio.sleep(0)
                assert protocol.data == b""
                assert "eof_received" not in protocol.names()
                transport.resume_reading()
            with contextlib.suppress(ssl.SSLError):
                await peer.rest()
            await protocol.lost()
            assert protocol.data == data
            assert in_order(protocol.names())
            assert "eof_received" in protocol.names()

    run(main())


def test_cut_while_paused(run, certs, side, version):
    """The same, the end not even said."""
    data = os.urandom(50_000)

    async def main():
        async with connected(certs, side, version=version) as (transport, protocol, peer):
            transport.pause_reading()
            await peer.raw(peer.sealed(data))
            peer.sock.shutdown(1)
            for _ in range(50):
                await asyncio.sleep(0)
            assert protocol.data == b""
            transport.resume_reading()
            await protocol.lost()
            assert protocol.data == data

    run(main())


@pytest.mark.parametrize("paused", [False, True])
def test_close_while_the_peer_keeps_sending(run, certs, side, version, paused):
    """PITFALLS, TLS: closing a transport while the peer keeps sending went on reading until the shutdown timeout (uvloop issue
    471; aio-libs/aiohttp issue 6762)."""

    async def main():
        async with connected(certs, side, version=version) as (transport, protocol, peer):
            loop = asyncio.get_running_loop()
            await peer.send(bytes(100_000))
            await protocol.until(lambda: protocol.data)
            if paused:
                transport.pause_reading()
            transport.close()
            told = len(protocol.data)
            began = loop.time()

            async def pour():
                """Never reads, never ends by itself: how much of it was taken."""
                count = 0
                chunk = bytes(16384)
                with contextlib.suppress(ConnectionError):
                    while True:
                        await peer.raw(peer.sealed(chunk))
                        count += len(chunk)
                return count

            pouring = asyncio.ensure_future(pour())
            await protocol.lost()
            taken = await pouring
            assert loop.time() - began < 10  # of the 30 that a shutdown may take
            assert taken < 30_000_000
            if impl.IS_COROLLA:
                assert len(protocol.data) == told  # asyncio hands on what it has decrypted

    run(main())


# ---- close() and abort() -----------------------------------------------------------------------


@pytest.mark.parametrize("first", ["close", "abort"])
@pytest.mark.parametrize("second", ["close", "abort"])
@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_ended_twice(run, certs, side, first, second, steps):
    async def main():
        async with connected(certs, side) as (transport, protocol, peer):
            transport.write(b"something")
            getattr(transport, first)()
            for _ in range(steps):
                await asyncio.sleep(0)
            getattr(transport, second)()
            getattr(transport, second)()
            peer.close()
            await protocol.lost()
            await settled()
            assert protocol.names().count("connection_lost") == 1
            transport.close()
            transport.abort()
            await settled()
            assert protocol.names().count("connection_lost") == 1

    run(main())


@pytest.mark.parametrize("state", ["open", "backlog", "paused", "flushing", "shutdown", "peer closed"])
def test_abort_in_any_state(run, certs, side, version, state):
    async def main():
        async with connected(certs, side, version=version, small=state in ("backlog", "flushing")) as connection:
            transport, protocol, peer = connection
            if state in ("backlog", "flushing"):
                transport.write(bytes(6_000_000))
            if state == "paused":
                transport.pause_reading()
                await peer.send(b"unread")
            if state in ("flushing", "shutdown"):
                transport.close()
            if state == "shutdown":
                assert await peer.read() == b""
            if state == "peer closed":
                await peer.raw(peer.sealed(b"x") + peer.notify())
                await protocol.until(lambda: "eof_received" in protocol.names())
            transport.abort()
            assert transport.is_closing()
            assert await protocol.lost() is None
            assert protocol.names().count("connection_lost") == 1
            if state not in ("backlog", "flushing"):
                await peer.ended()

    run(main())


def test_after_the_end(run, certs, side):
    """PITFALLS, transports: write() on a closing or lost transport raised (uvloop issues 506, 68)."""

    async def main():
        async with connected(certs, side) as (transport, protocol, peer):
            transport.close()
            transport.write(b"dropped")
            transport.writelines([b"dropped", b"too"])
            with pytest.raises(TypeError):
                transport.write("text")
            assert await peer.rest() == b""
            peer.close()
            await protocol.lost()
            for _ in range(10):
                transport.write(b"dropped")
            transport.writelines([b"dropped"])
            transport.pause_reading()
            transport.resume_reading()
            transport.close()
            transport.abort()
            assert transport.is_closing()
            await settled()
            assert protocol.names().count("connection_lost") == 1

    # What asyncio's transport does when it is used after it is lost is an AttributeError here and there.
    if not impl.IS_COROLLA:
        pytest.skip("asyncio's transport has lost its parts by then")
    run(main())


def test_write_eof(run, certs, side):
    async def main():
        async with connected(certs, side) as (transport, protocol, peer):
            assert transport.can_write_eof() is False
            with pytest.raises(NotImplementedError):
                transport.write_eof()
            transport.write(b"still open")
            assert await peer.exactly(10) == b"still open"

    run(main())


# ---- from within callbacks ---------------------------------------------------------------------

ACTIONS = ["close", "abort", "write", "pause", "raise"]
CALLBACKS = ["connection_made", "data_received", "eof_received", "pause_writing", "resume_writing"]


@pytest.mark.parametrize(("callback", "action"), list(itertools.product(CALLBACKS, ACTIONS)))
def test_in_callbacks(run, certs, side, callback, action, reports):
    """PITFALLS, transports: re-entrancy of flow control (python/cpython issue 156512; Kludex/zuvloop commits bca66f4, e1b5a67).
    connection_lost() comes once, and last."""

    class Acting(Recorder):
        def act(self, name):
            if name != callback or self.acted:
                return
            self.acted = True
            if action == "close":
                self.transport.close()
            elif action == "abort":
                self.transport.abort()
            elif action == "write":
                self.transport.write(bytes(300_000))
            elif action == "pause":
                self.transport.pause_reading()
                asyncio.get_running_loop().call_soon(self.transport.resume_reading)
            else:
                raise ValueError("on purpose")

        acted = False

        def connection_made(self, transport):
            transport.set_write_buffer_limits(200_000)
            super().connection_made(transport)
            self.act("connection_made")

        def data_received(self, data):
            super().data_received(data)
            self.act("data_received")

        def eof_received(self):
            super().eof_received()
            self.act("eof_received")

        def pause_writing(self):
            super().pause_writing()
            self.act("pause_writing")

        def resume_writing(self):
            super().resume_writing()
            self.act("resume_writing")

    async def main():
        async with begun(certs, side, Acting, small=True) as (task, peer):
            try:
                await peer.handshake()
                transport, protocol = await task
            except (OSError, ValueError):
                assert callback == "connection_made"
                assert action in ("abort", "raise", "close")
                return
            transport.write(bytes(4_000_000))
            transport.write(bytes(1_000_000))
            reading = asyncio.ensure_future(peer.rest())
            with contextlib.suppress(OSError, ssl.SSLError):
                await peer.send(b"data")
            if callback in ("pause_writing", "resume_writing", "connection_made"):
                await protocol.until(lambda: protocol.acted or "connection_lost" in protocol.names())
            else:
                with contextlib.suppress(OSError, ssl.SSLError):
                    await peer.raw(peer.notify())
            lost = "connection_lost" in protocol.names()
            if not lost and protocol.acted and action in ("write", "pause", "raise"):
                transport.close()
            with contextlib.suppress(OSError, ssl.SSLError):
                await reading
            peer.close()
            await protocol.lost()
            await settled()
            names = protocol.names()
            assert names[-1] == "connection_lost"
            assert names.count("connection_lost") == 1
            flow = [name for name in names if name in ("pause_writing", "resume_writing")]
            assert all(a != b for a, b in itertools.pairwise(flow))

    run(main())
    for context in reports:
        # asyncio's own transport stumbles where it is aborted in resume_writing().
        assert isinstance(context["exception"], ValueError | ssl.SSLError) or not impl.IS_COROLLA, context
    reports.clear()


@pytest.mark.parametrize("buffered", [False, True])
def test_data_received_raises(run, certs, side, buffered, reports):
    """PITFALLS, transports: an exception in data_received() was reported but the transport kept feeding data (Kludex/zuvloop
    commit 8a4e31c)."""
    error = ValueError("on purpose")
    if buffered and not impl.IS_COROLLA:
        pytest.skip("asyncio goes on to hand the rest to a BufferedProtocol")

    class Raising(Recorder):
        def data_received(self, data):
            super().data_received(data)
            raise error

    class RaisingBuffered(Recorder, asyncio.BufferedProtocol):
        def get_buffer(self, sizehint):
            return memoryview(bytearray(4))

        def buffer_updated(self, nbytes):
            self.note("data_received", bytes(nbytes))
            raise error

    async def main():
        async with connected(certs, side, RaisingBuffered if buffered else Raising) as (transport, protocol, peer):
            await peer.send(b"first")
            with contextlib.suppress(OSError):
                await peer.send(b"second")
            assert await protocol.lost() is error
            assert protocol.names() == ["connection_made", "data_received", "connection_lost"]
            await peer.ended()

    run(main())
    assert reports.pop()["exception"] is error


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_interrupted(run, loop, certs, side, kind):
    """PITFALLS, transports: KeyboardInterrupt and SystemExit were swallowed (Kludex/zuvloop commit 8a4e31c)."""

    class Raising(Recorder):
        def data_received(self, data):
            super().data_received(data)
            raise kind

    async def main():
        async with connected(certs, side, Raising) as (transport, protocol, peer):
            await peer.send(b"first")
            await protocol.lost()

    task = loop.create_task(main())
    with pytest.raises(kind):
        loop.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        run(task)
    run(settled())


def test_echo_until_the_end(run, certs, side, version):
    """A protocol that answers everything, the end coming right behind the question."""
    data = os.urandom(400_000)

    async def main():
        async with connected(certs, side, Echo, version) as (transport, protocol, peer):
            await peer.raw(peer.sealed(data))
            assert await peer.exactly(len(data)) == data
            await peer.raw(peer.notify())
            assert await peer.rest() == b""
            assert await protocol.lost() is None

    run(main())
