"""TLS and code that is called from inside it: transports of Python's that deliver at once, SSL objects of Python's."""

import asyncio
import contextlib
import gc
import ssl

import pytest
from certificates import NAME, client_context, server_context
from transports.support import Recorder, settled


class Pipe(asyncio.Transport):
    """One end of a connection within the program: what is written is with the other end's protocol when write() returns."""

    _start_tls_compatible = True

    def __init__(self):
        super().__init__()
        self.peer = self.protocol = None
        self.waiting = []
        self.reading = self.closed = False

    def get_protocol(self):
        return self.protocol

    def set_protocol(self, protocol):
        self.protocol = protocol

    def write(self, data):
        if not self.peer.closed:
            self.peer.waiting.append(data)
            self.peer.deliver()

    def deliver(self):
        while self.waiting and self.reading:
            self.protocol.data_received(self.waiting.pop(0))

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True
        self.deliver()

    def is_closing(self):
        return self.closed

    def close(self):
        if not self.closed:
            self.closed = True
            self.protocol.connection_lost(None)

    abort = close


def pipes():
    one, other = Pipe(), Pipe()
    one.peer, other.peer = other, one
    return one, other


class Talker(Recorder):
    """Knows its transport, which start_tls() tells no protocol."""

    transport = None


async def over_pipes(client=Talker, server=Talker, context=None):
    loop = asyncio.get_running_loop()
    one, other = pipes()
    ours, theirs = client(), server()
    ours.transport, theirs.transport = await asyncio.gather(
        loop.start_tls(one, ours, context or client_context(), server_hostname=NAME),
        loop.start_tls(other, theirs, server_context(), server_side=True),
    )
    return ours, theirs


@pytest.mark.parametrize("kind", [bytes, bytearray])
@pytest.mark.parametrize("close", [True, False])
def test_written_while_writing(run, kind, close):
    """An answer to the first part of a write() is written, and the connection closed, before that write() returns: they
    come behind all of it."""

    class Answering(Talker):
        answers = 0

        def data_received(self, data):
            super().data_received(data)
            if self.answers < 3:
                self.answers += 1
                self.transport.write(b"x" * 10)
            elif close:
                self.transport.close()
                self.transport.write(b"in vain")

    class Echoing(Talker):
        def data_received(self, data):
            super().data_received(data)
            self.transport.write(b"answer")

    async def main():
        ours, theirs = await over_pipes(Answering, Echoing)
        data = b"a" * 1_000_000
        ours.transport.write(kind(data))
        await settled()
        assert theirs.data == data + b"x" * 30
        assert ours.transport.get_write_buffer_size() == 0
        if close:
            assert ours.names()[-1] == theirs.names()[-1] == "connection_lost"
        else:
            ours.transport.abort()
            theirs.transport.abort()

    run(main())


def test_engine_that_reads_little(run):
    """A subclass may give less than there is: it is read until it says that there is no more, as asyncio does."""

    class Little(ssl.SSLObject):
        kept = b""

        def read(self, len=1024, buffer=None):
            self.kept = self.kept or super().read(len)
            some, self.kept = self.kept[:7], self.kept[7:]
            return some

    async def main():
        context = client_context()
        context.sslobject_class = Little
        ours, theirs = await over_pipes(context=context)
        theirs.transport.write(b"q" * 1000)
        assert ours.data == b"q" * 1000
        ours.transport.abort()
        theirs.transport.abort()

    run(main())


def test_window_is_not_to_be_found(run):
    """What lends memory to the ssl module is in no collector's list, and in no traversal."""

    async def main():
        ours, theirs = await over_pipes()
        theirs.transport.write(b"q" * 1000)
        assert ours.data == b"q" * 1000
        found = [obj for obj in gc.get_objects() if type(obj) is tuple] + gc.get_referents(ours.transport)
        windows = [
            obj for obj in found if type(obj) is tuple and len(obj) == 2 and type(obj[1]).__name__ == "TlsWindow"
        ]
        assert not windows
        ours.transport.abort()
        theirs.transport.abort()

    run(main())


