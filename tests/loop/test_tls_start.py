"""loop.start_tls(): TLS from here on, over a transport that is there."""

import asyncio
import contextlib
import socket
import ssl

import pytest
from certificates import NAME, client_context, server_context
from impl import IS_COROLLA, beyond_stdlib
from transports.support import HOST, BufferedRecorder, Recorder, Service, listener, receive_all, settled

PAYLOAD = b"payload" * 20000


async def in_thread(function, *args):
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)


def pair_of_sockets(kind):
    if kind == "unix":
        return socket.socketpair()
    with listener() as listening:
        one = socket.create_connection(listening.getsockname())
        other, _ = listening.accept()
    return one, other


@contextlib.asynccontextmanager
async def plain(kind="tcp"):
    """Both ends of a connection in clear text: two (transport, protocol) pairs."""
    loop = asyncio.get_running_loop()
    one, other = pair_of_sockets(kind)
    client = await loop.connect_accepted_socket(Recorder, one)
    server = await loop.connect_accepted_socket(Recorder, other)
    try:
        yield client, server
    finally:
        client[0].abort()
        server[0].abort()
        await settled()


async def upgraded(client, server, protocols=None):
    """The same two with TLS over them."""
    loop = asyncio.get_running_loop()
    ours, theirs = protocols or (client[1], server[1])
    accepting = asyncio.ensure_future(loop.start_tls(server[0], theirs, server_context(), server_side=True))
    secured = await loop.start_tls(client[0], ours, client_context(), server_hostname=NAME)
    return (secured, ours), (await accepting, theirs)


async def exchange(client, server):
    for sender, receiver in ((client, server), (server, client)):
        before = len(receiver[1].data)
        sender[0].write(PAYLOAD)
        await receiver[1].until(lambda: len(receiver[1].data) - before == len(PAYLOAD))
        assert receiver[1].data[before:] == PAYLOAD


async def end(client, server):
    client[0].close()
    assert await client[1].lost() is None
    assert await server[1].lost() is None


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_upgrade(run, kind):
    async def main():
        async with plain(kind) as (client, server):
            client[0].write(b"STARTTLS")
            await server[1].until(lambda: server[1].data == b"STARTTLS")
            below = client[0], server[0]
            client, server = await upgraded(client, server)
            assert client[0] is not below[0]
            assert isinstance(client[0], asyncio.Transport)
            assert client[0].get_protocol() is client[1]
            assert client[0].get_extra_info("ssl_object").version().startswith("TLS")
            assert client[0].get_extra_info("socket") is below[0].get_extra_info("socket")
            await exchange(client, server)
            await end(client, server)
            # Made when the connection was, and not again.
            assert client[1].names().count("connection_made") == 1
            assert server[1].names().count("connection_lost") == 1

    run(main())


@pytest.mark.parametrize("base", [Recorder, pytest.param(BufferedRecorder, marks=beyond_stdlib("156275"))])
def test_another_protocol(run, base):
    """It takes over where the one that was there ends, whatever kind it is: python/cpython issue 77835."""

    async def main():
        async with plain() as (client, server):
            fresh = base(), base()
            secured = await upgraded(client, server, fresh)
            await exchange(*secured)
            await end(*secured)
            assert fresh[0].names()[0] == "data_received"
            assert client[1].names() == server[1].names() == ["connection_made"]

    run(main())


def test_hello_in_the_same_step(run):
    """A handshake that is there before start_tls() is called is not lost: python/cpython issue 77855."""

    async def main():
        loop = asyncio.get_running_loop()
        one, other = pair_of_sockets("unix")
        client = await loop.connect_accepted_socket(Recorder, one)
        starting = asyncio.ensure_future(loop.start_tls(*client, client_context(), server_hostname=NAME))
        await in_thread(lambda: other.recv(1, socket.MSG_PEEK))

        upgrades = []

        class Upgrading(Recorder):
            def connection_made(self, transport):
                super().connection_made(transport)
                upgrades.append(
                    asyncio.ensure_future(loop.start_tls(transport, self, server_context(), server_side=True))
                )

        below, protocol = await loop.connect_accepted_socket(Upgrading, other)
        server = await upgrades[0], protocol
        client = await starting, client[1]
        await exchange(client, server)
        await end(client, server)

    run(main())


