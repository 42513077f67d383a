"""add_reader, add_writer and their removal."""

import asyncio
import os
import socket
import tempfile
import time

import pytest
from impl import beyond_stdlib


def fill(sock):
    """Write until nothing more fits."""
    try:
        while True:
            sock.send(b"x" * 65536)
    except BlockingIOError:
        pass


def unused(*args):
    raise AssertionError("not to be called")


def spin(loop, condition):
    """Run the loop until condition() holds."""

    async def main():
        while not condition():
            await asyncio.sleep(0)

    loop.run_until_complete(main())


def test_reader_is_called_while_there_is_something_to_read(loop, pair):
    one, other = pair
    seen = []
    assert loop.add_reader(one, lambda *args: seen.append((args, one.recv(1))), "a", 2) is None
    other.send(b"xy")
    spin(loop, lambda: len(seen) == 2)
    assert seen == [(("a", 2), b"x"), (("a", 2), b"y")]
    assert loop.remove_reader(one) is True
    assert loop.remove_reader(one) is False


def test_writer_is_called_while_there_is_room(loop, pair):
    one, _ = pair
    seen = []
    assert loop.add_writer(one.fileno(), seen.append, 1) is None
    spin(loop, lambda: len(seen) >= 3)
    assert loop.remove_writer(one.fileno()) is True
    assert loop.remove_writer(one.fileno()) is False
    assert set(seen) == {1}


def test_arguments_by_name(loop, pair):
    one, other = pair
    seen = []
    loop.add_reader(fd=one, callback=lambda: seen.append(one.recv(10)))
    other.send(b"x")
    spin(loop, lambda: seen)
    assert loop.remove_reader(fd=one)
    loop.add_writer(fd=one, callback=lambda: seen.append(1))
    assert loop.remove_writer(fd=one)


@pytest.mark.parametrize("method", ["add_reader", "add_writer", "remove_reader", "remove_writer"])
def test_bad_arguments(loop, method):
    call = getattr(loop, method)
    more = (print,) if method.startswith("add") else ()
    with pytest.raises(TypeError):
        call()
    with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
        call(-1, *more)
    with pytest.raises(ValueError, match="Invalid file object"):
        call("text", *more)
    with pytest.raises(ValueError, match="Invalid file object"):
        call(None, *more)
    if method.startswith("add"):
        with pytest.raises((ValueError, OverflowError)):
            call(2**70, *more)


def test_add_needs_a_callback(loop, pair):
    with pytest.raises(TypeError):
        loop.add_reader(pair[0])
    with pytest.raises(TypeError):
        loop.add_writer(pair[0])


def test_closed_loop(loop, pair):
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.add_reader(pair[0], print)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.add_writer(pair[0], print)
    assert loop.remove_reader(pair[0]) is False
    assert loop.remove_writer(pair[0]) is False


def test_a_descriptor_that_is_not_open(loop):
    r, w = os.pipe()
    os.close(r)
    os.close(w)
    with pytest.raises(OSError):
        loop.add_reader(r, unused)
    assert loop.remove_reader(r) is False


def test_a_regular_file(loop):
    with tempfile.TemporaryFile() as file:
        with pytest.raises(PermissionError):
            loop.add_reader(file, unused)
        assert loop.remove_reader(file) is False


def test_second_add_replaces_the_first(loop, pair):
    one, other = pair
    seen = []
    loop.add_reader(one, unused)
    loop.add_reader(one, lambda: seen.append(one.recv(1)))
    other.send(b"x")
    spin(loop, lambda: seen)
    assert loop.remove_reader(one)
    assert not loop.remove_reader(one)


def test_reader_and_writer_of_one_descriptor(loop, pair):
    one, other = pair
    seen = []
    loop.add_reader(one, lambda: seen.append(one.recv(1)))
    loop.add_writer(one, lambda: (seen.append("w"), loop.remove_writer(one)))
    other.send(b"x")
    spin(loop, lambda: len(seen) >= 2)
    assert sorted(map(str, seen)) == ["b'x'", "w"]
    other.send(b"y")
    spin(loop, lambda: seen[-1] == b"y")
    assert loop.remove_reader(one)


def test_callback_that_removes_itself(loop, pair, no_gc):
    one, other = pair
    calls = []
    loop.add_reader(one, lambda: calls.append(loop.remove_reader(one)))
    other.send(b"xy")
    spin(loop, lambda: calls)
    for _ in range(5):
        loop.run_until_complete(asyncio.sleep(0))
    assert calls == [True]


def test_reader_that_removes_the_writer_of_the_same_event(loop, pair):
    """asyncio queues both and cancels the second: it is not called."""
    one, other = pair
    calls = []
    other.send(b"x")
    loop.add_writer(one, lambda: calls.append("writer"))
    loop.add_reader(one, lambda: (calls.append("reader"), loop.remove_writer(one), loop.remove_reader(one)))
    loop.run_until_complete(asyncio.sleep(0.001))
    assert calls == ["reader"]


