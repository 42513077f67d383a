"""The leak that TLS servers have had: connections by the hundred thousand, half of them cut, and memory must stay as it was.

python benchmarks/tls_leak.py [--impl corolla] [--connections 200000] [--samples 20]

A server echoes over TLS. tls_connect_client opens connections, 64 at a time; every other one is cut: before or within the
handshake, by something that is not TLS, by a reset, without close_notify or in the middle of a record. After the first
thousand, and then each time that so many more have come and gone, the server's resident memory is read, once it holds no
connection any more. Exit status 1: it grew by more than --allowed KiB over the first reading, or connections stayed.

It is what CPython's issue 109534 and uvloop's issue 565 told of.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from suite import programs
from suite.implementations import EVERY_NAME
from suite.processes import Cores, MeasurementError, python_script, read_line, server, spawn
from suite.sockets import memory_kib

FIRST = 1000
# What malloc moves by itself: 200,000 connections that each left one object of 64 bytes would be 12,500 KiB.
ALLOWED_KIB = 2048
# How long a server may take to see the end of connections that are over, and the client to make a step's.
SETTLE_SECONDS = 30.0
STEP_SECONDS = 900.0


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def settled(pid: int, resting: int) -> int:
    """Resident memory in KiB, read when all connections are gone."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while (held := descriptors(pid)) > resting:
        if time.monotonic() > deadline:
            raise MeasurementError(f"{held - resting} connections are still open after {SETTLE_SECONDS:.0f} s")
        time.sleep(0.02)
    return memory_kib(pid)


def steps(total: int, samples: int) -> list[int]:
    """After how many connections memory is read."""
    first = min(FIRST, total)
    return sorted({first, *(first + (total - first) * step // samples for step in range(1, samples + 1))})


def run(name: str, total: int, samples: int, built: programs.Programs, cores: Cores) -> Iterator[tuple[int, int]]:
    """The number of connections so far, and the server's memory in KiB."""
    with server(python_script("server.py", "tls-protocol", name), cores) as running:
        pid = running.process.pid
        resting = descriptors(pid)
        command = [str(built.tls_connect_client), "--cut", "--port", str(running.port)]
        client = spawn(command, cores.client, cores, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert client.stdin is not None
        assert client.stdout is not None
        try:
            for count in steps(total, samples):
                client.stdin.write(f"{count}\n")
                client.stdin.flush()
                if read_line(client.stdout, STEP_SECONDS) != str(count):
                    raise MeasurementError("the client ended; what it said is above")
                yield count, settled(pid, resting)
        finally:
            client.kill()
            client.wait()
            client.stdin.close()
            client.stdout.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--impl", default="corolla", choices=EVERY_NAME)
    parser.add_argument("--connections", type=int, default=200_000)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--allowed", type=int, default=ALLOWED_KIB, metavar="KIB")
    parser.add_argument("--programs", type=Path, metavar="DIR", help="a build directory with the C programs")
    arguments = parser.parse_args()
    built = programs.locate(arguments.programs, None)
    if built.tls_connect_client is None:
        print(f"!!! SKIPPED: {programs.TLS_MISSING}")
        return 1
    cores = Cores.choose(None, None, 0)
    began = time.monotonic()
    memory = []
    try:
        for count, kib in run(arguments.impl, arguments.connections, arguments.samples, built, cores):
            memory.append(kib)
            growth = kib - memory[0]
            print(f"{count:9,} connections: {kib:9,} KiB, {growth:+7,}  {time.monotonic() - began:6.1f} s", flush=True)
    except MeasurementError as error:
        print(f"FAILED: {error}")
        return 1
    growth = memory[-1] - memory[0]
    holds = growth <= arguments.allowed
    print(f"{arguments.impl}: {growth:+,} KiB since the first {FIRST:,}: {'as it was' if holds else 'NOT as it was'}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
