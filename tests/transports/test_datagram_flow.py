"""Datagram endpoints: the queue, flow control, and how they end."""

import asyncio
import errno
import gc
import os
import socket
import warnings
import weakref

import corolla
import pytest
from transports.datagrams import DatagramRecorder, endpoint, full_endpoint, take_all, udp_socket
from transports.support import HOST, settled


def name_of(transport):
    return transport.get_extra_info("sockname")


# ---- The queue -----------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_waits_in_order(run):
    async def main():
        async with full_endpoint() as (transport, _, peer, count):
            sent = [b"%d" % number for number in range(50)]
            for data in sent:
                transport.sendto(data)
            assert transport.get_write_buffer_size() == 4 + 8 + sum(len(data) + 8 for data in sent)
            got = []
            while len(got) < count + 1 + len(sent):
                got += take_all(peer)
                await asyncio.sleep(0)
            assert got == [b"fill"] * (count + 1) + sent
            assert transport.get_write_buffer_size() == 0

    run(main())


def test_what_is_queued_is_what_was_sent(run):
    """Seen in Kludex/zuvloop commit de6d531: later changes of a buffer went out on the wire."""

    async def main():
        async with full_endpoint() as (transport, _, peer, _count):
            data = bytearray(b"before")
            transport.sendto(data)
            data[:] = b"after "
            data.clear()  # nobody holds the buffer
            got = []
            while b"before" not in got:
                got += take_all(peer)
                await asyncio.sleep(0)

    run(main())


def test_empty_datagrams_count(run):
    async def main():
        async with full_endpoint() as (transport, protocol, _, _count):
            before = transport.get_write_buffer_size()
            transport.set_write_buffer_limits(high=before + 80)
            for _ in range(10):
                transport.sendto(b"")
            assert "pause_writing" not in protocol.events
            transport.sendto(b"")
            assert protocol.events[-1] == "pause_writing"
            assert transport.get_write_buffer_size() == before + 88

    run(main())


# ---- Flow control ---------------------------------------------------------------------------------------------------------


def test_limits(run):
    async def main():
        async with endpoint() as (transport, _):
            assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
            transport.set_write_buffer_limits(high=400)
            assert transport.get_write_buffer_limits() == (100, 400)
            transport.set_write_buffer_limits(low=400)
            assert transport.get_write_buffer_limits() == (400, 1600)
            transport.set_write_buffer_limits(0, 0)
            assert transport.get_write_buffer_limits() == (0, 0)
            with pytest.raises(ValueError, match=r"^high \(1\) must be >= low \(2\) must be >= 0$"):
                transport.set_write_buffer_limits(1, 2)

    run(main())


@pytest.mark.parametrize("limits", [(0, 0), (200, 100), (5000, 0)])
def test_pause_and_resume_alternate(run, limits):
    async def main():
        async with full_endpoint() as (transport, protocol, peer, _count):
            transport.set_write_buffer_limits(*limits)
            for turn in range(3):
                while protocol.events.count("pause_writing") == turn:
                    transport.sendto(b"more")
                assert transport.get_write_buffer_size() > limits[0]
                while protocol.events.count("resume_writing") == turn:
                    take_all(peer)
                    await asyncio.sleep(0)
                assert transport.get_write_buffer_size() <= limits[1]
            assert [name for name in protocol.names() if "writing" in name] == ["pause_writing", "resume_writing"] * 3

    run(main())


@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("where", ["pause_writing", "resume_writing", "datagram_received", "error_received"])
def test_the_end_from_inside(run, where, how):
    """Seen in python/cpython issue 156512 and Kludex/zuvloop commits bca66f4, e1b5a67: after an end from a callback came
    others, and connection_lost() twice."""

    class Ends(DatagramRecorder):
        def note(self, *event):
            super().note(*event)
            if event[0] == where:
                getattr(self.transport, how)()
                getattr(self.transport, how)()
                self.transport.sendto(b"into the void")

    async def main():
        async with full_endpoint(Ends) as (transport, protocol, peer, _count):
            if where == "error_received":
                transport.sendto(bytes(8_000_000))
                peer.close()  # and what is queued cannot be sent
            elif where == "datagram_received":
                for _ in range(3):
                    peer.send(b"x")
            transport.set_write_buffer_limits(0, 0)
            if where == "error_received":
                await protocol.until(lambda: where in protocol.names())
            lost = asyncio.ensure_future(protocol.lost())
            while not lost.done():
                if peer.fileno() != -1:
                    take_all(peer)
                await asyncio.sleep(0)
            assert lost.result() is None
            await settled()
            names = protocol.names()
            after = names[names.index(where) + 1 :]
            assert after == ["connection_lost"], names

    run(main())


