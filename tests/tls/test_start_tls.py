"""start_tls(): clear text first, then TLS, on either side; TLS within TLS; and what was there before TLS began."""

import asyncio
import asyncio.sslproto
import contextlib
import os
import socket
import ssl

import impl
import pytest
from tls.support import NAME, Echo, Peer, other, serving, socket_pair
from transports.support import HOST, BufferedRecorder, Recorder, settled


@contextlib.asynccontextmanager
async def clear(certs, side, factory=Recorder, unix=False):
    """(transport, protocol, peer), connected in clear text; the peer has a TLS of its own to begin when it is told to."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair() if unix else socket_pair()
    ours.setblocking(False)
    if side == "server":
        transport, protocol = await loop.connect_accepted_socket(factory, ours)
    elif unix:
        transport, protocol = await loop.create_unix_connection(factory, sock=ours)
    else:
        transport, protocol = await loop.create_connection(factory, sock=ours)
    peer = Peer(theirs, certs.context(other(side)), other(side))
    try:
        yield transport, protocol, peer
    finally:
        peer.close()
        transport.abort()
        await settled()


def upgrading(certs, side, transport, protocol, **kwargs):
    name = None if side == "server" else NAME
    context = certs.context(side)
    loop = asyncio.get_running_loop()
    return loop.start_tls(transport, protocol, context, server_side=side == "server", server_hostname=name, **kwargs)


@pytest.mark.parametrize("unix", [False, True])
def test_start_tls(run, certs, side, unix):
    """The protocol goes on: it is told of no new connection, and gets what comes decrypted."""

    async def main():
        async with clear(certs, side, unix=unix) as (transport, protocol, peer):
            await peer.raw(b"clear")
            await protocol.until(lambda: protocol.data == b"clear")
            transport.write(b"CLEAR")
            assert await peer.loop.sock_recv(peer.sock, 5) == b"CLEAR"
            upgraded, _ = await asyncio.gather(upgrading(certs, side, transport, protocol), peer.handshake())
            assert upgraded is not transport
            assert upgraded.get_protocol() is protocol
            upgraded.write(b"sealed")
            assert await peer.exactly(6) == b"sealed"
            await peer.send(b"SEALED")
            await protocol.until(lambda: protocol.data == b"clearSEALED")
            assert upgraded.get_extra_info("ssl_object").version() == "TLSv1.3"
            assert upgraded.get_extra_info("sockname") == transport.get_extra_info("sockname")
            upgraded.close()
            assert await peer.read() == b""
            peer.close()
            await protocol.lost()
            assert protocol.names().count("connection_made") == 1
            assert protocol.names().count("connection_lost") == 1

    run(main())


def test_another_protocol(run, certs, side):
    """As with start_tls() on a transport whose protocol is changed at the same time (python/cpython issue 77835): from Protocol to
    BufferedProtocol."""

    async def main():
        async with clear(certs, side) as (transport, first, peer):
            second = BufferedRecorder(3)
            upgraded, _ = await asyncio.gather(upgrading(certs, side, transport, second), peer.handshake())
            await peer.send(b"for the second")
            await second.until(lambda: second.data == b"for the second")
            assert first.data == b""
            third = Recorder()
            upgraded.set_protocol(third)
            await peer.send(b"for the third")
            await third.until(lambda: third.data == b"for the third")
            upgraded.abort()
            await third.lost()

    run(main())


@pytest.mark.parametrize("paused", [False, True])
def test_data_in_flight(run, certs, side, paused):
    """What was written before goes out in clear text, before the handshake; reading that was paused goes on."""

    async def main():
        async with clear(certs, side) as (transport, protocol, peer):
            if paused:
                transport.pause_reading()
            transport.write(bytes(2_000_000))
            task = asyncio.ensure_future(upgrading(certs, side, transport, protocol))
            received = 0
            while received < 2_000_000:
                received += len(await peer.loop.sock_recv(peer.sock, min(65536, 2_000_000 - received)))
            await peer.handshake()
            upgraded = await task
            await peer.send(b"x")
            await protocol.until(lambda: protocol.data == b"x")
            upgraded.abort()
            await protocol.lost()

    run(main())


@pytest.mark.parametrize("what", ["fin", "garbage", "timeout", "cancel", "abort", "certificate"])
def test_failures(run, certs, side, what):
    async def main():
        async with clear(certs, side) as (transport, protocol, peer):
            kwargs = {"ssl_handshake_timeout": 0.05} if what == "timeout" else {}
            task = asyncio.ensure_future(upgrading(certs, side, transport, protocol, **kwargs))
            await settled()
            expected = OSError
            if what == "fin":
                peer.sock.shutdown(1)
            elif what == "garbage":
                await peer.raw(b"\0" * 1000)
            elif what == "timeout":
                expected = ConnectionAbortedError
            elif what == "cancel":
                expected = asyncio.CancelledError
                task.cancel()
            elif what == "abort":
                transport.abort()
            else:
                server = certs.server("wronghost")
                peer = Peer(peer.sock, certs.client() if side == "server" else server, other(side))
                if side == "server":
                    peer.tls = certs.client().wrap_bio(
                        peer.incoming, peer.outgoing, server_hostname="elsewhere.example"
                    )
                with contextlib.suppress(ssl.SSLError):
                    await peer.handshake()
                peer.close()
            if what == "abort" and not impl.IS_COROLLA:
                await settled()
                task.cancel()
                expected = None
            if what == "certificate" and side == "server":
                # The client does not like it, and a server may be done by then.
                with contextlib.suppress(OSError):
                    (await task).abort()
            elif expected is None:
                await asyncio.gather(task, return_exceptions=True)
            else:
                with pytest.raises(expected):
                    await task
            if what != "certificate":
                await peer.ended()
            await settled()
            assert transport.is_closing()
            assert protocol.data == b""
            assert protocol.names().count("connection_lost") <= 1

    run(main())


def test_arguments(run, certs):
    async def main():
        loop = asyncio.get_running_loop()
        async with clear(certs, "client") as (transport, protocol, peer):
            for wrong in (None, True, object()):
                with pytest.raises(
                    TypeError, match="^sslcontext is expected to be an instance of ssl.SSLContext, got "
                ):
                    await loop.start_tls(transport, protocol, wrong)
            for wrong in (0, -1):
                with pytest.raises(ValueError, match="^ssl_handshake_timeout should be a positive number, got "):
                    await loop.start_tls(transport, protocol, certs.client(), ssl_handshake_timeout=wrong)
                with pytest.raises(ValueError, match="^ssl_shutdown_timeout should be a positive number, got "):
                    await loop.start_tls(transport, protocol, certs.client(), ssl_shutdown_timeout=wrong)
            with pytest.raises(TypeError, match="is not supported by start_tls"):
                await loop.start_tls(asyncio.Transport(), protocol, certs.client())
            # Nothing of that did anything to the connection.
            await peer.raw(b"clear")
            await protocol.until(lambda: protocol.data == b"clear")

    run(main())


@pytest.mark.parametrize("end", ["close", "abort", "garbage", "fin"])
def test_asyncio_s_own_protocol_on_ours(run, certs, side, end):
    """Some programs, aiosmtpd and older Tornado among them, make an asyncio.sslproto.SSLProtocol themselves and put it on
    whatever transport they have."""

    async def main():
        loop = asyncio.get_running_loop()
        async with clear(certs, side) as (transport, protocol, peer):
            name = None if side == "server" else NAME
            tls = asyncio.sslproto.SSLProtocol(
                loop, protocol, certs.context(side), None, side == "server", server_hostname=name
            )
            transport.set_protocol(tls)
            tls.connection_made(transport)
            await peer.handshake()
            await peer.send(b"hello")
            await protocol.until(lambda: protocol.data == b"hello")
            over = tls._get_app_transport()
            over.write(b"HELLO")
            assert await peer.exactly(5) == b"HELLO"
            if end == "garbage":
                await peer.raw(bytes(100))
            elif end == "fin":
                peer.sock.shutdown(1)
            else:
                getattr(over, end)()
                if end == "close":
                    assert await peer.read() == b""
                    peer.close()
            exc = await protocol.lost()
            assert isinstance(exc, ssl.SSLError) if end == "garbage" else exc is None

    run(main())


# ---- what was received before ------------------------------------------------------------------


@contextlib.asynccontextmanager
async def streams(serve):
    done = asyncio.get_running_loop().create_future()

    async def serving(reader, writer):
        try:
            result = await serve(reader, writer)
        except Exception as exc:
            done.set_exception(exc)
        else:
            done.set_result(result)
        finally:
            writer.close()
            with contextlib.suppress(Exception):
                await writer.wait_closed()

    server = await impl.api.start_server(serving, HOST, 0)
    sock = socket.create_connection(server.sockets[0].getsockname())
    try:
        yield sock, done
    finally:
        sock.close()
        server.close()
        await server.wait_closed()
        await settled()


@impl.beyond_stdlib("its reader keeps what came before TLS began", until=(3, 15))
@pytest.mark.parametrize("cut", [None, 1, 5, 100])
def test_hello_in_the_segment_of_the_last_line(run, certs, cut):
    """PITFALLS, TLS: bytes already buffered in the StreamReader, a ClientHello right behind a PROXY header, were not passed to TLS
    by start_tls(), so the handshake hung (python/cpython issue 142352; uvloop issue 707; Kludex/zuvloop commit 920fcb7)."""

    async def main():
        async def serve(reader, writer):
            assert await reader.readline() == b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
            await writer.start_tls(certs.server())
            writer.write(await reader.readexactly(5))
            await writer.drain()

        async with streams(serve) as (sock, done):
            peer = Peer(sock, certs.client(), "client")
            flight = await peer.flight()
            await peer.raw(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + flight[:cut])
            if cut is not None:
                await settled()
                await peer.raw(flight[cut:])
            await peer.handshake()
            await peer.send(b"hello")
            assert await peer.exactly(5) == b"hello"
            await done

    run(main())


@impl.beyond_stdlib("its reader keeps what came before TLS began", until=(3, 15))
@pytest.mark.parametrize("separate", [False, True])
def test_clear_text_does_not_get_into_the_session(run, certs, separate):
    """The STARTTLS command injection: a line that somebody put behind STARTTLS, in clear text, must not be read as if it had come
    within TLS. Here it spoils the handshake."""

    async def main():
        async def serve(reader, writer):
            assert await reader.readline() == b"STARTTLS\r\n"
            try:
                await writer.start_tls(certs.server())
            except (OSError, RuntimeError) as exc:
                return exc
            return await reader.readline()

        async with streams(serve) as (sock, done):
            peer = Peer(sock, certs.client(), "client")
            flight = await peer.flight()
            await peer.raw(b"STARTTLS\r\nRCPT TO:<victim>\r\n" + (b"" if separate else flight))
            await settled()
            with contextlib.suppress(ssl.SSLError, OSError):
                await peer.raw(flight if separate else b"")
                await peer.handshake()
                await peer.send(b"DATA within\r\n")
            result = await done
            assert isinstance(result, Exception) or result == b"DATA within\r\n"

    run(main())


@pytest.mark.parametrize("split", [0, 1, 9, None])
def test_clear_text_client_gets_nothing_before_tls(run, certs, split):
    """The same for a client whose server, or someone in between, sends clear text behind its "go ahead"."""

    async def main():
        loop = asyncio.get_running_loop()
        async with clear(certs, "client") as (transport, protocol, peer):
            line = b"250 injected\r\n"
            task = asyncio.ensure_future(upgrading(certs, "client", transport, protocol))
            hello = await loop.sock_recv(peer.sock, 65536)
            peer.incoming.write(hello)
            await peer.raw(line[:split])
            await settled()
            with contextlib.suppress(OSError):
                await peer.raw(line[len(line[:split]) :])
            with contextlib.suppress(OSError):  # it has seen enough and is gone
                peer.sock.shutdown(1)
            with pytest.raises(OSError):
                await task
            assert protocol.data == b""

    run(main())


def test_writer_start_tls(run, certs):
    """Both ends by streams: clear text, then TLS, and everything in order."""

    async def main():
        async def serve(reader, writer):
            assert await reader.readline() == b"STARTTLS\n"
            writer.write(b"go\n")
            await writer.drain()
            await writer.start_tls(certs.server())
            assert writer.get_extra_info("ssl_object") is not None
            writer.write((await reader.readline()).upper())
            await writer.drain()
            assert await reader.read() == b""
            done.set_result(None)
            writer.close()
            await writer.wait_closed()

        done = asyncio.get_running_loop().create_future()
        server = await impl.api.start_server(serve, HOST, 0)
        reader, writer = await impl.api.open_connection(*server.sockets[0].getsockname())
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"go\n"
        await writer.start_tls(certs.client(), server_hostname=NAME)
        writer.write(b"hello\n")
        assert await reader.readline() == b"HELLO\n"
        writer.close()
        await writer.wait_closed()
        await done
        server.close()
        await server.wait_closed()

    run(main())


@impl.beyond_stdlib("its reader keeps what came before TLS began", until=(3, 15))
def test_line_awaited_meanwhile(run, certs):
    """A readline() that had looked through the first bytes of the ClientHello begins anew with what comes decrypted."""

    async def main():
        async def serve(reader, writer):
            line = asyncio.ensure_future(reader.readline())
            await settled()
            started.set()
            await begin.wait()
            await writer.start_tls(certs.server())
            return await line, await reader.readline()

        started, begin = asyncio.Event(), asyncio.Event()
        async with streams(serve) as (sock, done):
            await started.wait()
            peer = Peer(sock, certs.client(), "client")
            flight = await peer.flight()
            await peer.raw(flight[:5])
            await settled()
            begin.set()
            await settled()
            await peer.raw(flight[5:])
            await peer.handshake()
            await peer.send(b"a\nb\n")
            assert await asyncio.wait_for(done, 10) == (b"a\n", b"b\n")

    run(main())


@impl.beyond_stdlib("it warns: its protocol is told that it is over TLS when start_tls() has returned")
def test_end_in_the_last_flight(run, certs, caplog):
    """The peer's last flight, its only data and its close_notify in one segment: the streams know by then that it is TLS, which has
    no half-closed connections."""

    async def main():
        async def serve(reader, writer):
            await writer.start_tls(certs.server())
            return await reader.read()

        async with streams(serve) as (sock, done):
            peer = Peer(sock, certs.client(), "client")
            await peer.raw(await peer.flight())
            await peer.raw(await peer.flight() + peer.sealed(b"all") + peer.notify())
            assert await asyncio.wait_for(done, 10) == b"all"

    run(main())
    assert "eof_received" not in caplog.text


@impl.beyond_stdlib("it lets two handshakes spoil each other")
def test_twice_at_once(run, certs, side):
    async def main():
        async with clear(certs, side) as (transport, protocol, peer):
            first = asyncio.ensure_future(upgrading(certs, side, transport, protocol))
            await settled()
            with pytest.raises(RuntimeError, match="^TLS has begun on this transport already"):
                await upgrading(certs, side, transport, protocol)
            upgraded, _ = await asyncio.gather(first, peer.handshake())
            upgraded.write(b"sealed")
            assert await peer.exactly(6) == b"sealed"
            upgraded.close()
            assert await peer.read() == b""
            peer.close()
            await protocol.lost()

    run(main())


class Failing(asyncio.Transport):
    """A transport of somebody's that raises in some of its methods, and has no connection_lost() to call then."""

    _start_tls_compatible = True

    def __init__(self, failing):
        super().__init__()
        self.failing, self.protocol, self.lost = failing, None, False

    def _call(self, name):
        if name in self.failing:
            raise ZeroDivisionError(name)

    def get_protocol(self):
        self._call("get_protocol")

    def set_protocol(self, protocol):
        self._call("set_protocol")
        self.protocol = protocol

    def pause_reading(self):
        self._call("pause_reading")

    def resume_reading(self):
        self._call("resume_reading")

    def is_closing(self):
        self._call("is_closing")
        return self.lost

    def write(self, data):
        self._call("write")

    def _force_close(self, exc):
        self._call("_force_close")
        if not self.lost and self.protocol is not None:
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, exc)
        self.lost = True

    def close(self):
        self._call("close")
        self._force_close(None)


