"""sock_sendfile() and sendfile(): natively, and by the fallback."""

import asyncio
import contextlib
import io
import os
import socket
import ssl
import tempfile
from asyncio.constants import _SendfileMode

import pytest
from impl import beyond_stdlib
from transports.support import HOST, Recorder, connection, receive_all, reset, settled

SIZE = 1 << 20
DATA = os.urandom(SIZE)


@pytest.fixture
def file():
    with tempfile.TemporaryFile() as made:
        made.write(DATA)
        made.flush()
        yield made


class Unhandy(io.BytesIO):
    """Bytes without a descriptor, which count how they are positioned."""

    def __init__(self, data=DATA):
        super().__init__(data)
        self.sought = []

    def seek(self, position, whence=0):
        self.sought.append(position)
        return super().seek(position, whence)


@contextlib.contextmanager
def sockets(small=True):
    """(ours, non-blocking; theirs, blocking)"""
    with socket.create_server((HOST, 0)) as server:
        if small:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    if small:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    ours.setblocking(False)
    theirs.settimeout(30)
    with ours, theirs:
        yield ours, theirs


def get_loop():
    return asyncio.get_running_loop()


# ---- sock_sendfile() -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "count", "expected"),
    [
        (0, None, DATA),
        (1000, None, DATA[1000:]),
        (1000, 2000, DATA[1000:3000]),
        (0, 1, DATA[:1]),
        (SIZE - 10, 2000, DATA[-10:]),
        (SIZE + 10, None, b""),
        (SIZE + 10, 5, b""),
        (0, 2**70, DATA),
        (True, True, DATA[1:2]),
    ],
)
@pytest.mark.parametrize("native", [True, False])
def test_what_is_sent(run, file, offset, count, expected, native):
    """python/cpython issue 150107: the fallback began where the file was, not at an offset of 0."""

    async def main():
        source = file if native else Unhandy()
        source.seek(77)
        with sockets() as (ours, theirs):
            got = get_loop().create_task(receive_all(theirs))
            sent = await get_loop().sock_sendfile(ours, source, offset, count, fallback=not native)
            ours.shutdown(socket.SHUT_WR)
            assert await got == expected
            assert sent == len(expected)
        # Where the sending stopped, natively or not; the fallback has to seek in any case.
        assert source.tell() == (offset + len(expected) if expected else 77 if native else offset)

    run(main())


def test_an_empty_file(run):
    async def main():
        with sockets() as (ours, _theirs), tempfile.TemporaryFile() as empty:
            assert await get_loop().sock_sendfile(ours, empty) == 0
            assert await get_loop().sock_sendfile(ours, Unhandy(b"")) == 0

    run(main())


def test_order_with_other_sends(run, file):
    async def main():
        loop = get_loop()
        with sockets() as (ours, theirs):
            got = loop.create_task(receive_all(theirs))
            await loop.sock_sendall(ours, b"before" * 10000)
            assert await loop.sock_sendfile(ours, file) == SIZE
            await loop.sock_sendall(ours, b"after")
            ours.shutdown(socket.SHUT_WR)
            assert await got == b"before" * 10000 + DATA + b"after"

    run(main())


def test_a_growing_file_goes_to_its_end(run, file):
    async def main():
        loop = get_loop()
        with sockets() as (ours, theirs):
            sending = loop.create_task(loop.sock_sendfile(ours, file))
            await asyncio.sleep(0)
            os.pwrite(file.fileno(), b"grown", SIZE)
            got = loop.create_task(receive_all(theirs))
            assert await sending == SIZE + 5
            ours.shutdown(socket.SHUT_WR)
            assert await got == DATA + b"grown"

    run(main())


def test_others_run_meanwhile(run, file):
    async def main():
        loop = get_loop()
        turns = 0

        def count():
            nonlocal turns
            turns += 1
            loop.call_soon(count)

        with sockets() as (ours, theirs):
            loop.call_soon(count)
            got = loop.create_task(receive_all(theirs))
            await loop.sock_sendfile(ours, file)
            assert turns > 2
            ours.shutdown(socket.SHUT_WR)
            await got
            count = int

    run(main())


