"""Pipe transports: what they carry, when they end, and whose the descriptor is."""

import asyncio
import contextlib
import gc
import io
import logging
import os
import pty
import socket
import tempfile
import threading
import tty
import weakref

import corolla
import pytest
from transports.support import Recorder, settled

BIG = 1 << 20


class File:
    """A pipe object that counts how often it is closed."""

    def __init__(self, fd):
        self.fd = fd
        self.closes = 0

    def fileno(self):
        return self.fd

    def close(self):
        self.closes += 1
        os.close(self.fd)


def pipe_files():
    reader, writer = os.pipe()
    return open(reader, "rb", 0), open(writer, "wb", 0)


@contextlib.asynccontextmanager
async def reading(factory=Recorder):
    """(transport, protocol, file to write to)"""
    reader, writer = pipe_files()
    transport, protocol = await asyncio.get_running_loop().connect_read_pipe(factory, reader)
    try:
        with writer:
            yield transport, protocol, writer
    finally:
        transport.close()
        await settled()


@contextlib.asynccontextmanager
async def writing(factory=Recorder):
    """(transport, protocol, file to read from)"""
    reader, writer = pipe_files()
    transport, protocol = await asyncio.get_running_loop().connect_write_pipe(factory, writer)
    try:
        with reader:
            yield transport, protocol, reader
    finally:
        transport.abort()
        await settled()


async def in_thread(function, *args):
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)


# ---- reading -------------------------------------------------------------------------------------------------------


def test_reads_until_the_last_writer_closes(run):
    async def main():
        async with reading() as (transport, protocol, writer):
            assert transport.get_protocol() is protocol
            assert transport.is_reading()
            assert not transport.is_closing()
            writer.write(b"abc")
            await protocol.until(lambda: protocol.data)
            writer.close()
            assert await protocol.lost() is None
            assert protocol.events == [
                "connection_made",
                ("data_received", b"abc"),
                "eof_received",
                ("connection_lost", None),
            ]
            assert transport.is_closing()
            assert not transport.is_reading()
            assert transport.get_protocol() is None

    run(main())


def test_eof_is_the_end_whatever_eof_received_says(run):
    async def main():
        async with reading() as (_transport, protocol, writer):
            protocol.keep_open = True
            writer.close()
            assert await protocol.lost() is None

    run(main())


def test_large_data_arrives_whole(run):
    async def main():
        data = os.urandom(4 * BIG)
        async with reading() as (_transport, protocol, writer):

            def write():
                with open(os.dup(writer.fileno()), "wb") as file:
                    file.write(data)
                writer.close()

            await in_thread(write)
            await protocol.lost()
            assert protocol.data == data

    run(main())


def test_pause_and_resume_reading(run):
    async def main():
        async with reading() as (transport, protocol, writer):
            transport.pause_reading()
            transport.pause_reading()
            assert not transport.is_reading()
            writer.write(b"abc")
            await settled()
            assert not protocol.data
            transport.resume_reading()
            transport.resume_reading()
            assert transport.is_reading()
            await protocol.until(lambda: protocol.data == b"abc")

    run(main())


def test_paused_from_connection_made(run):
    async def main():
        class Paused(Recorder):
            def connection_made(self, transport):
                super().connection_made(transport)
                transport.pause_reading()

        async with reading(Paused) as (transport, protocol, writer):
            writer.write(b"abc")
            await settled()
            assert protocol.events == ["connection_made"]
            transport.resume_reading()
            await protocol.until(lambda: protocol.data == b"abc")

    run(main())


def test_close_from_data_received(run):
    async def main():
        class Closing(Recorder):
            def data_received(self, data):
                super().data_received(data)
                self.transport.close()

        async with reading(Closing) as (_transport, protocol, writer):
            writer.write(b"abc")
            assert await protocol.lost() is None
            assert protocol.names() == ["connection_made", "data_received", "connection_lost"]
            with pytest.raises(BrokenPipeError):
                writer.write(b"abc")

    run(main())


