"""create_unix_connection(), UnixTransport: names, both ends, waiting for a server, arguments."""

import asyncio
import contextlib
import gc
import logging
import os
import pathlib
import resource
import socket
import ssl
import weakref

import corolla
import pytest
from transports.support import Recorder, receive_all, settled
from transports.unix_support import UnixService, abstract, bound, close, connect, exists, serving

# ---- Both ends ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["str", "bytes", "path", "abstract", "abstract bytes"])
def test_names(run, path, kind):
    name = {
        "str": path,
        "bytes": os.fsencode(path),
        "path": pathlib.Path(path),
        "abstract": abstract(),
        "abstract bytes": abstract().encode() + b"\0\0",
    }[kind]
    shown = name.encode() if kind == "abstract" else name if kind == "abstract bytes" else path

    async def main():
        async with serving(name) as (service, server):
            assert server.sockets[0].getsockname() == shown
            transport, protocol = await connect(name)
            assert type(transport) is corolla.UnixTransport
            await service.accepted(1)
            (served,) = service.protocols
            assert type(served.transport) is corolla.UnixTransport
            transport.write(b"question")
            await served.until(lambda: served.data == b"question")
            served.transport.write(b"answer")
            await protocol.until(lambda: protocol.data == b"answer")
            assert transport.get_extra_info("peername") == shown
            assert transport.get_extra_info("sockname") == ""
            assert served.transport.get_extra_info("peername") == ""
            assert served.transport.get_extra_info("sockname") == shown
            assert transport.get_extra_info("peercred") is None
            sock = transport.get_extra_info("socket")
            assert isinstance(sock, asyncio.trsock.TransportSocket)
            assert sock.family == socket.AF_UNIX
            assert not os.get_blocking(sock.fileno())
            assert not os.get_inheritable(sock.fileno())
            await close(transport, protocol)
            assert transport.get_extra_info("peername") == shown
            assert transport.get_extra_info("socket").fileno() == -1
            assert await served.lost() is None

    run(main())


def test_isinstance_and_repr(run, path):
    """Debug mode and introspection: isinstance holds for Transport; weak references and attributes work."""

    async def main():
        async with serving(path):
            transport, protocol = await connect(path)
            assert isinstance(transport, asyncio.Transport)
            assert not isinstance(transport, corolla.TcpTransport)
            assert weakref.ref(transport)() is transport
            transport.mine = 1
            assert transport.mine == 1
            fd = transport.get_extra_info("socket").fileno()
            assert repr(transport) == f"<UnixTransport fd={fd} read=polling write=<idle, bufsize=0>>"
            await close(transport, protocol)
            assert repr(transport) == f"<UnixTransport closed fd={fd}>"

    run(main())


def test_not_made_by_hand():
    for make in (corolla.UnixTransport, lambda: corolla.UnixTransport.__new__(corolla.UnixTransport)):
        with pytest.raises(TypeError):
            make()
    with pytest.raises(TypeError):
        type("Sub", (corolla.UnixTransport,), {})


def test_methods_are_for_their_own_type(run, path):
    async def main():
        async with serving(path):
            transport, protocol = await connect(path)
            with pytest.raises(TypeError):
                corolla.TcpTransport.write(transport, b"x")
            with pytest.raises(TypeError):
                corolla.TcpTransport._sock_fd.__get__(transport)
            await close(transport, protocol)

    run(main())


def test_a_great_deal_in_small_pieces(run, path):
    """Flow control and queueing are those of every stream."""
    data = os.urandom(5_000_000)

    async def main():
        async with serving(path) as (service, _):
            with service.connect() as peer:
                await service.accepted(1)
                (protocol,) = service.protocols
                transport = protocol.transport
                transport.set_write_buffer_limits(1000, 10)
                transport.write(data)
                assert "pause_writing" in protocol.events
                transport.write_eof()
                assert await receive_all(peer) == data
                await protocol.until(lambda: "resume_writing" in protocol.events)

    run(main())


