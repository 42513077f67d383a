"""Socket calls keep their watch from one wait to the next, and nobody is worse off for it."""

import asyncio
import gc
import os
import pathlib
import socket
import weakref

import impl
import pytest
from transports.support import Recorder

pytestmark = pytest.mark.skipif(not impl.IS_COROLLA, reason="asyncio watches anew each time")


def watched():
    """The descriptors in the epoll sets of this process."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == "anon_inode:[eventpoll]":
                lines = pathlib.Path(f"/proc/self/fdinfo/{name}").read_text().splitlines()
                found |= {int(line.split()[1]) for line in lines if line.startswith("tfd:")}
        except FileNotFoundError:
            pass  # listdir's own
    return found


async def receive(loop, one, other, data=b"x"):
    """A sock_recv that has to wait."""
    task = asyncio.ensure_future(loop.sock_recv(one, 100))
    await asyncio.sleep(0)
    other.send(data)
    assert await task == data


def two():
    one, other = socket.socketpair()
    one.setblocking(False)
    other.setblocking(False)
    return one, other


def test_kept_for_the_next_wait(loop, run, pair):
    one, other = pair

    async def main():
        for _ in range(3):
            await receive(loop, one, other)
            assert one.fileno() in watched()

    run(main())


def test_not_kept_after_a_cancel(loop, run, pair):
    """Seen in python/cpython issue 131728, python/asyncio issue 205, uvloop issue 378."""
    one, other = pair

    async def main():
        await receive(loop, one, other)
        task = asyncio.ensure_future(loop.sock_recv(one, 100))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert one.fileno() not in watched()

    run(main())


def test_not_kept_for_writing(loop, run, pair):
    one, other = pair

    async def main():
        task = asyncio.ensure_future(loop.sock_sendall(one, bytes(1_000_000)))
        received = 0
        while received < 1_000_000:
            received += len(await loop.sock_recv(other, 100_000))
        await task
        assert one.fileno() not in watched()

    run(main())


def test_what_comes_for_nobody(loop, run, pair):
    """The watch is given up, not told of each packet; and the next call finds what came."""
    one, other = pair

    async def main():
        for _ in range(3):
            await receive(loop, one, other)
            sent = b""
            while one.fileno() in watched():
                other.send(b"early ")
                sent += b"early "
                await asyncio.sleep(0.001)
            assert len(sent) <= 12
            assert await loop.sock_recv(one, 100) == sent


def test_two_wait_for_the_same(loop, run, pair):
    """What the first leaves is the second's, although nothing new comes for it."""
    one, other = pair

    async def main():
        for size in (5, 1):
            tasks = [asyncio.ensure_future(loop.sock_recv(one, size)) for _ in range(3)]
            await asyncio.sleep(0)
            other.send(b"x" * 3 * size)
            assert await asyncio.gather(*tasks) == [b"x" * size] * 3
            await receive(loop, one, other)

    run(main())


def test_a_reader_joins_a_wait(loop, run, pair):
    """The callback is told for as long as there is something to read."""
    one, other = pair

    async def main():
        called = []
        await receive(loop, one, other)
        task = asyncio.ensure_future(loop.sock_recv(one, 1))
        await asyncio.sleep(0)
        enough = loop.create_future()
        loop.add_reader(one, lambda: (called.append(1), len(called) == 5 and enough.set_result(None)))
        other.send(b"xyz")
        assert await task == b"x"
        await enough
        loop.remove_reader(one)
        assert await loop.sock_recv(one, 10) == b"yz"
        await receive(loop, one, other)

    run(main())

    run(main())


def test_a_copy_of_a_closed_socket_does_not_spin(loop, run):
    """Seen in uvloop issues 61 and 34, libuv issue 1148: closing a descriptor takes it out of the kernel's set only with
    the last copy of it."""

    async def main():
        one, other = two()
        await receive(loop, one, other)
        copy = os.dup(one.fileno())
        one.close()
        other.send(b"nobody will read this")
        before = os.times()
        await asyncio.sleep(0.2)
        after = os.times()
        assert after.user + after.system - before.user - before.system < 0.1
        os.close(copy)
        other.close()

    run(main())


@pytest.mark.parametrize("copied", [False, True])
def test_the_number_is_somebody_elses(loop, run, copied):
    """A new socket with the old one's number, at once, even while a copy of the old one lives."""

    async def main():
        for _ in range(5):
            one, other = two()
            await receive(loop, one, other)
            fd = one.fileno()
            copy = os.dup(fd) if copied else None
            one.close()
            new, peer = two()
            if new.fileno() != fd:
                new, peer = peer, new
            assert new.fileno() == fd
            other.send(b"for the old one") if copied else None
            await receive(loop, new, peer, b"for the new one")
            for sock in (new, peer, other):
                sock.close()
            if copied:
                os.close(copy)

    run(main())


