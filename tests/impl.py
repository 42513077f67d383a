"""Which loop, future and task the tests are about: corolla's, or with COROLLA_TEST_IMPL=asyncio the standard library's.

A test of documented behaviour must pass on both: that is how we know the test itself to be right. Where corolla is meant to
differ, the test says so: `beyond_stdlib` (we do more, or are right where asyncio is wrong).
"""

import asyncio
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

import corolla
import pytest

NAME = os.environ.get("COROLLA_TEST_IMPL", "corolla")
IS_COROLLA = NAME == "corolla"

# The whole namespace, for what has one name in both.
api: Any = corolla if IS_COROLLA else asyncio

Future: Any
Task: Any
Handle: Any
TimerHandle: Any
EventLoop: Any
EventLoopPolicy: Any
sleep: Any
Queue: Any
PriorityQueue: Any
LifoQueue: Any
TaskGroup: Any

if IS_COROLLA:
    Future = corolla.Future
    Task = corolla.Task
    Handle = corolla.Handle
    TimerHandle = corolla.TimerHandle
    EventLoop = corolla.EventLoop
    EventLoopPolicy = corolla.EventLoopPolicy
    sleep = corolla.sleep
    Queue = corolla.Queue
    PriorityQueue = corolla.PriorityQueue
    LifoQueue = corolla.LifoQueue
    TaskGroup = corolla.TaskGroup
elif NAME == "asyncio":
    Future = asyncio.Future
    Task = asyncio.Task
    Handle = asyncio.Handle
    TimerHandle = asyncio.TimerHandle
    EventLoop = asyncio.SelectorEventLoop
    EventLoopPolicy = asyncio.DefaultEventLoopPolicy
    sleep = asyncio.sleep
    Queue = asyncio.Queue
    PriorityQueue = asyncio.PriorityQueue
    LifoQueue = asyncio.LifoQueue
    TaskGroup = asyncio.TaskGroup
else:
    raise ValueError(f"COROLLA_TEST_IMPL is {NAME!r}: corolla or asyncio")


def new_event_loop() -> Any:
    return EventLoop()


def beyond_stdlib(reason: str, until: tuple[int, int] | None = None) -> Callable[[Any], Any]:
    """Not for asyncio; with `until`, only for the asyncio of Pythons before that version."""
    applies = not IS_COROLLA and (until is None or sys.version_info < until)
    return pytest.mark.skipif(applies, reason=f"beyond asyncio: {reason}")


def shown_callback(func: Any, args: tuple[Any, ...] = (), *, debug: bool = False) -> str:
    """A callback as the asyncio of this Python writes it: early ones show the arguments outside debug mode, too."""
    form: Any = asyncio.format_helpers._format_callback_source
    options = {"debug": debug} if "debug" in inspect.signature(form).parameters else {}
    return str(form(func, args, **options))
