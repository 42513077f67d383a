"""TLS under the streams: ssl= of what makes them, and start_tls() in the middle of a conversation."""

import asyncio
import contextlib
import gc
import logging
import os
import socket
import ssl

import corolla
import impl
import pytest
from certificates import NAME, client_context, server_context
from impl import IS_COROLLA, api, beyond_stdlib
from transports.support import HOST, receive_all, settled

ours_only = pytest.mark.skipif(not IS_COROLLA, reason="asyncio has no Stream")


@pytest.fixture
def loop(reports):
    loop = impl.new_event_loop()
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    try:
        yield loop
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
    gc.collect()
    assert not reports, f"the loop's exception handler was called: {reports}"


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "sock")


async def in_thread(function, *args):
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)


async def closed(writer):
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()


class Serving:
    """A server of streams. Its handlers are waited for, and what one raised is raised."""

    def __init__(self, handler, **options):
        self.handler, self.options = handler, options
        self.handlers = []

    def connected(self, reader, writer):
        async def handle():
            try:
                await self.handler(reader, writer)
            finally:
                await closed(writer)

        self.handlers.append(asyncio.ensure_future(handle()))

    async def __aenter__(self):
        path = self.options.pop("path", None)
        if path is None:
            self.server = await api.start_server(self.connected, HOST, 0, **self.options)
            return self.server.sockets[0].getsockname()
        self.server = await api.start_unix_server(self.connected, path, **self.options)
        return path

    async def __aexit__(self, kind, error, traceback):
        self.server.close()
        if kind is not None:
            for handler in self.handlers:
                handler.cancel()
        await asyncio.gather(*self.handlers, return_exceptions=kind is not None)
        await settled()


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def talk(reader, writer, size=300_000):
    data = os.urandom(size)
    writer.write(data)
    draining = asyncio.ensure_future(writer.drain())
    assert await reader.readexactly(size) == data
    await draining


# ---- ssl= ----------------------------------------------------------------------------------------------------------


def test_open_connection(run):
    async def main():
        async with Serving(echo, ssl=server_context()) as address:
            reader, writer = await api.open_connection(*address, ssl=client_context(), ssl_handshake_timeout=30)
            assert writer.get_extra_info("ssl_object").version().startswith("TLS")
            await talk(reader, writer)
            await closed(writer)

    run(main())


def test_open_unix_connection(run, path):
    async def main():
        async with Serving(echo, ssl=server_context(), path=path):
            reader, writer = await api.open_unix_connection(path, ssl=client_context(), server_hostname=NAME)
            await talk(reader, writer)
            await closed(writer)

    run(main())


def test_refused_certificate(run):
    async def main():
        async def nobody(reader, writer):
            raise AssertionError("a connection without a handshake")

        async with Serving(nobody, ssl=server_context()) as address:
            with pytest.raises(ssl.SSLCertVerificationError):
                await api.open_connection(*address, ssl=client_context(trusting=False))
            await settled()

    run(main())


def test_eof_without_a_warning(run, caplog):
    """TLS has no half-closed connections: the reader's end is the connection's, and nobody is told to do otherwise."""

    async def main():
        ends = []

        async def handler(reader, writer):
            ends.append(await reader.read())

        async with Serving(handler, ssl=server_context()) as address:
            reader, writer = await api.open_connection(*address, ssl=client_context())
            assert not writer.can_write_eof()
            writer.write(b"all of it")
            await closed(writer)
        assert ends == [b"all of it"]

    with caplog.at_level(logging.WARNING):
        run(main())
    assert caplog.records == []


@ours_only
def test_stream(run):
    async def echo_stream(stream):
        assert stream.get_extra_info("ssl_object") is not None
        while data := await stream.read(65536):
            await stream.write(data)

    async def main():
        async with corolla.StreamServer(echo_stream, HOST, 0, ssl=server_context()) as server:
            async with corolla.connect(*server.sockets[0].getsockname(), ssl=client_context()) as stream:
                for size in (1, 1000, 100_000, 2_000_000):
                    data = os.urandom(size)
                    writing = asyncio.ensure_future(stream.write(data))
                    assert await stream.readexactly(size) == data
                    await writing

    run(main())


