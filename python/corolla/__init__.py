"""corolla: asyncio, whole, in C.

    import corolla
    corolla.run(main())

or, with the standard library's own runner (CPython 3.12 and later), ``asyncio.run(main(),
loop_factory=corolla.new_event_loop)``. What is here follows asyncio's documentation:
https://docs.python.org/3/library/asyncio.html.
"""

from __future__ import annotations

from ._core import (
    EventLoop,
    Future,
    Handle,
    ReadPipeTransport,
    Server,
    Task,
    TcpTransport,
    TimerHandle,
    WritePipeTransport,
    gather,
    sleep,
)
from ._policy import EventLoopPolicy
from ._registry import join_registry
from ._run import new_event_loop, run

__all__ = [
    "EventLoop",
    "EventLoopPolicy",
    "Future",
    "Handle",
    "ReadPipeTransport",
    "Server",
    "Task",
    "TcpTransport",
    "TimerHandle",
    "WritePipeTransport",
    "gather",
    "new_event_loop",
    "run",
    "sleep",
]
__version__ = "0.1.0"

join_registry()
