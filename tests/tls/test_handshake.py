"""The handshake: cut, disturbed and given up at every byte of it, and delivered in any pieces."""

import asyncio
import contextlib
import os
import socket
import ssl

import pytest
from impl import IS_COROLLA
from tls.support import NAME, SANITIZED, Echo, Peer, begun, opening, other, serving, socket_pair
from transports.support import HOST, Recorder, settled

ALERT = b"\x15\x03\x03\x00\x02\x02\x28"  # fatal: handshake_failure


def flights_of(side, version):
    """How many flights the peer has to send until the end under test is done."""
    return 1 if (side, version) == ("client", "1.3") else 2


async def lengths(certs, side, version):
    """Of the peer's flights, in bytes. Signatures differ by a byte or two from one handshake to the next."""
    found = []
    async with begun(certs, side, version=version) as (task, peer):
        for _ in range(flights_of(side, version)):
            found.append(len(flight := await peer.flight()))
            await peer.raw(flight)
        await task
    return found


def offsets(lengths, stride):
    """(flight, byte) to cut before: the first and the last bytes of each, and every stride-th."""
    for number, length in enumerate(lengths):
        edges = set() if SANITIZED else {*range(8), *range(length - 8, length)}
        yield from ((number, at) for at in sorted({*range(0, length, stride), *edges} - {-1}))


async def send_part(peer, number, at):
    """Everything before that byte of that flight. False: in this handshake it has no such byte."""
    for _ in range(number):
        await peer.raw(await peer.flight())
    flight = await peer.flight()
    if at >= len(flight):
        return False
    if at:
        await peer.raw(flight[:at])
    peer.unsent = flight[at:]
    return True


class Factory:
    """Makes recorders, which must be told nothing."""

    def __init__(self):
        self.made = []

    def __call__(self):
        self.made.append(Recorder())
        return self.made[-1]

    def untold(self):
        return [protocol.events for protocol in self.made] == [[]]


async def broken(certs, side, version, number, at, act):
    """The exception that the handshake ends with when act(peer) happens before that byte."""
    factory = Factory()
    async with begun(certs, side, factory, version) as (task, peer):
        if not await send_part(peer, number, at):
            return None
        await act(peer, task)
        with pytest.raises((OSError, asyncio.CancelledError)) as caught:
            await task
        await settled()
        assert factory.untold()
    return caught.value


async def fin(peer, task):
    peer.sock.shutdown(socket.SHUT_WR)


async def cut(peer, task):
    peer.close()


async def reset(peer, task):
    peer.reset()


async def garbage(peer, task):
    # Whatever length the record it lands in has, it ends; and its next byte is wrong.
    await peer.raw(bytes([peer.unsent[0] ^ 0x55]) + os.urandom(64) + bytes(32768))
    peer.sock.shutdown(socket.SHUT_WR)


async def alert(peer, task):
    await peer.raw(ALERT)
    peer.sock.shutdown(socket.SHUT_WR)


STRIDES = {fin: 1, cut: 13, reset: 7, garbage: 11, alert: 17}


@pytest.mark.parametrize("act", list(STRIDES))
def test_peer_breaks_off(run, certs, side, version, act):
    """PITFALLS, TLS: EOF or failure in the handshake did not wake the connecting coroutine (python/asyncio issue 472; uvloop PR
    308); connection_lost() came without connection_made() (uvloop issue 246)."""

    async def main():
        tried = 0
        stride = 40 if SANITIZED else STRIDES[act] * (3 if version == "1.2" else 1)
        for number, at in offsets(await lengths(certs, side, version), stride):
            exc = await broken(certs, side, version, number, at, act)
            if exc is None:
                continue
            tried += 1
            if act is fin:
                assert isinstance(exc, ConnectionResetError | ssl.SSLError), (number, at, exc)
            if act is alert and side == "client" and number == at == 0:
                assert isinstance(exc, ssl.SSLError)
                assert "HANDSHAKE_FAILURE" in str(exc)
        assert tried >= 3

    run(main())


def test_eof_is_a_connection_reset(run, certs, side, version):
    async def main():
        exc = await broken(certs, side, version, 0, 0, fin)
        assert type(exc) is ConnectionResetError

    run(main())