def test_another_object_for_the_same_socket(loop, run, pair):
    one, other = pair

    async def main():
        await receive(loop, one, other)
        with socket.socket(fileno=one.detach()) as again:
            await receive(loop, again, other)
            await receive(loop, again, other)

    run(main())


def test_a_reader_takes_over(loop, run, pair):
    one, other = pair

    async def main():
        await receive(loop, one, other)
        read = loop.create_future()
        loop.add_reader(one, lambda: read.done() or read.set_result(one.recv(10)))
        other.send(b"y")
        assert await read == b"y"
        assert loop.remove_reader(one)
        assert one.fileno() not in watched()
        assert not loop.remove_reader(one)
        await receive(loop, one, other)
        assert not loop.remove_reader(one)  # a kept watch is no reader

    run(main())


def test_a_transport_takes_over(loop, run, listening):
    """create_connection(sock=) after socket calls on it, as an HTTP upgrade would."""

    async def main():
        one = socket.create_connection(listening.getsockname())
        one.setblocking(False)
        other, _ = await loop.sock_accept(listening)
        await receive(loop, one, other)
        transport, protocol = await loop.create_connection(Recorder, sock=one)
        other.send(b"y")
        await protocol.until(lambda: protocol.data == b"y")
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.sock_recv(one, 10)
        transport.close()
        await protocol.lost()
        other.close()

    run(main())


def test_a_transport_with_the_number_of_a_closed_socket(loop, run, listening):
    async def main():
        one, other = two()
        await receive(loop, one, other)
        fd = one.fileno()
        one.close()
        transport, protocol = await loop.create_connection(Recorder, *listening.getsockname())
        assert transport.get_extra_info("socket").fileno() == fd
        peer, _ = await loop.sock_accept(listening)
        peer.send(b"y")
        await protocol.until(lambda: protocol.data == b"y")
        transport.close()
        await protocol.lost()
        peer.close()
        other.close()

    run(main())


def test_the_socket_is_not_kept(loop, run, no_gc):
    """Only its watch: a socket that is dropped is closed then, as without a loop."""

    async def main():
        one, other = two()
        await receive(loop, one, other)
        ref, fd = weakref.ref(one), one.fileno()
        with pytest.warns(ResourceWarning):
            del one
        assert ref() is None
        with pytest.raises(OSError):
            os.fstat(fd)
        assert other.recv(10) == b""
        other.close()

    run(main())


def test_loop_closed_with_watches_kept(pair):
    one, other = pair
    loop = impl.new_event_loop()
    loop.run_until_complete(receive(loop, one, other))
    fd = one.fileno()
    before = watched()
    loop.close()
    assert fd in before
    assert fd not in watched()
    again = impl.new_event_loop()
    again.run_until_complete(receive(again, one, other))
    again.close()


def test_two_loops_share_a_socket(loop, run, pair):
    """One after the other: each has a set of its own."""
    one, other = pair
    second = impl.new_event_loop()
    for _ in range(3):
        run(receive(loop, one, other))
        second.run_until_complete(receive(second, one, other))
    second.close()


def test_collected_with_its_loop(pair):
    one, other = pair
    loop = impl.new_event_loop()
    loop.run_until_complete(receive(loop, one, other))
    loop.close()
    ref = weakref.ref(loop)
    del loop
    gc.collect()
    assert ref() is None


def test_calls_on_a_closed_loop(pair):
    """What is there already needs no loop, as in asyncio; and nothing is made for a loop that would never free it."""
    one, other = pair
    loop = impl.new_event_loop()
    calls = [loop.sock_recv(one, 3), loop.sock_recv(one, 1 << 20), loop.sock_recvfrom(one, 3), loop.sock_recv(one, 3)]
    loop.close()
    got = []
    for call in calls[:3]:
        other.send(b"abc")
        with pytest.raises(StopIteration) as info:
            call.send(None)
        got.append(info.value.value)
    assert got == [b"abc", b"abc", (b"abc", None)]
    with pytest.raises(RuntimeError, match="closed"):
        calls[3].send(None)


async def in_time(loop, one, other, data=b"x"):
    """A sock_recv that has to wait, and is not to do so for ever."""
    task = asyncio.ensure_future(loop.sock_recv(one, 100))
    await asyncio.sleep(0)
    other.send(data)
    assert await asyncio.wait_for(task, 10) == data