def test_an_error_in_data_received_closes_with_it(run, reports):
    """Kludex/zuvloop commit 8a4e31c: it was reported, and the transport went on feeding data."""

    async def main():
        class Failing(Recorder):
            def data_received(self, data):
                super().data_received(data)
                raise LookupError("expected")

        async with reading(Failing) as (transport, protocol, writer):
            writer.write(b"abc")
            assert isinstance(await protocol.lost(), LookupError)
            report = reports.pop()
            assert report["message"] == "Fatal error: protocol.data_received() call failed."
            assert report["transport"] is transport
            assert report["protocol"] is protocol

    run(main())


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_interrupts_leave_the_loop(loop, kind):
    class Interrupted(Recorder):
        def data_received(self, data):
            raise kind("expected")

    async def main():
        async with reading(Interrupted) as (_transport, _protocol, writer):
            writer.write(b"abc")
            await asyncio.get_running_loop().create_future()

    task = loop.create_task(main())
    with pytest.raises(kind):
        loop.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)


def test_an_error_in_eof_received_is_reported_and_the_end_told(run, reports):
    async def main():
        class Failing(Recorder):
            def eof_received(self):
                raise LookupError("expected")

        async with reading(Failing) as (_transport, protocol, writer):
            writer.close()
            assert await protocol.lost() is None
            assert isinstance(reports.pop()["exception"], LookupError)

    run(main())


def test_set_protocol(run):
    async def main():
        async with reading() as (transport, protocol, writer):
            second = Recorder()
            transport.set_protocol(second)
            assert transport.get_protocol() is second
            writer.write(b"abc")
            await second.until(lambda: second.data == b"abc")
            assert protocol.events == ["connection_made"]

    run(main())


# ---- writing -------------------------------------------------------------------------------------------------------


def test_writes_at_once(run):
    async def main():
        async with writing() as (transport, protocol, reader):
            transport.write(b"abc")
            assert os.read(reader.fileno(), 10) == b"abc"  # before the loop has run
            transport.write(bytearray(b"de"))
            transport.write(memoryview(b"f"))
            transport.write(b"")
            assert os.read(reader.fileno(), 10) == b"def"
            transport.writelines([b"gh", bytearray(b"i")])
            assert os.read(reader.fileno(), 10) == b"ghi"
            assert transport.get_write_buffer_size() == 0
            assert transport.can_write_eof()
            transport.close()
            assert transport.is_closing()
            assert await protocol.lost() is None
            assert os.read(reader.fileno(), 10) == b""

    run(main())


def test_what_does_not_fit_goes_out_later_in_order_and_before_the_end(run):
    async def main():
        data = os.urandom(BIG)
        mutable = bytearray(data)
        async with writing() as (transport, protocol, reader):
            transport.write(mutable)
            mutable[:] = bytes(BIG)  # what was there when write() returned is sent
            transport.write(data)
            transport.write_eof()
            assert transport.is_closing()
            assert transport.get_write_buffer_size() > 0
            transport.write(b"too late")
            assert "pause_writing" in protocol.names()
            assert await in_thread(reader.readall) == data + data
            assert await protocol.lost() is None
            assert protocol.names().count("connection_lost") == 1

    run(main())


def test_flow_control(run):
    async def main():
        async with writing() as (transport, protocol, reader):
            assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
            transport.set_write_buffer_limits(high=1000, low=10)
            assert transport.get_write_buffer_limits() == (10, 1000)
            with pytest.raises(ValueError, match=r"high \(1\) must be >= low \(2\) must be >= 0"):
                transport.set_write_buffer_limits(1, 2)
            transport.write(bytes(BIG))
            assert protocol.names() == ["connection_made", "pause_writing"]
            got = 0
            while got < BIG:
                got += len(await in_thread(os.read, reader.fileno(), 65536))
            await protocol.until(lambda: "resume_writing" in protocol.names())
            assert transport.get_write_buffer_size() == 0

    run(main())


def test_limits_of_nothing_still_drain(run):
    """Kludex/zuvloop commit 069cf9e: with a zero high-water mark nothing resumed the protocol."""

    async def main():
        async with writing() as (transport, protocol, reader):
            transport.set_write_buffer_limits(0)
            transport.write(b"fits")
            assert protocol.names() == ["connection_made"]
            transport.write(bytes(BIG))
            assert protocol.names() == ["connection_made", "pause_writing"]
            thread = threading.Thread(target=os.read, args=(reader.fileno(), 1))
            thread.start()
            got = 0
            while got < BIG:
                got += len(await in_thread(os.read, reader.fileno(), 65536))
            thread.join()
            await protocol.until(lambda: "resume_writing" in protocol.names())

    run(main())


