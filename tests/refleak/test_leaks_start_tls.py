"""TLS by the loop's methods and the streams': rounds of them leave blocks, objects, descriptors and malloc'ed bytes alone."""

import asyncio
import contextlib
import socket
import ssl

import corolla
import pytest
from certificates import NAME, client_context, server_context

pytestmark = pytest.mark.timeout(240)

ROUNDS = 300


@pytest.fixture
def leaks_nothing(loop, leaks_nothing):
    """The same, later: what the interpreter, its ssl module and OpenSSL keep grows less and less."""

    def check(operation, rounds):
        for _ in range(700):
            loop.run_until_complete(operation())
        leaks_nothing(operation, rounds=rounds)

    return check


def test_upgraded_streams(loop, leaks_nothing):
    contexts = client_context(), server_context()
    ended = asyncio.Semaphore(0)

    async def handler(reader, writer):
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go\n")
        await writer.start_tls(contexts[1])
        writer.write(await reader.readline())
        writer.close()
        await writer.wait_closed()
        ended.release()

    server = loop.run_until_complete(corolla.start_server(handler, "127.0.0.1", 0))
    address = server.sockets[0].getsockname()

    async def operation():
        reader, writer = await corolla.open_connection(*address)
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"go\n"
        await writer.start_tls(contexts[0], server_hostname=NAME)
        writer.write(b"line\n")
        assert await reader.read() == b"line\n"
        writer.close()
        await writer.wait_closed()
        await ended.acquire()

    leaks_nothing(operation, rounds=ROUNDS)
    server.close()
    loop.run_until_complete(server.wait_closed())


def test_tls_over_tls(loop, leaks_nothing):
    contexts = client_context(), server_context()

    class Lost(asyncio.Protocol):
        def __init__(self):
            self.lost = loop.create_future()

        def connection_lost(self, error):
            self.lost.set_result(error)

    async def operation():
        one, other = socket.socketpair()
        accepting = loop.create_task(loop.connect_accepted_socket(Lost, other, ssl=contexts[1]))
        client, protocol = await loop.create_unix_connection(Lost, sock=one, ssl=contexts[0], server_hostname=NAME)
        server, accepted = await accepting
        accepting = loop.create_task(loop.start_tls(server, accepted, contexts[1], server_side=True))
        client = await loop.start_tls(client, protocol, contexts[0], server_hostname=NAME)
        server = await accepting
        client.close()
        await protocol.lost
        await accepted.lost

    leaks_nothing(operation, rounds=ROUNDS)


@pytest.mark.parametrize("how", ["cancel", "garbage", "certificate", "unread"])
def test_failed_upgrades(loop, leaks_nothing, how):
    contexts = client_context(trusting=how != "certificate"), server_context()

    async def operation():
        one, peer = socket.socketpair()
        reader, writer = await corolla.open_unix_connection(sock=one)
        accepting = None
        if how == "certificate":
            below, protocol = await loop.connect_accepted_socket(asyncio.Protocol, peer)
            accepting = loop.create_task(loop.start_tls(below, protocol, contexts[1], server_side=True))
        if how == "unread":
            peer.sendall(b"line\nmore than a record's header")
            assert await reader.readline() == b"line\n"
        starting = loop.create_task(writer.start_tls(contexts[0], server_hostname=NAME))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if how == "cancel":
            starting.cancel()
        elif how == "garbage":
            peer.sendall(b"220 this is no handshake\r\n")
        for task in (starting, accepting):
            with contextlib.suppress(ssl.SSLError, ConnectionError, asyncio.CancelledError):
                if task is not None:
                    await task
        writer.close()
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            await writer.wait_closed()
        await asyncio.sleep(0)
        if accepting is None:
            peer.close()

    leaks_nothing(operation, rounds=ROUNDS)


def test_failed_connections(loop, leaks_nothing):
    context = client_context()

    async def operation():
        one, peer = socket.socketpair()
        task = loop.create_task(
            loop.create_unix_connection(asyncio.Protocol, sock=one, ssl=context, server_hostname=NAME)
        )
        await asyncio.sleep(0)
        peer.close()
        try:
            await task
        except ConnectionError as error:
            error.__traceback__ = None
        await asyncio.sleep(0)

    leaks_nothing(operation, rounds=ROUNDS)
