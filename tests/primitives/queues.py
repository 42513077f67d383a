"""What the tests of queues share: each queue of asyncio and of ours, on each loop."""

import asyncio
import sys
from typing import Any

import corolla
import pytest

KINDS = ["Queue", "PriorityQueue", "LifoQueue"]
HAS_SHUTDOWN = sys.version_info >= (3, 13)
LOOPS = [pytest.param(asyncio.SelectorEventLoop, id="on-asyncio"), pytest.param(corolla.EventLoop, id="on-corolla")]
MAKERS = [pytest.param(asyncio, id="asyncio"), pytest.param(corolla, id="corolla")]


async def turns(count: int = 1) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def needs_shutdown(library: Any) -> None:
    if library is asyncio and not HAS_SHUTDOWN:
        pytest.skip("asyncio has it from 3.13 on")


def drained(queue: Any) -> list[Any]:
    return [queue.get_nowait() for _ in range(queue.qsize())]