def test_timeout(run, certs, side, version):
    """At every hundredth byte, all at once."""

    async def act(peer, task):
        pass

    async def timed_out(number, at):
        factory = Factory()
        async with begun(certs, side, factory, version, ssl_handshake_timeout=0.05) as (task, peer):
            if not await send_part(peer, number, at):
                return
            with pytest.raises(
                ConnectionAbortedError,
                match="^SSL handshake is taking longer than 0.05 seconds: aborting the connection$",
            ):
                await task
            # What is gone is gone at once: no close_notify, and no reading on.
            await peer.ended()
            assert factory.untold()

    async def main():
        found = await lengths(certs, side, version)
        await asyncio.gather(*(timed_out(*place) for place in offsets(found, 100) if place[1] % 100 == 0))

    run(main())


def test_cancel(run, certs, side, version):
    """The socket is closed, and nobody hears of it."""

    async def act(peer, task):
        await settled()  # it has begun
        task.cancel()
        await peer.ended()

    async def main():
        for number, at in offsets(await lengths(certs, side, version), 400 if SANITIZED else 19):
            exc = await broken(certs, side, version, number, at, act)
            assert exc is None or isinstance(exc, asyncio.CancelledError)

    run(main())


@pytest.mark.parametrize("steps", range(1, 6))
def test_cancel_before_anything_is_sent(run, certs, side, steps):
    """In each of the turns in which the connection is set up."""

    async def main():
        factory = Factory()
        async with begun(certs, side, factory) as (task, peer):
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await peer.ended()
            assert all(protocol.events == [] for protocol in factory.made)

    run(main())


def test_a_byte_at_a_time(run, certs, side, version):
    async def main():
        async with begun(certs, side, Echo, version) as (task, peer):
            while not task.done() and (flight := await peer.flight()):
                await peer.trickle(flight)
            await peer.handshake()
            transport, protocol = await task
            await peer.trickle(peer.sealed(b"one byte at a time"))
            assert await peer.exactly(18) == b"one byte at a time"
            await peer.trickle(peer.notify())
            assert await peer.rest() == b""
            assert await protocol.lost() is None
            assert protocol.names() == ["connection_made", "data_received", "eof_received", "connection_lost"]

    run(main())


@pytest.mark.parametrize("size", [2, 3, 5, 64, 333, 1400])
def test_in_pieces(run, certs, side, version, size):
    async def main():
        async with begun(certs, side, Echo, version) as (task, peer):
            while not task.done() and (flight := await peer.flight()):
                await peer.trickle(flight, size)
            await peer.handshake()
            await task
            await peer.trickle(peer.sealed(bytes(20000)), max(size, 64))
            assert await peer.exactly(20000) == bytes(20000)

    run(main())


def test_data_in_the_segment_of_the_last_flight(run, certs, side, version):
    """The application hears of the connection first, then of the data, and nothing waits for another segment."""
    if (side, version) == ("client", "1.2"):
        pytest.skip("a TLS 1.2 server's last flight answers the client's; the client is done with it")

    async def main():
        async with begun(certs, side, Recorder, version) as (task, peer):
            if side == "client":
                # TLS 1.3 lets a server send with its first flight, before the client's Finished.
                first = await peer.flight()
                await peer.raw(first)
                await peer.handshake()
                await peer.raw(peer.sealed(b"at once") + peer.notify())
            else:
                await peer.raw(await peer.flight())
                last = await peer.flight()
                if version == "1.2":
                    await peer.raw(last)
                    await peer.handshake()
                    last = b""
                await peer.raw(last + peer.sealed(b"at once") + peer.notify())
                peer.sock.shutdown(socket.SHUT_WR)
            transport, protocol = await task
            await protocol.lost()
            assert protocol.data == b"at once"
            assert protocol.names() == ["connection_made", "data_received", "eof_received", "connection_lost"]

    run(main())


def test_hello_is_there_before_the_connection_is(run, certs, version):
    """PITFALLS, TLS: the handshake was started through call_soon, so data_received could come first (python/cpython issue 77855;
    uvloop commit 447e124)."""

    async def main():
        async with serving(certs.server(version=version), Echo) as service:
            sock = socket.create_connection((HOST, service.port))
            peer = Peer(sock, certs.client(version=version), "client")
            # All of it before the loop gets to accept.
            with pytest.raises(ssl.SSLWantReadError):
                peer.tls.do_handshake()
            sock.sendall(peer.outgoing.read())
            await peer.handshake()
            await peer.send(b"hello")
            assert await peer.exactly(5) == b"hello"
            peer.close()

    run(main())