def test_abort_drops_what_is_queued(run):
    async def main():
        async with writing() as (transport, protocol, reader):
            transport.write(bytes(BIG))
            transport.abort()
            transport.abort()
            assert transport.get_write_buffer_size() == 0
            assert await protocol.lost() is None
            assert 0 < len(reader.readall()) < BIG

    run(main())


def test_abort_while_closing(run):
    async def main():
        async with writing() as (transport, protocol, _reader):
            transport.write(bytes(BIG))
            transport.close()
            transport.close()
            await settled()
            assert "connection_lost" not in protocol.names()
            transport.abort()
            assert await protocol.lost() is None

    run(main())


def test_what_is_not_bytes_is_refused(run):
    async def main():
        async with writing() as (transport, _protocol, _reader):
            for odd in ("text", 1, None):
                with pytest.raises(TypeError):
                    transport.write(odd)
            with pytest.raises(TypeError):
                transport.writelines(["text"])

    run(main())


def test_writes_after_the_end_are_dropped_with_a_warning_in_the_end(run, caplog):
    async def main():
        async with writing() as (transport, protocol, _reader):
            transport.close()
            with caplog.at_level(logging.WARNING, "asyncio"):
                for _ in range(5):
                    transport.write(b"abc")
                assert not caplog.records
                transport.write(b"abc")
            assert "pipe closed by peer or os.write(pipe, data) raised exception." in caplog.text
            await protocol.lost()
            transport.write(b"abc")

    run(main())


# ---- the other end goes --------------------------------------------------------------------------------------------


def make_fifo(directory):
    path = os.path.join(directory, "fifo")
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    return reader, os.open(path, os.O_WRONLY)


@pytest.mark.parametrize("kind", ["pipe", "fifo", "socket"])
def test_the_writer_hears_at_once_that_the_last_reader_has_gone(run, kind, tmp_path):
    """uvloop commit 5d41af8, Kludex/zuvloop commit 2412392: it did not, and a process's stdin was never disconnected."""

    async def main():
        loop = asyncio.get_running_loop()
        if kind == "socket":
            ours, theirs = socket.socketpair()
            reader, second, writer = theirs.detach(), None, ours
        else:
            reader, writer_fd = os.pipe() if kind == "pipe" else make_fifo(tmp_path)
            writer, second = open(writer_fd, "wb", 0), os.dup(reader)
        transport, protocol = await loop.connect_write_pipe(Recorder, writer)
        os.close(reader)
        if second is not None:
            await settled()
            assert protocol.events == ["connection_made"]  # there is one left
            os.close(second)
        assert await protocol.lost() is None
        assert transport.is_closing()

    run(main())


def test_the_last_reader_goes_with_something_queued(run):
    async def main():
        async with writing() as (transport, protocol, reader):
            transport.write(bytes(BIG))
            reader.close()
            assert isinstance(await protocol.lost(), BrokenPipeError)

    run(main())


def test_the_last_reader_goes_while_closing(run):
    async def main():
        async with writing() as (transport, protocol, reader):
            transport.write(bytes(BIG))
            transport.close()
            reader.close()
            assert isinstance(await protocol.lost(), BrokenPipeError)
            assert protocol.names().count("connection_lost") == 1

    run(main())


def test_a_write_to_nobody_fails_without_a_report(run):
    async def main():
        async with writing() as (transport, protocol, reader):
            reader.close()
            transport.write(b"abc")  # before the loop could hear of it
            assert transport.is_closing()
            assert isinstance(await protocol.lost(), BrokenPipeError)

    run(main())


def test_resume_writing_that_closes(run):
    """python/cpython issue 156512: closing from resume_writing() ran the connection-lost routine twice."""

    async def main():
        class Closing(Recorder):
            def resume_writing(self):
                super().resume_writing()
                self.transport.close()

        async with writing(Closing) as (transport, protocol, reader):
            transport.write(bytes(BIG))
            assert len(await in_thread(reader.readall)) == BIG
            assert await protocol.lost() is None
            await settled()
            assert protocol.names() == ["connection_made", "pause_writing", "resume_writing", "connection_lost"]

    run(main())


def test_pause_writing_that_aborts(run):
    async def main():
        class Aborting(Recorder):
            def pause_writing(self):
                super().pause_writing()
                self.transport.abort()

        async with writing(Aborting) as (transport, protocol, _reader):
            transport.write(bytes(BIG))
            await protocol.lost()
            assert protocol.names() == ["connection_made", "pause_writing", "connection_lost"]

    run(main())


