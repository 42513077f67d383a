"""A line-based chat on corolla.Stream: what one says, the others read.

    python chat.py --port 7000
    nc 127.0.0.1 7000

The first line is one's name. /who lists who is there, /quit leaves. Each member has a queue of lines and a task that writes them,
so one who does not read holds nobody up: once the queue is full, that member is thrown out.
"""

from __future__ import annotations

import argparse
import asyncio
import signal

import corolla

QUEUED = 1000  # lines
LONGEST = 1000  # bytes of a line


class Member:
    def __init__(self, name: bytes, stream: corolla.Stream) -> None:
        self.name = name
        self.stream = stream
        self.lines: corolla.Queue[bytes] = corolla.Queue(QUEUED)

    def tell(self, line: bytes) -> None:
        try:
            self.lines.put_nowait(line + b"\n")
        except asyncio.QueueFull:
            self.stream.abort()

    async def write(self) -> None:
        try:
            while True:
                await self.stream.write(await self.lines.get())
                self.lines.task_done()
        except ConnectionError:
            self.stream.abort()  # whoever reads from it notices


class Chat:
    def __init__(self) -> None:
        self.members: dict[bytes, Member] = {}

    def tell_others(self, speaker: Member | None, line: bytes) -> None:
        for member in self.members.values():
            if member is not speaker:
                member.tell(line)

    async def enter(self, stream: corolla.Stream) -> Member | None:
        """Asks for a name until it is one."""
        await stream.write(b"name?\n")
        async for line in stream:
            name = line.strip()
            if name.isalnum() and name not in self.members:
                return Member(name, stream)
            await stream.write(b"another one, please\n")
        return None

    async def listen(self, member: Member) -> None:
        async for line in member.stream:
            text = line.rstrip(b"\r\n")
            if text == b"/quit":
                return
            if text == b"/who":
                member.tell(b"* " + b" ".join(sorted(self.members)))
            elif text:
                self.tell_others(member, member.name + b": " + text)

    async def serve(self, stream: corolla.Stream) -> None:
        """One connection."""
        try:
            member = await self.enter(stream)
            if member is not None:
                await self.stay(member)
        except ValueError:
            await stream.write(b"* that line is too long\n")
        except ConnectionError:
            pass

    async def stay(self, member: Member) -> None:
        self.members[member.name] = member
        self.tell_others(None, b"* " + member.name + b" is here")
        writing = asyncio.ensure_future(member.write())
        try:
            await self.listen(member)
        finally:
            writing.cancel()
            await asyncio.wait([writing])
            del self.members[member.name]
            self.tell_others(None, b"* " + member.name + b" has left")


async def main(host: str, port: int) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with corolla.StreamServer(Chat().serve, host, port, limit=LONGEST, shutdown_timeout=0.1) as server:
        print(f"listening on port {server.sockets[0].getsockname()[1]}", flush=True)
        await stopped.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A line-based chat.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7000, help="0: any that is free")
    options = parser.parse_args()
    corolla.run(main(options.host, options.port))
