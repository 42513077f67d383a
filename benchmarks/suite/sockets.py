"""Small things that servers and checks need from the operating system."""

from __future__ import annotations

import os
import resource
import socket
from pathlib import Path

# As raw_echo.c has it: deep enough that no case measures the SYN retry of a full accept queue.
BACKLOG = 4096


def listening_socket() -> socket.socket:
    # With the protocol named: asyncio sets TCP_NODELAY only on sockets that say they are TCP.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def local_listening_socket() -> tuple[socket.socket, int]:
    """On a Unix socket whose abstract name is that of a number, for the C programs: of this process's."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(f"\0corolla-benchmark-{os.getpid()}")
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener, os.getpid()


def raise_descriptor_limit() -> int:
    """To the hard limit, which is returned."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def memory_kib(pid: int | str = "self") -> int:
    """Resident memory of a process, in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError(f"no VmRSS in the status of process {pid}")
