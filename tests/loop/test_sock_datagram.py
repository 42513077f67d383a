"""sock_recvfrom, sock_recvfrom_into, sock_sendto."""

import array
import asyncio
import errno
import os
import socket

import pytest
from impl import beyond_stdlib

HOST = "127.0.0.1"


class Subclass(socket.socket):
    """Calls come through methods that a subclass may have replaced."""

    calls = 0

    def recvfrom(self, *args):
        type(self).calls += 1
        return super().recvfrom(*args)

    def recvfrom_into(self, *args):
        type(self).calls += 1
        return super().recvfrom_into(*args)

    def sendto(self, *args):
        type(self).calls += 1
        return super().sendto(*args)


def bound(kind=socket.socket, family=socket.AF_INET, address=(HOST, 0)):
    sock = kind(family, socket.SOCK_DGRAM)
    sock.bind(address)
    sock.setblocking(False)
    return sock


@pytest.fixture(params=["plain", "subclass"])
def sock(request):
    """A non-blocking UDP socket: a socket.socket, or of a subclass."""
    Subclass.calls = 0
    with bound(Subclass if request.param == "subclass" else socket.socket) as sock:
        yield sock
    assert (Subclass.calls > 0) == (request.param == "subclass")


@pytest.fixture
def peer():
    with bound() as peer:
        yield peer


async def begin(coro):
    """A task of coro that has begun to wait."""
    task = asyncio.ensure_future(coro)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    return task


# ---- Receiving -------------------------------------------------------------------------------------------------------


def test_what_is_there(loop, run, sock, peer):
    """The answer is there already: nothing is waited for, no turn passes."""
    for data in (b"one", b"", b"three"):
        peer.sendto(data, sock.getsockname())

    def at_once(coro):
        with pytest.raises(StopIteration) as caught:
            coro.send(None)
        return caught.value.value

    buffer = bytearray(10)
    assert at_once(loop.sock_recvfrom(sock, 100)) == (b"one", peer.getsockname())
    assert at_once(loop.sock_recvfrom(sock, 100)) == (b"", peer.getsockname())
    assert at_once(loop.sock_recvfrom_into(sock, buffer)) == (5, peer.getsockname())
    assert buffer[:5] == b"three"
    assert at_once(loop.sock_sendto(sock, b"back", peer.getsockname())) == 4
    assert peer.recv(10) == b"back"


def test_what_comes_later(loop, run, sock, peer):
    async def main():
        buffer = bytearray(10)
        for number in range(3):
            task = await begin(loop.sock_recvfrom(sock, 100))
            peer.sendto(b"%d" % number, sock.getsockname())
            assert await task == (b"%d" % number, peer.getsockname())
            task = await begin(loop.sock_recvfrom_into(sock, buffer))
            peer.sendto(b"into", sock.getsockname())
            assert await task == (4, peer.getsockname())
            assert buffer[:4] == b"into"

    run(main())


def test_what_does_not_fit_is_lost(loop, run, sock, peer):
    """As recvfrom(2) has it."""

    async def main():
        for _ in range(2):
            peer.sendto(b"a long one", sock.getsockname())
        peer.sendto(b"next", sock.getsockname())
        buffer = bytearray(10)
        assert await loop.sock_recvfrom(sock, 3) == (b"a l", peer.getsockname())
        assert await loop.sock_recvfrom_into(sock, buffer, 4) == (4, peer.getsockname())
        assert buffer == b"a lo" + bytes(6)
        assert (await loop.sock_recvfrom(sock, 300_000))[0] == b"next"

    run(main())


def test_into_any_buffer(loop, run, peer):
    async def main():
        with bound() as sock:
            for buffer in (array.array("i", [0] * 4), memoryview(bytearray(12)).cast("B", (3, 4))):
                peer.sendto(b"12345678", sock.getsockname())
                count, _ = await loop.sock_recvfrom_into(sock, buffer, 8)
                assert count == 8
                assert memoryview(buffer).tobytes()[:8] == b"12345678"

    run(main())


