"""ssl= of what connects and serves: its arguments, what a TLS transport knows, Unix sockets, and streams."""

import asyncio
import contextlib
import gc
import os
import socket
import ssl

import impl
import pytest
from tls.support import NAME, Echo, Peer, connected, opening, other, serving, socket_pair
from transports.support import HOST, Recorder, settled


def test_extra_info(run, certs, side, version):
    async def main():
        server, client = certs.server(version=version, ask=True), certs.client("client", version)
        ours, theirs = (server, client) if side == "server" else (client, server)
        async with connected(certs, side, ours=ours, theirs=theirs) as (transport, protocol, peer):
            info = transport.get_extra_info
            assert info("sslcontext") is ours
            assert info("compression") is None
            assert info("cipher") == peer.tls.cipher()
            tls = info("ssl_object")
            assert isinstance(tls, ssl.SSLObject)
            assert tls is info("ssl_object")
            assert tls.context is ours
            assert tls.server_side is (side == "server")
            assert tls.version() == f"TLSv{version}"
            assert info("peercert") == tls.getpeercert()
            found = dict(entry for entry in info("peercert")["subjectAltName"])
            assert found.keys() == ({"email"} if side == "server" else {"DNS", "IP Address"})
            sock = info("socket")
            assert sock.fileno() >= 0
            assert info("sockname") == peer.sock.getpeername()
            assert info("peername") == peer.sock.getsockname()
            assert info("nothing") is None
            assert info("nothing", 5) == 5
            for word in ("finished", "selected_alpn_protocol", "shared_ciphers"):
                if hasattr(tls, word):
                    getattr(tls, word)()
            binding = tls.get_channel_binding("tls-unique")
            assert binding is None or binding == peer.tls.get_channel_binding("tls-unique")

    run(main())