@ours_only
def test_unix_stream(run, path):
    async def main():
        async def handler(stream):
            async for line in stream:
                await stream.write(line.upper())

        async with corolla.UnixStreamServer(handler, path, ssl=server_context()):
            async with corolla.connect_unix(path, ssl=client_context(), server_hostname=NAME) as stream:
                await stream.writelines([b"one\n", b"two\n"])
                assert [await stream.readline(), await stream.readline()] == [b"ONE\n", b"TWO\n"]

    run(main())


@ours_only
def test_stream_sendfile(run, tmp_path):
    data = os.urandom(200_000)
    (tmp_path / "file").write_bytes(data)

    async def main():
        async def handler(stream):
            with open(tmp_path / "file", "rb") as file:
                assert await stream.sendfile(file) == len(data)

        async with corolla.StreamServer(handler, HOST, 0, ssl=server_context()) as server:
            async with corolla.connect(*server.sockets[0].getsockname(), ssl=client_context()) as stream:
                assert await stream.read() == data

    run(main())


@pytest.mark.parametrize("limit", [1, 1000, 65536])
def test_reads_of_any_size(run, limit):
    """Reads finish whatever their size is to the limit: python/asyncio issues 99 and 168."""
    data = os.urandom(1_000_000)

    async def main():
        async def handler(reader, writer):
            writer.write(data)
            await writer.drain()

        async with Serving(handler, ssl=server_context()) as address:
            reader, writer = await api.open_connection(*address, ssl=client_context(), limit=limit)
            assert await reader.readexactly(limit * 3) == data[: limit * 3]
            assert await reader.read() == data[limit * 3 :]
            await closed(writer)

    run(main())


# ---- start_tls() ------------------------------------------------------------------------------------------------------


async def upgrade(reader, writer, **options):
    """A client's part of a conversation that begins in clear text."""
    writer.write(b"STARTTLS\n")
    assert await reader.readline() == b"go\n"
    await writer.start_tls(client_context(), server_hostname=NAME, **options)


async def upgrade_and_echo(reader, writer):
    assert await reader.readline() == b"STARTTLS\n"
    writer.write(b"go\n")
    await writer.start_tls(server_context())
    await echo(reader, writer)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_upgrade(run, path, kind):
    async def main():
        options = {"path": path} if kind == "unix" else {}
        async with Serving(upgrade_and_echo, **options) as address:
            if kind == "unix":
                reader, writer = await api.open_unix_connection(path)
            else:
                reader, writer = await api.open_connection(*address)
            below = writer.transport
            assert writer.get_extra_info("sslcontext") is None
            await upgrade(reader, writer, ssl_handshake_timeout=30)
            assert writer.transport is not below
            assert writer.get_extra_info("sslcontext") is not None
            await talk(reader, writer)
            await closed(writer)

    run(main())


def test_twice(run):
    """TLS over TLS."""

    async def main():
        async def handler(reader, writer):
            assert await reader.readline() == b"STARTTLS\n"
            writer.write(b"go\n")
            await writer.start_tls(server_context())
            await upgrade_and_echo(reader, writer)

        async with Serving(handler) as address:
            reader, writer = await api.open_connection(*address)
            await upgrade(reader, writer)
            await upgrade(reader, writer)
            await talk(reader, writer)
            await closed(writer)

    run(main())


@pytest.mark.parametrize("limit", [1, 1000, 65536])
def test_reads_of_any_size_after_the_upgrade(run, limit):
    """What pauses is TLS then, not what is below it; and no handshake is stopped by a reader that is full."""
    data = os.urandom(500_000)

    async def main():
        async def handler(reader, writer):
            assert await reader.readexactly(8) == b"STARTTLS"
            writer.write(b"go")
            await writer.start_tls(server_context())
            writer.write(data)
            await writer.drain()

        async with Serving(handler, limit=limit) as address:
            reader, writer = await api.open_connection(*address, limit=limit)
            writer.write(b"STARTTLS")
            assert await reader.readexactly(2) == b"go"
            await writer.start_tls(client_context(), server_hostname=NAME)
            assert await reader.readexactly(limit * 3) == data[: limit * 3]
            assert await reader.read() == data[limit * 3 :]
            await closed(writer)

    run(main())