@pytest.mark.parametrize(
    ("size", "exc"), [(-1, ValueError), (2**64, OverflowError), ("x", TypeError), (None, TypeError)]
)
def test_bad_sizes(loop, run, size, exc):
    async def main():
        with bound() as sock:
            sock.sendto(b"x", sock.getsockname())
            with pytest.raises(exc):
                await loop.sock_recvfrom(sock, size)
            if size is not None:
                with pytest.raises(exc):
                    await loop.sock_recvfrom_into(sock, bytearray(10), size)

    run(main())


def test_bad_buffers(loop, run):
    async def main():
        with bound() as sock:
            sock.sendto(b"x", sock.getsockname())
            for buffer in (b"not to be written", 5, None):
                with pytest.raises(TypeError):
                    await loop.sock_recvfrom_into(sock, buffer, 1)
            with pytest.raises(ValueError):
                await loop.sock_recvfrom_into(sock, bytearray(3), 4)

    run(main())


def test_the_buffer_is_not_held_while_waiting(loop, run, sock, peer):
    async def main():
        buffer = bytearray(10)
        task = await begin(loop.sock_recvfrom_into(sock, buffer))
        buffer.append(0)  # BufferError, were it held
        peer.sendto(b"x", sock.getsockname())
        assert (await task)[0] == 1

    run(main())


def test_errors(loop, run):
    async def main():
        with bound() as gone:
            address = gone.getsockname()
        with bound() as sock:
            sock.connect(address)
            task = await begin(loop.sock_recvfrom(sock, 10))
            sock.send(b"nobody")
            with pytest.raises(ConnectionRefusedError):
                await task
            with pytest.raises(OSError) as caught:
                await loop.sock_sendto(sock, bytes(70_000), address)
            assert caught.value.errno == errno.EMSGSIZE

    run(main())


# ---- Sending ---------------------------------------------------------------------------------------------------------------


def test_sendto(loop, run, sock, peer):
    async def main():
        for data in (b"bytes", bytearray(b"array"), memoryview(b"view"), b"", array.array("i", [1, 2])):
            size = memoryview(data).nbytes
            assert await loop.sock_sendto(sock, data, peer.getsockname()) == size
            assert await loop.sock_recvfrom(peer, 100) == (memoryview(data).tobytes(), sock.getsockname())

    run(main())


def test_sendto_by_name(loop, run, sock, peer):
    async def main():
        await loop.sock_sendto(sock, b"x", ("localhost", peer.getsockname()[1]))
        assert peer.recv(10) == b"x"
        with pytest.raises(socket.gaierror):
            await loop.sock_sendto(sock, b"x", ("no.such.name.invalid", 5))

    run(main())


@pytest.mark.parametrize(
    ("address", "exc"),
    [
        ((HOST, 70_000), OverflowError),
        ((HOST, -1), OverflowError),
        ((HOST,), TypeError),
        ("x", TypeError),
        (None, TypeError),
        ((HOST, "http"), TypeError),
    ],
)
def test_bad_addresses(loop, run, sock, address, exc):
    async def main():
        with pytest.raises(exc):
            await loop.sock_sendto(sock, b"x", address)

    run(main())


@pytest.mark.parametrize("data", ["text", None, 5])
def test_bad_data(loop, run, sock, data):
    async def main():
        with pytest.raises(TypeError):
            await loop.sock_sendto(sock, data, sock.getsockname())

    run(main())


def test_sendto_waits_for_room(loop, run):
    async def main():
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with one, other:
            one.setblocking(False)
            other.setblocking(False)
            name = b"\0corolla-sendto-%d" % os.getpid()
            other.bind(name)
            count = 0
            while True:
                try:
                    one.send(b"fill")
                except BlockingIOError:
                    break
                count += 1
            task = await begin(loop.sock_sendto(one, b"last", name))
            for _ in range(count):
                assert await loop.sock_recvfrom(other, 10) == (b"fill", None)
            assert await task == 4
            assert await loop.sock_recvfrom(other, 10) == (b"last", None)

    run(main())


# ---- Other families ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/proc/net/if_inet6"), reason="no IPv6 here")
def test_ipv6(loop, run):
    async def main():
        with bound(family=socket.AF_INET6, address=("::1", 0)) as sock:
            for address in (sock.getsockname(), sock.getsockname()[:2]):
                await loop.sock_sendto(sock, b"x", address)
                assert await loop.sock_recvfrom(sock, 10) == (b"x", sock.getsockname())

    run(main())


