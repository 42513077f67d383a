"""Datagram endpoints: what is received and sent, addresses, errors."""

import asyncio
import errno
import mmap
import os
import pathlib
import socket
import sys

import corolla
import pytest
from transports.datagrams import DatagramRecorder, endpoint, udp_socket
from transports.support import HOST, settled

has_ipv6 = pytest.mark.skipif(not os.path.exists("/proc/net/if_inet6"), reason="no IPv6 here")


def name_of(transport):
    return transport.get_extra_info("sockname")


# ---- What comes and goes ------------------------------------------------------------------------------------------


def test_echo(run):
    class Echo(DatagramRecorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            self.transport.sendto(data.upper(), addr)

    async def main():
        async with endpoint(Echo) as (server, echo):
            async with endpoint(remote_addr=name_of(server)) as (client, protocol):
                client.sendto(b"abc")
                assert await protocol.receive(1) == [b"ABC"]
                assert protocol.senders == [name_of(server)]
                assert echo.senders == [name_of(client)]
            with udp_socket() as peer:
                peer.sendto(b"def", name_of(server))
                await echo.receive(2)
                assert peer.recvfrom(10) == (b"DEF", name_of(server))

    run(main())


def test_it_is_asyncios(run):
    """Seen in numberoverzero/bottom issue 51, Fatal1ty/aioapns issue 54, Kludex/zuvloop commit 1c2dcd4: a transport that
    is none of asyncio's fails the assertions in user protocols."""

    async def main():
        async with endpoint() as (transport, protocol):
            assert isinstance(transport, asyncio.DatagramTransport)
            assert isinstance(transport, asyncio.Transport)
            assert type(transport) is corolla.DatagramEndpoint
            assert protocol.transport is transport

    run(main())


def test_extra_info(run):
    async def main():
        with udp_socket() as peer:
            async with endpoint(local_addr=(HOST, 0), remote_addr=peer.getsockname()) as (transport, _):
                sock = transport.get_extra_info("socket")
                assert isinstance(sock, asyncio.trsock.TransportSocket)
                assert transport.get_extra_info("socket") is sock
                assert name_of(transport) == sock.getsockname()
                assert transport.get_extra_info("peername") == peer.getsockname()
                assert transport.get_extra_info("nothing", 5) == 5
                assert transport.get_extra_info("nothing") is None
        async with endpoint() as (transport, _):
            assert transport.get_extra_info("peername") is None
            address = name_of(transport)
        assert name_of(transport) == address  # still, when it is closed

    run(main())


def test_empty_datagrams(run):
    async def main():
        async with endpoint() as (one, first), endpoint(remote_addr=name_of(one)) as (other, second):
            other.sendto(b"")
            other.sendto(bytearray())
            assert await first.receive(2) == [b"", b""]
            one.sendto(b"", first.senders[0])
            assert await second.receive(1) == [b""]

    run(main())


@pytest.mark.parametrize("size", [1, 1500, 32 * 1024 + 1, 65507])
def test_sizes(run, size):
    data = os.urandom(size)

    async def main():
        async with endpoint() as (one, first), endpoint(remote_addr=name_of(one)) as (other, _):
            other.sendto(data)
            assert await first.receive(1) == [data]

    run(main())


def test_all_kinds_of_bytes(run):
    """Seen in python/cpython issue 135862: what is sent of a memoryview counts in bytes."""

    class Bytes(bytes):
        pass

    async def main():
        with mmap.mmap(-1, 16) as mapped:
            mapped[:] = b"mapped memory   "
            grid = memoryview(bytearray(range(12))).cast("B", (3, 4))
            kinds = [b"bytes", bytearray(b"array"), memoryview(b"view"), Bytes(b"subclass"), mapped, grid]
            async with endpoint() as (one, first), endpoint(remote_addr=name_of(one)) as (other, _):
                for data in kinds:
                    other.sendto(data)
                assert await first.receive(len(kinds)) == [bytes(data) for data in kinds]
            grid.release()

    run(main())


def test_many_senders(run):
    """More than are remembered, in turns: each datagram comes with its own sender's address."""

    async def main():
        async with endpoint() as (server, protocol):
            peers = [udp_socket() for _ in range(150)]
            try:
                for turn in range(2):
                    for peer in peers:
                        peer.sendto(str(peer.getsockname()[1]).encode(), name_of(server))
                    await protocol.receive(len(peers) * (turn + 1))
                assert [str(sender[1]).encode() for sender in protocol.senders] == protocol.received
                for peer, sender in zip(peers, protocol.senders[: len(peers)], strict=True):
                    server.sendto(str(sender[1]).encode(), sender)
                    assert peer.recv(100) == str(peer.getsockname()[1]).encode()
            finally:
                for peer in peers:
                    peer.close()

    run(main())


def test_a_burst_is_received_whole(run):
    async def main():
        async with endpoint() as (server, protocol):
            with udp_socket() as peer:
                for number in range(100):
                    peer.sendto(b"%d" % number, name_of(server))
            assert await protocol.receive(100) == [b"%d" % number for number in range(100)]

    run(main())


# ---- Addresses -----------------------------------------------------------------------------------------------------


@has_ipv6
def test_ipv6(run):
    async def main():
        async with endpoint(local_addr=("::1", 0)) as (server, protocol):
            host, port, flowinfo, scope = name_of(server)
            assert (host, flowinfo, scope) == ("::1", 0, 0)
            async with endpoint(remote_addr=("::1", port)) as (client, _):
                client.sendto(b"1")
                client.sendto(b"2", ("::1", port))
                client.sendto(b"3", ("::1", port, 0, 0))
                await protocol.receive(3)
                assert protocol.senders == [name_of(client)] * 3
                server.sendto(b"back", ("::1", name_of(client)[1]))
                await client.get_protocol().receive(1)

    run(main())


@has_ipv6
def test_scopes_are_kept(run):
    """Seen in uvloop issue 539, python/cpython issue 79726, Kludex/zuvloop commit 816d764: fe80::1%if lost its zone."""
    for line in pathlib.Path("/proc/net/if_inet6").read_text().splitlines():
        packed, index, _, scope, _, name = line.split()
        if scope == "20":
            break
    else:
        pytest.skip("no link-local address here")
    host = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(packed))

    async def main():
        async with endpoint(local_addr=(f"{host}%{name}", 0)) as (server, protocol):
            assert name_of(server)[3] == int(index, 16)
            async with endpoint(local_addr=(f"{host}%{name}", 0)) as (client, _):
                client.sendto(b"zone", (f"{host}%{name}", name_of(server)[1]))
                client.sendto(b"index", (host, name_of(server)[1], 0, int(index, 16)))
                await protocol.receive(2)
                assert protocol.senders[0][3] == int(index, 16)

    run(main())