def test_from_within_data_received(run):
    """STARTTLS as a protocol does it: the answer, and the upgrade at once, while the bytes are being delivered."""

    async def main():
        loop = asyncio.get_running_loop()
        upgrades = []

        class Server(Recorder):
            def data_received(self, data):
                super().data_received(data)
                if data == b"STARTTLS\n":
                    self.transport.write(b"GO\n")
                    starting = loop.start_tls(self.transport, self, server_context(), server_side=True)
                    upgrades.append(asyncio.ensure_future(starting))

        one, other = pair_of_sockets("tcp")
        server = await loop.connect_accepted_socket(Server, other)
        client = await loop.connect_accepted_socket(Recorder, one)
        client[0].write(b"STARTTLS\n")
        await client[1].until(lambda: client[1].data == b"GO\n")
        client = await loop.start_tls(*client, client_context(), server_hostname=NAME), client[1]
        server = await upgrades[0], server[1]
        await exchange(client, server)
        await end(client, server)

    run(main())


@pytest.mark.parametrize("layers", [2, 3])
def test_tls_over_tls(run, layers):
    async def main():
        async with plain() as (client, server):
            versions = []
            for _ in range(layers):
                client, server = await upgraded(client, server)
                versions.append(client[0].get_extra_info("ssl_object"))
            assert len(set(map(id, versions))) == layers
            await exchange(client, server)
            await end(client, server)

    run(main())


def test_over_a_connection_made_with_ssl(run):
    async def main():
        loop = asyncio.get_running_loop()
        service = Service()
        server = await loop.create_server(service.factory, HOST, 0, ssl=server_context())
        client = await loop.create_connection(Recorder, *server.sockets[0].getsockname(), ssl=client_context())
        await service.accepted(1)
        server.close()
        accepted = service.protocols[0]
        client, accepted = await upgraded(client, (accepted.transport, accepted))
        await exchange(client, accepted)
        await end(client, accepted)

    run(main())


class Wrapped(asyncio.Transport):
    """A transport of somebody else's: Python, over one of the loop's."""

    _start_tls_compatible = True

    def __init__(self, lower):
        super().__init__()
        self.lower = lower
        self.closes = 0

    def __getattr__(self, name):
        return getattr(self.lower, name)

    def get_extra_info(self, name, default=None):
        return self.lower.get_extra_info(name, default)

    def get_write_buffer_size(self):
        return self.lower.get_write_buffer_size()

    def set_write_buffer_limits(self, high=None, low=None):
        self.lower.set_write_buffer_limits(high, low)

    def is_closing(self):
        return self.lower.is_closing()

    def is_reading(self):
        return self.lower.is_reading()

    def write(self, data):
        self.lower.write(data)

    def writelines(self, data):
        self.lower.writelines(data)

    def pause_reading(self):
        self.lower.pause_reading()

    def resume_reading(self):
        self.lower.resume_reading()

    def set_protocol(self, protocol):
        self.lower.set_protocol(protocol)

    def get_protocol(self):
        return self.lower.get_protocol()

    def close(self):
        self.closes += 1
        self.lower.close()

    def abort(self):
        self.lower.abort()


def test_over_a_foreign_transport(run):
    async def main():
        async with plain() as (client, server):
            wrapped = Wrapped(client[0])
            client, server = await upgraded((wrapped, client[1]), server)
            await exchange(client, server)
            await end(client, server)

    run(main())


# ---- Arguments ---------------------------------------------------------------------------------------------------


