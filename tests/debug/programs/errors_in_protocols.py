"""Exceptions that leave a protocol are reported with the connection."""

import asyncio


class Fails(asyncio.Protocol):
    """Fails in one of its methods."""

    def __init__(self, where):
        self.where = where
        self.events = asyncio.Queue()

    def fail(self, where):
        self.events.put_nowait(where)
        if where == self.where:
            raise ValueError(where)

    def connection_made(self, transport):
        self.fail("made")

    def data_received(self, data):
        self.fail("data")

    def eof_received(self):
        self.fail("eof")

    def connection_lost(self, exc):
        self.events.put_nowait(repr(exc))
        self.fail("lost")


class FailsBuffered(asyncio.BufferedProtocol):
    def __init__(self):
        self.events = asyncio.Queue()

    def get_buffer(self, hint):
        raise ValueError("get_buffer")

    def connection_lost(self, exc):
        self.events.put_nowait(repr(exc))
        self.events.put_nowait("lost")


class FailsDatagram(asyncio.DatagramProtocol):
    def __init__(self):
        self.events = asyncio.Queue()

    def datagram_received(self, data, addr):
        self.events.put_nowait(data)
        raise ValueError("datagram")

    def connection_lost(self, exc):
        self.events.put_nowait(repr(exc))
        self.events.put_nowait("lost")


async def connect(protocol):
    server = await asyncio.get_running_loop().create_server(lambda: protocol, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"data")
    writer.close()
    event = None
    while event != "lost":
        event = await protocol.events.get()
        print(event)
    await asyncio.sleep(0)
    server.close()


async def main():
    loop = asyncio.get_running_loop()
    for where in ("made", "data", "eof", "lost"):
        print("#", where)
        await connect(Fails(where))
    print("# buffered")
    await connect(FailsBuffered())
    print("# datagram")
    protocol = FailsDatagram()
    receiver, _ = await loop.create_datagram_endpoint(lambda: protocol, local_addr=("127.0.0.1", 0))
    sender, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=receiver.get_extra_info("sockname")
    )
    sender.sendto(b"x")
    print(await protocol.events.get())
    receiver.close()
    sender.close()
    print(await protocol.events.get())


asyncio.run(main())
