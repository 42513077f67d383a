"""sock_recv, sock_recv_into, sock_sendall, sock_connect, sock_accept."""

import array
import asyncio
import contextlib
import errno
import gc
import os
import select
import socket
import ssl
import struct
import threading
import weakref

import pytest
from impl import beyond_stdlib


async def settle(turns=5):
    for _ in range(turns):
        await asyncio.sleep(0)


async def begin(coro):
    """A task of coro that has begun to wait."""
    task = asyncio.ensure_future(coro)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def cancelled(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def fill(sock):
    """Write until nothing more fits; how much did."""
    count = 0
    try:
        while True:
            count += sock.send(b"x" * 65536)
    except BlockingIOError:
        return count


def reset(sock):
    """Close with a reset instead of an end."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Subclass(socket.socket):
    """Calls come through methods that a subclass may have replaced."""

    calls = 0

    def recv(self, *args):
        type(self).calls += 1
        return super().recv(*args)

    def recv_into(self, *args):
        type(self).calls += 1
        return super().recv_into(*args)

    def send(self, *args):
        type(self).calls += 1
        return super().send(*args)

    def accept(self):
        type(self).calls += 1
        return super().accept()

    def connect(self, address):
        type(self).calls += 1
        return super().connect(address)


@pytest.fixture(params=["plain", "subclass"])
def one_other(request, pair):
    """A pair whose first is a socket.socket, or a subclass of it."""
    one, other = pair
    if request.param == "plain":
        yield one, other
        return
    Subclass.calls = 0
    with Subclass(fileno=one.detach()) as sub:
        sub.setblocking(False)
        yield sub, other
    assert Subclass.calls > 0


# ---- Receiving


def test_recv_what_is_there(loop, run, one_other):
    one, other = one_other
    other.send(b"hello")

    async def main():
        assert await loop.sock_recv(one, 3) == b"hel"
        assert await loop.sock_recv(one, 100_000) == b"lo"

    run(main())


def test_recv_what_comes_later(loop, run, one_other):
    one, other = one_other

    async def main():
        for size in (1, 4096, 4097, 1 << 20):
            task = await begin(loop.sock_recv(one, size))
            other.send(b"z")
            assert await task == b"z"

    run(main())


def test_recv_end_of_stream(loop, run, one_other):
    one, other = one_other

    async def main():
        task = await begin(loop.sock_recv(one, 10))
        other.close()
        assert await task == b""
        assert await loop.sock_recv(one, 10) == b""

    run(main())


def test_recv_all_sizes(loop, run, pair):
    one, other = pair
    data = os.urandom(50_000)
    other.setblocking(True)

    async def main():
        for size in (1, 2, 100, 4095, 4096, 4097, 8192, 65536):
            other.sendall(data)
            got = b""
            while len(got) < len(data):
                got += await loop.sock_recv(one, size if size > 100 else size * 50)
            assert got == data

    run(main())


def test_recv_nothing(loop, run, one_other):
    """As socket.recv(0): an empty answer at once."""
    one, _ = one_other

    async def main():
        if type(one) is socket.socket:
            assert await loop.sock_recv(one, 0) == b""
        assert one.recv(0) == b""

    run(main())


@pytest.mark.parametrize(
    ("size", "exc"), [(-1, ValueError), (1.5, TypeError), ("1", TypeError), (None, TypeError), (1 << 80, OverflowError)]
)
def test_recv_bad_size(loop, run, pair, size, exc):
    with pytest.raises(exc):
        run(loop.sock_recv(pair[0], size))


def test_recv_size_of_any_integer(loop, run, pair):
    class Integer:
        def __index__(self):
            return 2

    pair[1].send(b"abc")
    assert run(loop.sock_recv(pair[0], Integer())) == b"ab"


def test_recv_into(loop, run, one_other):
    one, other = one_other

    async def main():
        buffer = bytearray(5)
        task = await begin(loop.sock_recv_into(one, buffer))
        other.send(b"abcdefg")
        assert await task == 5
        assert buffer == b"abcde"
        words = array.array("h", [0, 0])
        assert await loop.sock_recv_into(one, memoryview(words)) == 2
        assert words.tobytes() == b"fg\0\0"
        with pytest.raises(TypeError, match="read-write bytes-like object"):
            await loop.sock_recv_into(one, b"constant")
        with pytest.raises(TypeError):
            await loop.sock_recv_into(one, "text")
        other.close()
        assert await loop.sock_recv_into(one, buffer) == 0

    run(main())


def test_recv_into_holds_no_buffer_while_it_waits(loop, run, pair):
    """A bytearray may change its size until something is read into it."""
    one, other = pair

    async def main():
        buffer = bytearray(1)
        task = await begin(loop.sock_recv_into(one, buffer))
        buffer.extend(b"\0\0")
        other.send(b"abc")
        assert await task == 3
        assert buffer == b"abc"

    run(main())


def test_recv_error(loop, run):
    async def main():
        with socket.create_server(("127.0.0.1", 0)) as server:
            one = socket.create_connection(server.getsockname())
            other, _ = server.accept()
        with one:
            one.setblocking(False)
            task = await begin(loop.sock_recv(one, 10))
            reset(other)
            with pytest.raises(ConnectionResetError):
                await task

    run(main())


# ---- Sending


def test_sendall(loop, run, one_other):
    one, other = one_other
    assert run(loop.sock_sendall(one, b"hello")) is None
    assert other.recv(10) == b"hello"


@pytest.mark.parametrize(
    "kind",
    [
        "bytes",
        "bytearray",
        "memoryview",
        "slice",
        pytest.param("array", marks=beyond_stdlib("it cuts by elements")),
        pytest.param("2d", marks=beyond_stdlib("it cuts by elements")),
    ],
)
def test_sendall_large(loop, run, one_other, kind):
    """After a partial send the rest was cut by elements instead of bytes (PITFALLS, transports): any contiguous buffer
    arrives whole."""
    one, other = one_other
    raw = os.urandom(3_000_000)
    data = {
        "bytes": raw,
        "bytearray": bytearray(raw),
        "memoryview": memoryview(raw),
        "array": array.array("q", raw),
        "2d": memoryview(raw).cast("B", (1000, 3000)),
        "slice": memoryview(b"x" + raw)[1:],
    }[kind]

    async def main():
        task = await begin(loop.sock_sendall(one, data))
        got = bytearray()
        while len(got) < len(raw):
            got += await loop.sock_recv(other, 1 << 18)
        assert await task is None
        assert got == raw

    run(main())


def test_sendall_nothing(loop, run, one_other):
    assert run(loop.sock_sendall(one_other[0], b"")) is None


@pytest.mark.parametrize("data", ["text", None, 5, memoryview(b"abcd")[::2]])
def test_sendall_no_buffer(loop, run, pair, data):
    with pytest.raises((TypeError, BufferError)):
        run(loop.sock_sendall(pair[0], data))


def test_sendall_error(loop, run, one_other):
    one, other = one_other

    async def main():
        fill(one)
        task = await begin(loop.sock_sendall(one, b"more"))
        other.close()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await task
        with pytest.raises(BrokenPipeError):
            await loop.sock_sendall(one, b"more")

    run(main())


def test_sendall_gives_the_buffer_back(loop, run, pair):
    one, other = pair

    async def main():
        data = bytearray(10_000_000)
        task = await begin(loop.sock_sendall(one, data))
        with pytest.raises(BufferError):
            data.append(1)
        await cancelled(task)
        del task
        await settle()
        gc.collect()
        data.append(1)

    run(main())


def test_recv_and_sendall_on_one_socket(loop, run, one_other):
    """Two operations of one socket do not disturb each other, in either order of completion."""
    one, other = one_other

    async def main():
        for read_first in (True, False):
            filled = fill(one)
            reading = await begin(loop.sock_recv(one, 10))
            writing = await begin(loop.sock_sendall(one, b"end"))
            if read_first:
                other.send(b"in")
                assert await reading == b"in"
                assert not writing.done()
            while filled > 0:
                filled -= len(await loop.sock_recv(other, filled))
            await writing
            assert await loop.sock_recv(other, 10) == b"end"
            if not read_first:
                assert not reading.done()
                other.send(b"in")
                assert await reading == b"in"

    run(main())


@beyond_stdlib("asyncio forgets the first of two readers of a socket")
def test_two_readers_of_one_socket(loop, run, pair):
    one, other = pair

    async def main():
        tasks = [await begin(loop.sock_recv(one, 1)) for _ in range(5)]
        await cancelled(tasks.pop(2))
        other.send(b"abcd")
        assert sorted(await asyncio.gather(*tasks)) == [b"a", b"b", b"c", b"d"]

    run(main())


@beyond_stdlib("asyncio's sock_recv() takes the reader's place")
def test_reader_and_recv_of_one_socket(loop, run, pair):
    one, other = pair
    calls = []

    async def main():
        task = await begin(loop.sock_recv(one, 1))
        loop.add_reader(one, lambda: (calls.append(1), loop.remove_reader(one)))
        other.send(b"x")
        assert await task == b"x"
        assert loop.remove_reader(one) is False

    run(main())
    assert calls == [1]


# ---- Connecting


def test_connect(loop, run, listening):
    with socket.socket() as sock:
        sock.setblocking(False)
        assert run(loop.sock_connect(sock, listening.getsockname())) is None
        assert sock.getpeername() == listening.getsockname()


def test_connect_subclass(loop, run, listening):
    Subclass.calls = 0
    with Subclass() as sock:
        sock.setblocking(False)
        run(loop.sock_connect(sock, listening.getsockname()))
        assert sock.getpeername() == listening.getsockname()
    assert Subclass.calls == 1


def test_connect_by_name(loop, run, listening):
    with socket.socket() as sock:
        sock.setblocking(False)
        run(loop.sock_connect(sock, ("localhost", listening.getsockname()[1])))
        assert sock.getpeername() == listening.getsockname()


def test_connect_ipv6(loop, run):
    try:
        server = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    with server, socket.socket(socket.AF_INET6) as sock:
        sock.setblocking(False)
        run(loop.sock_connect(sock, server.getsockname()))
        assert sock.getpeername() == server.getsockname()


def test_connect_unix(loop, run, tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as sock:
        server.bind(path)
        server.listen()
        sock.setblocking(False)
        run(loop.sock_connect(sock, path))
        assert sock.getpeername() == path


def test_connect_refused(loop, run):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = unused.getsockname()
        with socket.socket() as sock:
            sock.setblocking(False)
            with pytest.raises(ConnectionRefusedError) as caught:
                run(loop.sock_connect(sock, address))
            assert caught.value.errno == errno.ECONNREFUSED
            assert caught.value.strerror in (f"Connect call failed {address}", os.strerror(errno.ECONNREFUSED))


def test_connect_asks_the_loops_own_getaddrinfo(loop, run, listening):
    asked = []

    async def getaddrinfo(host, port, **more):
        asked.append((host, port, more))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", listening.getsockname())]

    loop.getaddrinfo = getaddrinfo
    with socket.socket() as sock:
        sock.setblocking(False)
        run(loop.sock_connect(sock, ("name.invalid", "service")))
        assert sock.getpeername() == listening.getsockname()
    family, type_, proto = socket.AF_INET, socket.SOCK_STREAM, 0
    assert asked == [("name.invalid", "service", {"family": family, "type": type_, "proto": proto, "flags": 0})]


@pytest.mark.parametrize("address", [5, (), ("127.0.0.1",), None, ("127.0.0.1", 1, 2, 3, 4)])
def test_connect_bad_address(loop, run, address):
    with socket.socket() as sock:
        sock.setblocking(False)
        with pytest.raises((TypeError, ValueError, OSError)):
            run(loop.sock_connect(sock, address))


def test_connect_bad_port(loop, run):
    with socket.socket() as sock:
        sock.setblocking(False)
        with pytest.raises(OverflowError):
            run(loop.sock_connect(sock, ("127.0.0.1", 70000)))


@pytest.fixture
def busy():
    """The address of a listener whose queue is full: connecting to it goes on and on."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        while True:
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(server.getsockname())
            if not select.select([], [sock], [], 0.1)[1]:
                break
        yield server.getsockname()


@beyond_stdlib("asyncio removes its writer a step too late")
def test_cancelled_connect_is_not_watched(loop, run, busy):
    """Cancelling sock_connect removed its writer one step late, so that a new socket with the same number inherited the
    registration (PITFALLS, socket calls): when the call returns, the number may be used again at once."""

    async def main():
        sock = socket.socket()
        sock.setblocking(False)
        fd = sock.fileno()
        connecting = await begin(loop.sock_connect(sock, busy))

        async def again():
            # The very step in which the cancelled call returns.
            with contextlib.suppress(asyncio.CancelledError):
                await connecting
            assert loop.remove_writer(fd) is False
            sock.close()
            one, other = socket.socketpair()
            with one, other:
                assert fd in (one.fileno(), other.fileno())
                one.setblocking(False)
                other.setblocking(False)
                filled = fill(one)
                writing = await begin(loop.sock_sendall(one, b"end"))
                while filled > 0:
                    filled -= len(await loop.sock_recv(other, filled))
                await asyncio.wait_for(writing, 10)

        waiting = asyncio.ensure_future(again())
        await asyncio.sleep(0)
        connecting.cancel()
        await waiting

    run(main())


def test_cancelled_connect_and_again(loop, run, busy, listening):
    async def main():
        with socket.socket() as sock:
            sock.setblocking(False)
            await cancelled(await begin(loop.sock_connect(sock, busy)))
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, listening.getsockname())

    run(main())