# ---- terminals, sockets, devices, files ------------------------------------------------------------------------------


def test_a_terminal(run):
    async def main():
        loop = asyncio.get_running_loop()
        master, slave = pty.openpty()
        tty.setraw(slave)
        # One number for both directions, as a program has its terminal.
        terminal = open(master, "r+b", 0)
        out, writer = await loop.connect_write_pipe(Recorder, terminal)
        into, reader = await loop.connect_read_pipe(Recorder, terminal)
        out.write(b"to the slave")
        assert await in_thread(os.read, slave, 100) == b"to the slave"
        os.write(slave, b"from it")
        await reader.until(lambda: reader.data == b"from it")
        os.close(slave)
        exc = await reader.lost()  # a master whose slave has closed says EIO, and that is not reported
        assert isinstance(exc, OSError)
        out.close()
        await writer.lost()
        assert terminal.closed
        assert into.is_closing()

    run(main())


def test_sockets(run):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        transport, protocol = await loop.connect_read_pipe(Recorder, ours)
        assert transport.get_extra_info("pipe") is ours
        theirs.sendall(b"abc")
        theirs.close()
        await protocol.lost()
        assert protocol.data == b"abc"
        assert ours.fileno() == -1

    run(main())


def test_devices(run, reports):
    async def main():
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.connect_write_pipe(Recorder, open("/dev/null", "wb", 0))
        transport.write(bytes(BIG))
        assert transport.get_write_buffer_size() == 0
        transport.close()
        await protocol.lost()
        # Not one that can be waited for: asyncio's report, and an end.
        transport, protocol = await loop.connect_read_pipe(Recorder, open("/dev/null", "rb", 0))
        assert isinstance(await protocol.lost(), PermissionError)
        assert isinstance(reports.pop()["exception"], PermissionError)

    run(main())


def test_files_and_directories_are_refused_and_stay_the_callers(run):
    async def main():
        loop = asyncio.get_running_loop()
        made = []

        def factory():
            made.append(Recorder())
            return made[-1]

        with tempfile.TemporaryFile() as file:
            with pytest.raises(ValueError, match=r"^Pipe transport is for pipes/sockets only\.$"):
                await loop.connect_read_pipe(factory, file)
            with pytest.raises(ValueError, match="^Pipe transport is only for pipes, sockets and character devices$"):
                await loop.connect_write_pipe(factory, file)
            os.fstat(file.fileno())
            assert os.get_blocking(file.fileno())
        fd = os.open("/", os.O_RDONLY)
        with pytest.raises(ValueError, match="Pipe transport"):
            await loop.connect_read_pipe(factory, File(fd))
        with pytest.raises(ValueError, match=f"^Invalid file descriptor: {(1 << 32) + fd}$"):
            await loop.connect_read_pipe(factory, File((1 << 32) + fd))  # not what is left of it in 32 bits
        os.close(fd)
        await settled()
        assert len(made) == 4
        assert not any(protocol.events for protocol in made)

    run(main())