def test_extra_info_before_and_after(run, certs, side):
    """In connection_made() all is known; what is asked after the end is answered."""

    class Asking(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            self.cipher = transport.get_extra_info("cipher")
            self.version = transport.get_extra_info("ssl_object").version()

        def connection_lost(self, exc):
            self.at_the_end = self.transport.get_extra_info("cipher")
            super().connection_lost(exc)

    async def main():
        async with connected(certs, side, Asking) as (transport, protocol, peer):
            assert protocol.cipher == peer.tls.cipher()
            assert protocol.version == "TLSv1.3"
            transport.abort()
            await protocol.lost()
            assert protocol.at_the_end == protocol.cipher
            assert transport.get_extra_info("sslcontext") is not None

    run(main())


def test_unix_sockets(run, certs, path, version):
    async def main():
        loop = asyncio.get_running_loop()
        async with serving(certs.server(version=version), Echo, path=path) as service:
            transport, protocol = await loop.create_unix_connection(
                Recorder, path, ssl=certs.client(version=version), server_hostname=NAME
            )
            data = os.urandom(500_000)
            transport.write(data)
            await protocol.until(lambda: len(protocol.data) == len(data))
            assert protocol.data == data
            assert transport.get_extra_info("peername") == path
            assert (await service.made()).transport.get_extra_info("sockname") == path
            transport.close()
            assert await protocol.lost() is None

    run(main())


@pytest.mark.parametrize("where", ["server", "client"])
def test_unix_sockets_that_are_given(run, certs, where):
    async def main():
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        peer = Peer(theirs, certs.context(other(where)), other(where))
        if where == "client":
            opened = loop.create_unix_connection(Echo, sock=ours, ssl=certs.client(), server_hostname=NAME)
        else:
            opened = opening(ours, certs.server(), "server", Echo)
        (transport, protocol), _ = await asyncio.gather(opened, peer.handshake())
        await peer.send(b"hello")
        assert await peer.exactly(5) == b"hello"
        transport.abort()
        await protocol.lost()
        peer.close()

    run(main())


def test_default_context(run, certs, monkeypatch):
    """ssl=True: ssl.create_default_context(), which does not know our authority unless the environment names it."""

    async def main():
        loop = asyncio.get_running_loop()
        async with serving(certs.server(), Echo) as service:
            with pytest.raises(ssl.SSLCertVerificationError):
                await loop.create_connection(Recorder, NAME, service.port, ssl=True, family=socket.AF_INET)
            monkeypatch.setenv("SSL_CERT_FILE", certs.ca)
            # server_hostname is the host's name, where none is given.
            transport, protocol = await loop.create_connection(
                Recorder, NAME, service.port, ssl=True, family=socket.AF_INET
            )
            assert transport.get_extra_info("ssl_object").server_hostname == NAME
            assert transport.get_extra_info("sslcontext").check_hostname is True
            transport.close()
            await protocol.lost()

    run(main())


@pytest.mark.parametrize("hostname", ["first.example", "FIRST.example", HOST])
def test_server_hostname(run, certs, hostname):
    async def main():
        loop = asyncio.get_running_loop()
        async with serving(certs.server(), Echo) as service:
            transport, protocol = await loop.create_connection(
                Recorder, HOST, service.port, ssl=certs.client(), server_hostname=hostname
            )
            transport.close()
            await protocol.lost()
            # Not the host's: it says so at once.
            with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
                await loop.create_connection(
                    Recorder, HOST, service.port, ssl=certs.client(), server_hostname="other.example"
                )

    run(main())


@pytest.mark.parametrize("check", [False, True])
def test_no_server_hostname(run, certs, check):
    """An empty one turns the check of the name off, as the documentation says, whatever the context says."""

    async def main():
        loop = asyncio.get_running_loop()
        context = certs.client()
        context.check_hostname = check
        async with serving(certs.server("wronghost"), Echo) as service:
            transport, protocol = await loop.create_connection(
                Recorder, HOST, service.port, ssl=context, server_hostname=""
            )
            assert transport.get_extra_info("ssl_object").server_hostname is None
            transport.close()
            await protocol.lost()

    run(main())


def test_arguments(run, certs, path):
    async def main():
        loop = asyncio.get_running_loop()
        context = certs.client()
        ours, theirs = socket_pair()
        with ours, theirs:
            with pytest.raises(ValueError, match="^server_hostname is only meaningful with ssl$"):
                await loop.create_connection(Recorder, HOST, 1, server_hostname=NAME)
            with pytest.raises(ValueError, match="^You must set server_hostname when using ssl without a host$"):
                await loop.create_connection(Recorder, sock=ours, ssl=context)
            with pytest.raises(ValueError, match="^ssl_handshake_timeout is only meaningful with ssl$"):
                await loop.create_connection(Recorder, HOST, 1, ssl_handshake_timeout=1)
            with pytest.raises(ValueError, match="^ssl_shutdown_timeout is only meaningful with ssl$"):
                await loop.create_connection(Recorder, HOST, 1, ssl_shutdown_timeout=1)
            with pytest.raises(TypeError, match="ssl argument must be an SSLContext or None"):
                await loop.create_server(Recorder, HOST, 0, ssl=True)
            with pytest.raises(ValueError, match="^ssl_handshake_timeout is only meaningful with ssl$"):
                await loop.create_server(Recorder, HOST, 0, ssl_handshake_timeout=1)
            with pytest.raises(ValueError, match="^ssl_shutdown_timeout is only meaningful with ssl$"):
                await loop.create_server(Recorder, HOST, 0, ssl_shutdown_timeout=1)
            with pytest.raises(ValueError, match="only meaningful with ssl"):
                await loop.connect_accepted_socket(Recorder, ours, ssl_handshake_timeout=1)
            with pytest.raises(ValueError, match="you have to pass server_hostname when using ssl"):
                await loop.create_unix_connection(Recorder, path, ssl=context)
            with pytest.raises(ValueError, match="server_hostname is only meaningful with ssl"):
                await loop.create_unix_connection(Recorder, path, server_hostname=NAME)

    run(main())


@pytest.mark.parametrize("wrong", [0, -1, -0.5])
@pytest.mark.parametrize("name", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
def test_timeouts_that_are_none(run, certs, side, name, wrong):
    """The socket is not taken, or is closed: nothing is left open."""

    async def main():
        ours, theirs = socket_pair()
        with theirs, ours:
            with pytest.raises(ValueError, match=f"^{name} should be a positive number, got {wrong}$"):
                await opening(ours, certs.context(side), side, **{name: wrong})
            await settled()

    run(main())


def test_accepted_by_hand(run, certs):
    """A server that accepts by itself, and connect_accepted_socket() for what it got."""

    async def main():
        loop = asyncio.get_running_loop()
        with socket.create_server((HOST, 0)) as listening:
            listening.setblocking(False)

            async def serve():
                sock, _ = await loop.sock_accept(listening)
                return await loop.connect_accepted_socket(Echo, sock, ssl=certs.server())

            (theirs, _), (transport, protocol) = await asyncio.gather(
                serve(),
                loop.create_connection(Recorder, *listening.getsockname(), ssl=certs.client(), server_hostname=NAME),
            )
        transport.write(b"hello")
        await protocol.until(lambda: protocol.data == b"hello")
        transport.close()
        assert await protocol.lost() is None
        assert await theirs.get_protocol().lost() is None if theirs.get_protocol() else True

    run(main())


def test_server_closes_while_clients_shake_hands(run, certs):
    """The listening socket is gone; those that were accepted are served."""

    async def main():
        async with serving(certs.server(), Echo) as service:
            sock = socket.create_connection((HOST, service.port))
            peer = Peer(sock, certs.client(), "client")
            flight = await peer.flight()
            await peer.raw(flight[:10])
            await settled()
            service.server.close()
            await peer.raw(flight[10:])
            await peer.handshake()
            await peer.send(b"hello")
            assert await peer.exactly(5) == b"hello"
            peer.close()

    run(main())


def test_context_that_is_not_one(run, certs, side):
    async def main():
        ours, theirs = socket_pair()
        with ours, theirs:
            with pytest.raises((TypeError, AttributeError)):
                await opening(ours, object(), side)
            await settled()

    run(main())


def test_several_loops_in_a_row(certs):
    """The same contexts on one loop after the other."""
    server, client = certs.server(), certs.client()

    async def main():
        loop = asyncio.get_running_loop()
        async with serving(server, Echo) as service:
            transport, protocol = await loop.create_connection(
                Recorder, HOST, service.port, ssl=client, server_hostname=NAME
            )
            transport.write(b"hello")
            await protocol.until(lambda: protocol.data == b"hello")
            transport.close()
            await protocol.lost()

    for _ in range(3):
        loop = impl.new_event_loop()
        loop.run_until_complete(main())
        loop.close()


@pytest.mark.parametrize("close", [True, False])
def test_connecting_given_up_at_once(run, certs, side, close):
    """A coroutine that ends, or is dropped, before connection_made() was called below: the connection is closed."""

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket_pair()
        ours.setblocking(False)
        theirs.setblocking(False)
        protocol = Recorder()
        if side == "server":
            coro = loop.connect_accepted_socket(lambda: protocol, ours, ssl=certs.server())
        else:
            coro = loop.create_connection(lambda: protocol, sock=ours, ssl=certs.client(), server_hostname=NAME)
        waiter = coro.send(None)
        assert not waiter.done()
        if close:
            coro.close()
        del coro, waiter
        gc.collect()
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(loop.sock_recv(theirs, 1), 10) == b""
        await settled()
        assert ours.fileno() == -1
        assert protocol.names() == []
        theirs.close()

    run(main())