def test_the_arguments(run, file):
    """In asyncio's order: the file's mode, the socket's type, count, offset."""

    async def main():
        loop = get_loop()
        with sockets() as (ours, _theirs), tempfile.TemporaryFile("w+") as text:
            datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

            async def refused(kind, match, *args, **kwargs):
                with pytest.raises(kind, match=match):
                    await loop.sock_sendfile(*args, **kwargs)

            with datagram:
                await refused(ValueError, "^file should be opened in binary mode$", datagram, text, -1, -1)
                await refused(ValueError, "^only SOCK_STREAM type sockets are supported$", datagram, file, -1, -1)
            for count in (0, -1, -(2**70)):
                match = rf"^count must be a positive integer \(got {count}\)$"
                await refused(ValueError, match, ours, file, -1, count)
            await refused(TypeError, r"^count must be a positive integer \(got 1.0\)$", ours, file, -1, 1.0)
            await refused(TypeError, r"^offset must be a non-negative integer \(got 'x'\)$", ours, file, "x")
            await refused(ValueError, r"^offset must be a non-negative integer \(got -1\)$", ours, file, -1)
            await refused(OverflowError, None, ours, file, 2**70)
            odd_mode = type("OddMode", (), {"mode": 1})()
            await refused(TypeError, None, ours, odd_mode)
            await refused(TypeError, None, ours)
            await refused(TypeError, None, ours, file, 0, None, True)
            await refused(AttributeError, None, object(), file)
            loop.set_debug(True)
            ours.setblocking(True)
            await refused(ValueError, "^the socket must be non-blocking$", ours, text, -1, -1)
            ours.setblocking(False)
            loop.set_debug(False)
            context = ssl.create_default_context()
            wrapped = context.wrap_socket(ours, server_hostname="localhost", do_handshake_on_connect=False)
            with wrapped:
                await refused(TypeError, "^Socket cannot be of type SSLSocket$", wrapped, text)
            assert file.tell() == SIZE

    run(main())


def test_where_there_is_no_native_way(run):
    async def main():
        loop = get_loop()
        reader, writer = os.pipe()
        with sockets() as (ours, theirs), open(reader, "rb", 0) as pipe, open(writer, "wb", 0) as end:

            async def unavailable(match, source, *args):
                with pytest.raises(asyncio.SendfileNotAvailableError, match=match) as info:
                    await loop.sock_sendfile(ours, source, *args, fallback=False)
                return info.value

            await unavailable("^not a regular file$", object())
            await unavailable("^not a regular file$", Unhandy())
            closed = os.dup(reader)
            os.close(closed)
            await unavailable("^not a regular file$", type("F", (), {"fileno": lambda self: closed})())
            # A pipe has a descriptor, but the kernel cannot send from it.
            exc = await unavailable("^os.sendfile call failed$", pipe, 0, 5)
            assert isinstance(exc.__context__, OSError)
            # The fallback can, since it need not seek.
            end.write(b"hello")
            assert await loop.sock_sendfile(ours, pipe, 0, 5) == 5
            assert theirs.recv(100) == b"hello"
            with pytest.raises(OSError):
                await loop.sock_sendfile(ours, pipe, 3, 5)
            with pytest.raises(AttributeError):
                await loop.sock_sendfile(ours, object())

    run(main())


def test_the_peer_goes_in_the_middle(run, file):
    async def main():
        loop = get_loop()
        for native in (True, False):
            source = file if native else Unhandy()
            with sockets() as (ours, theirs):
                sending = loop.create_task(loop.sock_sendfile(ours, source))
                await loop.run_in_executor(None, theirs.recv, 1000)
                reset(theirs)
                with pytest.raises(ConnectionError):
                    await sending
                assert 0 < source.tell() < SIZE

    run(main())


def test_cancelled_in_the_middle(run, file):
    """python/cpython issues 131728 and 74250: afterwards the descriptor is not watched, and the next call goes through."""

    async def main():
        loop = get_loop()
        with sockets() as (ours, theirs):
            sending = loop.create_task(loop.sock_sendfile(ours, file))
            await asyncio.sleep(0)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            at = file.tell()
            assert 0 < at < SIZE
            assert not loop.remove_writer(ours)
            got = loop.create_task(receive_all(theirs))
            assert await loop.sock_sendfile(ours, file, at) == SIZE - at
            ours.shutdown(socket.SHUT_WR)
            assert await got == DATA

    run(main())