# ---- Accepting


@pytest.mark.parametrize("kind", [socket.socket, Subclass])
def test_accept(loop, run, listening, kind):
    async def main(server):
        task = await begin(loop.sock_accept(server))
        with socket.create_connection(server.getsockname()) as client:
            conn, address = await task
            with conn:
                assert conn.gettimeout() == 0
                assert type(conn) is socket.socket
                assert address == client.getsockname()
                assert conn.getpeername() == address
        with socket.create_connection(server.getsockname()) as client:
            conn, address = await loop.sock_accept(server)
            conn.close()
            assert address == client.getsockname()

    with kind(fileno=os.dup(listening.fileno())) as server:
        server.setblocking(False)
        run(main(server))


def test_cancelled_accept_loses_no_connection(loop, run, listening):
    """Cancelled sock_accept left the reader registered, or lost a connection already accepted (PITFALLS, socket calls): no
    watcher is left, and the connection is there for the next."""

    async def main():
        task = await begin(loop.sock_accept(listening))
        with socket.create_connection(listening.getsockname()) as client:
            # The connection is there before the cancellation is delivered.
            await cancelled(task)
            assert loop.remove_reader(listening) is False
            conn, address = await asyncio.wait_for(loop.sock_accept(listening), 10)
            with conn:
                assert address == client.getsockname()

    run(main())