def test_eof_and_half_closing(run, path):
    class Keeping(Recorder):
        def __init__(self):
            super().__init__()
            self.keep_open = True

    async def main():
        async with serving(path, Keeping) as (service, _):
            with service.connect() as peer:
                peer.sendall(b"abc")
                peer.shutdown(socket.SHUT_WR)
                await service.accepted(1)
                (protocol,) = service.protocols
                await protocol.until(lambda: "eof_received" in protocol.events)
                protocol.transport.write(b"xyz")
                protocol.transport.close()
                assert await receive_all(peer) == b"xyz"
                assert protocol.data == b"abc"

    run(main())


def test_a_peer_that_goes_away(run, path):
    """Unread bytes are left behind: the peer hears of a reset."""

    async def main():
        async with serving(path) as (service, _):
            transport, protocol = await connect(path)
            await service.accepted(1)
            served = service.protocols[0].transport
            served.pause_reading()
            transport.write(b"unread")
            served.abort()
            assert isinstance(await protocol.lost(), (ConnectionResetError, type(None)))
            transport.write(b"into the void")
            await settled()

    run(main())


def test_create_connection_and_create_server_take_unix_sockets(run, path):
    """asyncio keeps allowing it: the transports are Unix ones there, too."""

    async def main():
        loop = asyncio.get_running_loop()
        service = UnixService()
        service.server = await loop.create_server(service.factory, sock=bound(path))
        ours = socket.socket(socket.AF_UNIX)
        ours.connect(path)
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        assert type(transport) is corolla.UnixTransport
        await service.accepted(1)
        assert type(service.protocols[0].transport) is corolla.UnixTransport
        await close(transport, protocol)
        service.server.close()
        await service.server.wait_closed()
        assert exists(path)  # create_server() removes nothing

    run(main())


# ---- Connecting --------------------------------------------------------------------------------


def test_errors(run, path):
    async def main():
        with pytest.raises(FileNotFoundError) as caught:
            await connect(path)
        assert str(caught.value) == "[Errno 2] No such file or directory"
        bound(path).close()
        with pytest.raises(ConnectionRefusedError) as caught:
            await connect(path)
        assert str(caught.value) == "[Errno 111] Connection refused"
        with pytest.raises(PermissionError if os.getuid() else ConnectionRefusedError):
            os.chmod(path, 0)
            await connect(path)

    run(main())


def test_a_full_queue_is_waited_for(run, path):
    """The kernel says EAGAIN and forgets. asyncio then takes the socket for connected, and uvloop gives up."""

    async def main():
        with bound(path) as server:
            server.listen(0)
            fillers = [socket.socket(socket.AF_UNIX)]
            fillers[0].connect(path)
            task = asyncio.create_task(connect(path))
            others = [asyncio.create_task(connect(path)) for _ in range(3)]
            await settled()
            assert not task.done()
            others.pop().cancel()
            accepted = []

            def accept():
                for _ in range(4):
                    accepted.append(server.accept()[0])

            await asyncio.get_running_loop().run_in_executor(None, accept)
            pairs = await asyncio.gather(task, *others)
            for transport, protocol in pairs:
                assert transport.get_extra_info("peername") == path
                await close(transport, protocol)
            for sock in [*fillers, *accepted]:
                sock.close()

    run(main())


def test_nobody_holds_the_waiting_task(run, path):
    """While a connection waits, the loop keeps whoever waits for it."""

    async def main():
        with bound(path) as server:
            server.listen(0)
            with socket.socket(socket.AF_UNIX) as filler:
                filler.connect(path)
                protocol = Recorder()
                loop = asyncio.get_running_loop()
                made = loop.create_future()
                protocol.connection_made = made.set_result
                loop.create_task(loop.create_unix_connection(lambda: protocol, path))
                await settled()
                gc.collect()
                server.accept()[0].close()
                transport = await made
                server.accept()[0].close()
                await protocol.lost()
                transport.close()

    run(main())


