"""What is logged of child processes, and what is left open."""

import asyncio
import logging
import sys
import time

logging.basicConfig(level=logging.DEBUG, format="%(levelname)s:%(name)s:%(message)s")
PIPE = asyncio.subprocess.PIPE


def say(what):
    print(f"# {what}")


# It begins to end when it is told to, and closes its output before it exits: so nothing depends on who is faster.
CHILD = "import os, sys; sys.stdin.read(1); os.write(1, b'out'); os.close(1); sys.stdin.read(1); sys.exit(3)"
SHELL = f'exec {sys.executable} -c "{CHILD}"'


class Peer(asyncio.SubprocessProtocol):
    """Tells what happened to it."""

    def __init__(self):
        self.happened = asyncio.Queue()

    def pipe_data_received(self, fd, data):
        self.happened.put_nowait("data")

    def pipe_connection_lost(self, fd, exc):
        self.happened.put_nowait(f"{fd} closed")

    def process_exited(self):
        self.happened.put_nowait("exited")

    def connection_lost(self, exc):
        self.happened.put_nowait("lost")

    async def until(self, what):
        while await self.happened.get() != what:
            pass


class Slow(Peer):
    def pipe_data_received(self, fd, data):
        time.sleep(0.2)
        super().pipe_data_received(fd, data)

    def process_exited(self):
        time.sleep(0.2)
        super().process_exited()


class Fails(Peer):
    def process_exited(self):
        raise ValueError("in process_exited()")


async def run(transport, peer):
    stdin = transport.get_pipe_transport(0)
    stdin.write(b"x")
    await peer.until("1 closed")
    stdin.write(b"x")
    await peer.until("0 closed")  # asyncio tells of the exit before, or after
    await peer.until("lost")
    transport.close()


async def main():
    loop = asyncio.get_running_loop()
    options = {"stdin": PIPE, "stdout": PIPE, "stderr": None}
    say("program")
    await run(*await loop.subprocess_exec(Peer, sys.executable, "-c", CHILD, **options))
    say("shell")
    await run(*await loop.subprocess_shell(Peer, SHELL, **options))
    say("slow")
    transport, slow = await loop.subprocess_exec(Slow, sys.executable, "-c", CHILD, **options)
    loop.slow_callback_duration = 0.15
    await run(transport, slow)
    loop.slow_callback_duration = 60
    say("fails")
    await run(*await loop.subprocess_exec(Fails, sys.executable, "-c", CHILD, **options))
    say("closed while it runs")
    transport, peer = await loop.subprocess_exec(Peer, sys.executable, "-c", CHILD, **options)
    transport.close()
    await peer.until("lost")
    say("streams")
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, stdin=PIPE, stdout=PIPE)
    process.stdin.write(b"x")
    print(await process.stdout.read())
    process.stdin.write(b"x")
    print(await process.wait())
    process._transport.close()


logging.disable(logging.DEBUG)  # of pipes being connected: in which order is chance
asyncio.run(main())
