"""Stream cases: what a reader does with bytes. loop_cases.py says what a case is."""

from __future__ import annotations

import socket
import subprocess
import sys

from suite.implementations import Implementation
from suite.loop_cases import Cases, Stopwatch

case = Cases("streams")

LINES = 10_000  # in a repetition
LINE = b"a short line\n"
# Writes cost it next to nothing, so that it may share the core of the loop.
SENDER = """
import os, sys
block = sys.argv[1].encode() * 5000
while True:
    rest = block
    while rest:
        rest = rest[os.write(1, rest):]
"""


@case("a short line from one peer", unit=LINES)
async def lines_from_peer(implementation: Implementation, repetitions: int, watch: Stopwatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    with theirs:
        sender = subprocess.Popen(
            [sys.executable, "-S", "-c", SENDER, LINE.decode()], stdout=theirs.fileno(), stderr=subprocess.DEVNULL
        )
    try:
        reader, writer = await implementation.open_connection(sock=ours)
        assert await reader.readline() == LINE  # the sender has begun
        with watch:
            for _ in range(repetitions * LINES):
                await reader.readline()
        assert await reader.readline() == LINE
        writer.close()
    finally:
        sender.kill()
        sender.wait()