def test_refused(run):
    async def main():
        loop = asyncio.get_running_loop()
        async with plain() as (client, server):
            with pytest.raises(
                TypeError, match="^sslcontext is expected to be an instance of ssl.SSLContext, got <object object at"
            ):
                await loop.start_tls(*client, object())
            for other in (None, object(), asyncio.Transport()):
                with pytest.raises(TypeError, match="^transport .* is not supported by start_tls\\(\\)$"):
                    await loop.start_tls(other, client[1], client_context())
            for option in ("ssl_handshake_timeout", "ssl_shutdown_timeout"):
                with pytest.raises(ValueError, match=f"^{option} should be a positive number, got 0$"):
                    await loop.start_tls(*client, client_context(), **{option: 0})
            # Nothing has happened to the connection.
            client[0].write(b"still in clear text")
            await server[1].until(lambda: server[1].data == b"still in clear text")

    run(main())


def test_datagrams_are_not_supported(run):
    async def main():
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, (HOST, 0))
        with pytest.raises(TypeError, match="is not supported by start_tls"):
            await loop.start_tls(transport, protocol, client_context())
        transport.close()
        await settled()

    run(main())


# ---- Failures ------------------------------------------------------------------------------------------------------


async def lost_in_time(protocol):
    """Who was told that there is a connection is told that there is none. asyncio does not, if the handshake was under way."""
    if IS_COROLLA:
        async with asyncio.timeout(20):
            await protocol.lost()


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_cancelled(run, side, wrapped):
    """The transport is closed, the protocol told, and nothing comes late."""

    async def main():
        loop = asyncio.get_running_loop()
        one, peer = pair_of_sockets("unix")
        peer.settimeout(30)
        with peer:
            transport, protocol = await loop.connect_accepted_socket(Recorder, one)
            below = Wrapped(transport) if wrapped else transport
            if side == "client":
                starting = loop.start_tls(below, protocol, client_context(), server_hostname=NAME)
            else:
                starting = loop.start_tls(below, protocol, server_context(), server_side=True)
            task = asyncio.ensure_future(starting)
            await settled()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert transport.is_closing()
            if wrapped:
                assert below.closes > 0
            await receive_all(peer)

    run(main())


def test_wrong_certificate(run):
    async def main():
        loop = asyncio.get_running_loop()
        async with plain() as (client, server):
            accepting = asyncio.ensure_future(loop.start_tls(*server, server_context(), server_side=True))
            with pytest.raises(ssl.SSLCertVerificationError):
                await loop.start_tls(*client, client_context(trusting=False), server_hostname=NAME)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await accepting
            assert client[0].is_closing()
            await lost_in_time(client[1])
            await lost_in_time(server[1])

    run(main())


def test_timeout(run):
    async def main():
        loop = asyncio.get_running_loop()
        async with plain() as (client, server):
            with pytest.raises(
                ConnectionAbortedError,
                match="^SSL handshake is taking longer than 0.05 seconds: aborting the connection$",
            ):
                await loop.start_tls(*client, client_context(), server_hostname=NAME, ssl_handshake_timeout=0.05)
            await lost_in_time(client[1])

    run(main())


@pytest.mark.parametrize("said", [b"", b"not a handshake"])
def test_peer_that_knows_no_tls(run, said):
    async def main():
        loop = asyncio.get_running_loop()
        one, peer = pair_of_sockets("tcp")
        with peer:
            transport, protocol = await loop.connect_accepted_socket(Recorder, one)
            task = asyncio.ensure_future(loop.start_tls(transport, protocol, client_context(), server_hostname=NAME))
            await in_thread(lambda: peer.recv(1, socket.MSG_PEEK))
            peer.sendall(said)
            peer.shutdown(socket.SHUT_WR)
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                await task
            await lost_in_time(protocol)
            assert protocol.data == b""

    run(main())


@beyond_stdlib("it waits for its handshake timeout")
def test_closed_transport(run):
    async def main():
        loop = asyncio.get_running_loop()
        async with plain() as (client, server):
            client[0].abort()
            await client[1].lost()
            with pytest.raises((ConnectionError, RuntimeError)):
                await loop.start_tls(*client, client_context(), server_hostname=NAME)

    run(main())