def test_accepted_socket_that_has_its_hello(run, certs, version):
    """The same for connect_accepted_socket()."""

    async def main():
        ours, theirs = socket_pair()
        peer = Peer(theirs, certs.client(version=version), "client")
        await peer.raw(await peer.flight())
        transport, _ = (
            await asyncio.gather(opening(ours, certs.server(version=version), "server", Echo), peer.handshake())
        )[0]
        await peer.send(b"hello")
        assert await peer.exactly(5) == b"hello"
        transport.abort()
        peer.close()
        await settled()

    run(main())


def test_failed_handshakes_leave_the_server_serving(run, certs):
    """None of the protocols hears of any of it (uvloop issue 246), and the next client is served."""

    async def main():
        async with serving(certs.server(), Echo) as service:
            for what in (b"", b"GET / HTTP/1.1\r\n\r\n", ALERT, os.urandom(300), b"\x16\x03\x01\x40\x00" + bytes(200)):
                with socket.create_connection((HOST, service.port)) as sock:
                    peer = Peer(sock, certs.client(), "client")
                    await peer.raw(what) if what else None
                    sock.shutdown(socket.SHUT_WR)
                    await peer.ended()
            sock = socket.create_connection((HOST, service.port))
            peer = Peer(sock, certs.client(), "client")
            await peer.handshake()
            await peer.send(b"still here")
            assert await peer.exactly(10) == b"still here"
            peer.close()
            assert [protocol.events for protocol in service.protocols[:-1]] == [[]] * 5

    run(main())


def test_clear_text_client(run, certs):
    """A server that is spoken to in clear text says so in an alert before it closes."""

    async def main():
        async with serving(certs.server(), Echo) as service:
            with socket.create_connection((HOST, service.port)) as sock:
                sock.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(sock, b"GET / HTTP/1.1\r\nHost: example\r\n\r\n")
                try:
                    data = await loop.sock_recv(sock, 100)
                except ConnectionResetError:
                    data = b""
            assert data == b"" or data[0] == 0x15

    run(main())


