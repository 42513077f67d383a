"""connect_accepted_socket(): connections that were accepted elsewhere."""

import asyncio
import logging
import os
import socket
import ssl

import corolla
import pytest
from transports.support import HOST, Recorder, listener, settled


async def handle(sock, factory=Recorder, **kwargs):
    return await asyncio.get_running_loop().connect_accepted_socket(factory, sock, **kwargs)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_connection_accepted_elsewhere(run, kind, path):
    async def main():
        if kind == "tcp":
            with listener() as server:
                peer = socket.create_connection(server.getsockname())
                ours, _ = server.accept()
        else:
            with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
                server.bind(path)
                server.listen()
                client.connect(path)
                peer = client.dup()
                ours, _ = server.accept()
        with peer:
            transport, protocol = await handle(ours)
            assert type(transport) is {"tcp": corolla.TcpTransport, "unix": corolla.UnixTransport}[kind]
            assert protocol.names() == ["connection_made"]
            assert transport.get_extra_info("sockname") == ours.getsockname()
            assert transport._sock is ours
            assert ours.gettimeout() == 0
            assert transport._server is None
            peer.sendall(b"question")
            await protocol.until(lambda: protocol.data == b"question")
            transport.write(b"answer")
            assert peer.recv(100) == b"answer"
            peer.close()
            assert await protocol.lost() is None
            await settled()
            assert ours.fileno() == -1

    run(main())


def test_data_that_came_before(run):
    async def main():
        ours, peer = socket.socketpair()
        with peer:
            peer.sendall(b"early")
            peer.shutdown(socket.SHUT_WR)
            _, protocol = await handle(ours)
            await protocol.lost()
            assert protocol.names() == ["connection_made", "data_received", "eof_received", "connection_lost"]

    run(main())


def test_bad_arguments(run):
    async def main():
        loop = asyncio.get_running_loop()
        datagram = socket.socket(type=socket.SOCK_DGRAM)
        ours, peer = socket.socketpair()
        with datagram, ours, peer:
            for error, match, sock, kwargs in (
                (ValueError, "A Stream Socket was expected, got <socket", datagram, {"ssl_handshake_timeout": 1}),
                (
                    ValueError,
                    "ssl_handshake_timeout is only meaningful with ssl",
                    ours,
                    {"ssl_handshake_timeout": 1, "ssl_shutdown_timeout": 1},
                ),
                (ValueError, "ssl_shutdown_timeout is only meaningful with ssl", ours, {"ssl_shutdown_timeout": 1}),
                (ValueError, "Server side SSL needs a valid SSLContext", ours, {"ssl": True}),
                (AttributeError, None, 7, {}),
                (AttributeError, None, None, {}),
                (ValueError, None, socket.socket.__new__(socket.socket), {}),
            ):
                with pytest.raises(error, match=match):
                    await loop.connect_accepted_socket(Recorder, sock, **kwargs)
            with pytest.raises(TypeError):
                await loop.connect_accepted_socket(None, ours)
            ours.setblocking(True)
            ours.sendall(b"still mine")
            assert peer.recv(100) == b"still mine"
        for args, kwargs in (((), {}), ((Recorder,), {}), ((1, 2, 3), {}), ((Recorder, 1), {"what": 1})):
            with pytest.raises(TypeError):
                loop.connect_accepted_socket(*args, **kwargs)

    run(main())


def test_ssl_socket(run):
    async def main():
        ours, peer = socket.socketpair()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        with peer, context.wrap_socket(ours, do_handshake_on_connect=False) as wrapped:
            with pytest.raises(TypeError, match="Socket cannot be of type SSLSocket"):
                await handle(wrapped)

    run(main())


def test_a_socket_in_use(run):
    async def main():
        ours, peer = socket.socketpair()
        with peer:
            transport, protocol = await handle(ours)
            with pytest.raises(RuntimeError, match="is used by transport"):
                await handle(ours)
            transport.abort()
            await protocol.lost()
            await settled()

    run(main())


def test_a_factory_that_raises(run):
    """Transports: a caller-owned socket stays usable when it was not adopted."""

    async def main():
        def factory():
            raise ValueError("no protocol")

        ours, peer = socket.socketpair()
        with ours, peer:
            with pytest.raises(ValueError, match="no protocol"):
                await handle(ours, factory)
            ours.sendall(b"abc")
            assert peer.recv(10) == b"abc"

    run(main())


@pytest.mark.parametrize("when", ["before", "after"])
def test_cancelled(run, when):
    """Transports: after a cancelled creation no late connection_made runs, and the socket is closed."""

    async def main():
        protocol = Recorder()
        ours, peer = socket.socketpair()
        with peer:
            task = asyncio.create_task(handle(ours, lambda: protocol))
            await asyncio.sleep(0)
            if when == "after":
                await protocol.until(lambda: protocol.events)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await settled()
            assert ours.fileno() == -1
            assert peer.recv(1) == b""
            expected = [] if when == "before" else ["connection_made", "connection_lost"]
            assert protocol.names() == expected

    run(main())


def test_closing_in_connection_made(run):
    class Protocol(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.abort()

    async def main():
        ours, peer = socket.socketpair()
        with peer:
            transport, protocol = await handle(ours, Protocol)
            assert transport.is_closing()
            assert await protocol.lost() is None
            await settled()

    run(main())


def test_debug_log(run, loop, caplog):
    loop.set_debug(True)

    async def main():
        ours, peer = socket.socketpair()
        with peer, caplog.at_level(logging.DEBUG, logger="asyncio"):
            transport, protocol = await handle(ours)
            transport.close()
            await protocol.lost()
            await settled()

    run(main())
    assert any("handled: (<UnixTransport" in message for message in caplog.messages)


def test_a_server_that_others_accept_for(run):
    """What connect_accepted_socket() is for: a plain listening socket, sock_accept() and a transport for each."""

    async def main():
        loop = asyncio.get_running_loop()
        with socket.create_server((HOST, 0)) as server:
            server.setblocking(False)
            peers = [socket.create_connection(server.getsockname()) for _ in range(3)]
            for peer in peers:
                sock, _ = await loop.sock_accept(server)
                transport, protocol = await handle(sock)
                peer.sendall(b"x")
                await protocol.until(lambda protocol=protocol: protocol.data == b"x")
                assert not os.get_inheritable(sock.fileno())
                transport.close()
                await protocol.lost()
                await settled()
                assert peer.recv(1) == b""
                peer.close()

    run(main())