@beyond_stdlib("asyncio accepts on the task's behalf, and what it has accepted is lost")
def test_accept_cancelled_in_the_step_of_the_connection(loop, run, listening):
    """The same row, in the narrowest place: told that a connection has come, and cancelled before it runs."""

    async def main():
        task = await begin(loop.sock_accept(listening))
        told = []

        class Cancel:
            def __call__(self):
                told.append(task.cancel())
                loop.remove_reader(listening)

        with socket.create_connection(listening.getsockname()) as client:
            loop.add_reader(listening, Cancel())  # runs in the turn in which the wait is told
            with pytest.raises(asyncio.CancelledError):
                await task
            assert told == [True]
            conn, address = await asyncio.wait_for(loop.sock_accept(listening), 10)
            with conn:
                assert address == client.getsockname()

    run(main())


@beyond_stdlib("what asyncio has accepted is left to the collector")
def test_accept_never_leaks_with_a_late_cancel(loop, run, listening):
    """The same row: cancelled after the task has its connection, the object is there or closed, no descriptor is left (the
    fixture that counts them says so)."""

    async def main():
        async def accept():
            conn, _ = await loop.sock_accept(listening)
            conn.close()

        for delay in range(6):
            task = await begin(accept())
            with socket.create_connection(listening.getsockname()):
                await settle(delay)
                task.cancel()
                await asyncio.wait([task])
                try:
                    conn, _ = listening.accept()
                    conn.close()
                except BlockingIOError:
                    pass

    run(main())


