"""Transports as objects: who keeps them, who collects them, what is left of them."""

import asyncio
import gc
import os
import socket
import subprocess
import sys
import textwrap
import weakref

import corolla
import pytest
from transports.support import Recorder, connection, listener, receive_all, settled


def test_unclosed_transport_warns(run):
    """A transport that nothing can happen to any more, and that nobody has, is closed with a warning."""

    async def main():
        loop = asyncio.get_running_loop()
        with listener() as server:
            transport, protocol = await loop.create_connection(asyncio.Protocol, *server.getsockname())
            peer, _ = server.accept()
        transport.pause_reading()
        await settled()
        ref = weakref.ref(transport)
        with pytest.warns(ResourceWarning, match=r"unclosed transport <TcpTransport fd=\d+ read=idle"):
            del transport, protocol
            gc.collect()
        assert ref() is None
        with peer:
            assert peer.recv(10) == b""

    run(main())


def test_transport_is_kept_while_reading(run):
    """Nobody but the loop has it, and it goes on."""

    async def main():
        loop = asyncio.get_running_loop()
        got, lost = loop.create_future(), loop.create_future()

        class Protocol(asyncio.Protocol):
            def data_received(self, data):
                got.set_result(data)

            def connection_lost(self, exc):
                lost.set_result(exc)

        with listener() as server:
            await loop.create_connection(Protocol, *server.getsockname())
            peer, _ = server.accept()
        with peer:
            gc.collect()
            peer.sendall(b"abc")
            assert await got == b"abc"
        assert await lost is None

    run(main())


def test_transport_is_kept_while_writing(run):
    async def main():
        with listener() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, *server.getsockname())
            peer, _ = server.accept()
        peer.settimeout(30)
        transport.pause_reading()
        transport.write(b"x" * 5_000_000)
        transport.close()
        del transport
        gc.collect()
        with peer:
            assert len(await receive_all(peer)) == 5_000_000
        await settled()

    run(main())


def test_cycles_are_collected():
    """Threads, interpreters: objects owned through native structures were invisible to the collector."""
    loop = corolla.new_event_loop()
    refs = []

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
            self.loop = loop_ref()

    loop_ref = weakref.ref(loop)

    async def main():
        with listener() as server:
            transport, protocol = await loop.create_connection(Protocol, *server.getsockname())
            peer, _ = server.accept()
        refs.extend([weakref.ref(transport), weakref.ref(protocol), peer])

    loop.run_until_complete(main())
    peer = refs.pop()
    loop.close()
    del loop, main
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        gc.collect()
    assert loop_ref() is None
    assert [ref() for ref in refs] == [None, None]
    with peer:
        peer.settimeout(30)
        assert peer.recv(10) == b""


def test_cycle_with_a_loop_that_was_never_closed():
    """The loop owns what it reads from, and the collector sees it."""
    code = textwrap.dedent("""
        import asyncio, gc, socket, warnings, weakref
        import corolla
        warnings.simplefilter("ignore", ResourceWarning)
        server = socket.create_server(("127.0.0.1", 0))
        class Protocol(asyncio.Protocol): pass
        def make():
            loop = corolla.new_event_loop()
            transport, protocol = loop.run_until_complete(
                loop.create_connection(Protocol, *server.getsockname()))
            protocol.transport = transport
            return weakref.ref(loop), weakref.ref(transport)
        loop, transport = make()
        gc.collect()
        assert transport() is None, transport()
        assert loop() is None, loop()
        peer = server.accept()[0]
        assert peer.recv(1) == b""
    """)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_resurrected_transport_is_closed(run):
    """Transports: a transport resurrected by the collector unregistered an fd number already owned by another."""
    kept = []

    class Protocol(asyncio.Protocol):
        def __del__(self):
            kept.append(self.transport)

    async def main():
        with listener() as server:
            transport, protocol = await asyncio.get_running_loop().create_connection(Protocol, *server.getsockname())
            protocol.transport = transport
            peer, _ = server.accept()
            transport.pause_reading()
            await settled()
            with pytest.warns(ResourceWarning, match="unclosed transport"):
                del transport, protocol
                gc.collect()
            peer.close()
            (transport,) = kept
            # The number goes to somebody else.
            other, other_protocol = await asyncio.get_running_loop().create_connection(Recorder, *server.getsockname())
            assert other._sock_fd == transport._sock_fd
            peer, _ = server.accept()
        for method in ("close", "abort", "pause_reading", "resume_reading", "write_eof"):
            getattr(transport, method)()
        transport.write(b"abc")
        transport.set_protocol(Protocol())
        transport.get_protocol().transport = None
        assert repr(transport).startswith("<TcpTransport closed")
        with peer:
            peer.sendall(b"still there")
            await other_protocol.until(lambda: other_protocol.data == b"still there")
            other.close()
            await other_protocol.lost()
        await settled()

    run(main())
    kept.clear()


