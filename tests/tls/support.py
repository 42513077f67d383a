"""Contexts, and a TLS peer whose every byte the test has in hand."""

import asyncio
import contextlib
import os
import pathlib
import socket
import ssl
import struct
from dataclasses import dataclass

from transports.support import HOST, Recorder, listener, settled

NAME = "localhost"
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
# Everything takes several times as long under sanitizers: there, fewer of what is tried one by one.
SANITIZED = bool(os.environ.get("COROLLA_SANITIZED"))


@dataclass
class Certificates:
    """Files in PEM: NAME.pem holds the key and the chain, NAME.key and NAME.crt one of them."""

    directory: pathlib.Path

    def file(self, name):
        return str(self.directory / name)

    @property
    def ca(self):
        return self.file("ca.pem")

    def server(self, certificate="server", version=None, ask=False, alpn=None):
        """ask: for a client's certificate, which has to be there."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file(f"{certificate}.pem"))
        if ask:
            context.load_verify_locations(self.ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return self._with(context, version, alpn)

    def client(self, certificate=None, version=None, alpn=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.ca)
        if certificate is not None:
            context.load_cert_chain(self.file(f"{certificate}.pem"))
        return self._with(context, version, alpn)

    def context(self, side, version=None, **kwargs):
        return self.server(version=version, **kwargs) if side == "server" else self.client(version=version, **kwargs)

    def _with(self, context, version, alpn):
        if version is not None:
            context.minimum_version = context.maximum_version = VERSIONS[version]
        if alpn is not None:
            context.set_alpn_protocols(alpn)
        return context


def other(side):
    return {"client": "server", "server": "client"}[side]


class Peer:
    """TLS over a socket of its own, driven by hand: it can seal records and send them when, and as far as, it likes. Runs on
    the loop of the test, by its sock_* calls."""

    def __init__(self, sock, context, side):
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1) if sock.family == socket.AF_INET else None
        self.sock = sock
        self.loop = asyncio.get_running_loop()
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.incoming, self.outgoing, side == "server", server_hostname=None if side == "server" else NAME
        )

    async def raw(self, data):
        await self.loop.sock_sendall(self.sock, data)

    async def trickle(self, data, size=1):
        """In segments of that size, each of which the other end gets to see by itself."""
        for start in range(0, len(data), size):
            await self.raw(data[start : start + size])
            await settled()

    async def more(self):
        """What came, also put where TLS reads it; b"" for the end."""
        data = await self.loop.sock_recv(self.sock, 262144)
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()
        return data

    async def flush(self):
        if data := self.outgoing.read():
            await self.raw(data)

    async def do(self, operation, *args):
        while True:
            try:
                result = operation(*args)
            except ssl.SSLWantReadError:
                await self.flush()
                await self.more()
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    await self.flush()  # the alert that says so
                raise
            else:
                await self.flush()
                return result

    async def handshake(self):
        await self.do(self.tls.do_handshake)

    async def flight(self):
        """Of the handshake: what it has to send next, not sent yet; b"" when all is done."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                if data := self.outgoing.read():
                    return data
                await self.more()
            else:
                return self.outgoing.read()

    def sealed(self, data):
        """data in records, not sent."""
        written = 0
        while written < len(data):
            written += self.tls.write(data[written:])
        return self.outgoing.read()

    def notify(self):
        """The record that says there is no more (close_notify), not sent."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self.outgoing.read()

    async def send(self, data):
        view = memoryview(data)
        while view:
            written = self.tls.write(view[:65536])
            view = view[written:]
            await self.flush()

    async def read(self, size=65536):
        """Decrypted; b"" after a close_notify. SSLEOFError: the stream was cut."""
        try:
            return await self.do(self.tls.read, size)
        except ssl.SSLZeroReturnError:  # it has sent a close_notify itself
            return b""

    async def exactly(self, size):
        data = bytearray()
        while len(data) < size and (chunk := await self.read(size - len(data))):
            data += chunk
        return bytes(data)

    async def rest(self):
        """All there is until close_notify."""
        data = bytearray()
        while chunk := await self.read():
            data += chunk
        return bytes(data)

    async def ended(self):
        """Reads the socket to its end: True when it was a FIN, False when it was a RST."""
        try:
            while await self.loop.sock_recv(self.sock, 262144):
                pass
        except ConnectionResetError:
            return False
        return True

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self):
        self.sock.close()


def socket_pair(small=False):
    """Two ends of a TCP connection. small: with small kernel buffers."""
    with listener() as server:
        if small:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    if small:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    ours.setblocking(False)
    return ours, theirs


def opening(sock, context, side, factory=Recorder, **kwargs):
    """The coroutine that makes a TLS connection of a connected socket, as a client or as a server."""
    loop = asyncio.get_running_loop()
    if side == "server":
        return loop.connect_accepted_socket(factory, sock, ssl=context, **kwargs)
    return loop.create_connection(factory, sock=sock, ssl=context, server_hostname=NAME, **kwargs)


@contextlib.asynccontextmanager
async def begun(certs, side, factory=Recorder, version=None, small=False, ours=None, theirs=None, **kwargs):
    """(task, peer): a handshake that the task, of the end under test, has begun and the peer has not."""
    mine, its = socket_pair(small)
    peer = Peer(its, theirs or certs.context(other(side), version), other(side))
    task = asyncio.ensure_future(opening(mine, ours or certs.context(side, version), side, factory, **kwargs))
    try:
        yield task, peer
    finally:
        peer.close()
        if not task.done():
            task.cancel()
        result = (await asyncio.gather(task, return_exceptions=True))[0]
        if isinstance(result, tuple):
            result[0].abort()
        await settled()


@contextlib.asynccontextmanager
async def connected(certs, side, factory=Recorder, version=None, **kwargs):
    """(transport, protocol, peer), the handshake done."""
    async with begun(certs, side, factory, version, **kwargs) as (task, peer):
        await peer.handshake()
        transport, protocol = await task
        yield transport, protocol, peer


class Service:
    """A TLS server and the protocols it made."""

    def __init__(self, base):
        self.protocols = []
        self.base = base
        self._changed = asyncio.Event()

    def factory(self):
        self.protocols.append(self.base())
        self._changed.set()
        return self.protocols[-1]

    async def made(self, count=1):
        """The protocol of that connection, when its handshake is over."""
        while len(self.protocols) < count:
            self._changed.clear()
            await self._changed.wait()
        protocol = self.protocols[count - 1]
        await protocol.until(lambda: protocol.events)
        return protocol

    @property
    def port(self):
        return self.server.sockets[0].getsockname()[1]


@contextlib.asynccontextmanager
async def serving(context, base=Recorder, path=None, **kwargs):
    """Connections that are still there at the end are aborted."""
    service = Service(base)
    loop = asyncio.get_running_loop()
    if path is None:
        service.server = await loop.create_server(service.factory, HOST, 0, ssl=context, **kwargs)
    else:
        service.server = await loop.create_unix_server(service.factory, path, ssl=context, **kwargs)
    try:
        yield service
    finally:
        service.server.close()
        for protocol in service.protocols:
            names = protocol.names()
            if "connection_made" in names and "connection_lost" not in names:
                protocol.transport.abort()
                await protocol.lost()
        await service.server.wait_closed()
        await settled()


class Echo(Recorder):
    """Sends everything back."""

    def data_received(self, data):
        super().data_received(data)
        self.transport.write(data)
