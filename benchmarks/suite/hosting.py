"""What a server is started with."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from suite.implementations import Implementation


@dataclass(frozen=True)
class Host:
    implementation: Implementation
    loop: asyncio.AbstractEventLoop
    listener: socket.socket


# Returns what has to stay referenced while the server runs.
Start = Callable[[Host], Awaitable[object]]