@pytest.mark.parametrize("port", [65536, 70000, -1, 2**40])
def test_bad_ports_are_refused(run, port):
    """Seen in Kludex/zuvloop commit 3b4563d: a port above 65535 was cut down, and the datagram went elsewhere."""

    async def main():
        async with endpoint() as (transport, protocol):
            with pytest.raises(OverflowError):
                transport.sendto(b"x", (HOST, port))
            transport.sendto(b"still there", name_of(transport))
            await protocol.receive(1)
            assert protocol.errors == []

    run(main())


@pytest.mark.parametrize(
    "address", [(HOST,), "nonsense", 5, (HOST, 1, 2, 3, 4), (HOST, "http"), (None, 5), (HOST, 1.5)]
)
def test_what_is_no_address(run, address):
    async def main():
        async with endpoint() as (transport, _):
            with pytest.raises(TypeError):
                transport.sendto(b"x", address)
            assert not transport.is_closing()

    run(main())


def test_a_connected_endpoint_has_one_peer(run):
    """Seen in Kludex/zuvloop commits 1e3f72a and 6b2eac5: it refused its own peer's address."""

    async def main():
        async with endpoint() as (server, protocol):
            host, port = name_of(server)
            async with endpoint(remote_addr=("localhost", port), family=socket.AF_INET) as (client, _):
                names = [None, (host, port), ("localhost", port), ("127.1", port)]
                for name in names:
                    client.sendto(b"x", name)
                client.sendto(data=b"x", addr=name_of(server))
                await protocol.receive(len(names) + 1)
                for other in [
                    (host, port + 1),
                    ("127.0.0.2", port),
                    ("other.name.invalid", port),
                    (host, 2**20),
                    "x",
                    1,
                ]:
                    with pytest.raises(ValueError, match=r"^Invalid address: must be None or \('127.0.0.1', \d+\)$"):
                        client.sendto(b"x", other)
            assert len(protocol.received) == len(names) + 1

    run(main())


