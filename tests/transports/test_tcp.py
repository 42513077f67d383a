"""A connection's life as its protocol sees it, and what its transport says of itself."""

import asyncio
import contextlib
import contextvars
import logging
import os
import socket
import weakref

import corolla
import pytest
from transports.support import HOST, BufferedRecorder, Recorder, connection, listener, receive, receive_all, settled


def test_callbacks_in_order(run):
    async def main():
        async with connection() as (transport, protocol, peer):
            assert protocol.events == ["connection_made"]
            assert protocol.transport is transport
            peer.sendall(b"abc")
            await protocol.until(lambda: protocol.data == b"abc")
            peer.shutdown(socket.SHUT_WR)
            await protocol.lost()
            assert protocol.names() == ["connection_made", "data_received", "eof_received", "connection_lost"]
            assert protocol.events[-1] == ("connection_lost", None)

    run(main())


def test_connection_made_is_a_callback_of_its_own(run):
    """connection_made() comes by way of the loop, before create_connection() returns and before any data."""
    order = []

    class Protocol(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            order.append("made")

    async def main():
        with listener() as server:
            task = asyncio.ensure_future(asyncio.get_running_loop().create_connection(Protocol, *server.getsockname()))
            task.add_done_callback(lambda task: order.append("returned"))
            transport, _ = await task
            order.append("awaited")
            transport.abort()
            server.accept()[0].close()
        await settled()

    run(main())
    assert order == ["made", "returned", "awaited"]


@pytest.mark.parametrize("size", [1, 1000, 100_000, 3_000_000])
@pytest.mark.parametrize("factory", [Recorder, BufferedRecorder])
def test_reads_of_every_size(run, factory, size):
    async def main():
        loop = asyncio.get_running_loop()
        data = os.urandom(size)
        async with connection(factory) as (_, protocol, peer):
            sending = loop.run_in_executor(None, peer.sendall, data)
            await protocol.until(lambda: len(protocol.data) >= size)
            await sending
            assert protocol.data == data
            assert all(type(event[1]) is bytes for event in protocol.events if event[0] == "data_received")

    run(main())


def test_sizes_that_change(run):
    """Large reads go straight into the object, short ones through a shared buffer: neither mixes with the other."""

    async def main():
        loop = asyncio.get_running_loop()
        async with connection() as (_, protocol, peer):
            sent = b""
            for size in (10, 300_000, 1, 700_000, 70_000, 5, 5, 5, 40_000, 2):
                data = os.urandom(size)
                sent += data
                sending = loop.run_in_executor(None, peer.sendall, data)
                await protocol.until(lambda: len(protocol.data) >= len(sent))
                await sending
            assert protocol.data == sent

    run(main())


def test_isinstance(run):
    """Debug mode and introspection: transports that are not asyncio.Transport instances fail assertions."""

    async def main():
        async with connection() as (transport, _, _):
            assert type(transport) is corolla.TcpTransport
            for kind in (asyncio.Transport, asyncio.ReadTransport, asyncio.WriteTransport, asyncio.BaseTransport):
                assert isinstance(transport, kind)

    run(main())


def test_attributes_and_weak_references(run):
    """Debug mode and introspection: objects without weak references or instance attributes."""

    async def main():
        async with connection() as (transport, _, _):
            transport.mine = 1
            assert transport.__dict__ == {"mine": 1}
            ref = weakref.ref(transport)
            assert ref() is transport
            assert {transport: 1}[transport] == 1

    run(main())


def test_repr(run):
    async def main():
        async with connection() as (transport, protocol, _):
            fd = transport.get_extra_info("socket").fileno()
            assert repr(transport) == f"<TcpTransport fd={fd} read=polling write=<idle, bufsize=0>>"
            transport.pause_reading()
            assert repr(transport) == f"<TcpTransport fd={fd} read=idle write=<idle, bufsize=0>>"
            transport.write(b"x" * 20_000_000)
            size = transport.get_write_buffer_size()
            assert size > 0
            assert repr(transport) == f"<TcpTransport fd={fd} read=idle write=<polling, bufsize={size}>>"
            transport.close()
            assert repr(transport) == f"<TcpTransport closing fd={fd} read=idle write=<polling, bufsize={size}>>"
            transport.abort()
            await protocol.lost()
            await settled()
            assert repr(transport) == f"<TcpTransport closed fd={fd}>"

    run(main())


def test_private_attributes(run):
    async def main():
        async with connection() as (transport, protocol, _):
            assert transport._loop is asyncio.get_running_loop()
            assert transport._protocol is protocol
            assert transport._sock_fd == transport._sock.fileno() == transport.get_extra_info("socket").fileno()
            assert transport._sock is transport._sock
            assert transport._server is None
            assert (transport._closing, transport._paused, transport._eof, transport._conn_lost) == (
                False,
                False,
                False,
                0,
            )
            assert set(transport._extra) == {"socket", "peername", "sockname"}
            transport.close()
            assert transport._closing
            await protocol.lost()
            await settled()
            assert transport._sock is transport._loop is transport._protocol is transport.get_protocol() is None

    run(main())


def test_extra_info(run):
    async def main():
        async with connection() as (transport, protocol, peer):
            sock = transport.get_extra_info("socket")
            assert isinstance(sock, asyncio.trsock.TransportSocket)
            assert sock is transport.get_extra_info("socket")
            assert (sock.family, sock.type, sock.gettimeout()) == (socket.AF_INET, socket.SOCK_STREAM, 0)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            assert transport.get_extra_info("peername") == peer.getsockname()
            assert transport.get_extra_info("sockname") == peer.getpeername()
            assert transport.get_extra_info("sslcontext") is None
            assert transport.get_extra_info("sslcontext", 5) == 5
            assert transport.get_extra_info(name="cipher", default=5) == 5
            assert transport.get_extra_info(7) is None
            with pytest.raises(TypeError):
                transport.get_extra_info()
            with pytest.raises(TypeError):
                transport.get_extra_info([])
            addresses = peer.getsockname(), peer.getpeername()
            peer.close()
            await protocol.lost()
            await settled()
            assert (transport.get_extra_info("peername"), transport.get_extra_info("sockname")) == addresses
            assert transport.get_extra_info("socket") is sock
            assert sock.fileno() == -1

    run(main())


@pytest.mark.parametrize("instead", [None, 5], ids=["deleted", "no dict"])
def test_without_extra(run, instead):
    """The slot of asyncio.BaseTransport is everybody's to write, also while a name is compared."""
    slot = asyncio.BaseTransport._extra

    def take_away(transport):
        if transport._extra is not None:  # that makes one
            slot.__delete__(transport) if instead is None else slot.__set__(transport, instead)

    class Name:
        def __init__(self, transport):
            self.transport = transport

        def __hash__(self):
            return hash("socket")

        def __eq__(self, other):
            take_away(self.transport)
            compared.append(other)
            return False

    async def main():
        async with connection() as (transport, _, peer):
            for _ in range(2):
                take_away(transport)
                assert transport.get_extra_info("nothing", 3) == 3
                assert transport.get_extra_info("socket").fileno() == transport._sock_fd
                assert transport.get_extra_info("peername") == peer.getsockname()
            assert transport.get_extra_info(Name(transport), 4) == 4

    compared = []
    run(main())
    assert set(compared) == {"socket"}  # it may be compared again, as the dict was changed meanwhile


def test_extra_info_asked_too_late(run):
    async def main():
        async with connection() as (transport, protocol, peer):
            addresses = peer.getsockname(), peer.getpeername()
            transport.close()
            await protocol.lost()
            await settled()
            assert (transport.get_extra_info("peername"), transport.get_extra_info("sockname")) == addresses
            sock = transport.get_extra_info("socket")
            assert sock.fileno() == -1
            assert sock.family == socket.AF_INET

    run(main())


def test_ipv6(run):
    async def main():
        loop = asyncio.get_running_loop()
        protocol = Recorder()
        server = await loop.create_server(lambda: protocol, "::1", 0)
        address = server.sockets[0].getsockname()
        transport, _ = await loop.create_connection(Recorder, "::1", address[1])
        assert transport.get_extra_info("peername") == address
        await protocol.until(lambda: protocol.events)
        assert protocol.transport.get_extra_info("peername") == transport.get_extra_info("sockname")
        assert protocol.transport.get_extra_info("sockname") == address
        transport.close()
        await protocol.lost()
        server.close()
        await server.wait_closed()

    run(main())


def test_unix_socket(run):
    """create_connection(sock=) takes any stream socket."""

    async def main():
        ours, peer = socket.socketpair()
        with peer:
            transport, protocol = await asyncio.get_running_loop().create_connection(Recorder, sock=ours)
            assert transport.get_extra_info("peername") == transport.get_extra_info("sockname") == ""
            peer.sendall(b"abc")
            transport.write(b"xyz")
            await protocol.until(lambda: protocol.data == b"abc")
            assert peer.recv(100) == b"xyz"
            transport.close()
            await protocol.lost()
            await settled()
            assert transport.get_extra_info("peername") == ""

    run(main())


def test_no_task_is_current_in_callbacks(run):
    """Whatever task ran before: a callback of the loop belongs to none."""
    seen = []

    class Protocol(Recorder):
        def __init__(self):
            super().__init__()
            seen.append(asyncio.current_task())

        def note(self, *event):
            seen.append(asyncio.current_task())
            super().note(*event)

    async def main():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Protocol, HOST, 0)
        with socket.create_connection(server.sockets[0].getsockname()) as peer:
            peer.sendall(b"abc")
            while len(seen) < 3:
                await asyncio.sleep(0)
        server.close()
        await server.wait_closed()
        assert asyncio.current_task() is not None

    run(main())
    assert seen == [None] * 5