def test_what_is_no_pipe_at_all(run):
    async def main():
        loop = asyncio.get_running_loop()
        reader, writer = pipe_files()
        reader.close()
        writer.close()
        for call in (loop.connect_read_pipe, loop.connect_write_pipe):
            with pytest.raises(AttributeError):
                await call(Recorder, 1)
            with pytest.raises(ValueError):
                await call(Recorder, reader)
            with pytest.raises(io.UnsupportedOperation):
                await call(Recorder, io.BytesIO())
            with pytest.raises(OSError):
                await call(Recorder, File(10**6))
            with pytest.raises(TypeError):
                await call(Recorder)
            with pytest.raises(ZeroDivisionError):
                await call(lambda: 1 // 0, reader)

    run(main())


# ---- the descriptor --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["close", "peer", "abort"])
@pytest.mark.parametrize("side", ["read", "write"])
def test_the_descriptor_is_closed_once_by_its_owner(run, side, end):
    """uvloop issue 763: the handle and the file object both closed the number, which was another's by then."""

    async def main():
        loop = asyncio.get_running_loop()
        reader, writer = os.pipe()
        file = File(reader if side == "read" else writer)
        peer = writer if side == "read" else reader
        connect = loop.connect_read_pipe if side == "read" else loop.connect_write_pipe
        transport, protocol = await connect(Recorder, file)
        if end == "peer":
            os.close(peer)
        elif end == "abort" and side == "write":
            transport.abort()
        else:
            transport.close()
        await protocol.lost()
        await settled()
        assert file.closes == 1
        probe = os.open("/dev/null", os.O_RDONLY)  # takes the lowest number
        try:
            transport.close()
            del transport
            gc.collect()
            await settled()
            os.fstat(probe)
            assert file.closes == 1
        finally:
            os.close(probe)
            if end != "peer":
                os.close(peer)

    run(main())


def test_a_reused_number_is_not_mistaken(run):
    """One direction ends from inside the other's callback, in one batch, and its number is taken again at once."""

    async def main():
        loop = asyncio.get_running_loop()
        first, second = pipe_files(), pipe_files()
        third = []

        class Closing(Recorder):
            def data_received(self, data):
                super().data_received(data)
                other = b if self is a.get_protocol() else a
                other.close()

            def connection_lost(self, exc):
                super().connection_lost(exc)
                third.append(os.pipe())

        a, pa = await loop.connect_read_pipe(Closing, first[0])
        b, pb = await loop.connect_read_pipe(Closing, second[0])
        first[1].write(b"x")
        second[1].write(b"y")
        await pa.until(lambda: pa.data or pb.data)
        await settled()
        assert (pa.data, pb.data) in ((b"x", b""), (b"", b"y"))
        a.close()
        b.close()
        await settled()
        for fd in [fd for pair in third for fd in pair]:
            os.close(fd)
        first[1].close()
        second[1].close()

    run(main())


def test_cancelled_before_it_is_made(run):
    """uvloop commits 87d4f11 and c10d08f: after a cancelled creation no late connection_made runs."""

    async def main():
        loop = asyncio.get_running_loop()
        reader, writer = os.pipe()
        file, protocol = File(reader), Recorder()
        task = loop.create_task(loop.connect_read_pipe(lambda: protocol, file))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await settled()
        assert protocol.events == []
        assert file.closes == 1
        os.close(writer)

    run(main())


def test_connection_made_that_raises(run, reports):
    async def main():
        class Failing(Recorder):
            def connection_made(self, transport):
                super().connection_made(transport)
                raise LookupError("expected")

        async with reading(Failing) as (_transport, protocol, writer):
            assert isinstance(reports.pop()["exception"], LookupError)
            writer.write(b"abc")
            await protocol.until(lambda: protocol.data == b"abc")

    run(main())


def test_a_file_closed_behind_its_back(run):
    """Nothing of another's is touched, though it has the number by now."""

    async def main():
        async with writing() as (transport, protocol, _reader):
            transport.get_extra_info("pipe").close()
            probe = os.open("/dev/null", os.O_RDONLY)
            transport.abort()
            await protocol.lost()
            os.fstat(probe)
            os.close(probe)

    run(main())


# ---- as objects ------------------------------------------------------------------------------------------------------


def test_they_are_transports(run):
    """numberoverzero/bottom issue 51, Kludex/zuvloop commit 1c2dcd4."""

    async def main():
        async with reading() as (into, _protocol, _writer), writing() as (out, _other, _reader):
            assert isinstance(into, asyncio.ReadTransport)
            assert not isinstance(into, asyncio.WriteTransport)
            assert isinstance(out, asyncio.WriteTransport)
            assert not isinstance(out, asyncio.ReadTransport)
            assert type(into) is corolla.ReadPipeTransport
            assert type(out) is corolla.WritePipeTransport
            assert into.get_extra_info("pipe").fileno() >= 0
            assert out.get_extra_info("nonsense", 7) == 7
            assert repr(into).startswith("<ReadPipeTransport fd=")
            assert "polling" in repr(into)
            assert "idle bufsize=0" in repr(out)
            into.note = "mine"
            assert into.note == "mine"
            with pytest.raises(TypeError):
                type(into)()
        assert "closed" in repr(into)
        assert "closed" in repr(out)

    run(main())


@pytest.mark.parametrize("side", ["read", "write"])
def test_unclosed_transport_warns(run, side):
    async def main():
        loop = asyncio.get_running_loop()
        reader, writer = pipe_files()
        if side == "read":
            transport, protocol = await loop.connect_read_pipe(asyncio.Protocol, reader)
            transport.pause_reading()
            left = writer
        else:
            file = open("/dev/null", "wb", 0)
            transport, protocol = await loop.connect_write_pipe(asyncio.Protocol, file)
            reader.close()
            left = writer
        ref = weakref.ref(transport)
        with pytest.warns(ResourceWarning, match="unclosed transport <"):
            del transport, protocol
            gc.collect()
        assert ref() is None
        left.close()

    run(main())


def test_kept_while_there_is_something_to_hear(run):
    async def main():
        loop = asyncio.get_running_loop()
        reader, writer = pipe_files()
        got, lost = loop.create_future(), loop.create_future()

        class Reading(asyncio.Protocol):
            def data_received(self, data):
                got.set_result(data)

        class Writing(asyncio.BaseProtocol):
            def connection_lost(self, exc):
                lost.set_result(exc)

        await loop.connect_read_pipe(Reading, reader)
        gc.collect()
        writer.write(b"abc")
        assert await got == b"abc"
        writer.close()
        await settled()

        reader, writer = pipe_files()
        await loop.connect_write_pipe(Writing, writer)
        gc.collect()
        reader.close()
        assert await lost is None

    run(main())


def test_the_loop_closes_first():
    loop = corolla.new_event_loop()
    reader, writer = pipe_files()
    into, _ = loop.run_until_complete(loop.connect_read_pipe(asyncio.Protocol, reader))
    out, _ = loop.run_until_complete(loop.connect_write_pipe(asyncio.Protocol, writer))
    out.write(bytes(BIG))
    loop.close()
    assert "open" in repr(into)
    assert "open" in repr(out)
    out.write(b"abc")
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        into.close()
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        del into, out
        gc.collect()


def test_debug_mode(loop, run, caplog):
    async def main():
        with caplog.at_level(logging.DEBUG, "asyncio"):
            async with reading() as (into, protocol, writer), writing() as (_out, other, reader):
                into.pause_reading()
                into.resume_reading()
                writer.close()
                reader.close()
                await protocol.lost()
                await other.lost()
        for text in ("Read pipe", "Write pipe", "pauses reading", "resumes reading", "was closed by peer"):
            assert text in caplog.text

    loop.set_debug(True)
    run(main())


def test_from_another_thread_in_debug_mode(loop, run):
    async def main():
        async with reading() as (into, _protocol, _writer), writing() as (out, _other, _reader):
            for call in (into.close, out.close, out.abort):
                with pytest.raises(RuntimeError, match="thread"):
                    await in_thread(call)

    loop.set_debug(True)
    run(main())


def test_streams_over_pipes(run):
    async def main():
        loop = asyncio.get_running_loop()
        reader_file, writer_file = pipe_files()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), reader_file)
        transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, writer_file)
        writer = asyncio.StreamWriter(transport, protocol, None, loop)

        async def send():
            for i in range(100):
                writer.write(b"%d:" % i + bytes(20000) + b"\n")
                await writer.drain()
            writer.close()

        sending = loop.create_task(send())
        for i in range(100):
            assert (await reader.readline()).startswith(b"%d:" % i)
        assert await reader.read() == b""
        await sending
        await settled()

    run(main())


