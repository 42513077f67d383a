"""create_server(): hosts, families, options, sockets of one's own, arguments."""

import asyncio
import errno
import logging
import os
import socket
import threading

import pytest
from transports.support import HOST, Recorder, Service, serving


def test_several_hosts(run):
    async def main():
        loop = asyncio.get_running_loop()
        async with await loop.create_server(Recorder, [HOST, "127.0.0.2", HOST], 0) as server:
            hosts = [sock.getsockname()[0] for sock in server.sockets]
            assert sorted(hosts) == [HOST, "127.0.0.2"]
        async with await loop.create_server(Recorder, ("127.0.0.2",), 0) as server:
            assert len(server.sockets) == 1

    run(main())


@pytest.mark.parametrize("host", [None, ""])
def test_every_address(run, host):
    """Both families, each with a socket of its own."""

    async def main():
        loop = asyncio.get_running_loop()
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = probe.getsockname()[1]
        async with await loop.create_server(Recorder, host, port) as server:
            families = {sock.family for sock in server.sockets}
            assert socket.AF_INET in families
            assert {sock.getsockname()[1] for sock in server.sockets} == {port}
            for sock in server.sockets:
                if sock.family == socket.AF_INET6:
                    assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
            _, protocol = await loop.create_connection(Recorder, HOST, port)
            protocol.transport.close()
            await protocol.lost()

    run(main())


def test_family(run):
    async def main():
        loop = asyncio.get_running_loop()
        async with await loop.create_server(Recorder, "localhost", 0, family=socket.AF_INET) as server:
            assert {sock.family for sock in server.sockets} == {socket.AF_INET}

    run(main())


