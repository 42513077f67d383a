"""Connections, servers, pipes and datagrams: a thousand rounds leave blocks, objects, descriptors and malloc'ed bytes alone."""

import asyncio
import io
import logging
import os
import socket

import impl
import pytest

pytestmark = pytest.mark.timeout(240)


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Client(asyncio.Protocol):
    def __init__(self, loop):
        self.received, self.lost = loop.create_future(), loop.create_future()

    def data_received(self, data):
        self.received.set_result(data)

    def connection_lost(self, error):
        self.lost.set_result(error)


def test_connections(loop, leaks_nothing):
    server = loop.run_until_complete(loop.create_server(Echo, "127.0.0.1", 0))
    port = server.sockets[0].getsockname()[1]

    async def operation():
        transport, protocol = await loop.create_connection(lambda: Client(loop), "127.0.0.1", port)
        transport.write(b"hello")
        transport.writelines([b"wor", bytearray(b"ld")])
        transport.get_extra_info("peername")
        transport.pause_reading()
        transport.resume_reading()
        assert (await protocol.received)[:5] == b"hello"
        transport.close()
        assert await protocol.lost is None

    leaks_nothing(operation)
    server.close()
    loop.run_until_complete(server.wait_closed())


def test_unix_connections(loop, leaks_nothing, tmp_path):
    path = str(tmp_path / "sock")
    server = loop.run_until_complete(loop.create_unix_server(Echo, path))

    async def operation():
        transport, protocol = await loop.create_unix_connection(lambda: Client(loop), path)
        transport.write(b"hello")
        transport.get_extra_info("peername")
        assert await protocol.received == b"hello"
        transport.close()
        assert await protocol.lost is None

    leaks_nothing(operation)
    server.close()
    loop.run_until_complete(server.wait_closed())


def test_unix_servers(loop, leaks_nothing, tmp_path):
    path = str(tmp_path / "sock")

    async def operation():
        async with await loop.create_unix_server(Echo, path) as server:
            repr(server.sockets)
        server = await loop.create_unix_server(Echo, path, cleanup_socket=False)
        server.close()  # leaves a stale one
        for create in (loop.create_unix_server, loop.create_unix_connection):
            for arguments in ((path + "/below",), (7,), ("",)):
                try:
                    await create(Echo, *arguments)
                except (OSError, TypeError, IndexError):
                    pass
        os.unlink(path)

    logging.disable()
    try:
        leaks_nothing(operation, rounds=300)
    finally:
        logging.disable(logging.NOTSET)


def test_unix_connections_that_wait(loop, leaks_nothing, tmp_path):
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as filler:
        listening.bind(path)
        listening.listen(0)
        filler.connect(path)

        async def operation():
            waiting = [loop.create_task(loop.create_unix_connection(Echo, path)) for _ in range(3)]
            await asyncio.sleep(0)
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)

        leaks_nothing(operation)


def test_accepted_sockets(loop, leaks_nothing):
    async def operation():
        ours, theirs = socket.socketpair()
        transport, protocol = await loop.connect_accepted_socket(lambda: Client(loop), ours)
        theirs.sendall(b"hello")
        assert await protocol.received == b"hello"
        theirs.close()
        assert await protocol.lost is None

    leaks_nothing(operation)


def test_pipes(loop, leaks_nothing):
    async def operation():
        reader, writer = os.pipe()
        protocol = Client(loop)
        into, _ = await loop.connect_read_pipe(lambda: protocol, open(reader, "rb", 0))
        out, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, open(writer, "wb", 0))
        out.write(b"hello")
        out.writelines([b"wor", bytearray(b"ld")])
        into.get_extra_info("pipe")
        into.pause_reading()
        into.resume_reading()
        assert (await protocol.received)[:5] == b"hello"
        out.close()
        assert await protocol.lost is None

    leaks_nothing(operation)


def test_pipes_that_fail(loop, leaks_nothing):
    async def operation():
        reader, writer = os.pipe()
        lost = Client(loop)
        task = loop.create_task(loop.connect_read_pipe(asyncio.Protocol, open(reader, "rb", 0)))
        await impl.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        out, _ = await loop.connect_write_pipe(lambda: lost, open(writer, "wb", 0))
        out.write(b"to nobody")
        await lost.lost
        with open("/dev/zero", "rb", 0) as file, open(__file__, "rb", 0) as refused:
            try:
                await loop.connect_read_pipe(asyncio.Protocol, refused)
            except ValueError:
                pass
            file.fileno()

    leaks_nothing(operation)


