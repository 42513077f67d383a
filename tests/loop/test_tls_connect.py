"""ssl= of create_connection(), create_server(), their Unix forms and connect_accepted_socket()."""

import asyncio
import contextlib
import contextvars
import socket
import ssl
import sys

import pytest
from certificates import NAME, client_context, server_context
from impl import beyond_stdlib
from transports.support import HOST, BufferedRecorder, Recorder, Service, listener, receive_all, settled

HELLO = b"hello" * 10000


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "sock")


async def in_thread(function, *args):
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)


@contextlib.asynccontextmanager
async def serving(base=Recorder, path=None, **kwargs):
    """A TLS server, and the protocols that it has made."""
    service = Service(base)
    loop = asyncio.get_running_loop()
    kwargs.setdefault("ssl", server_context())
    if path is None:
        service.server = await loop.create_server(service.factory, HOST, 0, **kwargs)
    else:
        service.server = await loop.create_unix_server(service.factory, path, **kwargs)
    try:
        yield service
    finally:
        service.server.close()
        for protocol in service.protocols:
            if "connection_made" in protocol.names():
                protocol.transport.abort()
                await protocol.lost()
    await settled()


async def exchange(service, transport, protocol):
    """Bytes in both directions, then an orderly end."""
    await service.accepted(1)
    accepted = service.protocols[0]
    transport.write(HELLO)
    await accepted.until(lambda: accepted.data == HELLO)
    accepted.transport.write(HELLO[::-1])
    await protocol.until(lambda: protocol.data == HELLO[::-1])
    transport.close()
    assert await protocol.lost() is None
    assert await accepted.lost() is None
    assert protocol.names()[0] == "connection_made"
    assert protocol.names()[-1] == "connection_lost"
    assert accepted.names()[-2:] == ["eof_received", "connection_lost"]


@pytest.mark.parametrize(
    "base",
    [
        Recorder,
        pytest.param(
            BufferedRecorder, marks=beyond_stdlib("it fills a copy of a bytearray: python/cpython issue 156275")
        ),
    ],
)
def test_tcp(run, base):
    async def main():
        async with serving(base) as service:
            address = service.server.sockets[0].getsockname()
            made = await asyncio.get_running_loop().create_connection(base, *address, ssl=client_context())
            await exchange(service, *made)

    run(main())


def test_unix(run, path):
    async def main():
        async with serving(path=path) as service:
            loop = asyncio.get_running_loop()
            made = await loop.create_unix_connection(Recorder, path, ssl=client_context(), server_hostname=NAME)
            await exchange(service, *made)

    run(main())


def test_given_sockets(run):
    """A socket that is connected already, and one that was accepted by somebody else."""

    async def main():
        loop = asyncio.get_running_loop()
        with listener() as listening:
            ours = socket.create_connection(listening.getsockname())
            theirs, _ = listening.accept()
        service = Service()
        accepting = asyncio.ensure_future(
            loop.connect_accepted_socket(service.factory, theirs, ssl=server_context(), ssl_handshake_timeout=30)
        )
        transport, protocol = await loop.create_connection(
            Recorder, sock=ours, ssl=client_context(), server_hostname=NAME, ssl_shutdown_timeout=30
        )
        there, accepted = await accepting
        assert there is accepted.transport
        await exchange(service, transport, protocol)

    run(main())


def test_extra_info(run):
    async def main():
        async with serving() as service:
            address = service.server.sockets[0].getsockname()
            context = client_context()
            transport, protocol = await asyncio.get_running_loop().create_connection(Recorder, *address, ssl=context)
            assert transport is protocol.transport
            assert isinstance(transport, asyncio.Transport)
            assert isinstance(transport.get_extra_info("ssl_object"), ssl.SSLObject)
            assert transport.get_extra_info("sslcontext") is context
            assert transport.get_extra_info("peercert")["subject"] == ((("commonName", "corolla tests"),),)
            assert transport.get_extra_info("cipher")[1].startswith("TLS")
            assert transport.get_extra_info("compression") is None
            assert transport.get_extra_info("peername") == address
            assert transport.get_extra_info("sockname") == transport.get_extra_info("socket").getsockname()
            assert transport.get_extra_info("nothing", 5) == 5
            assert transport.get_extra_info("ssl_object").server_hostname == HOST
            transport.close()
            await protocol.lost()

    run(main())