@pytest.mark.parametrize("how", ["cancel", "close", "drop", "loop"])
def test_waiting_for_a_full_queue_ends(path, how):
    loop = corolla.new_event_loop()
    with bound(path) as server, socket.socket(socket.AF_UNIX) as filler:
        server.listen(0)
        filler.connect(path)
        if how == "cancel":
            task = loop.create_task(loop.create_unix_connection(Recorder, path))
            loop.run_until_complete(settled())
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                loop.run_until_complete(task)
        else:
            coro = loop.create_unix_connection(Recorder, path)
            assert not coro.send(None).done()
            if how == "close":
                coro.close()
            elif how == "drop":
                del coro
        loop.run_until_complete(settled())
        loop.close()
        if how == "loop":
            coro.close()


@pytest.mark.parametrize("after", range(4))
def test_cancelled_at_every_step(run, path, after):
    """Transports: after a cancelled creation no late connection_made runs, no descriptor is left."""
    protocol = Recorder()

    async def main():
        async with serving(path):
            task = asyncio.create_task(asyncio.get_running_loop().create_unix_connection(lambda: protocol, path))
            for _ in range(after):
                await asyncio.sleep(0)
            if not task.done():
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await settled()
                assert protocol.names().count("connection_lost") == protocol.names().count("connection_made")
            else:
                await close(*await task)

    run(main())


def test_a_factory_that_raises(run, path):
    async def main():
        def factory():
            raise ValueError("no protocol")

        async with serving(path) as (service, _):
            with pytest.raises(ValueError, match="no protocol"):
                await asyncio.get_running_loop().create_unix_connection(factory, path)
            await service.accepted(1)
            assert await service.protocols[0].lost() is None

    run(main())


def test_out_of_descriptors(run, path):
    async def main():
        async with serving(path):
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            taken = []
            highest = max(int(fd) for fd in os.listdir("/proc/self/fd"))
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 20, hard))
            try:
                with contextlib.suppress(OSError):
                    while True:
                        taken.append(os.dup(0))
                with pytest.raises(OSError) as caught:
                    await connect(path)
                assert caught.value.errno == 24
                with pytest.raises(OSError) as caught:
                    await UnixService().start(path + "2")
                assert caught.value.errno == 24
            finally:
                for fd in taken:
                    os.close(fd)
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    run(main())


# ---- sock= -------------------------------------------------------------------------------------


def test_sock(run, path):
    async def main():
        async with serving(path):
            ours = socket.socket(socket.AF_UNIX)
            ours.connect(path)
            transport, protocol = await connect(sock=ours)
            assert transport._sock is ours
            assert ours.gettimeout() == 0
            await close(transport, protocol)
            assert ours.fileno() == -1

    run(main())


def test_sock_is_closed_if_cancelled(run):
    """Transports: a cancelled creation left the Python socket believing it owned the descriptor."""

    async def main():
        ours, peer = socket.socketpair()
        with peer:
            task = asyncio.create_task(connect(sock=ours))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await settled()
            assert ours.fileno() == -1
            assert peer.recv(1) == b""

    run(main())


# ---- Arguments ---------------------------------------------------------------------------------


