"""create_unix_server(), create_unix_connection(), UnixTransport: names, paths, who removes what, arguments."""

import asyncio
import contextlib
import gc
import logging
import os
import pathlib
import resource
import socket
import ssl
import stat
import subprocess
import sys
import weakref

import corolla
import pytest
from transports.support import Recorder, Service, receive_all, settled


class UnixService(Service):
    async def start(self, path, **kwargs):
        self.server = await asyncio.get_running_loop().create_unix_server(self.factory, path, **kwargs)
        return self.server

    def connect(self):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(30)
        sock.connect(self.server.sockets[0].getsockname())
        return sock


@contextlib.asynccontextmanager
async def serving(path, base=Recorder, **kwargs):
    service = UnixService(base)
    server = await service.start(path, **kwargs)
    try:
        yield service, server
    finally:
        server.close()
        server.abort_clients()
        await server.wait_closed()
    await settled()


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "sock")


def abstract():
    return "\0corolla-test-" + os.urandom(8).hex()


async def connect(*args, **kwargs):
    return await asyncio.get_running_loop().create_unix_connection(Recorder, *args, **kwargs)


async def close(transport, protocol):
    transport.close()
    await protocol.lost()
    await settled()


def bound(path, listen=True):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    if listen:
        sock.listen()
    return sock


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
        assert os.path.exists(path)  # create_server() removes nothing

    run(main())


# ---- The path ----------------------------------------------------------------------------------


def test_the_path_is_removed(run, path):
    """Servers: on close the path is unlinked."""

    async def main():
        async with serving(path):
            assert stat.S_ISSOCK(os.stat(path).st_mode)
        assert not os.path.exists(path)

    run(main())


@pytest.mark.parametrize("asked", [False, None, 0])
def test_cleanup_that_was_not_asked_for(run, path, asked):
    """Servers: a path was removed although nobody had asked for it."""

    async def main():
        async with serving(path, cleanup_socket=asked):
            pass
        assert os.path.exists(path)

    run(main())


@pytest.mark.parametrize("cleanup", [False, True])
def test_a_socket_passed_in(run, path, cleanup):
    """Servers: a path was removed although the socket had been passed in by a supervisor (python/cpython issue 133354). With
    cleanup_socket=False it stays."""

    async def main():
        async with serving(None, sock=bound(path), cleanup_socket=cleanup) as (service, _):
            service.connect().close()
            await service.accepted(1)
        assert os.path.exists(path) is not cleanup

    run(main())


@pytest.mark.parametrize("by", ["socket", "file", "nothing"])
def test_a_path_that_was_replaced(run, path, by):
    """Servers: a path was removed although a replacement owned it (python/cpython issue 121252)."""

    async def main():
        async with serving(path):
            os.unlink(path)
            if by == "file":
                pathlib.Path(path).write_text("mine")
            if by == "socket":
                bound(path).close()
        assert os.path.exists(path) is (by != "nothing")

    run(main())


def test_a_second_server_takes_the_path_over(run, path):
    """Servers: closing the first must not take the path away from the second."""

    async def main():
        async with serving(path) as (first, _):
            async with serving(path) as (second, _):
                await first.server.__aexit__(None, None, None)
                assert os.path.exists(path)
                second.connect().close()
                await second.accepted(1)
            assert first.protocols == []
            assert not os.path.exists(path)

    run(main())


def test_an_inode_number_used_again(run, path):
    """The first server's number may be given to the file that replaces it: not while the first socket is open."""

    async def main():
        service = UnixService()
        server = await service.start(path)
        for _ in range(50):
            os.unlink(path)
            pathlib.Path(path).touch()
        server.close()
        assert os.path.exists(path)
        await server.wait_closed()

    run(main())


def test_a_failing_unlink_still_wakes_waiters(run, path, caplog):
    """Servers: a failing unlink still wakes waiters; it is logged."""

    async def main():
        service = UnixService()
        server = await service.start(path)
        waiter = asyncio.create_task(server.wait_closed())
        await settled()
        os.unlink(path)
        directory = os.path.dirname(path)
        os.rename(directory, directory + "-moved")
        pathlib.Path(directory).touch()  # what is below it now cannot be looked up: ENOTDIR
        try:
            server.close()
        finally:
            os.unlink(directory)
            os.rename(directory + "-moved", directory)
        await waiter
        await server.wait_closed()
        assert server.sockets == ()

    with caplog.at_level(logging.ERROR, logger="asyncio"):
        run(main())
    (message,) = caplog.messages
    assert message.startswith(f"Unable to clean up listening UNIX socket {path!r}: NotADirectoryError(")


def test_a_forked_child_removes_nothing(run, path):
    """Servers: a path was removed although another process owned it: the parent goes on serving."""

    async def main():
        async with serving(path) as (service, server):
            pid = os.fork()
            if pid == 0:
                try:
                    server.close()
                finally:
                    os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            assert os.path.exists(path)
            service.connect().close()
            await service.accepted(1)

    run(main())


def test_stale_sockets_are_removed(run, path):
    async def main():
        bound(path).close()
        async with serving(path) as (service, _):
            service.connect().close()
            await service.accepted(1)

    run(main())


def test_a_stale_socket_behind_a_link(run, path):
    """As asyncio: the link is what is removed."""

    async def main():
        bound(path).close()
        os.symlink(path, path + "-link")
        async with serving(path + "-link"):
            assert stat.S_ISSOCK(os.lstat(path + "-link").st_mode)
        assert os.path.exists(path)

    run(main())