@impl.beyond_stdlib("it waits for ever for some of them")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("also", [(), ("_force_close",), ("_force_close", "close")])
@pytest.mark.parametrize(
    "method", ["get_protocol", "pause_reading", "set_protocol", "resume_reading", "is_closing", "write"]
)
def test_transport_that_raises(run, certs, reports, method, also):
    """start_tls() raises what it was, whatever becomes of the attempt to close that transport; and the loop goes on."""

    async def main():
        loop = asyncio.get_running_loop()
        transport = Failing((method, *also))
        with pytest.raises(ZeroDivisionError, match=f"^{method}$"):
            await asyncio.wait_for(loop.start_tls(transport, Recorder(), certs.client(), server_hostname=NAME), 10)
        await settled()

    run(main())
    assert {str(context["exception"]) for context in reports} <= {method, "_force_close"}
    reports.clear()


# ---- TLS within TLS ----------------------------------------------------------------------------


class Inner:
    """A TLS session of its own, whose bytes go through another peer's."""

    def __init__(self, outer, context, side):
        self.outer = outer
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if side == "server" else NAME
        self.tls = context.wrap_bio(self.incoming, self.outgoing, side == "server", server_hostname=name)

    async def do(self, operation, *args):
        while True:
            try:
                result = operation(*args)
            except ssl.SSLWantReadError:
                await self.outer.send(self.outgoing.read())
                data = await self.outer.read()
                self.incoming.write(data) if data else self.incoming.write_eof()
            else:
                await self.outer.send(self.outgoing.read())
                return result