def refused(context, stream, unix):
    """(error, words, arguments, options) of each method, in the order in which asyncio looks at them: where several
    things are wrong, the first is what is told."""
    only = "is only meaningful with ssl"
    expected = "A UNIX Domain Stream Socket was expected, got <socket"
    client = [
        (AssertionError, None, ("p",), {"server_hostname": b"x", "ssl": True, "sock": unix}),
        (ValueError, "you have to pass server_hostname when using ssl", ("p",), {"ssl": True, "sock": unix}),
        (ValueError, f"server_hostname {only}", ("p",), {"server_hostname": "x", "ssl_handshake_timeout": 1}),
        (ValueError, f"ssl_handshake_timeout {only}", (), {"ssl_handshake_timeout": 1, "ssl_shutdown_timeout": 1}),
        (ValueError, f"ssl_shutdown_timeout {only}", (), {"ssl_shutdown_timeout": 1}),
        (ValueError, "path and sock can not be specified at the same time", (7,), {"sock": 7}),
        (TypeError, "expected str, bytes or os.PathLike object, not int", (7,), {}),
        (ValueError, "no path and sock were specified", (), {"ssl": True, "server_hostname": ""}),
        (ValueError, expected, (), {"sock": stream}),
        (AttributeError, None, (), {"sock": 7}),
        (FileNotFoundError, None, ("p",), {"ssl": context, "server_hostname": ""}),
    ]
    server = [
        (TypeError, "ssl argument must be an SSLContext or None", (7,), {"ssl": True, "ssl_handshake_timeout": 1}),
        (TypeError, "ssl argument must be an SSLContext or None", (7,), {"ssl": False}),
        (ValueError, f"ssl_handshake_timeout {only}", (), {"ssl_handshake_timeout": 1, "ssl_shutdown_timeout": 1}),
        (ValueError, f"ssl_shutdown_timeout {only}", (), {"ssl_shutdown_timeout": 1}),
        (ValueError, "path and sock can not be specified at the same time", (7,), {"sock": 7}),
        (TypeError, "expected str, bytes or os.PathLike object, not int", (7,), {}),
        (ValueError, "path was not specified, and no sock specified", (), {"ssl": context}),
        (ValueError, expected, (), {"sock": stream}),
        (AttributeError, None, (), {"sock": 7}),
        (IndexError, None, ("",), {}),
        (ValueError, "embedded null byte", ("a\0b",), {}),
        (TypeError, None, ("p",), {"backlog": "x"}),
        (OverflowError, None, ("p",), {"backlog": 1 << 40}),
    ]
    return {"create_unix_connection": client, "create_unix_server": server}


@pytest.mark.parametrize("method", ["create_unix_connection", "create_unix_server"])
def test_bad_arguments(run, method, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async def main():
        create = getattr(asyncio.get_running_loop(), method)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with socket.socket() as stream, socket.socket(socket.AF_UNIX) as unix, datagram:
            for error, match, args, kwargs in refused(context, stream, unix)[method]:
                with pytest.raises(error, match=match):
                    await create(Recorder, *args, **kwargs)
            with pytest.raises(ValueError, match="A UNIX Domain Stream Socket was expected, got <socket"):
                await create(Recorder, sock=datagram)
            assert unix.fileno() >= 0
        for args, kwargs in (((), {}), ((1, 2, 3), {}), ((Recorder,), {"what": 1})):
            with pytest.raises(TypeError):
                create(*args, **kwargs)
        assert os.listdir() == []

    run(main())


def test_what_cannot_be_stopped_half_way(run, path):
    """A path or a socket whose own code raises: its exception, nothing left open."""

    class Path:
        def __fspath__(self):
            raise LookupError("no path")

    class Sock(socket.socket):
        type = property(lambda self: 1 // 0)

    async def main():
        loop = asyncio.get_running_loop()
        with Sock(socket.AF_UNIX) as sock:
            for create in (loop.create_unix_connection, loop.create_unix_server):
                with pytest.raises(LookupError):
                    await create(Recorder, Path())
                with pytest.raises(ZeroDivisionError):
                    await create(Recorder, sock=sock)
            with pytest.raises(ZeroDivisionError):
                await loop.connect_accepted_socket(Recorder, sock)

    run(main())


@pytest.mark.parametrize("method", ["create_unix_connection", "create_unix_server", "connect_accepted_socket"])
def test_coroutines(loop, method, path):
    coro = getattr(loop, method)(Recorder, path)
    assert asyncio.iscoroutine(coro)
    assert coro.__name__ == method
    assert coro.__qualname__ == "EventLoop." + method
    coro.close()
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        getattr(loop, method)(Recorder, path)


def test_debug_log(run, loop, path, caplog):
    loop.set_debug(True)

    async def main():
        with caplog.at_level(logging.DEBUG, logger="asyncio"):
            async with serving(path):
                await close(*await connect(path))

    run(main())
    assert any("is serving" in message for message in caplog.messages)


# ---- Streams -----------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [asyncio, corolla])
def test_streams(run, path, module):
    async def main():
        async def serve(reader, writer):
            writer.write((await reader.readline()).upper())
            await writer.drain()
            writer.close()

        server = await module.start_unix_server(serve, path)
        reader, writer = await module.open_unix_connection(path)
        writer.write(b"line\n")
        assert await reader.read() == b"LINE\n"
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        assert not exists(path)
        await settled()

    run(main())