def test_names_are_looked_up(run):
    async def main():
        async with endpoint() as (server, protocol):
            for _ in range(2):
                server.sendto(b"to myself", ("localhost", name_of(server)[1]))
            await protocol.receive(2)
            server.sendto(b"x", ("no.such.name.invalid", 5))
            assert isinstance(protocol.errors[0], socket.gaierror)

    run(main())


def test_unconnected_without_an_address(run):
    async def main():
        async with endpoint() as (transport, protocol):
            transport.sendto(b"x")
            assert [exc.errno for exc in protocol.errors] == [errno.EDESTADDRREQ]

    run(main())


def test_broadcast(run):
    """With allow_broadcast the endpoint is not connected: what others answer is heard."""

    async def main():
        async with endpoint(local_addr=("0.0.0.0", 0)) as (server, protocol):
            port = name_of(server)[1]
            async with endpoint(remote_addr=("127.255.255.255", port), allow_broadcast=True) as (client, heard):
                assert client.get_extra_info("peername") is None
                assert client.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST) == 1
                client.sendto(b"anybody?")
                client.sendto(b"there?", ("127.255.255.255", port))
                await protocol.receive(2)
                server.sendto(b"I am", (HOST, protocol.senders[0][1]))
                assert await heard.receive(1) == [b"I am"]
                assert heard.senders == [(HOST, port)]
                with pytest.raises(ValueError, match="Invalid address"):
                    client.sendto(b"x", (HOST, port))

    run(main())


# ---- Unix sockets ------------------------------------------------------------------------------------------------------


def test_unix(run, tmp_path):
    """Seen in uvloop issue 196: paths were refused as names to look up."""
    here, there = str(tmp_path / "here"), str(tmp_path / "there")

    async def main():
        async with endpoint(local_addr=here, family=socket.AF_UNIX) as (server, protocol):
            assert name_of(server) == here
            async with endpoint(local_addr=there, remote_addr=here, family=socket.AF_UNIX) as (client, heard):
                assert client.get_extra_info("peername") == here
                client.sendto(b"1")
                client.sendto(b"2", here)
                client.sendto(b"3", os.fsencode(here))
                await protocol.receive(3)
                assert protocol.senders == [there] * 3
                server.sendto(b"back", there)
                assert await heard.receive(1) == [b"back"]
                assert heard.senders == [here]
                with pytest.raises(ValueError, match="Invalid address"):
                    client.sendto(b"x", there)

    run(main())


def test_unix_abstract_names_are_kept_whole(run):
    """Seen in Kludex/zuvloop commit 3b4563d: NULs at the end belong to an abstract name, and were cut off."""
    name = b"\0corolla-%d\0x\0\0" % os.getpid()

    async def main():
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, udp_unix(name + b"\0") as peer:
            sock.bind(name)
            async with endpoint(sock=sock) as (transport, protocol):
                assert name_of(transport) == name
                peer.sendto(b"hello", name)
                await protocol.receive(1)
                assert protocol.senders == [name + b"\0"]
                transport.sendto(b"back", protocol.senders[0])
                assert peer.recvfrom(10) == (b"back", name)

    run(main())


def udp_unix(name):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(name)
    sock.settimeout(30)
    return sock


def test_unix_large_and_unnamed(run):
    """A Unix datagram may be longer than any UDP one, and its sender nobody."""
    one, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    data = os.urandom(150_000)

    async def main():
        async with endpoint(sock=one) as (transport, protocol):
            peer.send(data)
            assert await protocol.receive(1) == [data]
            assert protocol.senders == [None]
            transport.sendto(data, protocol.senders[0])
            assert peer.recv(200_000) == data

    with peer:
        run(main())