@pytest.mark.parametrize("copied", [False, True])
def test_another_file_on_the_sockets_number(loop, run, pair, copied):
    """os.dup2() onto a socket whose watch is kept, though the object is the same."""
    one, other = pair

    async def main():
        await receive(loop, one, other)
        for _ in range(3):
            new, peer = two()
            copy = os.dup(one.fileno()) if copied else None
            os.dup2(new.fileno(), one.fileno())
            new.close()
            await in_time(loop, one, peer, b"by the new one")
            await receive(loop, one, peer)
            await receive(loop, one, peer)
            peer.close()
            if copied:
                os.close(copy)

    run(main())


def test_a_file_on_the_sockets_number(loop, run):
    """os.dup2() of what cannot be polled: who begins to wait hears of it."""

    async def main():
        one, other = two()
        await receive(loop, one, other)
        await receive(loop, one, other)
        task = asyncio.ensure_future(loop.sock_recv(one, 1))
        await asyncio.sleep(0)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, one.fileno())
        os.close(null)
        with pytest.raises(OSError, match="Socket operation on non-socket"):
            await asyncio.wait_for(task, 5)
        one.close()
        other.close()

    run(main())


def test_a_socket_object_that_is_filled_anew(loop, run):
    """sock.close() and sock.__init__(fileno=...) with the number it had."""

    async def main():
        one, other = two()
        for _ in range(3):
            await receive(loop, one, other)
            fd = one.fileno()
            one.close()
            other.close()
            new, other = two()
            if new.fileno() != fd:
                new, other = other, new
            assert new.fileno() == fd
            one.__init__(fileno=new.detach())
            one.setblocking(False)
            await in_time(loop, one, other)
        one.close()
        other.close()

    run(main())


def wakeups():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("voluntary_ctxt_switches:")[1].split()[0])


def test_a_wait_is_looked_at_once(loop, run, pair):
    """And no loop wakes up for it again and again."""
    one, other = pair

    async def main():
        await receive(loop, one, other)
        task = asyncio.ensure_future(loop.sock_recv(one, 100))
        await asyncio.sleep(0.2)
        before = wakeups()
        await asyncio.sleep(0.5)
        after = wakeups()
        assert after - before < 5
        assert not task.done()
        other.send(b"late")
        assert await task == b"late"

    run(main())


def test_many_waits_while_others_are_looked_at(loop, run):
    """Busy sockets are never asked about, idle ones once, and all get what is theirs."""

    async def main():
        pairs = [two() for _ in range(20)]
        for one, other in pairs:
            await receive(loop, one, other)
        idle = [asyncio.ensure_future(loop.sock_recv(one, 100)) for one, _ in pairs[:10]]
        end = loop.time() + 0.3
        while loop.time() < end:
            await asyncio.gather(*(receive(loop, one, other) for one, other in pairs[10:]))
        assert not any(task.done() for task in idle)
        idle[0].cancel()
        for _, other in pairs[1:10]:
            other.send(b"y")
        assert await asyncio.gather(*idle[1:]) == [b"y"] * 9
        for each in pairs:
            for sock in each:
                sock.close()

    run(main())


def timers():
    """The timerfds of this process."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == "anon_inode:[timerfd]":
                found.append(int(name))
        except FileNotFoundError:
            pass  # listdir's own
    return found


@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_the_timers_number_is_somebody_elses(pair, kind):
    """What closes descriptors by the dozen takes the loop's: the loop then closes nobody else's."""
    one, other = pair
    loop = impl.new_event_loop()
    loop.run_until_complete(receive(loop, one, other))
    loop.run_until_complete(receive(loop, one, other))
    (timer,) = timers()
    pipe = os.pipe()
    taken = os.open(os.devnull, os.O_RDONLY) if kind == "file" else os.dup(pipe[0])
    os.dup2(taken, timer)
    loop.close()
    os.fstat(timer)
    for fd in (taken, timer, *pipe):
        os.close(fd)


def test_closed_with_a_doubt(pair):
    one, other = pair
    loop = impl.new_event_loop()
    loop.run_until_complete(receive(loop, one, other))
    task = loop.create_task(loop.sock_recv(one, 1))
    task._log_destroy_pending = False
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()


def test_a_clock_of_ones_own(pair):
    """A loop whose time() stands still asks at once."""
    one, other = pair

    class Loop(impl.EventLoop):
        def time(self):
            return 5.0

    async def main():
        await receive(loop, one, other)
        new, peer = two()
        os.dup2(new.fileno(), one.fileno())
        task = asyncio.ensure_future(loop.sock_recv(one, 100))
        await asyncio.sleep(0)
        peer.send(b"x")
        assert await task == b"x"
        new.close()
        peer.close()

    loop = Loop()
    loop.run_until_complete(main())
    loop.close()