# ---- Arguments ---------------------------------------------------------------------------------------------------


@beyond_stdlib("the socket is left to the collector")
@pytest.mark.parametrize("option", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
@pytest.mark.parametrize("value", [0, -1.5])
def test_timeouts_are_positive(run, option, value):
    async def main():
        loop = asyncio.get_running_loop()
        with listener() as listening:
            with pytest.raises(ValueError, match=f"^{option} should be a positive number, got {value}$"):
                await loop.create_connection(
                    Recorder, *listening.getsockname(), ssl=client_context(), **{option: value}
                )

    run(main())


def test_server_needs_a_context(run):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            with pytest.raises(ValueError, match="^Server side SSL needs a valid SSLContext$"):
                await loop.connect_accepted_socket(Recorder, ours, ssl=True)

    run(main())


def test_ssl_true_is_the_default_context(run):
    """It trusts what the system trusts, which is not our certificate; without a name, names are not checked."""

    async def main():
        loop = asyncio.get_running_loop()
        async with serving() as service:
            address = service.server.sockets[0].getsockname()
            protocol = Recorder()
            with pytest.raises(ssl.SSLCertVerificationError):
                await loop.create_connection(lambda: protocol, *address, ssl=True)
            sock = socket.create_connection(address)
            with pytest.raises(ssl.SSLCertVerificationError, match="self.signed certificate"):
                await loop.create_connection(lambda: protocol, sock=sock, ssl=True, server_hostname="")
            await settled()
            assert protocol.events == []

    run(main())


def test_name_is_the_host(run):
    async def main():
        loop = asyncio.get_running_loop()
        async with serving() as service:
            address = service.server.sockets[0].getsockname()
            with pytest.raises(ssl.SSLCertVerificationError, match="[Hh]ostname mismatch"):
                await loop.create_connection(Recorder, *address, ssl=client_context(), server_hostname="elsewhere")
            for name in (None, NAME):
                transport, protocol = await loop.create_connection(
                    Recorder, *address, ssl=client_context(), server_hostname=name
                )
                transport.close()
                await protocol.lost()

    run(main())


@beyond_stdlib("the socket is left to the collector")
def test_context_that_fails(run):
    """What wrap_bio() raises is raised, and no socket is left open."""

    async def main():
        loop = asyncio.get_running_loop()
        with listener() as listening:
            protocol = Recorder()
            with pytest.raises(ValueError):
                await loop.create_connection(
                    lambda: protocol, *listening.getsockname(), ssl=client_context(), server_hostname=".dot"
                )
            assert protocol.events == []

    run(main())


# ---- Handshakes that fail ------------------------------------------------------------------------------------------


async def connecting(address, protocol, **kwargs):
    """The task of a client in its handshake, and the other end, which has its first bytes."""
    loop = asyncio.get_running_loop()
    with listener() as listening:
        task = asyncio.ensure_future(
            loop.create_connection(lambda: protocol, *listening.getsockname(), ssl=client_context(), **kwargs)
        )
        peer, _ = await in_thread(listening.accept)
    peer.settimeout(30)
    assert (await in_thread(peer.recv, 1, socket.MSG_PEEK))[0] == 22  # a handshake record
    return task, peer


def test_end_in_the_handshake(run):
    """It does not wait for ever: python/asyncio issue 472, uvloop PR 308. No method of the protocol is called: uvloop
    issue 246."""

    async def main():
        protocol = Recorder()
        task, peer = await connecting(None, protocol)
        peer.recv(65536)
        peer.close()
        with pytest.raises(ConnectionResetError):
            await task
        await settled()
        assert protocol.events == []

    run(main())


def test_garbage_in_the_handshake(run):
    async def main():
        protocol = Recorder()
        task, peer = await connecting(None, protocol)
        with peer:
            peer.sendall(b"220 mail.example.com ready\r\n")
            with pytest.raises(ssl.SSLError):
                await task
        await settled()
        assert protocol.events == []

    run(main())


@pytest.mark.parametrize("timeout", [0.05, 1])  # told as it was given
def test_handshake_timeout(run, timeout):
    async def main():
        protocol = Recorder()
        task, peer = await connecting(None, protocol, ssl_handshake_timeout=timeout)
        with peer:
            with pytest.raises(
                ConnectionAbortedError,
                match=f"^SSL handshake is taking longer than {timeout} seconds: aborting the connection$",
            ):
                await task
            with contextlib.suppress(ConnectionResetError):
                await receive_all(peer)
        await settled()
        assert protocol.events == []

    run(main())


def test_cancelled_in_the_handshake(run):
    """The connection is closed at once, and connection_made() does not come late."""

    async def main():
        protocol = Recorder()
        task, peer = await connecting(None, protocol)
        with peer:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with contextlib.suppress(ConnectionResetError):
                await receive_all(peer)
        await settled()
        assert protocol.events == []

    run(main())


def test_accepted_socket_in_the_handshake(run):
    async def main():
        loop = asyncio.get_running_loop()
        for end in ("close", "garbage", "cancel"):
            protocol = Recorder()
            ours, peer = socket.socketpair()
            with peer:
                task = asyncio.ensure_future(
                    loop.connect_accepted_socket(lambda protocol=protocol: protocol, ours, ssl=server_context())
                )
                await settled()
                if end == "cancel":
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
                elif end == "close":
                    peer.close()
                    with pytest.raises(ConnectionResetError):
                        await task
                else:
                    peer.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    with pytest.raises(ssl.SSLError):
                        await task
            await settled()
            assert protocol.events == []
            ours.close()

    run(main())


def test_server_survives_clients_without_tls(run):
    """None of them reaches a protocol, and the next one is served."""

    async def main():
        async with serving(ssl_handshake_timeout=20) as service:
            address = service.server.sockets[0].getsockname()
            for said in (b"", b"\x16", b"GET / HTTP/1.0\r\n\r\n"):
                with socket.create_connection(address) as peer:
                    peer.sendall(said)
                    if len(said) > 5:
                        with contextlib.suppress(ConnectionResetError):
                            await receive_all(peer)
            transport, protocol = await asyncio.get_running_loop().create_connection(
                Recorder, *address, ssl=client_context()
            )
            while not any(made.events for made in service.protocols):
                await asyncio.sleep(0)
            for made in service.protocols:
                assert made.events in ([], ["connection_made"])
            transport.close()
            await protocol.lost()

    run(main())


# ---- Contexts (PEP 567) ------------------------------------------------------------------------------------------


def test_context_variables(run):
    """A protocol's methods run in a copy of the context that asked for the connection."""
    variable = contextvars.ContextVar("variable")
    seen = []

    class Protocol(Recorder):
        def note(self, *event):
            seen.append((event[0], variable.get(None)))
            super().note(*event)

    async def main():
        async with serving() as service:
            variable.set("client")
            address = service.server.sockets[0].getsockname()
            transport, protocol = await asyncio.get_running_loop().create_connection(
                Protocol, *address, ssl=client_context()
            )
            await service.accepted(1)
            variable.set("later")
            service.protocols[0].transport.write(b"x")
            await protocol.until(lambda: protocol.data)
            transport.close()
            await protocol.lost()

    run(main())
    assert [name for name, value in seen if value != "client"] == []


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio's Server counts from 3.12 on")
@beyond_stdlib("connections are told when the last one closes", until=(3, 13))
def test_server_waits_for_its_connections(run):
    """wait_closed() ends once the last connection, encrypted as it is, has ended."""

    async def main():
        async with serving() as service:
            address = service.server.sockets[0].getsockname()
            transport, protocol = await asyncio.get_running_loop().create_connection(
                Recorder, *address, ssl=client_context()
            )
            await service.accepted(1)
            service.server.close()
            waiting = asyncio.ensure_future(service.server.wait_closed())
            await settled()
            assert not waiting.done()
            transport.close()
            await protocol.lost()
            await waiting

    run(main())