def test_errors_of_queued_datagrams(run):
    """Seen in python/cpython issue 156784: each failed datagram is told, and the rest go on."""

    async def main():
        async with full_endpoint() as (transport, protocol, peer, _count):
            transport.set_write_buffer_limits(0, 0)
            for _ in range(3):
                transport.sendto(b"x")
            peer.close()
            await protocol.until(lambda: "resume_writing" in protocol.names())
            # What the kernel makes of a peer that is gone: a reset once, then refusals.
            assert {exc.errno for exc in protocol.errors} <= {errno.ECONNRESET, errno.ECONNREFUSED, errno.ENOTCONN}
            assert len(protocol.errors) >= 4
            assert transport.get_write_buffer_size() == 0
            assert not transport.is_closing()

    run(main())


def test_a_full_receiver_is_waited_for_without_spinning(run, tmp_path):
    """Poll calls a Unix socket without a peer writable whatever its receiver has room for; a loop that goes by that burns
    its core."""
    path = str(tmp_path / "receiver")

    async def main():
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(path)
            receiver.setblocking(False)
            async with endpoint(family=socket.AF_UNIX) as (transport, _):
                while transport.get_write_buffer_size() == 0:
                    transport.sendto(b"x", path)
                before = os.times()
                await asyncio.sleep(0.3)
                after = os.times()
                assert after.user + after.system - before.user - before.system < 0.15
                take_all(receiver)
                deadline = loop.time() + 30
                while transport.get_write_buffer_size() > 0 and loop.time() < deadline:
                    await asyncio.sleep(0.001)
                assert take_all(receiver) == [b"x"]

    run(main())


def test_pause_writing_that_fails(run, reports):
    class Fails(DatagramRecorder):
        def pause_writing(self):
            raise LookupError("expected")

    async def main():
        async with full_endpoint(Fails) as (transport, _, _peer, _count):
            transport.set_write_buffer_limits(0, 0)
            report = reports.pop()
            assert report["message"] == "protocol.pause_writing() failed"
            assert isinstance(report["exception"], LookupError)

    run(main())


# ---- The end ----------------------------------------------------------------------------------------------------------------


def test_close_sends_what_is_queued(run):
    async def main():
        async with full_endpoint() as (transport, protocol, peer, count):
            transport.sendto(b"last")
            transport.close()
            transport.close()
            assert transport.is_closing()
            transport.sendto(b"too late")
            peer.send(b"not heard any more")
            lost = asyncio.ensure_future(protocol.lost())
            got = []
            while not lost.done():
                got += take_all(peer)
                await asyncio.sleep(0)
            assert got == [b"fill"] * (count + 1) + [b"last"]
            assert protocol.names() == ["connection_made", "connection_lost"]

    run(main())


def test_abort_drops_what_is_queued(run):
    async def main():
        async with full_endpoint() as (transport, protocol, peer, count):
            transport.sendto(b"last")
            transport.abort()
            transport.abort()
            assert transport.get_write_buffer_size() == 0
            assert protocol.events == ["connection_made"]  # never from inside
            assert await protocol.lost() is None
            await settled()
            assert take_all(peer) == [b"fill"] * count
            assert protocol.events == ["connection_made", ("connection_lost", None)]

    run(main())


def test_after_the_end(run, caplog):
    """Seen in uvloop issues 506 and 68: sending on what is closed raised in ordinary shutdowns."""

    async def main():
        with udp_socket() as peer:
            async with endpoint() as (transport, protocol), endpoint(remote_addr=peer.getsockname()) as (connected, _):
                for one in (transport, connected):
                    one.close()
                    one.sendto(b"x", peer.getsockname())
                await settled()
                assert protocol.events[-1] == ("connection_lost", None)
                for _ in range(10):
                    transport.sendto(b"x", peer.getsockname())
                    transport.sendto(b"x", ("no.such.name.invalid", 5))
                    connected.sendto(b"x")
                assert "socket.send() raised exception." in caplog.text
                # What is wrong with the arguments is still said.
                with pytest.raises(TypeError):
                    transport.sendto("text")
                with pytest.raises(OverflowError):
                    transport.sendto(b"x", (HOST, 70_000))
                with pytest.raises(ValueError):
                    connected.sendto(b"x", (HOST, 9))
                transport.close()
                transport.abort()
                assert transport.get_protocol() is None
                assert repr(transport).startswith("<DatagramEndpoint closed fd=")
                assert transport.get_extra_info("socket").fileno() == -1
            peer.setblocking(False)
            with pytest.raises(BlockingIOError):
                peer.recv(10)

    run(main())


def test_set_protocol(run):
    async def main():
        async with endpoint() as (transport, first):
            second = DatagramRecorder()
            transport.sendto(b"1", name_of(transport))
            await first.receive(1)
            transport.set_protocol(second)
            assert transport.get_protocol() is second
            transport.sendto(b"2", name_of(transport))
            assert await second.receive(1) == [b"2"]
            assert first.received == [b"1"]

    run(main())


