"""Bytes go from a transport to a reader in C, and yet what a program has put in between is called, as asyncio would."""

import asyncio
import contextvars
import gc
import os
import socket
import sys

import corolla
import impl
import pytest
from certificates import NAME, client_context, server_context
from impl import IS_COROLLA, api

where = contextvars.ContextVar("where", default="nowhere")


@pytest.fixture
def loop(reports):
    loop = impl.new_event_loop()
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    try:
        yield loop
    finally:
        loop.close()
    gc.collect()
    assert not reports, f"the loop's exception handler was called: {reports}"


class Connection:
    """A reader's side of a connection: its transport, its protocol, and a function that sends to it."""

    def __init__(self, loop, reader, protocol):
        self.loop = loop
        self.reader = reader if reader is not None else api.StreamReader(loop=loop)
        self.protocol = protocol if protocol is not None else api.StreamReaderProtocol(self.reader, loop=loop)
        self.lost, self.peer_lost = self.protocol._get_close_waiter(None), None

    async def over_socket(self):
        ours, self.theirs = socket.socketpair()
        self.send = self.theirs.send
        self.transport, _ = await self.loop.create_connection(lambda: self.protocol, sock=ours)

    async def over_pipe(self):
        reading, writing = os.pipe()
        self.theirs = os.fdopen(writing, "wb", buffering=0)
        self.send = self.theirs.write
        self.transport, _ = await self.loop.connect_read_pipe(lambda: self.protocol, os.fdopen(reading, "rb"))

    async def over_tls(self):
        ours, theirs = socket.socketpair()
        made = self.loop.create_future()
        self.peer_lost = lost = self.loop.create_future()

        class Peer(asyncio.Protocol):
            def connection_made(self, transport):
                made.set_result(transport)

            def connection_lost(self, exc):
                lost.set_result(None)

        accepting = asyncio.ensure_future(self.loop.connect_accepted_socket(Peer, theirs, ssl=server_context()))
        self.transport, _ = await self.loop.create_connection(
            lambda: self.protocol, sock=ours, ssl=client_context(), server_hostname=NAME
        )
        await accepting
        self.theirs = await made
        self.send = self.theirs.write

    async def over(self):
        self.transport.close()
        self.theirs.close()
        await asyncio.wait([self.lost] if self.peer_lost is None else [self.lost, self.peer_lost])
        self.lost.exception()


KINDS = {"socket": Connection.over_socket, "pipe": Connection.over_pipe, "tls": Connection.over_tls}


@pytest.fixture(params=list(KINDS))
def connect(request, loop):
    async def connect(reader=None, protocol=None):
        connection = Connection(loop, reader, protocol)
        await KINDS[request.param](connection)
        return connection

    connect.kind = request.param
    return connect


def spy(obj, name):
    """Puts a function that notes its arguments in place of a method: the list of them."""
    seen, method = [], getattr(obj, name)

    def instead(*args):
        seen.append(args)
        return method(*args)

    setattr(obj, name, instead)
    return seen


def test_a_reader_of_ones_own_is_fed_in_the_connections_context(loop, run, connect):
    class Reader(api.StreamReader):
        def feed_data(self, data):
            seen.append((where.get(), api.current_task(), data))
            super().feed_data(data)

    seen = []

    async def main():
        where.set("where it was made")
        reader = Reader(loop=loop)
        connection = await connect(reader)
        where.set("later")
        for size in (1, 100_000):
            sent = bytes(size)
            sending = loop.run_in_executor(None, connection.send, sent) if connect.kind != "tls" else None
            if sending is None:
                connection.send(sent)
            assert await reader.readexactly(size) == sent
            if sending is not None:
                await sending
        await connection.over()
        assert {(context, task) for context, task, _ in seen} == {("where it was made", None)}
        assert sum(len(data) for *_, data in seen) == 100_001
        await loop.shutdown_default_executor()

    run(main())


