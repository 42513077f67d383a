"""What is logged of connections, servers, pipes, look-ups."""

import asyncio
import logging
import os
import socket
import struct
import sys
import tempfile

logging.basicConfig(level=logging.DEBUG, format="%(levelname)s:%(name)s:%(message)s")


class Peer(asyncio.Protocol):
    """Tells what happened to it."""

    def __init__(self):
        self.happened = {name: asyncio.Event() for name in ("made", "data", "eof", "lost")}

    def connection_made(self, transport):
        self.transport = transport
        self.happened["made"].set()

    def data_received(self, data):
        self.happened["data"].set()

    def eof_received(self):
        self.happened["eof"].set()

    def connection_lost(self, exc):
        self.happened["lost"].set()

    async def until(self, name):
        await self.happened[name].wait()


def say(what):
    sys.stderr.flush()
    print(f"# {what}", file=sys.stderr, flush=True)


async def tcp():
    loop = asyncio.get_running_loop()
    say("serve")
    served = Peer()
    server = await loop.create_server(lambda: served, "127.0.0.1", 0)
    say("connect")
    transport, client = await loop.create_connection(Peer, *server.sockets[0].getsockname())
    await served.until("made")
    say("pause")
    transport.pause_reading()
    transport.resume_reading()
    say("end of file")
    transport.write_eof()
    await client.until("lost")
    await served.until("lost")
    say("close")
    server.close()
    say("refused")
    try:
        await loop.create_connection(asyncio.Protocol, "127.0.0.1", 1)
    except OSError as error:
        say(error.strerror)


async def accepted():
    loop = asyncio.get_running_loop()
    say("accepted socket")
    a, b = socket.socketpair()
    transport, peer = await loop.connect_accepted_socket(Peer, a)
    transport.close()
    await peer.until("lost")
    b.close()


async def unix():
    loop = asyncio.get_running_loop()
    say("unix server")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "socket")
        served = Peer()
        server = await loop.create_unix_server(lambda: served, path)
        say("unix connect")
        transport, _ = await loop.create_unix_connection(Peer, path)
        await served.until("made")
        transport.close()
        await served.until("lost")
        server.close()


async def datagrams():
    loop = asyncio.get_running_loop()
    say("datagrams")
    receiver, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
    remote = receiver.get_extra_info("sockname")
    sender, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=remote)
    both, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0), remote_addr=remote
    )
    for transport in (receiver, sender, both):
        transport.close()


async def pipes():
    loop = asyncio.get_running_loop()
    say("pipes")
    r, w = os.pipe()
    reader, read = await loop.connect_read_pipe(Peer, os.fdopen(r, "rb", 0))
    writer, written = await loop.connect_write_pipe(Peer, os.fdopen(w, "wb", 0))
    say("pause")
    reader.pause_reading()
    reader.resume_reading()
    writer.write(b"x")
    await read.until("data")
    say("close")
    writer.close()
    await read.until("lost")
    await written.until("lost")
    say("closed by peer")
    r, w = os.pipe()
    writer, written = await loop.connect_write_pipe(Peer, os.fdopen(w, "wb", 0))
    os.close(r)
    await written.until("lost")


async def look_ups():
    loop = asyncio.get_running_loop()
    say("look-ups")
    await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
    await loop.getaddrinfo("localhost", 80, family=socket.AF_INET, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE)
    try:
        await loop.getaddrinfo("no.such.host.invalid", None, flags=socket.AI_NUMERICHOST)
    except OSError:
        say("failed")
    await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST)


async def executor():
    loop = asyncio.get_running_loop()
    say("executor")
    await loop.run_in_executor(None, int)


async def streams():
    loop = asyncio.get_running_loop()
    say("streams")
    a, b = socket.socketpair()
    b.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=a, limit=100)
    writer.transport.set_write_buffer_limits(0)
    say("pause")
    left = 5_000_000
    writer.write(b"x" * left)
    drain = asyncio.create_task(writer.drain())
    while left:
        left -= len(await loop.sock_recv(b, left))
    await drain
    say("reader is full")
    b.send(b"y" * 300)
    while writer.transport.is_reading():
        await asyncio.sleep(0)
    await reader.readexactly(250)
    say("end")
    b.close()
    await reader.read()
    writer.close()
    await writer.wait_closed()


async def reset():
    loop = asyncio.get_running_loop()
    say("reset")
    served = Peer()
    server = await loop.create_server(lambda: served, "127.0.0.1", 0)
    sock = socket.create_connection(server.sockets[0].getsockname())
    await served.until("made")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    await served.until("lost")
    server.close()


async def main():
    for part in (tcp, accepted, unix, datagrams, pipes, look_ups, executor, streams, reset):
        await part()
    say("closed")


asyncio.run(main())