def test_accept_error(loop, run):
    with socket.socket() as sock:
        sock.setblocking(False)
        with pytest.raises(OSError) as caught:
            run(loop.sock_accept(sock))
        assert caught.value.errno == errno.EINVAL


# ---- Cancelling


@pytest.mark.parametrize("call", ["sock_recv", "sock_recv_into", "sock_sendall", "sock_accept"])
def test_cancel_and_again(loop, run, pair, listening, call):
    """The late cleanup of a cancelled sock_recv or sock_sendall removed the watcher of the next operation on the same
    socket (PITFALLS, socket calls)."""
    one, other = pair

    async def main():
        if call == "sock_sendall":
            filled = fill(one)
        args = {
            "sock_recv": (one, 10),
            "sock_recv_into": (one, bytearray(10)),
            "sock_sendall": (one, b"more"),
            "sock_accept": (listening,),
        }[call]
        method = getattr(loop, call)
        for _ in range(3):
            first = await begin(method(*args))
            first.cancel()
            second = asyncio.ensure_future(method(*args))
            with pytest.raises(asyncio.CancelledError):
                await first
            await settle()
            assert not second.done()
            await cancelled(second)
        third = await begin(method(*args))
        if call == "sock_sendall":
            while filled > 0:
                filled -= len(await loop.sock_recv(other, filled))
        elif call == "sock_accept":
            with socket.create_connection(listening.getsockname()):
                conn, _ = await third
                conn.close()
        else:
            other.send(b"x")
        await third

    run(main())