def test_tls_over_tls(run, certs, side):
    """As a client has to do for an https server behind an https proxy."""
    data = os.urandom(1_000_000)

    async def main():
        loop = asyncio.get_running_loop()
        async with clear(certs, side, Echo) as (transport, protocol, peer):
            outer, _ = await asyncio.gather(upgrading(certs, side, transport, protocol), peer.handshake())
            inner_peer = Inner(peer, certs.context(other(side), "1.2"), other(side))
            name = None if side == "server" else NAME
            inner, _ = await asyncio.gather(
                loop.start_tls(
                    outer, protocol, certs.context(side), server_side=side == "server", server_hostname=name
                ),
                inner_peer.do(inner_peer.tls.do_handshake),
            )
            protocol.transport = inner
            assert inner.get_extra_info("ssl_object").version() == "TLSv1.2"
            assert outer.get_extra_info("ssl_object").version() == "TLSv1.3"
            assert inner.get_extra_info("peername") == transport.get_extra_info("peername")

            sent = 0
            received = bytearray()
            while len(received) < len(data):
                if sent < len(data):
                    await inner_peer.do(inner_peer.tls.write, data[sent : sent + 50000])
                    sent += 50000
                received += await inner_peer.do(inner_peer.tls.read, 65536)
            assert received == data
            inner.close()
            assert await inner_peer.do(inner_peer.tls.read, 1) == b""
            peer.close()
            await protocol.lost()
            assert protocol.names().count("connection_lost") == 1

    run(main())