def test_options(run):
    async def main():
        loop = asyncio.get_running_loop()

        async def option(level, name, **kwargs):
            async with await loop.create_server(Recorder, HOST, 0, **kwargs) as server:
                return server.sockets[0].getsockopt(level, name)

        assert await option(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
        assert await option(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse_address=False) == 0
        assert await option(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0
        assert await option(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse_port=True) == 1
        assert await option(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
        assert await option(socket.SOL_SOCKET, socket.SO_KEEPALIVE, keep_alive=True) == 1

    run(main())


def test_sock(run):
    async def main():
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.bind((HOST, 0))
        server = await loop.create_server(Recorder, sock=sock)
        assert server.sockets[0].fileno() == sock.fileno()
        transport, protocol = await loop.create_connection(Recorder, *sock.getsockname())
        transport.close()
        await protocol.lost()
        server.close()
        assert sock.fileno() == -1
        server.abort_clients()
        await server.wait_closed()

    run(main())


def test_unix_sock(run):
    async def main():
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_UNIX)
        name = b"\0corolla-test-" + os.urandom(8).hex().encode()
        sock.bind(name)
        service = Service()
        service.server = await loop.create_server(service.factory, sock=sock)
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(name)
            await service.accepted(1)
            transport = service.protocols[0].transport
            assert transport.get_extra_info("sockname") == name
            assert transport.get_extra_info("peername") == ""
            transport.close()
            service.server.close()
            await service.server.wait_closed()

    run(main())


def test_address_in_use(run):
    async def main():
        loop = asyncio.get_running_loop()
        async with await loop.create_server(Recorder, HOST, 0) as server:
            address = server.sockets[0].getsockname()
            with pytest.raises(OSError) as caught:
                await loop.create_server(Recorder, [*address[:1], "127.0.0.2"][::-1], address[1])
            assert caught.value.errno == errno.EADDRINUSE
            assert caught.value.strerror == (
                f"error while attempting to bind on address {address!r}: "
                f"[errno {errno.EADDRINUSE}] address already in use"
            )

    run(main())


def test_address_of_somebody_else(run):
    async def main():
        loop = asyncio.get_running_loop()
        with pytest.raises(OSError, match=r"could not bind on any address out of \[\('192\.0\.2\.1', 0\)\]"):
            await loop.create_server(Recorder, "192.0.2.1", 0)
        async with await loop.create_server(Recorder, ["192.0.2.1", HOST], 0) as server:
            assert [sock.getsockname()[0] for sock in server.sockets] == [HOST]

    run(main())


def test_a_socket_that_cannot_listen_is_the_callers(run):
    async def main():
        ours, peer = socket.socketpair()
        with ours, peer:
            with pytest.raises(OSError):
                await asyncio.get_running_loop().create_server(Recorder, sock=ours)
            ours.setblocking(True)
            ours.sendall(b"abc")
            assert peer.recv(10) == b"abc"

    run(main())


def test_bad_arguments(run):
    async def main():
        create = asyncio.get_running_loop().create_server
        datagram = socket.socket(type=socket.SOCK_DGRAM)
        with datagram, socket.socket() as stream:
            for error, match, args, kwargs in (
                (ValueError, "Neither host/port nor sock were specified", (), {}),
                (ValueError, "can not be specified at the same time", (HOST, 0), {"sock": stream}),
                (ValueError, "can not be specified at the same time", (None, 0), {"sock": stream}),
                (ValueError, "A Stream Socket was expected, got <socket", (), {"sock": datagram}),
                (TypeError, "ssl argument must be an SSLContext or None", (HOST, 0), {"ssl": True}),
                (TypeError, "ssl argument must be an SSLContext or None", (HOST, 0), {"ssl": False}),
                (
                    ValueError,
                    "ssl_handshake_timeout is only meaningful with ssl",
                    (HOST, 0),
                    {"ssl_handshake_timeout": 1},
                ),
                (
                    ValueError,
                    "ssl_shutdown_timeout is only meaningful with ssl",
                    (HOST, 0),
                    {"ssl_shutdown_timeout": 1},
                ),
                (socket.gaierror, None, ("host.invalid", 0), {}),
                ((OverflowError, OSError), None, (HOST, 70000), {}),
                (AttributeError, None, (), {"sock": 7}),
                (TypeError, None, (HOST, 0), {"backlog": "x"}),
            ):
                with pytest.raises(error, match=match):
                    await create(Recorder, *args, **kwargs)
        for args, kwargs in (((), {}), ((1, 2, 3, 4), {}), ((Recorder,), {"what": 1})):
            with pytest.raises(TypeError):
                create(*args, **kwargs)

    run(main())


def test_cancelled_before_it_serves(run):
    """Nobody will ever get that server: it is closed."""

    async def main():
        with socket.socket() as sock:
            sock.bind((HOST, 0))
            task = asyncio.create_task(asyncio.get_running_loop().create_server(Recorder, sock=sock))
            await asyncio.sleep(0)
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert sock.fileno() == -1

    run(main())


def test_a_coroutine_that_is_not_awaited(loop):
    coro = loop.create_server(Recorder, HOST, 0)
    assert asyncio.iscoroutine(coro)
    assert coro.__name__ == "create_server"
    coro.close()


def test_debug_log(run, loop, caplog):
    loop.set_debug(True)

    async def main():
        with caplog.at_level(logging.DEBUG, logger="asyncio"):
            async with serving() as (service, server):
                transport, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
                transport.pause_reading()
                transport.resume_reading()
                transport.close()
                await protocol.lost()
                await service.accepted(1)
                await service.protocols[0].lost()

    run(main())
    for part in ("is serving", "connected to", "pauses reading", "resumes reading", "received EOF"):
        assert any(part in message for message in caplog.messages), part


def test_another_thread_in_debug_mode(run, loop):
    """FEATURES: debug mode reports wrong-thread calls."""
    loop.set_debug(True)

    async def main():
        async with serving() as (service, server):
            with service.connect():
                await service.accepted(1)
                transport = service.protocols[0].transport
                caught = []

                def call():
                    for method in (transport.close, transport.abort):
                        try:
                            method()
                        except RuntimeError as exc:
                            caught.append(str(exc))

                thread = threading.Thread(target=call)
                thread.start()
                await loop.run_in_executor(None, thread.join)
                assert len(caught) == 2
                assert all("Non-thread-safe operation" in message for message in caught)
                assert not transport.is_closing()

    run(main())
