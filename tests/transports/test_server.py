"""create_server() and Server: serving, closing, waiting, and what goes wrong while accepting."""

import asyncio
import contextlib
import contextvars
import errno
import gc
import os
import resource
import socket
import weakref

import corolla
import pytest
from transports.support import HOST, Recorder, Service, receive_all, reset, serving, settled


def test_serves(run):
    async def main():
        async with serving() as (service, server):
            assert server.is_serving()
            assert server.get_loop() is asyncio.get_running_loop()
            peers = [service.connect() for _ in range(5)]
            await service.accepted(5)
            for i, peer in enumerate(peers):
                peer.sendall(b"%d" % i)
                peer.shutdown(socket.SHUT_WR)
            for protocol in service.protocols:
                await protocol.lost()
            assert sorted(protocol.data for protocol in service.protocols) == [b"%d" % i for i in range(5)]
            for peer in peers:
                assert peer.recv(1) == b""
                peer.close()

    run(main())


def test_isinstance_and_attributes(run):
    """Debug mode and introspection: isinstance holds for Server; weak references and attributes work."""

    async def main():
        async with serving() as (_, server):
            assert isinstance(server, corolla.Server)
            assert isinstance(server, asyncio.Server)
            assert isinstance(server, asyncio.AbstractServer)
            server.mine = 1
            assert server.__dict__ == {"mine": 1}
            assert weakref.ref(server)() is server
            assert isinstance(server.sockets, tuple)
            assert all(isinstance(sock, asyncio.trsock.TransportSocket) for sock in server.sockets)
            assert repr(server) == f"<Server sockets={server.sockets!r}>"
        assert server.sockets == ()
        assert repr(server) == "<Server sockets=()>"
        assert not server.is_serving()

    run(main())


def test_not_made_by_hand():
    for make in (
        lambda: corolla.Server(),
        lambda: corolla.Server(None, [], None, None, 1, None),
        lambda: corolla.Server.__new__(corolla.Server),
        lambda: object.__new__(corolla.Server),
        lambda: type("Sub", (corolla.Server,), {})(),
        lambda: corolla.Server.__mro__[1](),
    ):
        with pytest.raises(TypeError):
            make()


def test_descriptors_are_accepted_as_asyncio_has_them(run):
    async def main():
        async with serving() as (service, _):
            with service.connect():
                await service.accepted(1)
                transport = service.protocols[0].transport
                sock = transport.get_extra_info("socket")
                assert not os.get_blocking(sock.fileno())
                assert not os.get_inheritable(sock.fileno())
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1

    run(main())


# ---- Starting ----------------------------------------------------------------------------------


def test_start_serving_later(run):
    async def main():
        async with serving(start_serving=False) as (service, server):
            assert not server.is_serving()
            with pytest.raises(ConnectionRefusedError):
                service.connect()
            await server.start_serving()
            await server.start_serving()
            assert server.is_serving()
            with service.connect():
                await service.accepted(1)
        with pytest.raises(RuntimeError, match="is closed"):
            await server.start_serving()

    run(main())


def test_a_server_stays_alive_while_it_serves(run):
    """Servers: a Server that nobody referenced was garbage-collected; after close it is collectable."""

    async def main():
        service = Service()
        server = await service.start()
        address = server.sockets[0].getsockname()
        ref = weakref.ref(server)
        del service.server, server
        gc.collect()
        with socket.create_connection(address):
            await service.accepted(1)
            ref().close()
            service.protocols[0].transport.abort()
            await service.protocols[0].lost()
        await settled()
        gc.collect()
        assert ref() is None

    run(main())


def test_server_of_a_loop_that_was_closed():
    """Listening sockets nobody closed warn as they go, and the loop is collected."""
    loop = corolla.new_event_loop()
    server = loop.run_until_complete(loop.create_server(asyncio.Protocol, HOST, 0))
    loop.close()
    assert not server.is_serving()
    server.close()
    with pytest.raises(RuntimeError):
        loop.run_until_complete(server.wait_closed().close())
    loop = corolla.new_event_loop()
    ref = weakref.ref(loop)
    server = loop.run_until_complete(loop.create_server(asyncio.Protocol, HOST, 0))
    loop.close()
    with pytest.warns(ResourceWarning, match="unclosed <socket"):
        del loop, server
        gc.collect()
    assert ref() is None


# ---- Closing -----------------------------------------------------------------------------------


def test_close_stops_accepting_and_keeps_connections(run):
    async def main():
        service = Service()
        server = await service.start()
        address = server.sockets[0].getsockname()
        with service.connect() as peer:
            await service.accepted(1)
            server.close()
            server.close()
            assert not server.is_serving()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address)
            (protocol,) = service.protocols
            peer.sendall(b"abc")
            await protocol.until(lambda: protocol.data == b"abc")
            protocol.transport.write(b"xyz")
            assert peer.recv(10) == b"xyz"
            protocol.transport.close()
            await server.wait_closed()

    run(main())


