"""create_datagram_endpoint(): its arguments, what it makes of them, and what is left when it fails."""

import asyncio
import contextvars
import errno
import logging
import os
import re
import socket

import corolla
import pytest
from transports.datagrams import DatagramRecorder, endpoint, udp_socket
from transports.support import HOST, settled


def create(loop, *args, **kwargs):
    return loop.run_until_complete(loop.create_datagram_endpoint(DatagramRecorder, *args, **kwargs))


def close(loop, transport):
    transport.close()
    loop.run_until_complete(settled())


# ---- Arguments -------------------------------------------------------------------------------------------------------


def test_family_alone(loop):
    transport, _ = create(loop, family=socket.AF_INET)
    assert transport.get_extra_info("socket").family == socket.AF_INET
    close(loop, transport)


def test_nothing_at_all(loop):
    with pytest.raises(ValueError, match="^unexpected address family$"):
        create(loop)
    with pytest.raises(ValueError, match="^unexpected address family$"):
        create(loop, None, None, reuse_port=True)


@pytest.mark.parametrize("address", ["host", (HOST,), (HOST, 0, 0), [HOST, 0]])
@pytest.mark.parametrize("which", ["local_addr", "remote_addr"])
def test_what_is_no_address(loop, address, which):
    with pytest.raises(TypeError, match="^2-tuple is expected$"):
        create(loop, **{which: address})


@pytest.mark.parametrize("which", ["local_addr", "remote_addr"])
def test_what_is_no_path(loop, which):
    for address in [(HOST, 0), b"/tmp/x", 5]:
        with pytest.raises(TypeError, match="^string is expected$"):
            create(loop, **{which: address}, family=socket.AF_UNIX)


def test_positional_and_unknown(loop):
    with udp_socket() as peer:
        transport, _ = create(loop, (HOST, 0), peer.getsockname())
        assert transport.get_extra_info("peername") == peer.getsockname()
        close(loop, transport)
    with pytest.raises(TypeError):
        create(loop, None, None, socket.AF_INET)
    for unknown in ("reuse_address", "nonsense"):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{unknown}'"):
            create(loop, local_addr=(HOST, 0), **{unknown: True})


def test_local_and_remote_must_go_together(loop):
    with pytest.raises(ValueError, match="^can not get address information$"):
        create(loop, local_addr=(HOST, 0), remote_addr=("::1", 1))


def test_a_lookup_that_finds_nothing():
    class Loop(corolla.EventLoop):
        async def getaddrinfo(self, *args, **kwargs):
            asked.append((args, kwargs))
            return []

    asked = []
    loop = Loop()
    try:
        with pytest.raises(OSError, match="^getaddrinfo\\(\\) returned empty list$"):
            create(loop, local_addr=("somewhere", 5), flags=7)
        assert asked == [
            (("somewhere", 5), {"family": 0, "type": socket.SOCK_DGRAM, "proto": 0, "flags": 7}),
        ]
    finally:
        loop.close()


def test_every_address_is_tried():
    """The first that works is taken; of those that do not, the first one's error is raised."""
    with udp_socket() as taken:

        class Loop(corolla.EventLoop):
            async def getaddrinfo(self, *args, **kwargs):
                return [(socket.AF_INET, socket.SOCK_DGRAM, proto, "", address) for proto, address in found]

        loop = Loop()
        try:
            found = [(0, taken.getsockname()), (17, (HOST, 0))]
            transport, _ = create(loop, local_addr=("somewhere", 5))
            assert transport.get_extra_info("sockname")[0] == HOST
            close(loop, transport)
            found = [(0, taken.getsockname()), (17, ("192.0.2.1", 1))]
            with pytest.raises(OSError) as info:
                create(loop, local_addr=("somewhere", 5))
            assert info.value.errno == errno.EADDRINUSE
        finally:
            loop.close()


# ---- Sharing a port ------------------------------------------------------------------------------------------------------


def test_no_address_is_shared_unasked(loop):
    """Seen in python/cpython issue 81409: SO_REUSEADDR let another process bind the port, and take its datagrams."""
    transport, _ = create(loop, local_addr=(HOST, 0))
    sock = transport.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 0
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST) == 0
    with pytest.raises(OSError) as info:
        create(loop, local_addr=transport.get_extra_info("sockname"))
    assert info.value.errno == errno.EADDRINUSE
    close(loop, transport)


def test_reuse_port(loop):
    one, _ = create(loop, local_addr=(HOST, 0), reuse_port=True)
    other, _ = create(loop, local_addr=one.get_extra_info("sockname"), reuse_port=True)
    assert one.get_extra_info("sockname") == other.get_extra_info("sockname")
    close(loop, one)
    close(loop, other)