@pytest.mark.parametrize("pausing", ["connection_made", "later"])
def test_pause_and_resume_around_the_handshake(run, certs, side, version, pausing):
    """What came with the handshake's last bytes is held back while the application has reading paused."""
    last = [("client", "1.3"), ("server", "1.2")]  # to say that it is finished
    if not IS_COROLLA and pausing == "connection_made" and (side, version) in last:
        pytest.skip("asyncio does not send the last of the handshake until reading is resumed")

    class Pausing(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            if pausing == "connection_made":
                transport.pause_reading()

    async def main():
        async with begun(certs, side, Pausing, version) as (task, peer):
            await peer.handshake()
            await peer.send(b"early")
            transport, protocol = await task
            if pausing == "later":
                await protocol.until(lambda: protocol.data == b"early")
                transport.pause_reading()
                await peer.send(b" bird")
            assert not transport.is_reading()
            # Enough turns for it to have come, had it been let.
            for _ in range(20):
                await asyncio.sleep(0)
            assert protocol.data == (b"early" if pausing == "later" else b"")
            transport.resume_reading()
            assert transport.is_reading()
            await protocol.until(lambda: protocol.data == (b"early bird" if pausing == "later" else b"early"))

    run(main())


@pytest.mark.parametrize("how", ["close", "abort"])
def test_ended_in_connection_made(run, certs, side, version, how):
    """PITFALLS, transports: a transport aborted in connection_made never woke the creation waiter (uvloop commits 87d4f11,
    c10d08f)."""

    class Ending(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            getattr(transport, how)()

    async def main():
        async with begun(certs, side, Ending, version) as (task, peer):
            if how == "close":
                await peer.handshake()
                assert await peer.read() == b""
                await peer.raw(peer.notify())
            else:
                with contextlib.suppress(ssl.SSLError):  # it may not get to hear that it went well
                    await peer.handshake()
                await peer.ended()
            transport, protocol = await task
            assert transport.is_closing()
            await protocol.lost()
            await settled()
            assert protocol.names()[0] == "connection_made"
            assert protocol.names().count("connection_lost") == 1

    run(main())


def test_connection_made_raises(run, certs, side, reports):
    """PITFALLS, transports: create_connection() finishes when connection_made() raises (uvloop commits 87d4f11, c10d08f)."""

    class Raising(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            raise RuntimeError("no")

    async def main():
        async with begun(certs, side, Raising) as (task, peer):
            with pytest.raises((RuntimeError, OSError)):
                await peer.handshake()
                await peer.ended()
                await task
                raise OSError("it was made, and is closed")
        await settled()

    run(main())
    reports.clear()  # whether it is reported besides is not said


@pytest.mark.parametrize("certificate", ["expired", "wronghost", "stranger"])
def test_certificate_that_does_not_verify(run, certs, version, certificate):
    messages = {
        "expired": "certificate has expired",
        "wronghost": "Hostname mismatch",
        "stranger": "unable to get local",
    }

    async def main():
        theirs = certs.server(certificate, version)
        async with begun(certs, "client", version=version, theirs=theirs) as (task, peer):
            # asyncio closes without an alert.
            with pytest.raises(ssl.SSLError, match="(?i)alert" if IS_COROLLA else None):
                await peer.handshake()
                await peer.read()  # a TLS 1.3 server is done before it hears
            with pytest.raises(ssl.SSLCertVerificationError, match=messages[certificate]):
                await task

    run(main())


@pytest.mark.parametrize("certificate", [None, "stranger", "client"])
def test_client_certificates(run, certs, side, version, certificate):
    """Asked for by the server: missing, from an authority it does not know, and right."""

    async def main():
        server, client = certs.server(version=version, ask=True), certs.client(certificate, version)
        ours, theirs = (server, client) if side == "server" else (client, server)
        factory = Factory()
        async with begun(certs, side, factory, ours=ours, theirs=theirs) as (task, peer):
            if certificate == "client":
                await peer.handshake()
                transport, _ = await task
                found = transport.get_extra_info("peercert") if side == "server" else peer.tls.getpeercert()
                assert ("email", "client@example.com") in found["subjectAltName"]
                return
            with pytest.raises(ssl.SSLError):
                await peer.handshake()
                await peer.read()
            if side == "server" or version == "1.2":
                with pytest.raises(ssl.SSLError):
                    await task
                assert factory.untold()
            else:
                # The client was done before the server had its certificate: the connection is lost with the alert.
                _, protocol = await task
                assert isinstance(await protocol.lost(), ssl.SSLError)

    run(main())


def test_no_common_version(run, certs, side):
    async def main():
        ours, theirs = certs.context(side, "1.2"), certs.context(other(side), "1.3")
        async with begun(certs, side, ours=ours, theirs=theirs) as (task, peer):
            with pytest.raises(ssl.SSLError):
                await peer.handshake()
            with pytest.raises(ssl.SSLError):
                await task

    run(main())


def test_sessions_are_resumed(run, certs, version):
    """By a client that brings a session; ours keeps none of its own, as asyncio's."""

    async def main():
        context = certs.client(version=version)
        async with serving(certs.server(version=version), Echo) as service:
            session = None
            for turn in range(2):
                sock = socket.create_connection((HOST, service.port))
                peer = Peer(sock, context, "client")
                if session is not None:
                    peer.tls.session = session
                await peer.handshake()
                await peer.send(b"x")
                assert await peer.exactly(1) == b"x"
                assert peer.tls.session_reused == (turn == 1)
                session = peer.tls.session
                await peer.raw(peer.notify())
                assert await peer.rest() == b""
                peer.close()

    run(main())


def test_server_name_and_alpn(run, certs, side, version):
    """Server Name Indication picks the certificate; ALPN picks the protocol."""

    async def main():
        server = certs.server(version=version, alpn=["h2", "http/1.1"])
        second = certs.server("second", version, alpn=["h2", "http/1.1"])
        names = []

        def choose(tls, name, context):
            names.append(name)
            if name == "second.example":
                tls.context = second

        server.sni_callback = choose
        client = certs.client(version=version, alpn=["http/1.1"])
        async with serving(server, Echo) as service:
            loop = asyncio.get_running_loop()
            for name in (NAME, "second.example"):
                transport, protocol = await loop.create_connection(
                    Recorder, HOST, service.port, ssl=client, server_hostname=name
                )
                assert transport.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
                certificate = transport.get_extra_info("peercert")
                assert ("DNS", name) in certificate["subjectAltName"]
                transport.close()
                await protocol.lost()
            assert names == [NAME, "second.example"]

    run(main())


def test_sni_callback_refuses(run, certs):
    async def main():
        server = certs.server()
        server.sni_callback = lambda tls, name, context: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        async with serving(server) as service:
            # asyncio closes without an alert.
            with pytest.raises(OSError, match="UNRECOGNIZED_NAME" if IS_COROLLA else None):
                await asyncio.get_running_loop().create_connection(
                    Recorder, HOST, service.port, ssl=certs.client(), server_hostname=NAME
                )

    run(main())