def test_switching_inside_a_burst(run):
    """set_protocol() from datagram_received(): the next datagram of the same event is the new one's."""

    async def main():
        second = DatagramRecorder()

        class First(DatagramRecorder):
            def datagram_received(self, data, addr):
                super().datagram_received(data, addr)
                self.transport.set_protocol(second)

        async with endpoint(First) as (transport, first):
            for number in range(3):
                transport.sendto(b"%d" % number, name_of(transport))
            assert await second.receive(2) == [b"1", b"2"]
            assert first.received == [b"0"]

    run(main())


def test_repr_and_what_is_underscored(run):
    async def main():
        async with full_endpoint() as (transport, protocol, _peer, _count):
            fd = transport.get_extra_info("socket").fileno()
            size = transport.get_write_buffer_size()
            assert repr(transport) == f"<DatagramEndpoint fd={fd} read=polling write=<polling, bufsize={size}>>"
            assert transport._sock.fileno() == transport._sock_fd == fd
            assert transport._loop is asyncio.get_running_loop()
            assert transport._protocol is protocol
            assert (transport._closing, transport._conn_lost) == (False, 0)
            transport.close()
            assert repr(transport) == f"<DatagramEndpoint closing fd={fd} read=idle write=<polling, bufsize={size}>>"
        async with endpoint(remote_addr=(HOST, 9)) as (transport, _):
            assert transport._address == (HOST, 9)

    run(main())


def test_it_cannot_be_made_by_hand():
    with pytest.raises(TypeError):
        corolla.DatagramEndpoint()


def test_another_thread_is_noticed_in_debug_mode(loop):
    loop.set_debug(True)

    async def main():
        async with endpoint() as (transport, _):
            for method in (transport.close, transport.abort):
                with pytest.raises(RuntimeError, match="Non-thread-safe operation"):
                    await loop.run_in_executor(None, method)
            assert not transport.is_closing()

    loop.run_until_complete(main())


# ---- Memory -----------------------------------------------------------------------------------------------------------------


def test_kept_while_it_can_receive(run):
    async def main():
        got = asyncio.get_running_loop().create_future()

        class Protocol(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def datagram_received(self, data, addr):
                got.set_result(data)
                self.transport.close()

        async def create():
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Protocol, local_addr=(HOST, 0))
            return name_of(transport)

        address = await create()
        gc.collect()
        with udp_socket() as peer:
            peer.sendto(b"still there?", address)
            assert await got == b"still there?"
        await settled()

    run(main())


def test_dropped_open():
    """With its loop closed nobody has it: it is closed with a warning."""
    loop = corolla.new_event_loop()
    transport, protocol = loop.run_until_complete(loop.create_datagram_endpoint(DatagramRecorder, local_addr=(HOST, 0)))
    fd = transport._sock_fd
    loop.close()
    transport.sendto(b"x", (HOST, 9))  # nothing happens, and nothing breaks
    ref = weakref.ref(transport)
    del protocol.transport  # no cycle: a collection would have the socket warn for itself, as with asyncio
    with pytest.warns(ResourceWarning, match=f"unclosed transport <DatagramEndpoint fd={fd}>"):
        del transport, protocol
        gc.collect()
    assert ref() is None
    with pytest.raises(OSError):
        os.fstat(fd)


def test_loop_closed_with_a_queue():
    loop = corolla.new_event_loop()

    async def main():
        one, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        transport, _ = await loop.create_datagram_endpoint(DatagramRecorder, sock=one)
        while transport.get_write_buffer_size() == 0:
            transport.sendto(b"x")
        return transport, peer

    transport, peer = loop.run_until_complete(main())
    loop.close()
    assert transport.get_write_buffer_size() == 0
    peer.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del transport
        gc.collect()


def test_a_cycle_is_collected(run):
    async def main():
        transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
            DatagramRecorder, local_addr=(HOST, 0)
        )
        transport.own = [transport, protocol]
        transport.sendto(b"x", name_of(transport))
        await protocol.receive(1)
        transport.close()
        await protocol.lost()
        ref = weakref.ref(transport)
        del transport, protocol
        await settled()
        gc.collect()
        assert ref() is None

    run(main())


def test_the_number_is_closed_once(run):
    """Seen in uvloop issue 738 and python/cpython issue 130141: a number that was given to somebody else was closed."""

    async def main():
        async with endpoint() as (transport, _):
            fd = transport._sock_fd
            transport.abort()
            await settled()
            with udp_socket() as other:
                assert other.fileno() == fd
                transport.abort()
                transport.close()
                del transport
                gc.collect()
                assert other.getsockname()

    run(main())
