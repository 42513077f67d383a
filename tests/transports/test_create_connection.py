"""create_connection(): addresses, attempts, failures in words, cancellation at every await."""

import asyncio
import contextlib
import errno
import gc
import os
import socket
import ssl

import corolla
import pytest
from transports.support import HOST, Recorder, connection, listener, settled


def closed_port():
    """A port nobody listens on: bound, so that nobody takes it either."""
    sock = socket.socket()
    sock.bind((HOST, 0))
    return sock


def full_listener():
    """A listener whose queue is full: connecting to it neither succeeds nor fails."""
    server = socket.socket()
    server.bind((HOST, 0))
    server.listen(0)
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(server.getsockname())
        fillers.append(filler)
    return server, fillers


@contextlib.contextmanager
def unanswered():
    server, fillers = full_listener()
    try:
        yield server.getsockname()
    finally:
        for sock in (server, *fillers):
            sock.close()


class Names(corolla.EventLoop):
    """A loop whose getaddrinfo() says what it is told to, and what it is asked."""

    infos = ()
    local_infos = ()

    async def getaddrinfo(self, host, port, *, family=0, type=0, proto=0, flags=0):
        await asyncio.sleep(0)
        return list(self.local_infos if host == "local" else self.infos)

    def resolve(self, *addresses):
        self.infos = [info(*address) for address in addresses]