@pytest.mark.parametrize("what", ["file", "directory"])
def test_what_is_no_socket_is_left_alone(run, path, what):
    async def main():
        if what == "file":
            pathlib.Path(path).write_text("mine")
        else:
            os.mkdir(path)
        with pytest.raises(OSError, match=f"Address {path!r} is already in use") as caught:
            await UnixService().start(path)
        assert caught.value.errno == 98
        assert caught.value.__context__ is None
        assert os.path.exists(path)

    run(main())


def test_a_stale_socket_that_cannot_be_looked_at(run, path, caplog):
    """It is logged, and binding tells the rest."""

    async def main():
        pathlib.Path(path).touch()
        with pytest.raises(NotADirectoryError):
            await UnixService().start(path + "/below")

    with caplog.at_level(logging.ERROR, logger="asyncio"):
        run(main())
    (message,) = caplog.messages
    assert message.startswith(f"Unable to check or remove stale UNIX socket {path + '/below'!r}: NotADirectoryError(")


def test_the_longest_path_there_is(run, tmp_path, monkeypatch):
    """107 bytes and a NUL; an abstract name has 108."""
    monkeypatch.chdir(tmp_path)

    async def main():
        for name, fits in (("x" * 107, True), ("x" * 108, False), ("\0" + "y" * 107, True), ("\0" + "y" * 108, False)):
            if not fits:
                with pytest.raises(OSError, match="AF_UNIX path too long"):
                    await UnixService().start(name)
                with pytest.raises(OSError, match="AF_UNIX path too long"):
                    await connect(name)
                continue
            async with serving(name) as (service, _):
                pair = await connect(name)
                await service.accepted(1)
                await close(*pair)
            assert os.listdir() == []

    run(main())


def test_a_path_that_is_not_utf8(run, tmp_path):
    name = os.fsencode(tmp_path) + b"/\xff\xfe"

    async def main():
        for form in (name, os.fsdecode(name)):
            async with serving(form):
                transport, protocol = await connect(form)
                assert transport.get_extra_info("peername") == os.fsdecode(name)
                await close(transport, protocol)
            assert not os.path.exists(name)

    run(main())


# ---- Servers -----------------------------------------------------------------------------------


def test_start_serving_later(run, path):
    async def main():
        service = UnixService()
        server = await service.start(path, start_serving=False)
        assert not server.is_serving()
        with pytest.raises(ConnectionRefusedError):
            await connect(path)
        await server.start_serving()
        pair = await connect(path)
        await service.accepted(1)
        await close(*pair)
        server.close()
        await server.wait_closed()
        assert not os.path.exists(path)

    run(main())


def test_closed_before_it_ever_served(run, path):
    async def main():
        server = await UnixService().start(path, start_serving=False)
        server.close()
        assert not os.path.exists(path)
        with pytest.raises(RuntimeError, match="is closed"):
            await server.start_serving()

    run(main())


def test_a_server_that_nobody_closed_leaves_its_path(path):
    """As with asyncio, the loop's end removes nothing."""
    loop = corolla.new_event_loop()
    server = loop.run_until_complete(loop.create_unix_server(Recorder, path))
    loop.close()
    assert os.path.exists(path)
    server.close()
    assert not os.path.exists(path)


def test_cancelled_before_it_serves(run, path):
    """Nobody will ever get that server: it is closed."""

    async def main():
        task = asyncio.create_task(UnixService().start(path))
        await asyncio.sleep(0)
        assert os.path.exists(path)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not os.path.exists(path)

    run(main())


def test_a_socket_that_cannot_listen_is_the_callers(run):
    async def main():
        ours, peer = socket.socketpair()
        with ours, peer:
            with pytest.raises(OSError):
                await UnixService().start(None, sock=ours)
            ours.setblocking(True)
            ours.sendall(b"abc")
            assert peer.recv(10) == b"abc"

    run(main())


def test_backlog(run, path):
    """With nobody accepting, so many connections wait; and are all served then."""

    async def main():
        service = UnixService()
        server = await service.start(path, backlog=2, start_serving=False)
        server._sockets[0].listen(2)
        waiting = []
        with pytest.raises(BlockingIOError):
            while True:
                sock = socket.socket(socket.AF_UNIX)
                sock.setblocking(False)
                waiting.append(sock)
                sock.connect(path)
        assert len(waiting) == 4  # three in the queue: the kernel counts "more than"
        await server.start_serving()
        await service.accepted(3)
        for sock in waiting:
            sock.close()
        server.close()
        await server.wait_closed()

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
        (NotImplementedError, "create_unix_connection.*ssl", ("p",), {"ssl": context, "server_hostname": ""}),
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
        (NotImplementedError, "create_unix_server.*ssl", ("p",), {"ssl": context}),
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
        assert not os.path.exists(path)
        await settled()

    run(main())


# ---- Whole processes ---------------------------------------------------------------------------


def test_a_process_that_is_killed_leaves_a_path_that_can_be_used_again(run, path):
    """Servers: a path left behind by a dead server is no obstacle to the next one."""
    program = (
        "import asyncio, corolla, os, signal, sys\n"
        "async def main():\n"
        "    await asyncio.get_running_loop().create_unix_server(asyncio.Protocol, sys.argv[1])\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "corolla.run(main())\n"
    )
    assert subprocess.run([sys.executable, "-c", program, path]).returncode == -9
    assert os.path.exists(path)

    async def main():
        async with serving(path) as (service, _):
            service.connect().close()
            await service.accepted(1)
        assert not os.path.exists(path)

    run(main())