@pytest.mark.parametrize("call", ["sock_recv", "sock_sendall"])
def test_number_reused_at_once_after_a_cancel(loop, run, call):
    """When a cancelled sock_* call returns, its descriptor is no longer watched (PITFALLS, socket calls)."""

    async def main():
        for _ in range(20):
            one, other = socket.socketpair()
            one.setblocking(False)
            other.setblocking(False)
            if call == "sock_sendall":
                fill(one)
            fd = one.fileno()
            task = await begin(loop.sock_recv(one, 1) if call == "sock_recv" else loop.sock_sendall(one, b"x"))
            await cancelled(task)
            assert loop.remove_reader(fd) is False
            assert loop.remove_writer(fd) is False
            one.close()
            other.close()
            new, peer = socket.socketpair()
            new.setblocking(False)
            assert fd in (new.fileno(), peer.fileno())
            task = await begin(loop.sock_recv(new, 1))
            peer.send(b"y")
            assert await asyncio.wait_for(task, 10) == b"y"
            new.close()
            peer.close()

    run(main())


@beyond_stdlib("asyncio reads on the task's behalf, and what it has read is lost")
def test_cancelled_recv_takes_nothing(loop, run, pair):
    one, other = pair

    async def main():
        task = await begin(loop.sock_recv(one, 10))
        other.send(b"precious")
        loop.add_reader(one, lambda: (task.cancel(), loop.remove_reader(one)))
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await loop.sock_recv(one, 100) == b"precious"

    run(main())


def test_timeouts(loop, run, pair):
    one, other = pair

    async def main():
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(loop.sock_recv(one, 10), 0.001)
        other.send(b"x")
        assert await loop.sock_recv(one, 10) == b"x"

    run(main())