def test_tls_over_tls_both_ours(run, certs):
    """A proxy that answers within TLS and passes everything on, an https server behind it, and a client that goes through."""

    class Proxy(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            self.behind = None

        def data_received(self, data):
            super().data_received(data)
            if self.behind is None:
                port = int(data.split(b" ")[1])
                self.behind = asyncio.ensure_future(self.connect(port))
            else:
                self.onward.transport.write(data)

        async def connect(self, port):
            _, self.onward = await asyncio.get_running_loop().create_connection(lambda: Back(self), HOST, port)
            self.transport.write(b"200 go ahead")

        def connection_lost(self, exc):
            super().connection_lost(exc)
            self.onward.transport.close()

    class Back(Recorder):
        def __init__(self, front):
            super().__init__()
            self.front = front

        def data_received(self, data):
            self.front.transport.write(data)

        def connection_lost(self, exc):
            super().connection_lost(exc)
            self.front.transport.close()

    async def main():
        loop = asyncio.get_running_loop()
        async with serving(certs.server(), Proxy) as proxy, serving(certs.server("second"), Echo) as service:
            first = Recorder()
            outer, _ = await loop.create_connection(
                lambda: first, HOST, proxy.port, ssl=certs.client(), server_hostname=NAME
            )
            outer.write(b"CONNECT %d" % service.port)
            await first.until(lambda: first.data == b"200 go ahead")
            second = Recorder()
            inner = await loop.start_tls(outer, second, certs.client(), server_hostname="second.example")
            data = os.urandom(500_000)
            inner.write(data)
            await second.until(lambda: len(second.data) == len(data))
            assert second.data == data
            inner.close()
            assert await second.lost() is None
            back = proxy.protocols[0].onward
            await back.lost()

    run(main())
