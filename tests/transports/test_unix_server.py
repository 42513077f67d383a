"""create_unix_server(): who removes which path and when, starting, ending."""

import asyncio
import logging
import os
import socket
import stat
import subprocess
import sys

import corolla
import pytest
from transports.support import Recorder, settled
from transports.unix_support import UnixService, bound, close, connect, exists, reap, serving, touch

# ---- The path ----------------------------------------------------------------------------------


def test_the_path_is_removed(run, path):
    """Servers: on close the path is unlinked."""

    async def main():
        async with serving(path):
            assert stat.S_ISSOCK(os.stat(path).st_mode)
        assert not exists(path)

    run(main())


@pytest.mark.parametrize("asked", [False, None, 0])
def test_cleanup_that_was_not_asked_for(run, path, asked):
    """Servers: a path was removed although nobody had asked for it."""

    async def main():
        async with serving(path, cleanup_socket=asked):
            pass
        assert exists(path)

    run(main())


@pytest.mark.parametrize("cleanup", [False, True])
def test_a_socket_passed_in(run, path, cleanup):
    """Servers: a path was removed although the socket had been passed in by a supervisor (python/cpython issue 133354). With
    cleanup_socket=False it stays."""

    async def main():
        async with serving(None, sock=bound(path), cleanup_socket=cleanup) as (service, _):
            service.connect().close()
            await service.accepted(1)
        assert exists(path) is not cleanup

    run(main())


@pytest.mark.parametrize("by", ["socket", "file", "nothing"])
def test_a_path_that_was_replaced(run, path, by):
    """Servers: a path was removed although a replacement owned it (python/cpython issue 121252)."""

    async def main():
        async with serving(path):
            os.unlink(path)
            if by == "file":
                touch(path, "mine")
            if by == "socket":
                bound(path).close()
        assert exists(path) is (by != "nothing")

    run(main())


def test_a_second_server_takes_the_path_over(run, path):
    """Servers: closing the first must not take the path away from the second."""

    async def main():
        async with serving(path) as (first, _):
            async with serving(path) as (second, _):
                await first.server.__aexit__(None, None, None)
                assert exists(path)
                second.connect().close()
                await second.accepted(1)
            assert first.protocols == []
            assert not exists(path)

    run(main())


def test_an_inode_number_used_again(run, path):
    """The first server's number may be given to the file that replaces it: not while the first socket is open."""

    async def main():
        service = UnixService()
        server = await service.start(path)
        for _ in range(50):
            os.unlink(path)
            touch(path)
        server.close()
        assert exists(path)
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
        touch(directory)  # what is below it now cannot be looked up: ENOTDIR
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
            assert reap(pid) == 0
            assert exists(path)
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
        assert exists(path)

    run(main())


@pytest.mark.parametrize("what", ["file", "directory"])
def test_what_is_no_socket_is_left_alone(run, path, what):
    async def main():
        if what == "file":
            touch(path, "mine")
        else:
            os.mkdir(path)
        with pytest.raises(OSError, match=f"Address {path!r} is already in use") as caught:
            await UnixService().start(path)
        assert caught.value.errno == 98
        assert caught.value.__context__ is None
        assert exists(path)

    run(main())


def test_a_stale_socket_that_cannot_be_looked_at(run, path, caplog):
    """It is logged, and binding tells the rest."""

    async def main():
        touch(path)
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
            assert not exists(name)

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
        assert not exists(path)

    run(main())


def test_closed_before_it_ever_served(run, path):
    async def main():
        server = await UnixService().start(path, start_serving=False)
        server.close()
        assert not exists(path)
        with pytest.raises(RuntimeError, match="is closed"):
            await server.start_serving()

    run(main())


def test_a_server_that_nobody_closed_leaves_its_path(path):
    """As with asyncio, the loop's end removes nothing."""
    loop = corolla.new_event_loop()
    server = loop.run_until_complete(loop.create_unix_server(Recorder, path))
    loop.close()
    assert exists(path)
    server.close()
    assert not exists(path)


def test_cancelled_before_it_serves(run, path):
    """Nobody will ever get that server: it is closed."""

    async def main():
        task = asyncio.create_task(UnixService().start(path))
        await asyncio.sleep(0)
        assert exists(path)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not exists(path)

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
    assert exists(path)

    async def main():
        async with serving(path) as (service, _):
            service.connect().close()
            await service.accepted(1)
        assert not exists(path)

    run(main())
