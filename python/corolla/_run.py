"""run() and new_event_loop()."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, TypeVar

from ._core import EventLoop

_T = TypeVar("_T")


def new_event_loop() -> EventLoop:
    """Return a new corolla event loop.

    What ``asyncio.Runner(loop_factory=...)`` and ``asyncio.run(..., loop_factory=...)`` take.
    """
    return EventLoop()


def run(main: Coroutine[Any, Any, _T], *, debug: bool | None = None, context: Context | None = None) -> _T:
    """Run a coroutine on a new corolla event loop and return its result.

    main: a coroutine; ValueError for anything else. debug: switches the loop's debug mode, unless
    None. context: the contextvars.Context that main runs in, a copy of the current one if None.
    Raises RuntimeError when called from a running event loop. The loop is closed at the end, after
    its tasks were cancelled and its asynchronous generators and default executor shut down, as
    asyncio.run() does.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("corolla.run() cannot be called from a running event loop")
    with asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
        return runner.run(main, context=context)