def test_unix(loop, run, tmp_path):
    path, name = str(tmp_path / "socket"), b"\0corolla-%d\0\0" % os.getpid()

    async def main():
        with bound(family=socket.AF_UNIX, address=path) as one, bound(family=socket.AF_UNIX, address=name) as other:
            await loop.sock_sendto(one, b"x", name)
            assert await loop.sock_recvfrom(other, 10) == (b"x", path)
            await loop.sock_sendto(other, b"y", path)
            assert await loop.sock_recvfrom(one, 10) == (b"y", name)

    run(main())


@pytest.mark.skipif(not hasattr(socket, "AF_NETLINK"), reason="Linux only")
def test_netlink(loop, run):
    """Addresses of families that are not known here come from the socket module."""

    async def main():
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
            sock.bind((0, 0))
            sock.setblocking(False)
            # RTM_GETLINK, a dump
            request = b"\x20\0\0\0\x12\0\x01\x03" + bytes(24)
            assert await loop.sock_sendto(sock, request, (0, 0)) == len(request)
            data, address = await loop.sock_recvfrom(sock, 65536)
            assert address == (0, 0)
            assert data[4] in (2, 3, 16)

    run(main())


def test_on_a_stream(loop, run, pair):
    one, other = pair

    async def main():
        other.send(b"x")
        assert await loop.sock_recvfrom(one, 10) == (b"x", None)
        other.close()
        assert await loop.sock_recvfrom(one, 10) == (b"", None)

    run(main())


# ---- Cancelling ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["sock_recvfrom", "sock_recvfrom_into"])
def test_cancel_and_again(loop, run, sock, peer, call):
    """Seen in python/cpython issue 74250: the late clean-up of a cancelled call removed its successor's watch."""

    async def main():
        argument = 10 if call == "sock_recvfrom" else bytearray(10)
        method = getattr(loop, call)
        for _ in range(3):
            first = await begin(method(sock, argument))
            first.cancel()
            second = asyncio.ensure_future(method(sock, argument))
            with pytest.raises(asyncio.CancelledError):
                await first
            peer.sendto(b"x", sock.getsockname())
            assert (await second)[1] == peer.getsockname()

    run(main())


@beyond_stdlib("asyncio receives on the task's behalf, and what it has received is lost")
def test_cancelled_calls_take_nothing(loop, run, sock, peer):
    async def main():
        task = await begin(loop.sock_recvfrom(sock, 10))
        peer.sendto(b"precious", sock.getsockname())
        loop.add_reader(sock, lambda: (task.cancel(), loop.remove_reader(sock)))
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await loop.sock_recvfrom(sock, 10))[0] == b"precious"

    run(main())


def test_closed_sockets(loop, run):
    async def main():
        sock = bound()
        address = sock.getsockname()
        sock.close()
        for coro in (
            loop.sock_recvfrom(sock, 1),
            loop.sock_recvfrom_into(sock, bytearray(1)),
            loop.sock_sendto(sock, b"x", address),
        ):
            with pytest.raises(OSError) as caught:
                await coro
            assert caught.value.errno == errno.EBADF

    run(main())


def test_names_of_arguments(loop, run):
    async def main():
        with bound() as sock:
            address = sock.getsockname()
            assert await loop.sock_sendto(sock=sock, data=b"xy", address=address) == 2
            assert await loop.sock_recvfrom(sock=sock, bufsize=10) == (b"xy", address)
            await loop.sock_sendto(sock, b"xy", address)
            assert await loop.sock_recvfrom_into(sock=sock, buf=bytearray(10), nbytes=1) == (1, address)
            with pytest.raises(TypeError):
                loop.sock_sendto(sock, b"x").close()

    run(main())


def test_blocking_sockets_in_debug_mode(loop, run):
    loop.set_debug(True)

    async def main():
        with bound() as sock:
            sock.setblocking(True)
            for coro in (
                loop.sock_recvfrom(sock, 1),
                loop.sock_recvfrom_into(sock, bytearray(1)),
                loop.sock_sendto(sock, b"x", sock.getsockname()),
            ):
                with pytest.raises(ValueError, match="^the socket must be non-blocking$"):
                    await coro

    run(main())