@pytest.mark.parametrize("order", ["before", "after", "both"])
def test_wait_closed(run, order):
    """Servers: wait_closed() returned at once after close(), or early before close()."""

    async def main():
        service = Service()
        server = await service.start()
        waiting = []
        if order != "after":
            waiting.append(asyncio.create_task(server.wait_closed()))
            await settled()
            assert not waiting[0].done()
        with service.connect() as peer:
            await service.accepted(1)
            server.close()
            if order != "before":
                waiting.append(asyncio.create_task(server.wait_closed()))
            await settled()
            assert not any(task.done() for task in waiting)
            peer.close()
            await asyncio.gather(*waiting)
            assert service.protocols[0].names()[-1] == "connection_lost"
            await server.wait_closed()

    run(main())


def test_wait_closed_cancelled(run):
    async def main():
        service = Service()
        server = await service.start()
        task = asyncio.create_task(server.wait_closed())
        await settled()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert server.is_serving()
        server.close()
        await server.wait_closed()

    run(main())


def test_async_with(run):
    async def main():
        async with await asyncio.get_running_loop().create_server(Recorder, HOST, 0) as server:
            assert server.is_serving()
        assert not server.is_serving()

    run(main())


def test_async_with_waits_for_connections(run):
    """__aexit__() is close() and wait_closed(), also where a subclass or an instance has its own."""

    async def main():
        service = Service()
        server = await service.start()
        assert asyncio.iscoroutine(entering := server.__aenter__())
        assert await entering is server
        with service.connect() as peer:
            await service.accepted(1)
            leaving = asyncio.create_task(server.__aexit__(None, None, None))
            await settled()
            assert not server.is_serving()
            assert not leaving.done()
            peer.close()
            assert await leaving is None

        called = []
        server = await service.start()
        close = server.close
        server.close = lambda: called.append("close") or close()
        with pytest.raises(LookupError):
            async with server:
                raise LookupError
        assert called == ["close"]
        server.close = lambda: 1 // 0
        with pytest.raises(ZeroDivisionError):
            await server.__aexit__(None, None, None)

    run(main())


def test_several_servers(run):
    """Each has its own connections, and ends by itself."""

    async def main():
        services = [Service() for _ in range(3)]
        servers = [await service.start() for service in services]
        tasks = [asyncio.create_task(server.serve_forever()) for server in servers]
        peers = [service.connect() for service in services for _ in range(2)]
        for service in services:
            await service.accepted(2)
        servers[0].close()
        servers[0].abort_clients()
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        assert [server.is_serving() for server in servers] == [False, True, True]
        assert not any(task.done() for task in tasks[1:])
        for service in services[1:]:
            assert not any(protocol.transport.is_closing() for protocol in service.protocols)
            with service.connect():
                await service.accepted(3)
        for server in servers:
            server.close()
            server.close_clients()
        await asyncio.gather(*(server.wait_closed() for server in servers))
        await asyncio.gather(*tasks, return_exceptions=True)
        for peer in peers:
            peer.close()
        await settled()

    run(main())


def test_two_servers_on_one_port(run):
    """reuse_port: the kernel deals the connections out."""

    async def main():
        loop = asyncio.get_running_loop()
        async with serving(reuse_port=True) as (one, server):
            address = server.sockets[0].getsockname()
            two = Service()
            two.server = await loop.create_server(two.factory, *address, reuse_port=True)
            peers = []
            while not (one.protocols and two.protocols):
                peers.append(one.connect())
                await settled()
            two.server.close()
            two.server.close_clients()
            await two.server.wait_closed()
            for peer in peers:
                peer.close()

    run(main())


def test_many_connections_in_one_turn(run):
    """As many as the backlog are accepted in one go, and no more: the loop has other things to do."""

    async def main():
        accepted = []

        class Protocol(Recorder):
            def __init__(self):
                super().__init__()
                accepted.append(turn)

        turn = 0
        service = Service(Protocol)
        server = await service.start(backlog=5, start_serving=False)
        server._sockets[0].listen(50)
        peers = [service.connect() for _ in range(12)]
        await server.start_serving()
        while len(accepted) < 12:
            turn += 1
            await asyncio.sleep(0)
        assert sorted(accepted.count(turn) for turn in set(accepted)) == [2, 5, 5]
        for peer in peers:
            peer.close()
        server.close()
        await server.wait_closed()

    run(main())