def test_never_awaited(loop, file):
    with sockets() as (ours, _theirs):
        coro = loop.sock_sendfile(ours, file)
        assert asyncio.iscoroutine(coro)
        coro.close()
        with pytest.warns(RuntimeWarning, match="was never awaited"):
            loop.sock_sendfile(ours, file)


def test_on_a_transports_socket(run, file):
    async def main():
        loop = get_loop()
        async with connection(small=True) as (transport, _protocol, _peer):
            sock = transport.get_extra_info("socket")._sock
            with pytest.raises(RuntimeError, match="is used by transport"):
                await loop.sock_sendfile(sock, file, fallback=False)

    run(main())


# ---- sendfile() ----------------------------------------------------------------------------------------------------


async def send_over(transport, peer, *args, **kwargs):
    """What sendfile() gave, and what came."""
    got = get_loop().create_task(receive_all(peer))
    sent = await get_loop().sendfile(transport, *args, **kwargs)
    transport.close()
    return sent, await got


def without_native(loop, monkeypatch):
    async def native(transport, file, offset, count):
        raise asyncio.SendfileNotAvailableError("not here")

    monkeypatch.setattr(loop, "_sendfile_native", native, raising=False)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize(
    ("offset", "count", "expected"),
    [(0, None, DATA), (1000, 2000, DATA[1000:3000]), (SIZE - 10, 100, DATA[-10:]), (SIZE + 1, None, b"")],
)
def test_over_a_transport(loop, run, monkeypatch, file, native, offset, count, expected):
    async def main():
        file.seek(5)
        if not native:
            without_native(loop, monkeypatch)
        async with connection(small=True) as (transport, protocol, peer):
            sent, got = await send_over(transport, peer, file, offset, count, fallback=not native)
            assert (sent, got) == (len(expected), expected)
            assert file.tell() == (offset + len(expected) if expected else 5 if native else offset)
            assert await protocol.lost() is None

    run(main())


@pytest.mark.parametrize("native", [True, False])
def test_behind_what_was_written_and_before_what_is(loop, run, monkeypatch, file, native):
    async def main():
        if not native:
            without_native(loop, monkeypatch)
        async with connection(small=True) as (transport, protocol, peer):
            before, after = os.urandom(300_000), os.urandom(300_000)
            got = loop.create_task(receive_all(peer))
            transport.write(before)
            assert transport.get_write_buffer_size() > 0
            assert await loop.sendfile(transport, file) == SIZE
            transport.write(after)
            assert await loop.sendfile(transport, file, 10, 20) == 20
            transport.write(b"end")
            transport.close()
            assert await got == before + DATA + after + DATA[10:30] + b"end"
            assert await protocol.lost() is None

    run(main())


def test_behind_what_is_held_back_to_the_end_of_the_turn(run, file):
    """A connection that has learned to gather its writes."""

    async def main():
        loop = get_loop()
        async with connection() as (transport, _protocol, peer):
            got = loop.create_task(receive_all(peer))
            for _ in range(5):
                transport.write(b"a")
                transport.write(b"b")
                await asyncio.sleep(0)
            transport.write(b"c")
            transport.write(b"d")
            assert await loop.sendfile(transport, file) == SIZE
            transport.close()
            assert await got == b"ab" * 5 + b"cd" + DATA

    run(main())


def test_nobody_writes_meanwhile(run, file):
    async def main():
        loop = get_loop()
        async with connection(small=True) as (transport, _protocol, peer):
            sending = loop.create_task(loop.sendfile(transport, file))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="^unable to write; sendfile is in progress$"):
                transport.write(b"abc")
            with pytest.raises(RuntimeError, match="^unable to writelines; sendfile is in progress$"):
                transport.writelines([b"abc"])
            with pytest.raises(RuntimeError, match="^Empty waiter is already set$"):
                await loop.sendfile(transport, file)
            got = loop.create_task(receive_all(peer))
            assert await sending == SIZE
            transport.write(b"abc")
            transport.close()
            assert await got == DATA + b"abc"

    run(main())