def test_not_made_by_hand():
    for make in (
        lambda: corolla.TcpTransport(),
        lambda: corolla.TcpTransport(None),
        lambda: corolla.TcpTransport.__new__(corolla.TcpTransport),
        lambda: object.__new__(corolla.TcpTransport),
        lambda: asyncio.Transport.__new__(corolla.TcpTransport),
        lambda: type("Sub", (corolla.TcpTransport,), {}),
    ):
        with pytest.raises(TypeError):
            make()


def test_loop_closed_under_a_transport():
    """Methods on a transport whose loop is gone are exceptions or do nothing, as asyncio's."""
    loop = corolla.new_event_loop()
    with listener() as server:
        transport, protocol = loop.run_until_complete(loop.create_connection(Recorder, *server.getsockname()))
        peer, _ = server.accept()
    loop.close()
    transport.write(b"abc")
    transport.writelines([b"abc"])
    assert repr(transport).startswith("<TcpTransport fd=")
    transport.pause_reading()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        transport.resume_reading()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        transport.close()
    transport.close()
    transport.abort()
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        del transport, protocol
        gc.collect()
    peer.close()


def test_closing_the_loop_from_a_callback(run, loop):
    class Protocol(Recorder):
        def data_received(self, data):
            with pytest.raises(RuntimeError, match="Cannot close a running event loop"):
                loop.close()
            super().data_received(data)

    async def main():
        async with connection(Protocol) as (_, protocol, peer):
            peer.sendall(b"abc")
            await protocol.until(lambda: protocol.data == b"abc")

    run(main())


def test_connection_lost_that_never_came(loop):
    """The loop is closed with connection_lost() queued: the descriptor is closed all the same, with a warning."""
    with listener() as server:
        transport, protocol = loop.run_until_complete(loop.create_connection(Recorder, *server.getsockname()))
        peer, _ = server.accept()
    with peer:
        transport.abort()
        del transport, protocol
        with pytest.warns(ResourceWarning, match="unclosed transport <TcpTransport closing"):
            loop.close()
            gc.collect()
        assert peer.recv(10) == b""


def test_loop_closed_from_inside_write(loop):
    """Outside a run, a callback of flow control may close the loop under the write."""

    class Protocol(Recorder):
        def pause_writing(self):
            super().pause_writing()
            loop.close()

    with listener() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        transport, protocol = loop.run_until_complete(loop.create_connection(Protocol, *server.getsockname()))
        peer, _ = server.accept()
    with peer:
        transport.write(b"x" * 20_000_000)
        assert protocol.names() == ["connection_made", "pause_writing"]
        transport.write(b"dropped")
        with pytest.warns(ResourceWarning, match="unclosed transport"):
            del transport, protocol
            gc.collect()


def test_a_forked_child_leaves_connections_alone(run):
    """Threads, fork: the parent's epoll state is untouched by what the child drops or closes."""

    async def main():
        async with connection(small=True) as (transport, protocol, peer):
            async with await asyncio.get_running_loop().create_server(Recorder, "127.0.0.1", 0) as server:
                transport.write(b"x" * 1_000_000)
                pid = os.fork()
                if pid == 0:
                    code = 1
                    try:
                        asyncio.run(asyncio.sleep(0))
                        assert corolla.run(asyncio.sleep(0, 7)) == 7
                        for method in ("pause_reading", "resume_reading", "close", "abort"):
                            try:
                                getattr(transport, method)()
                            except (RuntimeError, OSError):
                                pass
                        server.close()
                        repr(transport)
                        del transport, protocol, server
                        gc.collect()
                        code = 0
                    finally:
                        os._exit(code)
                _, status = await asyncio.get_running_loop().run_in_executor(None, os.waitpid, pid, 0)
                assert status == 0
                peer.sendall(b"abc")
                await protocol.until(lambda: protocol.data == b"abc")
                transport.write_eof()
                assert await receive_all(peer) == b"x" * 1_000_000
                other, other_protocol = await asyncio.get_running_loop().create_connection(
                    Recorder, *server.sockets[0].getsockname()
                )
                other.close()
                await other_protocol.lost()

    run(main())