@beyond_stdlib("the handshake hangs up to 3.14, when the ClientHello comes with the last of the clear text")
def test_sends_what_was_written_first(run):
    async def main():
        head = os.urandom(1_000_000)

        async def handler(reader, writer):
            assert await reader.readexactly(len(head)) == head
            await writer.start_tls(server_context())
            await echo(reader, writer)

        async with Serving(handler) as address:
            reader, writer = await api.open_connection(*address)
            writer.write(head)
            await writer.start_tls(client_context(), server_hostname=NAME)
            await talk(reader, writer)
            await closed(writer)

    run(main())


# ---- What is unread when TLS begins --------------------------------------------------------------------------------------


def client_hello():
    """A handshake of the standard library's, in memory: the object, what goes in, and the first bytes that come out."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = client_context().wrap_bio(incoming, outgoing, server_hostname=NAME)
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    return session, incoming, outgoing


def finish_handshake(sock, session, incoming, outgoing):
    while True:
        sock.sendall(outgoing.read())
        try:
            session.do_handshake()
        except ssl.SSLWantReadError:
            incoming.write(sock.recv(65536))
        else:
            sock.sendall(outgoing.read())
            return


@beyond_stdlib("the handshake hangs up to 3.14")
@pytest.mark.parametrize("split", [0, 1, 100, None])
def test_hello_behind_a_line(run, split):
    """A line in clear text and the ClientHello, or a part of it, in one segment, as behind a PROXY header: the handshake gets
    what is its own. Seen in python/cpython issue 142352, uvloop issue 707 and Kludex/zuvloop commit 920fcb7."""

    async def main():
        line_read, go_on = asyncio.Event(), asyncio.Event()

        async def handler(reader, writer):
            assert await reader.readline() == b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
            line_read.set()
            await go_on.wait()
            await writer.start_tls(server_context())
            assert await reader.readexactly(5) == b"hello"
            writer.write(b"world")

        def play(sock, hello, session, incoming, outgoing):
            if split is not None:
                sock.sendall(hello[split:])
            finish_handshake(sock, session, incoming, outgoing)
            session.write(b"hello")
            sock.sendall(outgoing.read())
            while True:
                with contextlib.suppress(ssl.SSLWantReadError):
                    return session.read(5)
                incoming.write(sock.recv(65536))

        async with Serving(handler) as address:
            with socket.create_connection(address) as sock:
                sock.settimeout(30)
                session, incoming, outgoing = client_hello()
                hello = outgoing.read()
                sock.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + hello[:split])
                await line_read.wait()
                go_on.set()
                assert await in_thread(play, sock, hello, session, incoming, outgoing) == b"world"

    run(main())


@beyond_stdlib("what is unread stays readable up to 3.14")
@pytest.mark.parametrize("kind", ["pair", "stream"])
def test_commands_behind_starttls(run, kind):
    """The STARTTLS command injection: commands that a man in the middle puts behind STARTTLS, in clear text and in the same
    segment, are not taken for commands from inside the session. They go to the handshake, and spoil it."""
    if kind == "stream" and not IS_COROLLA:
        pytest.skip("asyncio has no Stream")
    said = []

    async def conversation(reader, write, start_tls):
        assert await reader.readline() == b"STARTTLS\r\n"
        await write(b"220 go ahead\r\n")
        with pytest.raises(ssl.SSLError):
            await start_tls(server_context())
        with contextlib.suppress(OSError):
            said.append(await reader.read())

    async def handler(reader, writer):
        async def write(data):
            writer.write(data)
            await writer.drain()

        await conversation(reader, write, writer.start_tls)

    async def stream_handler(stream):
        await conversation(stream, stream.write, stream.start_tls)

    async def attack(address):
        with socket.create_connection(address) as sock:
            sock.settimeout(30)
            sock.sendall(b"STARTTLS\r\nMAIL FROM:<mallory@example.com>\r\nRCPT TO:<alice@example.com>\r\n")
            with contextlib.suppress(ConnectionResetError):
                answer = await receive_all(sock)
                assert b"250" not in answer

    async def main():
        if kind == "pair":
            async with Serving(handler) as address:
                await attack(address)
        else:
            async with corolla.StreamServer(stream_handler, HOST, 0) as server:
                await attack(server.sockets[0].getsockname())
                await server.close()

    run(main())
    assert b"".join(said) == b""


@beyond_stdlib("what is unread stays readable up to 3.14")
@pytest.mark.parametrize("kind", ["pair", "stream"])
def test_answers_behind_starttls(run, kind):
    """The same the other way: answers that were put behind the server's go-ahead are not read as answers from inside."""
    if kind == "stream" and not IS_COROLLA:
        pytest.skip("asyncio has no Stream")

    async def main():
        with socket.create_server((HOST, 0)) as listening:
            if kind == "pair":
                reader, writer = await api.open_connection(*listening.getsockname())
                start_tls = writer.start_tls
            else:
                reader = writer = await corolla.connect(*listening.getsockname())
                start_tls = reader.start_tls
            peer, _ = listening.accept()
            with peer:
                peer.settimeout(30)
                peer.sendall(b"220 go ahead\r\n250 everything is fine\r\n")
                assert await reader.readline() == b"220 go ahead\r\n"
                with pytest.raises(ssl.SSLError):
                    await start_tls(client_context(), server_hostname=NAME)
                with contextlib.suppress(OSError):
                    assert await reader.read() == b""
            if kind == "pair":
                await closed(writer)
            else:
                with contextlib.suppress(OSError):
                    await reader.close()

    run(main())