def test_slow_callbacks_in_debug_mode(run, loop, caplog):
    """FEATURES: debug mode reports slow callbacks."""
    loop.set_debug(True)
    loop.slow_callback_duration = 0

    async def main():
        async with connection() as (_, protocol, peer):
            peer.sendall(b"abc")
            await protocol.until(lambda: protocol.data == b"abc")

    with caplog.at_level(logging.WARNING, logger="asyncio"):
        run(main())
    assert any(
        message.startswith("Executing Recorder.data_received() of <TcpTransport fd=") for message in caplog.messages
    )


# ---- Contexts ----------------------------------------------------------------------------------


def test_callbacks_run_in_the_context_of_the_creation(run):
    var = contextvars.ContextVar("var")
    seen = []

    class Protocol(Recorder):
        def note(self, *event):
            seen.append(var.get())
            super().note(*event)

    async def main():
        var.set("made")
        async with connection(Protocol) as (transport, protocol, peer):
            var.set("later")
            peer.sendall(b"abc")
            await protocol.until(lambda: protocol.data)
            peer.shutdown(socket.SHUT_WR)
            await protocol.lost()

    run(main())
    assert seen == ["made"] * 4


def test_resume_from_another_task_keeps_the_context(run):
    """Scheduler: resume_reading() re-registered the reader with the caller's context."""
    var = contextvars.ContextVar("var")
    seen = []

    class Protocol(Recorder):
        def data_received(self, data):
            seen.append(var.get())
            super().data_received(data)

    async def main():
        var.set("connection")
        async with connection(Protocol) as (transport, protocol, peer):

            async def other():
                var.set("other")
                transport.pause_reading()
                peer.sendall(b"abc")
                transport.resume_reading()

            await asyncio.create_task(other())
            await protocol.until(lambda: protocol.data)

    run(main())
    assert seen == ["connection"]