# ---- Errors ----------------------------------------------------------------------------------------------------------


def test_errors_leave_the_endpoint_working(run):
    """Seen in uvloop PRs 601 and 545, issues 338 and 109: a failed send closed the endpoint, and a port unreachable was
    not told at all."""

    async def main():
        with udp_socket() as gone:
            address = gone.getsockname()
        async with endpoint(remote_addr=address) as (transport, protocol):
            transport.sendto(b"nobody")
            await protocol.until(lambda: len(protocol.errors) == 1)  # a failed receive
            transport.sendto(b"nobody")
            transport.sendto(b"nobody")  # a failed send, told at once
            assert [exc.errno for exc in protocol.errors] == [errno.ECONNREFUSED] * 2
            transport.sendto(bytes(70_000))
            assert protocol.errors[2].errno == errno.EMSGSIZE
            assert not transport.is_closing()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back:
                back.bind(address)
                back.settimeout(30)
                transport.sendto(b"hello")
                assert back.recv(10) == b"hello"
                back.sendto(b"hello", name_of(transport))
                await protocol.receive(1)

    run(main())


def test_an_exception_from_error_received(run, reports):
    """From a receive it is reported; from sendto() its caller gets it."""

    class Fails(DatagramRecorder):
        def error_received(self, exc):
            super().error_received(exc)
            raise LookupError("expected")

    async def main():
        with udp_socket() as gone:
            address = gone.getsockname()
        async with endpoint(Fails, remote_addr=address) as (transport, protocol):
            transport.sendto(b"nobody")
            await protocol.until(lambda: len(protocol.errors) == 1)
            await settled()
            report = reports.pop()
            assert isinstance(report["exception"], LookupError)
            assert report["transport"] is transport
            assert report["protocol"] is protocol
            assert report["message"] == "Exception in callback protocol.error_received()"
            with pytest.raises(LookupError):
                transport.sendto(bytes(70_000))
            assert not transport.is_closing()

    run(main())


def test_an_exception_from_datagram_received(run, reports):
    class Fails(DatagramRecorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if data == b"bad":
                raise LookupError("expected")

    async def main():
        async with endpoint(Fails) as (transport, protocol):
            for data in (b"bad", b"good"):
                transport.sendto(data, name_of(transport))
            assert await protocol.receive(2) == [b"bad", b"good"]
            report = reports.pop()
            assert isinstance(report["exception"], LookupError)
            assert report["message"] == "Exception in callback protocol.datagram_received()"

    run(main())


@pytest.mark.parametrize("exc", [KeyboardInterrupt, SystemExit])
def test_exits_leave_the_loop_and_lose_nothing(loop, run, exc):
    """Seen in Kludex/zuvloop commit 8a4e31c: KeyboardInterrupt and SystemExit were swallowed."""

    class Exits(DatagramRecorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if data == b"exit":
                raise exc

    transport, protocol = run(loop.create_datagram_endpoint(Exits, local_addr=(HOST, 0)))
    for data in (b"exit", b"next"):
        transport.sendto(data, name_of(transport))
    with pytest.raises(exc):
        loop.run_forever()
    assert protocol.received == [b"exit"]
    assert run(protocol.receive(2)) == [b"exit", b"next"]
    transport.close()
    run(settled())


@pytest.mark.parametrize("data", [None, "text", 5, [b"x"], object()])
def test_what_is_no_data(run, data):
    async def main():
        async with endpoint() as (transport, _):
            with pytest.raises(
                TypeError, match=f"^data argument must be a bytes-like object, not '{type(data).__name__}'$"
            ):
                transport.sendto(data, name_of(transport))
            with pytest.raises(TypeError):
                transport.sendto()

    run(main())


def test_audit(run):
    seen = []
    active = [True]

    def hook(event, args):
        if active[0] and event == "socket.sendto":
            seen.append(args)

    sys.addaudithook(hook)

    async def main():
        async with endpoint() as (transport, _):
            transport.sendto(b"x", name_of(transport))
            assert [args[1] for args in seen] == [name_of(transport)]

    try:
        run(main())
    finally:
        active[0] = False
        seen.clear()