@ours_only
def test_unread_on_a_foreign_loop():
    """A loop that would leave it where the application reads it gets no connection to upgrade."""

    async def main():
        one, peer = socket.socketpair()
        with peer:
            reader, writer = await corolla.open_unix_connection(sock=one)
            peer.sendall(b"line\nmore")
            assert await reader.readline() == b"line\n"
            with pytest.raises(RuntimeError, match="4 bytes unread"):
                await writer.start_tls(client_context(), server_hostname=NAME)
            assert await reader.readexactly(4) == b"more"
            writer.close()
            await writer.wait_closed()

    asyncio.run(main())


@ours_only
def test_on_a_foreign_loop():
    """The classes work with a loop of the standard library's, TLS and all."""

    async def main():
        async with Serving(upgrade_and_echo) as address:
            reader, writer = await api.open_connection(*address)
            await upgrade(reader, writer)
            await talk(reader, writer)
            await closed(writer)

    asyncio.run(main())


def test_asyncio_streams_on_the_loop(run):
    """The standard library's classes, upgraded on the loop under test."""

    async def main():
        async def handler(reader, writer):
            await upgrade_and_echo(reader, writer)
            await closed(writer)

        tasks = []
        server = await asyncio.start_server(
            lambda reader, writer: tasks.append(asyncio.ensure_future(handler(reader, writer))), HOST, 0
        )
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await upgrade(reader, writer)
        await talk(reader, writer)
        await closed(writer)
        server.close()
        await asyncio.gather(*tasks)
        await settled()

    run(main())


@beyond_stdlib("what is unread stays readable up to 3.14")
def test_unread_in_asyncio_streams(run):
    async def main():
        one, peer = socket.socketpair()
        with peer:
            reader, writer = await asyncio.open_unix_connection(sock=one)
            peer.sendall(b"line\nmore of it, in clear text")
            assert await reader.readline() == b"line\n"
            with pytest.raises(ssl.SSLError):
                await writer.start_tls(client_context(), server_hostname=NAME)
            with contextlib.suppress(OSError):
                assert await reader.read() == b""
            await closed(writer)

    run(main())


# ---- Failures ------------------------------------------------------------------------------------------------------------


async def silent_peer(kind):
    """(reader, writer) or twice a Stream, and the other end."""
    one, peer = socket.socketpair()
    peer.settimeout(30)
    if kind == "pair":
        return *(await api.open_unix_connection(sock=one)), peer
    stream = await corolla.connect_unix(sock=one)
    return stream, stream, peer


def kinds(function):
    return pytest.mark.parametrize("kind", ["pair", pytest.param("stream", marks=ours_only)])(function)