def test_reading_is_paused_meanwhile_and_only_then(run, file):
    async def main():
        loop = get_loop()
        for paused_before in (False, True):
            async with connection(small=True) as (transport, protocol, peer):
                if paused_before:
                    transport.pause_reading()
                sending = loop.create_task(loop.sendfile(transport, file))
                await asyncio.sleep(0)
                assert not transport.is_reading()
                peer.sendall(b"abc")
                await settled()
                assert not protocol.data
                got = loop.create_task(receive_all(peer))
                assert await sending == SIZE
                assert transport.is_reading() is not paused_before
                if paused_before:
                    transport.resume_reading()
                await protocol.until(lambda protocol=protocol: protocol.data == b"abc")
                transport.close()
                await got

    run(main())


def test_write_eof_meanwhile_is_behind_the_file(run, file):
    async def main():
        loop = get_loop()
        async with connection(small=True) as (transport, _protocol, peer):
            sending = loop.create_task(loop.sendfile(transport, file))
            await asyncio.sleep(0)
            transport.write_eof()
            assert await receive_all(peer) == DATA
            assert await sending == SIZE
            with pytest.raises(RuntimeError, match="write_eof"):
                transport.write(b"abc")

    run(main())


@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("native", [True, False])
def test_closed_meanwhile(loop, run, monkeypatch, file, native, how):
    async def main():
        if not native:
            without_native(loop, monkeypatch)
        async with connection(small=True) as (transport, protocol, peer):
            sending = loop.create_task(loop.sendfile(transport, file))
            await loop.run_in_executor(None, peer.recv, 1000)
            getattr(transport, how)()
            got = loop.create_task(receive_all(peer)) if how == "close" else None
            with pytest.raises(ConnectionError):
                await sending
            await protocol.lost()
            assert 0 < file.tell() < SIZE
            if got is not None:
                await got

    run(main())


@pytest.mark.parametrize("native", [True, False])
def test_the_peer_of_a_transport_goes(loop, run, monkeypatch, file, native):
    async def main():
        if not native:
            without_native(loop, monkeypatch)
        async with connection(small=True) as (transport, protocol, peer):
            sending = loop.create_task(loop.sendfile(transport, file))
            await loop.run_in_executor(None, peer.recv, 1000)
            reset(peer)
            with pytest.raises(ConnectionError):
                await sending
            assert transport.is_closing()
            await protocol.lost()
            assert 0 < file.tell() < SIZE
            assert protocol.names().count("connection_lost") == 1

    run(main())


@pytest.mark.parametrize("native", [True, False])
def test_cancelled_over_a_transport(loop, run, monkeypatch, file, native):
    async def main():
        if not native:
            without_native(loop, monkeypatch)
        async with connection(small=True) as (transport, protocol, peer):
            sending = loop.create_task(loop.sendfile(transport, file))
            await loop.run_in_executor(None, peer.recv, 1000)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            assert transport.get_protocol() is protocol
            assert transport.is_reading()
            got = loop.create_task(receive_all(peer))
            at = file.tell()
            transport.write(b"after")
            transport.close()
            data = await got
            assert data.endswith(b"after")
            assert DATA[:at].endswith(data[:-5])

    run(main())


def test_transports_that_cannot(run, file):
    class Transport:
        _protocol_paused = False

        def __init__(self, mode=None, closing=False):
            if mode is not None:
                self._sendfile_compatible = mode
            self.closing = closing

        def is_closing(self):
            return self.closing

        def __repr__(self):
            return "<it>"

    async def main():
        loop = get_loop()
        with pytest.raises(RuntimeError, match="^Transport is closing$"):
            await loop.sendfile(Transport(closing=True), None)
        for mode in (None, _SendfileMode.UNSUPPORTED):
            with pytest.raises(RuntimeError, match="^sendfile is not supported for transport <it>$"):
                await loop.sendfile(Transport(mode), None)
        expected = "^fallback is disabled and native sendfile is not supported for transport <it>$"
        with pytest.raises(RuntimeError, match=expected):
            await loop.sendfile(Transport(_SendfileMode.FALLBACK), None, fallback=False)
        with pytest.raises(asyncio.SendfileNotAvailableError, match="^sendfile syscall is not supported$"):
            await loop.sendfile(Transport(_SendfileMode.TRY_NATIVE), None, fallback=False)
        bare = Transport(_SendfileMode.FALLBACK)
        del Transport._protocol_paused
        with pytest.raises(TypeError, match="^transport should be _FlowControlMixin instance$"):
            await loop.sendfile(bare, file)
        reader, writer = os.pipe()
        os.close(reader)
        pipe, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, open(writer, "wb", 0))
        pipe.abort()
        with pytest.raises(RuntimeError, match="^Transport is closing$"):
            await loop.sendfile(pipe, file)
        async with connection() as (transport, _protocol, _peer):
            with pytest.raises(ValueError, match="binary"), tempfile.TemporaryFile("w+") as text:
                await loop.sendfile(transport, text)
            with pytest.raises(ValueError, match="count"):
                await loop.sendfile(transport, file, 0, 0)
            with pytest.raises(ValueError, match="offset"):
                await loop.sendfile(transport, file, -1)
            assert transport.is_reading()
            transport.write(b"still works")

    run(main())