def test_callback_that_replaces_itself(loop, pair):
    one, other = pair
    seen = []

    def second():
        seen.append(one.recv(1))

    def first():
        loop.add_reader(one, second)
        seen.append("first")

    loop.add_reader(one, first)
    other.send(b"x")
    spin(loop, lambda: len(seen) == 2)
    assert seen == ["first", b"x"]
    loop.remove_reader(one)


def test_exceptions_are_reported_and_the_reader_stays(loop, pair, reports):
    one, other = pair
    error = ValueError("boom")
    seen = []

    def callback():
        seen.append(one.recv(1))
        if len(seen) == 1:
            raise error

    loop.add_reader(one, callback)
    other.send(b"xy")
    spin(loop, lambda: len(seen) == 2)
    loop.remove_reader(one)
    assert reports.pop()["exception"] is error


@pytest.mark.parametrize("exc", [KeyboardInterrupt, SystemExit])
def test_exits_leave_the_loop(loop, pair, exc):
    one, other = pair
    seen = []

    def callback():
        seen.append(one.recv(1))
        raise exc

    loop.add_reader(one, callback)
    other.send(b"x")
    with pytest.raises(exc):
        loop.run_forever()
    other.send(b"y")
    with pytest.raises(exc):
        loop.run_forever()
    assert seen == [b"x", b"y"]
    loop.remove_reader(one)


def test_callbacks_run_in_a_copy_of_the_context_they_were_added_in(loop, pair):
    import contextvars

    one, other = pair
    var = contextvars.ContextVar("var", default="default")
    seen = []
    var.set("added")
    loop.add_reader(one, lambda: (one.recv(1), seen.append(var.get())))
    var.set("later")
    other.send(b"x")
    spin(loop, lambda: seen)
    assert seen == ["added"]
    loop.remove_reader(one)


def test_hangup_is_told_to_the_reader_and_to_the_writer(loop):
    r, w = os.pipe()
    told = []
    loop.add_writer(w, lambda: (told.append("writer"), loop.remove_writer(w)))
    os.set_blocking(w, False)
    try:
        while True:
            os.write(w, b"x" * 65536)
    except BlockingIOError:
        pass
    os.close(r)
    spin(loop, lambda: told)
    os.close(w)
    r, w = os.pipe()
    loop.add_reader(r, lambda: (told.append(os.read(r, 1)), loop.remove_reader(r)))
    os.close(w)
    spin(loop, lambda: len(told) == 2)
    os.close(r)
    assert told == ["writer", b""]


def test_close_forgets_readers(loop, pair):
    import weakref

    class Callback:
        def __call__(self):
            unused()

    callback = Callback()
    gone = weakref.ref(callback)
    loop.add_reader(pair[0], callback)
    loop.add_writer(pair[0], callback)
    loop.close()
    del callback
    assert gone() is None


def test_a_finalizer_that_comes_back(loop, pair, no_gc):
    """Native containers released Python objects in the middle of an update (PITFALLS, scheduler): what a dropped callback
    drags along may add and remove readers of the same descriptor."""
    one, other = pair
    seen = []

    class Evil:
        def __del__(self):
            seen.append("finalized")
            if not loop.is_closed():
                loop.remove_reader(one)
                loop.add_reader(one, lambda: seen.append(one.recv(1)))

        def __call__(self):
            unused()

    loop.add_reader(one, Evil())
    loop.add_reader(one, Evil())  # drops the first, which puts a third in the second's place
    assert seen == ["finalized", "finalized"]
    other.send(b"x")
    spin(loop, lambda: seen[-1] == b"x")
    loop.add_reader(one, Evil())
    assert loop.remove_reader(one)
    other.send(b"y")
    spin(loop, lambda: seen[-1] == b"y")
    loop.remove_reader(one)
    loop.add_reader(one, Evil())
    loop.close()


@beyond_stdlib("asyncio goes on with what it had, and never calls the new reader")
def test_closed_behind_the_loops_back(loop, pair, no_gc):
    """Closing a socket with a pending operation aborted the process (PITFALLS, socket calls): a watched descriptor that is
    closed is forgotten, and whoever gets its number is heard."""
    one, _ = pair
    loop.run_until_complete(asyncio.sleep(0))  # what a loop opens for itself is open
    fd = one.fileno()
    loop.add_reader(fd, unused)
    loop.add_writer(fd, unused)
    one.close()
    loop.run_until_complete(asyncio.sleep(0))
    again, peer = socket.socketpair()
    with again, peer:
        if again.fileno() != fd:
            os.dup2(again.fileno(), fd)
        seen = []
        loop.add_reader(fd, lambda: seen.append(os.read(fd, 1)))
        peer.send(b"x")
        spin(loop, lambda: seen)
        assert loop.remove_reader(fd) is True
        assert loop.remove_writer(fd) is False
        if again.fileno() != fd:
            os.close(fd)