@kinds
@beyond_stdlib("wait_closed() hangs")
@pytest.mark.parametrize("how", ["cancel", "timeout", "end", "garbage"])
def test_handshake_that_fails(run, kind, how):
    """The connection is closed, who reads it is told, and the end can be waited for."""

    async def main():
        reader, writer, peer = await silent_peer(kind)
        with peer:
            timeout = 0.05 if how == "timeout" else 30
            task = asyncio.ensure_future(
                writer.start_tls(client_context(), server_hostname=NAME, ssl_handshake_timeout=timeout)
            )
            await in_thread(lambda: peer.recv(1, socket.MSG_PEEK))
            expected = ConnectionError
            if how == "cancel":
                task.cancel()
                expected = asyncio.CancelledError
            elif how == "end":
                peer.shutdown(socket.SHUT_WR)
            elif how == "garbage":
                peer.sendall(b"this is no ServerHello")
                expected = ssl.SSLError
            with pytest.raises(expected):
                await task
            assert writer.is_closing()
            with contextlib.suppress(OSError):
                assert await reader.read() == b""
            with contextlib.suppress(OSError):
                await (closed(writer) if kind == "pair" else writer.close())

    run(main())


@kinds
def test_connection_that_is_lost(run, kind):
    """start_tls() after the end raises, and does not wait."""

    async def main():
        reader, writer, peer = await silent_peer(kind)
        peer.close()
        writer.transport.abort()
        await settled()
        with pytest.raises(ConnectionError):
            await writer.start_tls(client_context(), server_hostname=NAME)

    run(main())


def test_peer_that_has_ended(run):
    """It said goodbye in clear text: there is nobody to shake hands with."""

    async def main():
        reader, writer, peer = await silent_peer("pair")
        with peer:
            peer.shutdown(socket.SHUT_WR)
            assert await reader.read() == b""
            with pytest.raises(ConnectionError):
                await writer.start_tls(client_context(), server_hostname=NAME)
            await closed(writer)

    run(main())


# ---- Stream: one at a time ---------------------------------------------------------------------------------------------


@ours_only
def test_one_at_a_time(run):
    async def main():
        stream, _, peer = await silent_peer("stream")
        with peer:
            reading = asyncio.ensure_future(stream.read(1))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="^start_tls.. called while another coroutine is already waiting"):
                await stream.start_tls(client_context(), server_hostname=NAME)
            peer.sendall(b"x")
            assert await reading == b"x"
            starting = asyncio.ensure_future(stream.start_tls(client_context(), server_hostname=NAME))
            await asyncio.sleep(0)
            for other in (stream.write(b"y"), stream.start_tls(client_context())):
                with pytest.raises(RuntimeError, match="called while another coroutine is already writing"):
                    await other
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting
            with contextlib.suppress(OSError):
                await stream.close()

    run(main())


@ours_only
def test_stream_goes_on_after_the_upgrade(run):
    async def main():
        async def handler(stream):
            assert stream.is_server_side()
            assert await stream.readline() == b"STARTTLS\n"
            await stream.write(b"go\n")
            await stream.start_tls(server_context())
            async for line in stream:
                await stream.write(line)

        async with corolla.StreamServer(handler, HOST, 0) as server:
            async with corolla.connect(*server.sockets[0].getsockname()) as stream:
                await upgrade(stream, corolla_writer(stream))
                assert stream.get_extra_info("ssl_object") is stream.transport.get_extra_info("ssl_object")
                await stream.write(b"encrypted\n")
                assert await stream.readline() == b"encrypted\n"

    run(main())


def corolla_writer(stream):
    """Stream, with a write() that is not awaited, for upgrade()."""

    class Writer:
        def write(self, data):
            stream.transport.write(data)

        start_tls = staticmethod(stream.start_tls)

    return Writer()


@ours_only
def test_pipe(run):
    async def main():
        read, write = os.pipe()
        with open(write, "wb", buffering=0) as end:
            async with corolla.connect_read_pipe(open(read, "rb", buffering=0)) as stream:
                with pytest.raises(RuntimeError, match="The stream is read-only"):
                    await stream.start_tls(client_context())
            end.close()

    run(main())