def test_pipes_send_no_files(run, file):
    """As asyncio's."""

    async def main():
        loop = get_loop()
        reader, writer = os.pipe()
        pipe, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, open(writer, "wb", 0))
        with pytest.raises(RuntimeError, match="sendfile is not supported"):
            await loop.sendfile(pipe, file)
        pipe.close()
        os.close(reader)
        await settled()

    run(main())


class Slow(asyncio.Transport):
    """A transport of another library that is written to by the fallback: it keeps what it is given."""

    _sendfile_compatible = _SendfileMode.FALLBACK

    def __init__(self, protocol, paused=False):
        super().__init__()
        self.protocol = protocol
        self.kept = []
        self.reading = True
        self._protocol_paused = paused

    def is_closing(self):
        return False

    def is_reading(self):
        return self.reading

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def get_protocol(self):
        return self.protocol

    def set_protocol(self, protocol):
        self.protocol = protocol

    def write(self, data):
        self.kept.append(data)
        self.protocol.pause_writing()
        asyncio.get_running_loop().call_soon(self.protocol.resume_writing)


@pytest.mark.parametrize("paused", [False, True])
def test_another_librarys_transport(run, file, paused):
    async def main():
        own = Recorder()
        transport = Slow(own, paused)
        task = get_loop().create_task(get_loop().sendfile(transport, file, 3))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not transport.reading
        assert transport.protocol is not own
        for name, *args in (("data_received", b""), ("eof_received",), ("connection_made", transport)):
            with pytest.raises(RuntimeError, match="^Invalid state: "):
                getattr(transport.protocol, name)(*args)
        if paused:
            transport.protocol.resume_writing()
        assert await task == SIZE - 3
        assert b"".join(transport.kept) == DATA[3:]  # none was read over
        assert transport.protocol is own
        assert transport.reading
        assert own.names() == (["resume_writing"] if paused else [])
        await settled()

    run(main())


def test_a_connection_lost_while_the_fallback_waits(run, file):
    async def main():
        for error in (None, OSError("expected")):
            own = Recorder()
            transport = Slow(own, paused=True)
            task = get_loop().create_task(get_loop().sendfile(transport, file))
            await asyncio.sleep(0)
            while transport.protocol is own:
                await asyncio.sleep(0)
            transport.protocol.connection_lost(error)
            with pytest.raises(OSError, match="expected" if error else "^Connection is closed by peer$"):
                await task
            assert own.names()[0] == "connection_lost"

    run(main())


class Shrinking(io.RawIOBase):
    """Takes the buffer away after it has been read into."""

    def seek(self, position, whence=0):
        return position

    def readinto(self, view):
        self.buffer, size = view.obj, len(view)
        view.release()
        return size


class Foreign(asyncio.Transport):
    """A transport of somebody else's, which meddles while it is asked."""

    _protocol_paused = False
    _sendfile_compatible = _SendfileMode.FALLBACK

    def __init__(self, file):
        super().__init__()
        self.file, self.written = file, 0

    def is_closing(self):
        if hasattr(self.file, "buffer"):
            self.file.buffer.clear()
        return False

    def is_reading(self):
        return False

    def get_protocol(self):
        return None

    def set_protocol(self, protocol):
        pass

    def pause_reading(self):
        pass

    def write(self, data):
        self.written += len(data)


@beyond_stdlib("asyncio sends what is left of the buffer, and counts what was")
def test_a_file_that_shrinks_the_buffer(run):
    """No byte from behind the end of it is sent."""
    transport = Foreign(Shrinking())

    async def main():
        with pytest.raises(BufferError):
            await get_loop().sendfile(transport, transport.file)
        assert transport.written == 0

    run(main())