def test_sendfile(loop, leaks_nothing):
    server = loop.run_until_complete(loop.create_server(Echo, "127.0.0.1", 0))
    port = server.sockets[0].getsockname()[1]

    class Sender(Client):
        def data_received(self, data):
            """What comes back comes in pieces."""

    async def operation():
        transport, protocol = await loop.create_connection(lambda: Sender(loop), "127.0.0.1", port)
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setblocking(False)
        with open(__file__, "rb") as file, sock:
            assert await loop.sendfile(transport, file, 0, 10) == 10
            assert await loop.sock_sendfile(sock, file, 3, 10) == 10
            assert await loop.sendfile(transport, io.BytesIO(b"x" * 10), 5) == 5
            assert await loop.sock_sendfile(sock, io.BytesIO(b"x" * 10)) == 10
            for odd in ({"offset": -1}, {"count": 0}, {"fallback": False}):
                try:
                    await loop.sendfile(transport, io.BytesIO(), **odd)
                except (ValueError, RuntimeError):
                    pass
        transport.close()
        assert await protocol.lost is None

    leaks_nothing(operation)
    server.close()
    loop.run_until_complete(server.wait_closed())


def test_connections_that_fail(loop, leaks_nothing):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

        async def operation():
            try:
                await loop.create_connection(asyncio.Protocol, "127.0.0.1", port)
            except ConnectionRefusedError:
                pass
            task = loop.create_task(loop.create_connection(asyncio.Protocol, "127.0.0.1", port))
            await impl.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()

        leaks_nothing(operation)


def test_servers(loop, leaks_nothing):
    async def operation():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        repr(server.sockets)
        server.close()
        await server.wait_closed()

    leaks_nothing(operation)


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, loop):
        self.received, self.lost = loop.create_future(), loop.create_future()

    def datagram_received(self, data, addr):
        if not self.received.done():
            self.received.set_result((data, addr))

    def connection_lost(self, exc):
        self.lost.set_result(exc)


def test_datagram_endpoints(loop, leaks_nothing):
    def factory():
        return Datagrams(loop)

    async def operation():
        server, serving = await loop.create_datagram_endpoint(factory, local_addr=("127.0.0.1", 0))
        address = server.get_extra_info("sockname")
        client, asking = await loop.create_datagram_endpoint(
            factory, remote_addr=("localhost", address[1]), family=socket.AF_INET
        )
        client.sendto(b"question")
        data, sender = await serving.received
        server.sendto(data, sender)
        server.sendto(bytearray(data), ("localhost", sender[1]))
        assert await asking.received == (b"question", address)
        for address in (("127.0.0.1", 1), "nonsense", ("127.0.0.1", 2**20)):
            try:
                client.sendto(b"x", address)
            except (ValueError, TypeError, OverflowError):
                pass
        server.set_protocol(serving)
        repr(server)
        server.close()
        client.abort()
        await serving.lost
        await asking.lost

    leaks_nothing(operation, rounds=500)


def test_datagram_queues(loop, leaks_nothing):
    async def operation():
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with other:
            transport, protocol = await loop.create_datagram_endpoint(lambda: Datagrams(loop), sock=one)
            while transport.get_write_buffer_size() == 0:
                transport.sendto(b"x" * 20_000)
            for _ in range(20):
                transport.sendto(bytearray(5_000))
            transport.abort()
            await protocol.lost

    leaks_nothing(operation, rounds=300)


def test_datagram_endpoints_that_fail(loop, leaks_nothing):
    def bad_factory():
        raise LookupError

    async def operation():
        for factory, kwargs in (
            (bad_factory, {"local_addr": ("127.0.0.1", 0)}),
            (asyncio.DatagramProtocol, {"local_addr": ("192.0.2.1", 5)}),
            (asyncio.DatagramProtocol, {"local_addr": ("127.0.0.1", 0), "remote_addr": ("::1", 5)}),
            (asyncio.DatagramProtocol, {"local_addr": 5}),
        ):
            try:
                await loop.create_datagram_endpoint(factory, **kwargs)
            except (LookupError, OSError, ValueError, TypeError):
                pass
        task = loop.create_task(loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)))
        await impl.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    leaks_nothing(operation, rounds=300)