# ---- A socket of one's own ---------------------------------------------------------------------------------------------


def test_sock(loop):
    sock = udp_socket()
    transport, _ = create(loop, sock=sock)
    assert sock.gettimeout() == 0
    assert transport.get_extra_info("sockname") == sock.getsockname()
    close(loop, transport)
    assert sock.fileno() == -1


def test_sock_that_is_a_stream(loop):
    with (
        socket.socket() as sock,
        pytest.raises(ValueError, match="^A datagram socket was expected, got <socket.socket"),
    ):
        create(loop, sock=sock)


def test_sock_and_more(loop):
    more = {
        "local_addr": (HOST, 0),
        "remote_addr": (HOST, 5),
        "family": socket.AF_INET,
        "proto": 17,
        "flags": 1,
        "reuse_port": True,
        "allow_broadcast": True,
    }
    said = "socket modifier keyword arguments can not be used when sock is specified. (%s)"
    with udp_socket() as sock:
        for name, value in more.items():
            with pytest.raises(ValueError, match="^" + re.escape(said % f"{name}={value}") + "$"):
                create(loop, sock=sock, **{name: value})
        both = ", ".join(f"{name}={value}" for name, value in more.items())
        with pytest.raises(ValueError, match=re.escape(both)):
            create(loop, sock=sock, **more)
        close(loop, create(loop, sock=sock, reuse_port=False, proto=0, flags=0)[0])


def test_a_connected_sock(loop):
    with udp_socket() as peer, udp_socket() as sock:
        sock.connect(peer.getsockname())
        transport, _ = create(loop, sock=sock)
        transport.sendto(b"1")
        transport.sendto(b"2", peer.getsockname())
        assert [peer.recv(10), peer.recv(10)] == [b"1", b"2"]
        with pytest.raises(ValueError, match="Invalid address"):
            transport.sendto(b"3", (HOST, 9))
        close(loop, transport)


def test_a_sock_in_use(loop):
    """Seen in Kludex/zuvloop commits 3ab4b25, 131bb3a, 42e377b: a failed call took the caller's socket."""
    sock = udp_socket()
    transport, _ = create(loop, sock=sock)
    with pytest.raises(RuntimeError, match="is used by transport <DatagramEndpoint"):
        create(loop, sock=sock)
    with pytest.raises(RuntimeError, match="is used by transport <DatagramEndpoint"):
        loop.add_reader(sock, print)
    with pytest.raises(RuntimeError, match="is used by transport <DatagramEndpoint"):
        loop.run_until_complete(loop.sock_recvfrom(sock, 10))
    assert sock.fileno() >= 0
    transport.sendto(b"x", sock.getsockname())
    loop.run_until_complete(transport.get_protocol().receive(1))
    close(loop, transport)


def test_a_watched_sock_is_refused(loop):
    with udp_socket() as sock:
        sock.setblocking(False)
        loop.add_reader(sock, print)
        with pytest.raises(RuntimeError, match="already being watched"):
            create(loop, sock=sock)
        assert loop.remove_reader(sock)
        close(loop, create(loop, sock=sock)[0])


def test_a_sock_that_was_waited_for(loop):
    """Socket calls keep their watch for the next one; it gives way to the endpoint."""
    sock = udp_socket()
    sock.setblocking(False)

    async def main():
        loop.call_soon(sock.sendto, b"x", sock.getsockname())
        assert await loop.sock_recvfrom(sock, 10) == (b"x", sock.getsockname())
        async with endpoint(sock=sock) as (transport, protocol):
            transport.sendto(b"y", sock.getsockname())
            assert await protocol.receive(1) == [b"y"]

    loop.run_until_complete(main())


# ---- Unix --------------------------------------------------------------------------------------------------------------------