# ---- Closing


@beyond_stdlib("asyncio's call never ends")
def test_closed_while_waiting(loop, run, pair):
    """Closing a socket with a pending sock_* operation aborted the whole process (PITFALLS, socket calls): it is forgotten,
    and told as soon as its number is used again."""
    one, other = pair

    async def main():
        await settle()
        fd = one.fileno()
        task = await begin(loop.sock_recv(one, 10))
        one.close()
        await settle()
        new, peer = socket.socketpair()
        with new, peer:
            new.setblocking(False)
            assert fd in (new.fileno(), peer.fileno())
            mine, theirs = (new, peer) if new.fileno() == fd else (peer, new)
            mine.setblocking(False)
            second = await begin(loop.sock_recv(mine, 10))
            with pytest.raises(OSError) as caught:
                await task
            assert caught.value.errno == errno.EBADF
            theirs.send(b"y")
            assert await second == b"y"

    run(main())


@beyond_stdlib("an exception in one of asyncio's callbacks")
def test_closed_while_waiting_and_cancelled(loop, run, pair):
    one, other = pair

    async def main():
        task = await begin(loop.sock_recv(one, 10))
        writing = asyncio.ensure_future(loop.sock_sendall(one, bytes(10_000_000)))
        await settle()
        one.close()
        other.close()
        for each in (task, writing):
            each.cancel()
            await asyncio.wait([each])

    run(main())


@pytest.mark.parametrize("call", ["sock_recv", "sock_recv_into", "sock_sendall", "sock_accept", "sock_connect"])
def test_closed_socket(loop, run, call):
    sock = socket.socket()
    sock.setblocking(False)
    sock.close()
    args = {"sock_recv": (1,), "sock_recv_into": (bytearray(1),), "sock_sendall": (b"x",), "sock_accept": ()}
    with pytest.raises(OSError) as caught:
        run(getattr(loop, call)(sock, *args.get(call, (("127.0.0.1", 1),))))
    assert caught.value.errno == errno.EBADF


def test_loop_closed_with_calls_pending(loop, run, pair, no_gc):
    """What waits is let go: no cycle through the loop is needed to be collected, no descriptor is watched."""
    one, other = pair
    task = loop.create_task(loop.sock_recv(one, 10))

    async def main():
        await settle()

    run(main())
    loop.close()
    task._log_destroy_pending = False
    gone = weakref.ref(task)
    del task
    gc.collect()
    assert gone() is None


def test_the_loop_keeps_what_waits_alive(loop, run, pair):
    """Nobody else has the task: the collector must not take it."""
    one, other = pair
    got = []

    async def receive():
        got.append(await loop.sock_recv(one, 10))

    async def main():
        asyncio.ensure_future(receive())
        await settle()
        gc.collect()
        other.send(b"x")
        while not got:
            await asyncio.sleep(0)

    run(main())
    assert got == [b"x"]


def test_a_dropped_loop_is_collected_with_what_waits(pair):
    import impl

    one, _ = pair
    loop = impl.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)
    task = loop.create_task(loop.sock_recv(one, 10))
    loop.run_until_complete(settle())
    gone = weakref.ref(task), weakref.ref(loop)
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        del task, loop
        gc.collect()
    assert gone[0]() is None
    assert gone[1]() is None


# ---- What is checked