def test_flow_control_runs_where_the_write_was(run):
    """pause_writing() comes from inside write(), and so in the writer's context; resume_writing() in the connection's."""
    var = contextvars.ContextVar("var")
    seen = []

    class Protocol(Recorder):
        def pause_writing(self):
            seen.append(("pause", var.get()))

        def resume_writing(self):
            seen.append(("resume", var.get()))
            self.note("resume_writing")

    async def main():
        var.set("connection")
        async with connection(Protocol) as (transport, protocol, peer):

            async def other():
                var.set("other")
                transport.write(b"x" * 20_000_000)

            await asyncio.create_task(other())
            reading = asyncio.ensure_future(receive(peer, 20_000_000))
            await protocol.until(lambda: "resume_writing" in protocol.names())
            await reading

    run(main())
    assert seen == [("pause", "other"), ("resume", "connection")]


# ---- Pausing -----------------------------------------------------------------------------------


def test_pause_and_resume(run):
    async def main():
        async with connection() as (transport, protocol, peer):
            assert transport.is_reading()
            transport.pause_reading()
            transport.pause_reading()
            assert not transport.is_reading()
            peer.sendall(b"abc")
            await settled()
            assert protocol.data == b""
            transport.resume_reading()
            transport.resume_reading()
            assert transport.is_reading()
            await protocol.until(lambda: protocol.data == b"abc")

    run(main())