@beyond_stdlib("asyncio keeps the number for the one that is gone")
def test_a_number_that_the_loop_itself_gets(loop, pair):
    """The same row: a number left behind in the loop's tables is in nobody's way."""
    one, other = pair
    loop.add_reader(one.fileno(), unused)
    one.close()
    other.close()

    async def main():
        # Whatever takes the number now: a listener, a connection, the loop's own descriptors.
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
        transport.close()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0)

    loop.run_until_complete(main())


def test_removing_by_a_closed_object(loop, pair):
    """As in asyncio, whose selector remembers the object."""
    one, _ = pair
    loop.add_reader(one, unused)
    one.close()
    assert loop.remove_reader(one) is True


def test_removal_of_one_side_after_a_close(loop, pair):
    one, _ = pair
    fd = one.fileno()
    loop.add_reader(fd, unused)
    loop.add_writer(fd, unused)
    one.close()
    try:
        loop.remove_reader(fd)
    except OSError:
        pass  # asyncio lets the selector's exception out
    loop.run_until_complete(asyncio.sleep(0))


def test_the_kernel_set_is_clean_when_a_reader_is_removed(loop):
    """Removing a watcher did not leave epoll at once (PITFALLS, socket calls): with another descriptor for the same file
    open, what is left behind would be reported for ever, and the number could not be added again."""
    for _ in range(50):
        one, other = socket.socketpair()
        fd = one.fileno()
        copy = os.dup(fd)
        loop.add_reader(fd, unused)
        loop.add_writer(fd, unused)
        loop.remove_writer(fd)
        loop.remove_reader(fd)
        os.close(one.detach())
        other.send(b"x")  # copy can be read from
        os.dup2(copy, fd)
        os.close(copy)
        seen = []
        loop.add_reader(fd, lambda fd=fd, seen=seen: seen.append(os.read(fd, 1)))
        spin(loop, lambda seen=seen: seen)
        loop.remove_reader(fd)
        os.close(fd)
        other.close()


def test_no_spin_after_removal_with_a_dup_left(loop):
    """The same row: an idle loop sleeps."""
    one, other = socket.socketpair()
    copy = os.dup(one.fileno())
    other.send(b"x")
    loop.add_reader(one, unused)
    loop.remove_reader(one)
    one.close()
    before = time.process_time()
    loop.run_until_complete(asyncio.sleep(0.2))
    assert time.process_time() - before < 0.1
    os.close(copy)
    other.close()


def test_stale_event_of_the_same_batch(loop):
    """A stale event in the batch already fetched fired on a new descriptor that had taken the number (PITFALLS, socket
    calls): events are for the registration that they were fetched for."""
    pairs = [socket.socketpair() for _ in range(2)]
    (a, a_peer), (b, b_peer) = pairs
    seen = []
    opened = []

    def take_over(mine, theirs):
        # Runs first: closes the other one, whose event is in this batch, and takes its number.
        loop.remove_reader(mine)
        seen.append(mine)
        loop.remove_reader(theirs)
        number = theirs.fileno()
        theirs.close()
        new = socket.socketpair()
        opened.extend(new)
        assert number in [sock.fileno() for sock in new]
        for sock in new:
            loop.add_reader(sock, unused)

    loop.add_reader(a, take_over, a, b)
    loop.add_reader(b, take_over, b, a)
    a_peer.send(b"x")
    b_peer.send(b"x")
    spin(loop, lambda: seen)
    for _ in range(3):
        loop.run_until_complete(asyncio.sleep(0))
    assert len(seen) == 1
    for sock in opened:
        loop.remove_reader(sock)
    for sock in (a, b, a_peer, b_peer, *opened):
        sock.close()


def test_a_descriptor_of_a_transport(loop, run, listening):
    async def main():
        transport, _ = await loop.create_connection(asyncio.Protocol, *listening.getsockname())
        fd = transport.get_extra_info("socket").fileno()
        for call in (loop.add_reader, loop.add_writer):
            with pytest.raises(RuntimeError, match=f"File descriptor {fd} is used by transport .*") as caught:
                call(fd, unused)
            assert repr(transport) in str(caught.value)
        for call in (loop.remove_reader, loop.remove_writer):
            with pytest.raises(RuntimeError, match=f"File descriptor {fd} is used by transport"):
                call(fd)
        transport.pause_reading()  # what is not watched at the moment is the transport's all the same
        with pytest.raises(RuntimeError, match=f"File descriptor {fd} is used by transport"):
            loop.add_reader(fd, unused)
        transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    run(main())


def test_many_descriptors(loop):
    pairs = [socket.socketpair() for _ in range(200)]
    seen = set()
    for one, _ in pairs:
        loop.add_reader(one, lambda one=one: (one.recv(1), seen.add(one)))
    for _, other in pairs:
        other.send(b"x")
    spin(loop, lambda: len(seen) == len(pairs))
    for one, other in pairs:
        assert loop.remove_reader(one)
        one.close()
        other.close()