def test_reads_larger_than_the_limit_finish(run):
    """python/asyncio issues 99 and 168: the transport was paused and nothing resumed it."""

    async def main():
        loop = asyncio.get_running_loop()
        reader_file, writer_file = pipe_files()
        reader = asyncio.StreamReader(limit=1000)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), reader_file)
        data = os.urandom(BIG)

        def write():
            with writer_file, io.BufferedWriter(writer_file) as file:
                file.write(data)

        writing_thread = loop.run_in_executor(None, write)
        assert await reader.readexactly(BIG // 2) == data[: BIG // 2]
        assert await reader.read() == data[BIG // 2 :]
        await writing_thread
        await settled()

    run(main())


def test_the_contexts_of_callbacks(run):
    """Each callback in a copy of the context that the connection was made in, whoever resumes reading."""
    import contextvars

    variable = contextvars.ContextVar("variable", default="nobody's")

    async def main():
        seen = []

        class Seeing(Recorder):
            def data_received(self, data):
                seen.append(variable.get())
                super().data_received(data)

        variable.set("the creator's")
        async with reading(Seeing) as (transport, protocol, writer):
            transport.pause_reading()
            variable.set("the resumer's")
            transport.resume_reading()
            writer.write(b"abc")
            await protocol.until(lambda: protocol.data)
        assert seen == ["the creator's"]

    run(main())