@pytest.mark.parametrize(
    ("call", "args"),
    [
        ("sock_recv", (1,)),
        ("sock_recv_into", (bytearray(1),)),
        ("sock_sendall", (b"x",)),
        ("sock_connect", (("127.0.0.1", 1),)),
        ("sock_accept", ()),
    ],
)
def test_checks(loop, run, call, args):
    method = getattr(loop, call)
    with pytest.raises(TypeError):
        method()
    with pytest.raises(TypeError):
        method(*([None] * (len(args) + 2)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    with context.wrap_socket(socket.socket(), do_handshake_on_connect=False) as secure:
        with pytest.raises(TypeError, match="Socket cannot be of type SSLSocket"):
            run(method(secure, *args))
    loop.set_debug(True)
    with socket.socket() as sock:
        for timeout in (None, 5):
            sock.settimeout(timeout)
            with pytest.raises(ValueError, match="the socket must be non-blocking"):
                run(method(sock, *args))
    for wrong in (None, object(), 5):
        with pytest.raises((AttributeError, TypeError)):
            run(method(wrong, *args))


def test_they_are_coroutines(loop, pair):
    coros = [
        loop.sock_recv(pair[0], 1),
        loop.sock_recv_into(pair[0], bytearray(1)),
        loop.sock_sendall(pair[0], b"x"),
        loop.sock_connect(pair[0], "x"),
        loop.sock_accept(pair[0]),
    ]
    for coro in coros:
        assert asyncio.iscoroutine(coro)
        coro.close()


def test_names_of_arguments(loop, run, pair):
    one, other = pair
    run(loop.sock_sendall(sock=one, data=b"abc"))
    assert run(loop.sock_recv(sock=other, n=1)) == b"a"
    buffer = bytearray(2)
    assert run(loop.sock_recv_into(sock=other, buf=buffer)) == 2


def test_socket_of_a_transport(loop, run, listening):
    async def main():
        transport, _ = await loop.create_connection(asyncio.Protocol, *listening.getsockname())
        fd = transport.get_extra_info("socket").fileno()
        with socket.socket(fileno=fd) as sock:
            with pytest.raises(RuntimeError, match=f"File descriptor {fd} is used by transport"):
                await loop.sock_recv(sock, 10)
            fill(sock)
            with pytest.raises(RuntimeError, match=f"File descriptor {fd} is used by transport"):
                await loop.sock_sendall(sock, b"x")
            sock.detach()
        transport.abort()
        await settle()

    run(main())


class Duck:
    """Looks like a socket, and says of each call what the test wants."""

    def __init__(self, sock, answers):
        self.sock = sock
        self.answers = iter(answers)

    def fileno(self):
        return self.sock.fileno()

    def gettimeout(self):
        return 0

    def recv(self, size):
        answer = next(self.answers)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    recv_into = send = recv


def test_something_like_a_socket(loop, run, pair):
    one, other = pair
    other.send(b"x")  # one is readable all the time

    async def main():
        assert await loop.sock_recv(Duck(one, [BlockingIOError(), InterruptedError(), b"abc"]), 5) == b"abc"
        assert await loop.sock_recv_into(Duck(one, [BlockingIOError(), 2]), bytearray(2)) == 2
        with pytest.raises(ZeroDivisionError):
            await loop.sock_recv(Duck(one, [BlockingIOError(), ZeroDivisionError()]), 5)
        await loop.sock_sendall(Duck(one, [BlockingIOError(), 1, 1, InterruptedError(), 3]), b"abcde")

    run(main())


@pytest.mark.parametrize("exc", [KeyboardInterrupt, SystemExit])
def test_exits_from_a_method(loop, run, pair, exc):
    one, other = pair
    other.send(b"x")

    async def main():
        with pytest.raises(exc):
            await loop.sock_recv(Duck(one, [exc()]), 5)

    run(main())


# ---- With other threads


def test_echo_between_threads(loop, run, listening):
    """A client that blocks, in a thread of its own."""

    def client():
        with socket.create_connection(listening.getsockname()) as sock:
            for i in range(100):
                data = bytes([i]) * (i * 37 + 1)
                sock.sendall(data)
                got = b""
                while len(got) < len(data):
                    got += sock.recv(65536)
                assert got == data

    async def main():
        conn, _ = await loop.sock_accept(listening)
        with conn:
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := await loop.sock_recv(conn, 1000):
                await loop.sock_sendall(conn, data)

    thread = threading.Thread(target=client)
    thread.start()
    run(main())
    thread.join()
