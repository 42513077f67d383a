"""What the tests of locks, events, conditions, semaphores and barriers share."""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import pytest

Run = Callable[[Coroutine[Any, Any, Any]], Any]


async def turns(count: int = 1) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def started(*coros: Coroutine[Any, Any, Any]) -> list[asyncio.Task[Any]]:
    """Tasks of them, each at its first wait."""
    tasks = [asyncio.ensure_future(coro) for coro in coros]
    await turns(2)
    return tasks


async def ended(tasks: Iterable[asyncio.Task[Any]]) -> list[Any]:
    """What came of tasks that end without our doing, and soon: their results or exceptions."""
    return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)


def at_once(coro: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that must not wait: no loop runs, so that it cannot make a future either."""
    try:
        coro.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError(f"{coro} waits")


def since(library: Any, version: tuple[int, int]) -> None:
    """Skips the asyncio of Pythons before that version, which is behind what the test is about."""
    if library is asyncio and sys.version_info < version:
        pytest.skip(f"asyncio does so from {version[0]}.{version[1]} on")


def ours_only(library: Any, reason: str) -> None:
    if library is asyncio:
        pytest.skip(f"beyond asyncio: {reason}")


class Oops(Exception):
    pass


class Marked:
    """Stands in a wait list and acts when it is asked whether it is done."""

    def __init__(self, act: Callable[[], Any], done: bool = True) -> None:
        self.act = act
        self.answer = done
        self.asked = 0

    def done(self) -> bool:
        self.asked += 1
        self.act()
        return self.answer

    cancelled = done

    def set_result(self, result: Any) -> None:
        self.answer = True
        self.act()