def test_bytes_after_the_programs_own_end(run, connect, reports):
    if connect.kind == "pipe" and not IS_COROLLA:
        pytest.skip("asyncio's pipe goes on")

    async def main():
        connection = await connect()
        connection.reader.feed_eof()
        connection.send(b"late")
        await asyncio.wait([connection.lost])
        report = reports.pop()
        tls = connect.kind == "tls"
        assert report["message"] == (
            "Fatal error on SSL protocol" if tls else "Fatal error: protocol.data_received() call failed."
        )
        assert isinstance(report["exception"], AssertionError)
        assert report["exception"].args == ("feed_data after feed_eof",)
        assert bytes(connection.reader._buffer) == b""
        assert connection.transport.is_closing()
        await connection.over()

    run(main())


def test_replaced_methods_of_a_reader(run, connect):
    async def main():
        connection = await connect()
        reader = connection.reader
        connection.send(b"one")
        assert await reader.read(9) == b"one"
        seen = spy(reader, "feed_data")
        ends = spy(reader, "feed_eof")
        connection.send(b"two")
        assert await reader.read(9) == b"two"
        assert seen == [(b"two",)]
        del reader.feed_data
        connection.send(b"three")
        assert await reader.read(9) == b"three"
        assert seen == [(b"two",)]
        connection.theirs.close()
        assert await reader.read() == b""
        assert ends
        await connection.over()

    run(main())


def test_method_replaced_later_is_called_in_the_connections_context(run, connect):
    async def main():
        where.set("where it was made")
        connection = await connect()
        where.set("later")
        feed_data, seen = connection.reader.feed_data, []
        connection.reader.feed_data = lambda data: (seen.append((where.get(), api.current_task())), feed_data(data))
        for sent in (b"one", bytes(30_000)):
            connection.send(sent)
            assert await connection.reader.readexactly(len(sent)) == sent
        assert set(seen) == {("where it was made", None)}
        await connection.over()

    run(main())


def test_replaced_methods_of_a_protocol(run, connect):
    async def main():
        connection = await connect()
        connection.send(b"one")
        assert await connection.reader.read(9) == b"one"
        seen = spy(connection.protocol, "data_received")
        for sent in (b"two", b"three"):
            connection.send(sent)
            assert await connection.reader.read(9) == sent
        assert seen == [(b"two",), (b"three",)]
        await connection.over()

    run(main())


def test_methods_replaced_before_the_connection(loop, run, connect):
    async def main():
        reader = api.StreamReader(loop=loop)
        protocol = api.StreamReaderProtocol(reader, loop=loop)
        fed, received = spy(reader, "feed_data"), spy(protocol, "data_received")
        connection = await connect(reader, protocol)
        connection.send(b"one")
        assert await reader.read(9) == b"one"
        assert fed == received == [(b"one",)]
        await connection.over()

    run(main())


def test_attributes_that_replace_nothing(run, connect):
    async def main():
        connection = await connect()
        connection.reader.note = connection.protocol.note = "a program's own"
        for size in (1, 100, 60_000):
            sent = os.urandom(size)
            connection.send(sent)
            assert await connection.reader.readexactly(size) == sent
        connection.theirs.close()
        assert await connection.reader.read() == b""
        await connection.over()

    run(main())


@pytest.mark.skipif(not IS_COROLLA, reason="a class that asyncio does not have under this name")
def test_replaced_methods_of_a_process(run):
    async def main(replace):
        process = await corolla.create_subprocess_exec(
            sys.executable, "-ISc", "print(input())", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        seen = replace(process)
        assert await process.communicate(b"hello\n") == (b"hello\n", None)
        assert await process.wait() == 0
        assert [args[-1] for args in seen] == [b"hello\n"]

    run(main(lambda process: spy(process.stdout, "feed_data")))
    run(main(lambda process: spy(process._protocol, "pipe_data_received")))
