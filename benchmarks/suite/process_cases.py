"""Cases of child processes with streams. loop_cases.py says what a case is; a child's own time is no part of the CPU figures."""

from __future__ import annotations

import asyncio

from suite.implementations import Implementation
from suite.loop_cases import Cases, Stopwatch

case = Cases("processes")

MIB = 1024 * 1024
PIECE = b"x" * 64 * 1024  # of what is written at once, and what a pipe holds
MOST_READ = 256 * 1024


@case("start /bin/true and wait for it")
async def spawn_and_wait(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    with watch:
        for _ in range(repetitions):
            process = await implementation.create_subprocess_exec("/bin/true")
            await process.wait()


@case("a MiB through cat's stdin and stdout", unit=64)
async def through_cat(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    total = 64 * MIB * repetitions
    process = await implementation.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE, stdout=-1)

    async def feed() -> None:
        for _ in range(total // len(PIECE)):
            process.stdin.write(PIECE)
            await process.stdin.drain()
        process.stdin.close()

    received = 0
    with watch:
        feeding = asyncio.get_running_loop().create_task(feed())
        while data := await process.stdout.read(MOST_READ):
            received += len(data)
        await feeding
    assert received == total
    assert await process.wait() == 0