def test_ssl_object_of_python_s(run):
    """An SSLObject around an object of Python's, which keeps what it is given: it is given nothing of ours."""
    kept = []

    class Inner:
        def __init__(self, incoming, outgoing):
            self.incoming, self.outgoing = incoming, outgoing

        def read(self, size, buffer=None):
            data = self.incoming.read(min(size or 5, 5))
            if not data:
                raise ssl.SSLWantReadError
            if buffer is None:
                return data
            kept.append(memoryview(buffer))
            kept[-1][: len(data)] = data
            return len(data)

        def write(self, data):
            kept.append(memoryview(data))
            return self.outgoing.write(data)

        def nothing(self, *args):
            return None

        do_handshake = shutdown = getpeercert = cipher = compression = nothing

    class Context(ssl.SSLContext):
        def wrap_bio(self, incoming, outgoing, **kwargs):
            ssl_object = ssl.SSLObject.__new__(ssl.SSLObject)
            ssl_object._sslobj = Inner(incoming, outgoing)
            return ssl_object

    async def main():
        one, other = pipes()
        below, ours = Recorder(), Recorder()
        other.set_protocol(below)
        other.resume_reading()
        transport = await asyncio.get_running_loop().start_tls(one, ours, Context(ssl.PROTOCOL_TLS_CLIENT))
        transport.write(bytearray(b"hello" * 1000))
        assert below.data == b"hello" * 1000
        other.write(b"more than is read at once")
        assert ours.data == b"more than is read at once"
        transport.abort()

    run(main())
    gc.collect()
    assert [bytes(view) for view in kept] == [b"hello" * 1000]


def test_abort_while_the_peer_is_asked_for(run):
    """A method of the SSL object's that the end of the handshake calls aborts: connection_made() is not called."""
    servers, asked = [], []

    class Aborting(ssl.SSLObject):
        def getpeercert(self, binary_form=False):
            asked.append(True)
            servers[0].abort_clients()
            return super().getpeercert(binary_form)

    async def main():
        context = server_context()
        context.sslobject_class = Aborting
        theirs, ours = Recorder(), Recorder()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: theirs, "127.0.0.1", 0, ssl=context)
        servers.append(server)
        with contextlib.suppress(OSError):
            await loop.create_connection(
                lambda: ours, *server.sockets[0].getsockname(), ssl=client_context(), server_hostname=NAME
            )
            await ours.lost()
        server.close()
        await server.wait_closed()
        assert asked
        assert theirs.names() == []

    run(main())


def test_interrupted_before_the_end(loop):
    """KeyboardInterrupt in data_received(), the stream having ended while reading was paused: who runs the loop again is
    told of the end."""

    class Interrupted(Talker):
        def data_received(self, data):
            super().data_received(data)
            raise KeyboardInterrupt

    async def begin():
        ours, theirs = await over_pipes(Interrupted)
        ours.transport.pause_reading()
        theirs.transport.write(b"the last")
        ours.transport._ssl_protocol.eof_received()
        return ours, theirs

    ours, theirs = loop.run_until_complete(begin())
    ours.transport.resume_reading()
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(settled())
    assert ours.names() == ["data_received"]
    loop.run_until_complete(settled())
    assert ours.data == b"the last"
    assert ours.names() == ["data_received", "eof_received", "connection_lost"]
    theirs.transport.abort()


def test_interrupted_read(loop):
    """KeyboardInterrupt out of the SSL object, as a signal's handler raises it: what is behind is delivered all the same."""
    interrupt = []

    class Interrupted(ssl.SSLObject):
        def read(self, len=1024, buffer=None):
            if interrupt:
                raise interrupt.pop()
            return super().read(len)

    async def begin():
        context = client_context()
        context.sslobject_class = Interrupted
        return await over_pipes(context=context)

    ours, theirs = loop.run_until_complete(begin())
    interrupt.append(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        theirs.transport.write(b"data")
    loop.run_until_complete(settled())
    assert ours.data == b"data"
    ours.transport.abort()
    theirs.transport.abort()