def test_pause_inside_data_received(run):
    class Protocol(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()

    async def main():
        async with connection(Protocol) as (transport, protocol, peer):
            peer.sendall(b"abc")
            await protocol.until(lambda: protocol.data == b"abc")
            peer.sendall(b"def")
            await settled()
            assert protocol.data == b"abc"
            transport.resume_reading()
            await protocol.until(lambda: protocol.data == b"abcdef")

    run(main())


@pytest.mark.parametrize("resume", [False, True])
def test_pause_inside_connection_made(run, resume):
    class Protocol(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()
            if resume:
                transport.resume_reading()

    async def main():
        async with connection(Protocol) as (transport, protocol, peer):
            assert transport.is_reading() is resume
            peer.sendall(b"abc")
            if not resume:
                await settled()
                assert protocol.data == b""
                transport.resume_reading()
            await protocol.until(lambda: protocol.data == b"abc")

    run(main())


def test_pause_and_resume_when_closing(run):
    async def main():
        async with connection() as (transport, protocol, _):
            transport.close()
            assert not transport.is_reading()
            transport.pause_reading()
            transport.resume_reading()
            await protocol.lost()
            transport.pause_reading()
            transport.resume_reading()
            assert not transport.is_reading()

    run(main())


# ---- set_protocol() ----------------------------------------------------------------------------


@pytest.mark.parametrize("first", [Recorder, BufferedRecorder])
@pytest.mark.parametrize("second", [Recorder, BufferedRecorder])
@pytest.mark.parametrize("paused", [False, True])
def test_set_protocol_switches_the_reading_mode(run, first, second, paused):
    """Transports: whether a protocol is buffered was decided once."""

    async def main():
        async with connection(first) as (transport, protocol, peer):
            peer.sendall(b"abc")
            await protocol.until(lambda: protocol.data == b"abc")
            if paused:
                transport.pause_reading()
            other = second()
            transport.set_protocol(other)
            assert transport.get_protocol() is other
            peer.sendall(b"def")
            if paused:
                transport.resume_reading()
            await other.until(lambda: other.data == b"def")
            peer.close()
            await other.lost()
            assert protocol.names() == ["connection_made", "data_received"]

    run(main())


def test_set_protocol_inside_data_received(run):
    async def main():
        other = BufferedRecorder()

        class Protocol(Recorder):
            def data_received(self, data):
                super().data_received(data)
                self.transport.set_protocol(other)

        async with connection(Protocol) as (_, protocol, peer):
            peer.sendall(b"abc")
            await protocol.until(lambda: protocol.data == b"abc")
            peer.sendall(b"def")
            await other.until(lambda: other.data == b"def")
            assert protocol.data == b"abc"

    run(main())


@pytest.mark.parametrize("second", [Recorder, BufferedRecorder])
def test_set_protocol_inside_get_buffer(run, second):
    """The bytes are for the protocol that is set when they are read."""

    async def main():
        other = second()

        class Protocol(BufferedRecorder):
            def get_buffer(self, sizehint):
                self.transport.set_protocol(other)
                return super().get_buffer(sizehint)

        async with connection(Protocol) as (_, protocol, peer):
            peer.sendall(b"abc")
            await other.until(lambda: other.data == b"abc")
            assert protocol.names() == ["connection_made"]

    run(main())


@pytest.mark.parametrize("how", ["pause", "close", "abort"])
def test_get_buffer_that_stops_the_reading(run, how):
    async def main():
        class Protocol(BufferedRecorder):
            def get_buffer(self, sizehint):
                buffer = super().get_buffer(sizehint)
                if how == "pause":
                    self.transport.pause_reading()
                    self.recorder.note("paused")
                else:
                    getattr(self.transport, how)()
                return buffer

        async with connection(Protocol) as (transport, protocol, peer):
            peer.sendall(b"abc")
            if how == "pause":
                await protocol.until(lambda: "paused" in protocol.names())
                await settled()
                assert protocol.names() == ["connection_made", "paused"]
                protocol.buffer.clear()  # nobody holds the buffer
            else:
                await protocol.lost()
                assert protocol.names() == ["connection_made", "connection_lost"]

    run(main())


def test_buffer_is_released_before_buffer_updated(run):
    async def main():
        class Protocol(BufferedRecorder):
            def buffer_updated(self, nbytes):
                super().buffer_updated(nbytes)
                self.buffer.extend(b"x" * 100_000)  # BufferError if it were still held
                del self.buffer[10:]

        async with connection(Protocol) as (_, protocol, peer):
            peer.sendall(b"abc")
            await protocol.until(lambda: protocol.data == b"abc")
            assert len(protocol.buffer) == 10

    run(main())


def test_patched_methods_are_called(run):
    async def main():
        async with connection() as (_, protocol, peer):
            got = []
            protocol.data_received = lambda data: (got.append(data), protocol.note("patched"))
            peer.sendall(b"abc")
            await protocol.until(lambda: "patched" in protocol.names())
            assert got == [b"abc"]

    run(main())


# ---- Ends --------------------------------------------------------------------------------------


def test_eof_keeps_open(run):
    async def main():
        async with connection() as (transport, protocol, peer):
            protocol.keep_open = True
            peer.sendall(b"abc")
            peer.shutdown(socket.SHUT_WR)
            await protocol.until(lambda: "eof_received" in protocol.names())
            await settled()
            assert not transport.is_closing()
            transport.write(b"answer")
            transport.close()
            assert await receive_all(peer) == b"answer"
            await protocol.lost()
            assert protocol.names() == ["connection_made", "data_received", "eof_received", "connection_lost"]

    run(main())


def test_close(run):
    async def main():
        async with connection() as (transport, protocol, peer):
            transport.close()
            transport.close()
            assert transport.is_closing()
            assert protocol.events == ["connection_made"]  # never from inside close()
            assert await protocol.lost() is None
            transport.close()
            transport.abort()
            await settled()
            assert protocol.names() == ["connection_made", "connection_lost"]
            assert peer.recv(100) == b""

    run(main())


def test_close_flushes(run):
    async def main():
        async with connection(small=True) as (transport, protocol, peer):
            data = os.urandom(1_000_000)
            transport.write(data)
            transport.close()
            assert transport.get_write_buffer_size() > 0
            assert await receive_all(peer) == data
            assert await protocol.lost() is None
            assert protocol.names().count("connection_lost") == 1

    run(main())


def test_abort_drops(run):
    async def main():
        async with connection(small=True) as (transport, protocol, peer):
            transport.write(b"x" * 1_000_000)
            transport.close()
            transport.abort()
            assert transport.get_write_buffer_size() == 0
            assert await protocol.lost() is None
            await settled()
            assert len(await receive_all(peer)) < 1_000_000

    run(main())


def test_descriptor_is_open_in_connection_lost(run):
    """The protocol may still ask; the descriptor is closed behind it."""

    async def main():
        class Protocol(Recorder):
            def connection_lost(self, exc):
                self.fd = self.transport.get_extra_info("socket").fileno()
                super().connection_lost(exc)

        async with connection(Protocol) as (transport, protocol, _):
            transport.close()
            await protocol.lost()
            assert protocol.fd >= 0
            await settled()
            assert transport.get_extra_info("socket").fileno() == -1

    run(main())


@pytest.mark.parametrize(
    "callback", ["connection_made", "data_received", "eof_received", "get_buffer", "buffer_updated"]
)
@pytest.mark.parametrize("how", ["close", "abort"])
def test_closing_in_a_callback(run, callback, how):
    """Transports: for every mix of closes inside callbacks connection_lost comes exactly once, and nothing but it."""

    async def main():
        base = BufferedRecorder if callback in ("get_buffer", "buffer_updated") else Recorder

        class Protocol(base):
            pass

        def closing(self, *args):
            result = getattr(base, callback)(self, *args)
            self.transport.write(b"last words")
            getattr(self.transport, how)()
            return result

        setattr(Protocol, callback, closing)
        async with connection(Protocol) as (transport, protocol, peer):
            with contextlib.suppress(OSError):  # closed already
                peer.sendall(b"abc")
                peer.shutdown(socket.SHUT_WR)
            await protocol.lost()
            await settled()
            names = protocol.names()
            assert names.count("connection_lost") == 1
            assert names[-1] == "connection_lost"
            if callback not in ("eof_received",):
                assert "eof_received" not in names

    run(main())