def test_collected_once_closed(run):
    """Servers: after close a server is collectable, and its waiters and connections with it."""

    async def main():
        service = Service()
        server = await service.start()
        service.connect().close()
        await service.accepted(1)
        await service.protocols[0].lost()
        await settled()
        server.me = server
        ref = weakref.ref(server)
        server.close()
        await server.wait_closed()
        service.protocols.clear()
        del server, service.server
        gc.collect()
        assert ref() is None

    run(main())


@pytest.mark.parametrize("how", ["close", "abort"])
def test_clients(run, how):
    """close_clients() flushes, abort_clients() drops."""

    async def main():
        async with serving() as (service, server):
            peers = [service.connect() for _ in range(3)]
            await service.accepted(3)
            for protocol in service.protocols:
                protocol.transport.write(b"x" * 20_000_000)
                assert protocol.transport.get_write_buffer_size() > 0
            getattr(server, how + "_clients")()
            assert all(protocol.transport.is_closing() for protocol in service.protocols)
            for peer in peers:
                size = len(await receive_all(peer))
                assert size == 20_000_000 if how == "close" else size < 20_000_000
                peer.close()
            for protocol in service.protocols:
                assert await protocol.lost() is None
            assert server.is_serving()

    run(main())


def test_abort_clients_of_a_connection_not_made_yet(run):
    """Between accept and connection_made(): the protocol hears of both, in order."""

    async def main():
        loop = asyncio.get_running_loop()

        class Protocol(Recorder):
            def __init__(self):
                super().__init__()
                loop.call_soon(service.server.abort_clients)  # in front of connection_made()

        service = Service(Protocol)
        server = await service.start()
        with service.connect() as peer:
            await service.accepted(1)
            await service.protocols[0].lost()
            assert service.protocols[0].names() == ["connection_made", "connection_lost"]
            with contextlib.suppress(ConnectionResetError):
                assert peer.recv(1) == b""
        server.close()
        await server.wait_closed()

    run(main())


# ---- serve_forever() ---------------------------------------------------------------------------


def test_serve_forever_is_cancelled_by_close(run):
    """Servers: serve_forever() hung when the server was closed."""

    async def main():
        service = Service()
        server = await service.start(start_serving=False)
        task = asyncio.create_task(server.serve_forever())
        await settled()
        assert server.is_serving()
        server.close()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(RuntimeError, match="is closed"):
            await server.serve_forever()

    run(main())


def test_serve_forever_takes_one_caller(run):
    async def main():
        async with serving() as (_, server):
            task = asyncio.create_task(server.serve_forever())
            await settled()
            with pytest.raises(RuntimeError, match=r"is already being awaited on serve_forever\(\)"):
                await server.serve_forever()
            assert server.is_serving()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(main())


def test_serve_forever_cancelled(run):
    """Servers: on cancellation serve_forever() left clients open. It closes the server, then waits for its connections."""

    async def main():
        service = Service()
        server = await service.start()
        task = asyncio.create_task(server.serve_forever())
        with service.connect() as peer:
            await service.accepted(1)
            task.cancel()
            await settled()
            assert not server.is_serving()
            assert not task.done()
            peer.close()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(main())


def test_serve_forever_cancelled_twice(run):
    async def main():
        service = Service()
        server = await service.start()
        task = asyncio.create_task(server.serve_forever())
        with service.connect():
            await service.accepted(1)
            task.cancel()
            await settled()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not server.is_serving()
            server.close_clients()
            await server.wait_closed()

    run(main())


# ---- Callbacks that close ----------------------------------------------------------------------


@pytest.mark.parametrize("callback", ["factory", "connection_made", "data_received", "eof_received", "connection_lost"])
def test_closing_the_server_from_a_callback(run, callback):
    """Servers: Server.close() between accept and attach hit an assertion: it serves or closes, and nothing leaks."""

    async def main():
        service = Service()

        class Protocol(Recorder):
            def __init__(self):
                super().__init__()
                if callback == "factory":
                    service.server.close()

        def closing(self, *args):
            service.server.close()
            return getattr(Recorder, callback)(self, *args)

        if callback != "factory":
            setattr(Protocol, callback, closing)
        service.base = Protocol
        server = await service.start()
        peers = [service.connect() for _ in range(3)]
        for peer in peers:
            with contextlib.suppress(OSError):  # those that were not accepted any more
                peer.sendall(b"abc")
                peer.shutdown(socket.SHUT_WR)
        await server.wait_closed()
        assert server.sockets == ()
        for protocol in service.protocols:
            if protocol.events:
                await protocol.lost()
        for peer in peers:
            with contextlib.suppress(ConnectionResetError):
                assert peer.recv(1) == b""
            peer.close()
        await settled()

    run(main())