def info(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = (host, port, 0, 0) if family == socket.AF_INET6 else (host, port)
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address


@pytest.fixture
def names(reports):
    loop = Names()
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    yield loop
    loop.close()
    gc.collect()
    assert not reports


async def connect(*args, **kwargs):
    """Connects, and closes again."""
    transport, protocol = await asyncio.get_running_loop().create_connection(Recorder, *args, **kwargs)
    addresses = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
    transport.abort()
    await protocol.lost()
    await settled()
    return addresses


# ---- Connecting --------------------------------------------------------------------------------


def test_returns_transport_and_protocol(run):
    async def main():
        with listener() as server:
            pair = await asyncio.get_running_loop().create_connection(Recorder, *server.getsockname())
            assert type(pair) is tuple
            transport, protocol = pair
            assert type(transport) is corolla.TcpTransport
            assert type(protocol) is Recorder
            transport.abort()
            await protocol.lost()

    run(main())


@pytest.mark.parametrize("port", [str, int, lambda port: str(port).encode()])
def test_ports(run, port):
    async def main():
        with listener() as server:
            host, number = server.getsockname()
            _, peername = await connect(host, port(number))
            assert peername == (host, number)

    run(main())


def test_by_name(run):
    async def main():
        with listener() as server:
            _, peername = await connect("localhost", server.getsockname()[1])
            assert peername == server.getsockname()

    run(main())


def test_local_addr(run):
    async def main():
        with listener() as server:
            sockname, _ = await connect(*server.getsockname(), local_addr=("127.0.0.2", 0))
            assert sockname[0] == "127.0.0.2"
            with closed_port() as probe:
                address = probe.getsockname()
            sockname, _ = await connect(*server.getsockname(), local_addr=address)
            assert sockname == address

    run(main())


def test_the_second_address_answers(names):
    async def main():
        with listener() as server, closed_port() as closed:
            names.resolve(closed.getsockname(), server.getsockname())
            for kwargs in ({}, {"happy_eyeballs_delay": 30}, {"happy_eyeballs_delay": 0}):
                _, peername = await connect("host", 1, **kwargs)
                assert peername == server.getsockname()

    names.run_until_complete(main())


def test_happy_eyeballs_go_past_an_address_that_does_not_answer(names):
    async def main():
        with listener() as server, unanswered() as silent:
            names.resolve(silent, server.getsockname())
            _, peername = await connect("host", 1, happy_eyeballs_delay=0.001)
            assert peername == server.getsockname()

    names.run_until_complete(main())


def test_the_first_that_answers_wins(names):
    """All others are closed: the fixture looks for descriptors left open."""

    async def main():
        with contextlib.ExitStack() as stack:
            servers = [stack.enter_context(listener()) for _ in range(5)]
            silent = [stack.enter_context(unanswered()) for _ in range(3)]
            names.resolve(*silent, *(server.getsockname() for server in servers))
            _, peername = await connect("host", 1, happy_eyeballs_delay=0)
            assert peername in [server.getsockname() for server in servers]

    names.run_until_complete(main())


@pytest.mark.parametrize(
    ("interleave", "expected"),
    [
        (None, "A1 A2 A3 B1 B2"),
        (0, "A1 A2 A3 B1 B2"),
        (1, "A1 B1 A2 B2 A3"),
        (2, "A1 A2 B1 A3 B2"),
        (9, "A1 A2 A3 B1 B2"),
        ("happy", "A1 B1 A2 B2 A3"),
    ],
)
def test_interleave(names, interleave, expected):
    """The order of the attempts, by the order of their errors."""
    addresses = {"A1": "::1", "A2": "::2", "A3": "::3", "B1": "127.0.0.1", "B2": "127.0.0.2"}

    async def main():
        with closed_port() as closed:
            port = closed.getsockname()[1]
            names.resolve(*((host, port) for host in addresses.values()))
            kwargs = {"happy_eyeballs_delay": 30} if interleave == "happy" else {"interleave": interleave}
            # No local address of either family: each attempt fails in a way that names its family.
            names.local_infos = [(socket.AF_UNIX, socket.SOCK_STREAM, 0, "", "path")]
            with pytest.raises(ExceptionGroup) as caught:
                await connect("host", 1, local_addr=("local", 0), all_errors=True, **kwargs)
            order = ["A" if "AF_INET6" in str(exc) else "B" for exc in caught.value.exceptions]
            assert order == [name[0] for name in expected.split()]

    names.run_until_complete(main())


# ---- Failures in words -------------------------------------------------------------------------


def test_refused(run):
    async def main():
        with closed_port() as closed:
            address = closed.getsockname()
            with pytest.raises(ConnectionRefusedError) as caught:
                await connect(*address)
            assert caught.value.errno == errno.ECONNREFUSED
            assert str(caught.value) == f"[Errno {errno.ECONNREFUSED}] Connect call failed {address}"

    run(main())


@pytest.mark.parametrize("delay", [None, 0.01])
def test_several_failures(names, delay):
    async def main():
        with closed_port() as one, closed_port() as two:
            names.resolve(one.getsockname(), two.getsockname())
            texts = [f"[Errno {errno.ECONNREFUSED}] Connect call failed {sock.getsockname()}" for sock in (one, two)]
            with pytest.raises(OSError) as caught:
                await connect("host", 1, happy_eyeballs_delay=delay)
            assert str(caught.value) == f"Multiple exceptions: {texts[0]}, {texts[1]}"
            with pytest.raises(ExceptionGroup, match="create_connection failed") as group:
                await connect("host", 1, happy_eyeballs_delay=delay, all_errors=True)
            assert [str(exc) for exc in group.value.exceptions] == texts
            assert all(type(exc) is ConnectionRefusedError for exc in group.value.exceptions)
            names.resolve(one.getsockname(), one.getsockname())
            with pytest.raises(ConnectionRefusedError) as caught:
                await connect("host", 1, happy_eyeballs_delay=delay)
            assert str(caught.value) == texts[0]

    names.run_until_complete(main())


def test_local_address_that_cannot_be_had(run):
    async def main():
        with listener() as server:
            local = ("192.0.2.1", 0)
            with pytest.raises(OSError) as caught:
                await connect(*server.getsockname(), local_addr=local)
            assert caught.value.errno == errno.EADDRNOTAVAIL
            assert caught.value.strerror == (
                f"error while attempting to bind on address {local!r}: "
                f"[errno {errno.EADDRNOTAVAIL}] {os.strerror(errno.EADDRNOTAVAIL).lower()}"
            )
            with pytest.raises(OSError, match="no matching local address with family=.* found"):
                await connect(*server.getsockname(), local_addr=("::1", 0))

    run(main())


def test_a_second_local_address_is_tried(names):
    async def main():
        with listener() as server:
            names.resolve(server.getsockname())
            names.local_infos = [info("::1", 0), info("192.0.2.1", 0), info("127.0.0.3", 0)]
            sockname, _ = await connect("host", 1, local_addr=("local", 0))
            assert sockname[0] == "127.0.0.3"

    names.run_until_complete(main())


def test_every_error_is_told(names):
    """all_errors: one for each local address that could not be had, and one for the attempt, of each address."""

    async def main():
        with closed_port() as closed:
            address = closed.getsockname()
            refused = f"[Errno {errno.ECONNREFUSED}] Connect call failed {address}"
            names.resolve(address, ("::1", address[1]), address)
            names.local_infos = [info("192.0.2.1", 0), info("198.51.100.1", 0), info("127.0.0.3", 0)]
            with pytest.raises(ExceptionGroup) as caught:
                await connect("host", 1, local_addr=("local", 0), all_errors=True)
            texts = [str(exc) for exc in caught.value.exceptions]
            assert len(texts) == 7
            assert texts[:3] == texts[4:]
            for text, host in zip(texts, ("192.0.2.1", "198.51.100.1"), strict=False):
                assert f"error while attempting to bind on address ('{host}', 0)" in text
            assert texts[2] == refused
            assert texts[3] == f"no matching local address with family={socket.AF_INET6!r} found"
            with pytest.raises(OSError, match="^Multiple exceptions: ") as one:
                await connect("host", 1, local_addr=("local", 0))
            assert str(one.value) == "Multiple exceptions: " + ", ".join(texts)

    names.run_until_complete(main())


def test_nobody_holds_the_task_that_connects(run):
    """While a connection is being made, the loop keeps whoever waits for it."""

    async def main():
        loop = asyncio.get_running_loop()
        made = loop.create_future()
        protocol = Recorder()
        protocol.connection_made = made.set_result
        with unanswered() as silent, listener() as server:

            async def resolve(*args, **kwargs):
                return [info(*silent), info(*server.getsockname())]

            loop.getaddrinfo = resolve
            loop.create_task(loop.create_connection(lambda: protocol, "host", 1, happy_eyeballs_delay=0.05))
            await settled()
            gc.collect()
            transport = await made
            server.accept()[0].close()
            await protocol.lost()
            transport.close()

    run(main())


@pytest.mark.parametrize("local", [False, True])
def test_names_without_addresses(names, local):
    async def main():
        if local:
            names.resolve((HOST, 1))
        with pytest.raises(OSError, match=r"getaddrinfo\(\) returned empty list"):
            await connect("host", 1, local_addr=("local", 0) if local else None)

    names.run_until_complete(main())


@pytest.mark.parametrize(
    "infos", [[1], [(1, 2)], [("x", 1, 1, "", ())], [(2, 1, 6, "", None)], 7, [(2, 1, 6, "", ("name", 1))]]
)
def test_names_with_nonsense(names, infos):
    async def main():
        async def getaddrinfo(*args, **kwargs):
            return infos

        names.getaddrinfo = getaddrinfo
        with pytest.raises((TypeError, ValueError, OSError)):
            await connect("host", 1)

    names.run_until_complete(main())


def test_bad_arguments(run):
    async def main():
        create = asyncio.get_running_loop().create_connection
        datagram = socket.socket(type=socket.SOCK_DGRAM)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with datagram, socket.socket() as stream:
            for error, match, args, kwargs in (
                (ValueError, "host and port was not specified and no sock specified", (), {}),
                (ValueError, "can not be specified at the same time", (HOST, 1), {"sock": stream}),
                (ValueError, "A Stream Socket was expected, got <socket", (), {"sock": datagram}),
                (ValueError, "server_hostname is only meaningful with ssl", (HOST, 1), {"server_hostname": "x"}),
                (
                    ValueError,
                    "ssl_handshake_timeout is only meaningful with ssl",
                    (HOST, 1),
                    {"ssl_handshake_timeout": 1},
                ),
                (
                    ValueError,
                    "ssl_shutdown_timeout is only meaningful with ssl",
                    (HOST, 1),
                    {"ssl_shutdown_timeout": 1},
                ),
                (
                    ValueError,
                    "You must set server_hostname when using ssl without a host",
                    (),
                    {"ssl": True, "sock": stream},
                ),
                (ConnectionRefusedError, None, (HOST, 1), {"ssl": True}),
                (ConnectionRefusedError, None, (HOST, 1), {"ssl": context}),
                (socket.gaierror, None, ("host.invalid", 1), {}),
                ((OverflowError, OSError), None, (HOST, 70000), {}),
                ((OverflowError, OSError), None, (HOST, -1), {}),
                (TypeError, None, (HOST, 1), {"family": "x"}),
                (TypeError, None, (HOST, 1), {"happy_eyeballs_delay": "x"}),
                (ValueError, None, (HOST, 1), {"happy_eyeballs_delay": float("nan")}),
                (TypeError, None, (HOST, 1), {"interleave": "x"}),
                (ValueError, None, (HOST, 1), {"local_addr": (HOST,)}),
                (TypeError, None, (HOST, 1), {"local_addr": 7}),
                (AttributeError, None, (), {"sock": 7}),
                (ValueError, None, (), {"sock": socket.socket.__new__(socket.socket)}),
            ):
                with pytest.raises(error, match=match):
                    await create(Recorder, *args, **kwargs)
            with pytest.raises(TypeError):
                await create(None, sock=stream)
        for args, kwargs in (((), {}), ((1, 2, 3, 4), {}), ((Recorder,), {"what": 1})):
            with pytest.raises(TypeError):
                create(*args, **kwargs)

    run(main())


def test_ssl_socket(run):
    async def main():
        ours, peer = socket.socketpair()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        with peer, context.wrap_socket(ours, do_handshake_on_connect=False) as wrapped:
            loop = asyncio.get_running_loop()
            with pytest.raises(TypeError, match="Socket cannot be of type SSLSocket"):
                await loop.create_connection(Recorder, sock=wrapped)
            with pytest.raises(TypeError, match="Socket cannot be of type SSLSocket"):
                await loop.create_server(Recorder, sock=wrapped)

    run(main())


# ---- sock= -------------------------------------------------------------------------------------


def test_sock(run):
    async def main():
        loop = asyncio.get_running_loop()
        with listener() as server:
            ours = socket.create_connection(server.getsockname())
            transport, protocol = await loop.create_connection(Recorder, sock=ours)
            assert transport.get_extra_info("socket").fileno() == ours.fileno()
            assert transport._sock is ours
            assert ours.gettimeout() == 0
            transport.close()
            await protocol.lost()
            await settled()
            assert ours.fileno() == -1

    run(main())


def test_sock_that_is_not_connected(run):
    """As asyncio: there is a transport, which fails as soon as it is used."""

    async def main():
        ours = socket.socket()
        transport, protocol = await asyncio.get_running_loop().create_connection(Recorder, sock=ours)
        assert transport.get_extra_info("peername") is None
        transport.write(b"x")
        assert isinstance(await protocol.lost(), OSError)
        await settled()
        assert ours.fileno() == -1

    run(main())


def test_sock_is_the_callers_if_the_factory_raises(run):
    """Transports: a caller-owned socket stays usable when it was not adopted."""

    async def main():
        ours, peer = socket.socketpair()

        def factory():
            raise ValueError("no protocol")

        with ours, peer:
            with pytest.raises(ValueError, match="no protocol"):
                await asyncio.get_running_loop().create_connection(factory, sock=ours)
            ours.sendall(b"abc")
            assert peer.recv(10) == b"abc"

    run(main())


def test_sock_is_closed_if_cancelled(run):
    """Transports: create_connection(sock=...) cancelled left the Python socket believing it owned the descriptor."""

    async def main():
        ours, peer = socket.socketpair()
        with peer:
            task = asyncio.create_task(asyncio.get_running_loop().create_connection(Recorder, sock=ours))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await settled()
            assert ours.fileno() == -1
            assert peer.recv(1) == b""

    run(main())


# ---- Factories and connection_made() -----------------------------------------------------------


def test_a_factory_that_raises(run):
    async def main():
        def factory():
            raise ValueError("no protocol")

        with listener() as server:
            with pytest.raises(ValueError, match="no protocol"):
                await asyncio.get_running_loop().create_connection(factory, *server.getsockname())
            peer, _ = server.accept()
            with peer:
                assert peer.recv(1) == b""

    run(main())


@pytest.mark.parametrize("how", ["close", "abort"])
def test_closing_in_connection_made(run, how):
    """Transports: a transport aborted in connection_made never woke the creation waiter."""

    class Protocol(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            getattr(transport, how)()

    async def main():
        async with connection(Protocol) as (transport, protocol, peer):
            assert transport.is_closing()
            await protocol.lost()
            assert protocol.names() == ["connection_made", "connection_lost"]
            assert peer.recv(1) == b""

    run(main())


# ---- Cancellation ------------------------------------------------------------------------------


@pytest.mark.parametrize("kwargs", [{}, {"local_addr": ("local", 0)}, {"happy_eyeballs_delay": 0.001}])
@pytest.mark.parametrize("after", range(8))
def test_cancelled_at_every_step(names, after, kwargs):
    """Transports: after a cancelled creation no late connection_made runs, no descriptor is left."""
    protocol = Recorder()

    async def main():
        with listener() as server, unanswered() as silent:
            names.resolve(silent if after % 2 else server.getsockname(), server.getsockname())
            names.local_infos = [info(HOST, 0)]
            task = asyncio.create_task(names.create_connection(lambda: protocol, "host", 1, **kwargs))
            for _ in range(after):
                await asyncio.sleep(0)
            if not task.done():
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                before = list(protocol.events)
                await settled()
                assert "connection_made" in protocol.names() or protocol.events == before == []
                assert protocol.names().count("connection_lost") == protocol.names().count("connection_made")
            else:
                transport, _ = await task
                transport.abort()
                await protocol.lost()

    names.run_until_complete(main())


def test_cancelled_with_the_connection_queued(run):
    """The transport exists, connection_made() is queued, and is not called."""
    protocol = Recorder()
    task = None

    def factory():
        asyncio.get_running_loop().call_soon(task.cancel)  # in front of connection_made()
        return protocol

    async def main():
        nonlocal task
        with listener() as server:
            task = asyncio.create_task(asyncio.get_running_loop().create_connection(factory, *server.getsockname()))
            with pytest.raises(asyncio.CancelledError):
                await task
            await settled()
            assert protocol.events == []
            peer, _ = server.accept()
            with peer:
                assert peer.recv(1) == b""

    run(main())


def test_cancelled_in_connection_made(run):
    """Too late to undo: the protocol is told of both."""
    task = None

    class Protocol(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            task.cancel()

    protocol = Protocol()

    async def main():
        nonlocal task
        with listener() as server:
            loop = asyncio.get_running_loop()
            task = asyncio.create_task(loop.create_connection(lambda: protocol, *server.getsockname()))
            with pytest.raises(asyncio.CancelledError):
                await task
            await protocol.lost()
            assert protocol.names() == ["connection_made", "connection_lost"]
            server.accept()[0].close()
        await settled()

    run(main())


def test_closed_by_hand(loop):
    """coroutine.close() and a coroutine that is dropped clean up as cancellation does."""
    with unanswered() as silent:
        for drop in (False, True):
            coro = loop.create_connection(Recorder, *silent)
            future = coro.send(None)
            assert not future.done()
            if not drop:
                coro.close()
            del coro
    loop.run_until_complete(settled())


def test_loop_closed_while_connecting():
    """The attempts end with the loop; whoever waited waits for ever, as with asyncio."""
    loop = corolla.new_event_loop()
    with unanswered() as silent:
        coro = loop.create_connection(Recorder, *silent, happy_eyeballs_delay=30)
        coro.send(None)
        loop.run_until_complete(settled())
        loop.close()
        coro.close()


@pytest.mark.parametrize("sock", [False, True])
def test_closed_loop(sock):
    loop = corolla.new_event_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.create_connection(Recorder, HOST, 1)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.create_server(Recorder, HOST, 0)


def test_out_of_descriptors(names):
    """The attempt fails with the kernel's words."""

    async def main():
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        names.resolve((HOST, 1))
        taken = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(int(fd) for fd in os.listdir("/proc/self/fd")) + 20, hard))
        try:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.dup(0))
            with pytest.raises(OSError) as caught:
                await connect("host", 1)
            assert caught.value.errno == errno.EMFILE
        finally:
            for fd in taken:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    names.run_until_complete(main())