def test_unix_stale_path(loop, tmp_path):
    """A socket that an earlier program left is replaced; a file is not."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stale:
        stale.bind(path)
    transport, _ = create(loop, local_addr=path, family=socket.AF_UNIX)
    close(loop, transport)
    os.unlink(path)
    with open(path, "w") as file:
        file.write("precious")
    with pytest.raises(OSError) as info:
        create(loop, local_addr=path, family=socket.AF_UNIX)
    assert info.value.errno == errno.EADDRINUSE
    with open(path) as file:
        assert file.read() == "precious"


def test_unix_path_that_cannot_be_looked_at(loop, tmp_path, caplog):
    path = str(tmp_path / "file" / "socket")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        create(loop, local_addr=path, family=socket.AF_UNIX)
    assert caplog.messages[0].startswith(f"Unable to check or remove stale UNIX socket {path!r}: NotADirectoryError(20")


def test_unix_without_a_name(loop):
    transport, _ = create(loop, family=socket.AF_UNIX)
    assert transport.get_extra_info("sockname") == ""
    close(loop, transport)


# ---- The beginning ------------------------------------------------------------------------------------------------------------


def test_connection_made_comes_first(loop):
    with udp_socket() as sock, udp_socket() as peer:
        peer.sendto(b"early", sock.getsockname())
        transport, protocol = create(loop, sock=sock)
        assert protocol.events[0] == "connection_made"
        loop.run_until_complete(protocol.receive(1))
        assert protocol.names() == ["connection_made", "datagram_received"]
        close(loop, transport)


def test_factory_fails(loop):
    """Nothing is left behind, and a socket of the caller's stays usable."""

    def factory():
        raise LookupError("expected")

    for kwargs in ({"local_addr": (HOST, 0)}, {"remote_addr": (HOST, 9)}):
        with pytest.raises(LookupError):
            loop.run_until_complete(loop.create_datagram_endpoint(factory, **kwargs))
    with udp_socket() as sock:
        with pytest.raises(LookupError):
            loop.run_until_complete(loop.create_datagram_endpoint(factory, sock=sock))
        sock.sendto(b"x", sock.getsockname())
        assert sock.recv(10) == b"x"


def test_connection_made_fails(loop, reports):
    class Fails(DatagramRecorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            raise LookupError("expected")

    transport, protocol = loop.run_until_complete(loop.create_datagram_endpoint(Fails, local_addr=(HOST, 0)))
    assert isinstance(reports.pop()["exception"], LookupError)
    transport.sendto(b"x", transport.get_extra_info("sockname"))
    loop.run_until_complete(protocol.receive(1))
    close(loop, transport)


@pytest.mark.parametrize("how", ["close", "abort"])
def test_closed_in_connection_made(loop, how):
    """Seen in uvloop commit 87d4f11: the creation then never came back."""

    class Closes(DatagramRecorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            getattr(transport, how)()

    transport, protocol = loop.run_until_complete(loop.create_datagram_endpoint(Closes, local_addr=(HOST, 0)))
    assert transport.is_closing()
    loop.run_until_complete(settled())
    assert protocol.events == ["connection_made", ("connection_lost", None)]


@pytest.mark.parametrize("turns", range(4))
def test_cancelled_creation(loop, turns):
    """Seen in uvloop commit c10d08f: after a cancelled creation no late connection_made()."""
    protocols = []

    def factory():
        protocols.append(DatagramRecorder())
        return protocols[-1]

    async def main():
        task = asyncio.ensure_future(loop.create_datagram_endpoint(factory, local_addr=(HOST, 0)))
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.cancel():
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            task.result()[0].close()
        await settled()
        assert not protocols or protocols[0].events in ([], ["connection_made", ("connection_lost", None)])

    loop.run_until_complete(main())


def test_cancelled_look_up(loop):
    async def main():
        task = asyncio.ensure_future(loop.create_datagram_endpoint(DatagramRecorder, local_addr=("localhost", 0)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    loop.run_until_complete(main())


def test_a_context_of_its_own(loop):
    """The protocol runs in a copy of the context the endpoint was made in, the same one for all its methods."""
    variable = contextvars.ContextVar("variable", default="nobody")
    seen = []

    class Protocol(DatagramRecorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            seen.append(variable.get())
            variable.set("connection")

        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            seen.append(variable.get())

        def connection_lost(self, exc):
            super().connection_lost(exc)
            seen.append(variable.get())

    async def main():
        variable.set("creator")
        transport, protocol = await loop.create_datagram_endpoint(Protocol, local_addr=(HOST, 0))
        variable.set("later")
        transport.sendto(b"x", transport.get_extra_info("sockname"))
        await protocol.receive(1)
        transport.close()
        await protocol.lost()
        assert variable.get() == "later"

    loop.run_until_complete(main())
    assert seen == ["creator", "connection", "connection"]


def test_debug_log(loop, caplog):
    loop.set_debug(True)
    caplog.set_level(logging.DEBUG, "asyncio")
    transport, protocol = create(loop, local_addr=(HOST, 0))
    assert (
        f"Datagram endpoint local_addr=('{HOST}', 0) remote_addr=None created: ({transport!r}, {protocol!r})"
        in caplog.text
    )
    close(loop, transport)
    transport, protocol = create(loop, remote_addr=(HOST, 9))
    assert f"Datagram endpoint remote_addr=('{HOST}', 9) created: ({transport!r}, {protocol!r})" in caplog.text
    close(loop, transport)


def test_closed_loop(loop):
    loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.create_datagram_endpoint(DatagramRecorder, local_addr=(HOST, 0))