def test_dropping_the_server_from_a_callback(run):
    """Nothing of the server is left when accepting comes back into C."""

    async def main():
        service = Service()

        def factory():
            service.server.close()
            del service.server
            gc.collect()
            return Recorder()

        service.server = await asyncio.get_running_loop().create_server(factory, HOST, 0)
        ref = weakref.ref(service.server)
        with service.connect() as peer:
            while hasattr(service, "server"):
                await asyncio.sleep(0)
            assert peer.recv(1) == b""
        await settled()
        assert ref() is None

    run(main())


# ---- What goes wrong ---------------------------------------------------------------------------


def test_a_factory_that_raises(run, reports):
    async def main():
        exc = ValueError("no protocol")
        fail = True

        class Protocol(Recorder):
            def __init__(self):
                if fail:
                    raise exc
                super().__init__()

        async with serving(Protocol) as (service, server):
            with service.connect() as peer:
                while not reports:
                    await asyncio.sleep(0)
                report = reports.pop()
                assert report["message"] == "Error on transport creation for incoming connection"
                assert report["exception"] is exc
                assert peer.recv(1) == b""
            fail = False
            with service.connect():
                await service.accepted(1)

    run(main())


def test_a_factory_that_leaves_the_loop(loop):
    async def start():
        def factory():
            raise SystemExit(7)

        return await loop.create_server(factory, HOST, 0)

    server = loop.run_until_complete(start())
    with socket.create_connection(server.sockets[0].getsockname()) as peer:
        with pytest.raises(SystemExit):
            loop.run_forever()
        assert peer.recv(1) == b""
    assert server.is_serving()
    server.close()
    loop.run_until_complete(server.wait_closed())


def test_a_peer_that_has_reset_already(run):
    async def main():
        async with serving() as (service, _):
            reset(service.connect())
            await service.accepted(1)
            assert isinstance(await service.protocols[0].lost(), ConnectionResetError)

    run(main())


@contextlib.contextmanager
def no_descriptors_left():
    """Every number below the limit is taken."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 20, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield taken
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def jumping(reports):
    """A loop whose clock goes on only when told: loop.now is what it shows."""

    class Loop(corolla.EventLoop):
        now = 1000.0

        def time(self):
            return self.now

    loop = Loop()
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    yield loop
    loop.close()
    assert not reports


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


def test_out_of_descriptors(jumping, reports):
    """Servers: one report, one delayed retry, no spin, service resumes."""

    async def main():
        async with serving() as (service, server):
            peers = [socket.socket() for _ in range(3)]
            with no_descriptors_left():
                for peer in peers:
                    peer.connect(server.sockets[0].getsockname())
                while not reports:
                    await turns(1)
                report = reports.pop()
                assert report["message"] == "socket.accept() out of system resource"
                assert report["exception"].errno == errno.EMFILE
                assert isinstance(report["socket"], asyncio.trsock.TransportSocket)
                assert report["socket"].fileno() == server.sockets[0].fileno()
                jumping.now += 0.9
                await turns(1000)
                assert reports == []
                jumping.now += 0.2
                while not reports:  # it has tried again, to no avail
                    await turns(1)
                reports.clear()
                await turns(1000)
                assert reports == []
            await turns(1000)
            assert service.protocols == []
            jumping.now += 1.1
            await service.accepted(3)
            for peer in peers:
                peer.close()

    jumping.run_until_complete(main())


def test_closing_while_out_of_descriptors(jumping, reports):
    """Servers: close during back-off cancels the retry."""

    async def main():
        service = Service()
        server = await service.start()
        with socket.socket() as peer:
            with no_descriptors_left():
                peer.connect(server.sockets[0].getsockname())
                while not reports:
                    await turns(1)
                reports.clear()
                server.close()
                await server.wait_closed()
        ref = weakref.ref(server)
        del server, service.server
        gc.collect()
        assert ref() is None
        jumping.now += 2
        await turns(1000)
        assert service.protocols == []

    jumping.run_until_complete(main())


# ---- Contexts ----------------------------------------------------------------------------------


def test_each_connection_has_a_copy_of_the_server_context(run):
    """FEATURES: a Server keeps the context it was made in and each accepted connection runs in a copy of it."""
    var = contextvars.ContextVar("var")
    seen = []

    class Protocol(Recorder):
        def __init__(self):
            super().__init__()
            seen.append(var.get())
            var.set("connection")

        def note(self, *event):
            seen.append(var.get())
            super().note(*event)

    async def main():
        var.set("server")
        async with serving(Protocol) as (service, _):
            var.set("later")
            for _ in range(2):
                with service.connect():
                    pass
            await service.accepted(2)
            for protocol in service.protocols:
                await protocol.lost()
            assert var.get() == "later"

    run(main())
    assert seen.count("server") == 2
    assert set(seen) == {"server", "connection"}
