"""The methods of protocols are timed, too."""

import asyncio
import time


class Slow(asyncio.Protocol):
    """Each step of it tells the program to go on."""

    def __init__(self):
        self.steps = asyncio.Queue()

    def step(self, name):
        time.sleep(0.2)
        self.steps.put_nowait(name)

    def connection_made(self, transport):
        self.step("made")

    def data_received(self, data):
        self.step("data")

    def eof_received(self):
        self.step("eof")

    def connection_lost(self, exc):
        self.step("lost")


class SlowDatagrams(asyncio.DatagramProtocol):
    def __init__(self):
        self.steps = asyncio.Queue()

    def datagram_received(self, data, addr):
        time.sleep(0.2)
        self.steps.put_nowait(data)


async def main():
    loop = asyncio.get_running_loop()
    slow = Slow()
    server = await loop.create_server(lambda: slow, "127.0.0.1", 0)
    loop.slow_callback_duration = 60  # of connection_made, asyncio's text depends on who is faster
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    print(await slow.steps.get())
    loop.slow_callback_duration = 0.15
    writer.write(b"data")
    print(await slow.steps.get())
    writer.write_eof()
    print(await slow.steps.get())
    print(await slow.steps.get())
    await asyncio.sleep(0)
    writer.close()
    server.close()

    slow = SlowDatagrams()
    receiver, _ = await loop.create_datagram_endpoint(lambda: slow, local_addr=("127.0.0.1", 0))
    sender, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=receiver.get_extra_info("sockname")
    )
    sender.sendto(b"datagram")
    print(await slow.steps.get())
    receiver.close()
    sender.close()
    await asyncio.sleep(0)


asyncio.run(main())
