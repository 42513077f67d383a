"""What the tests of functions that wait share: asyncio's and ours, on asyncio's loop and on ours.

A test that asks for `lib` runs with both, and so must hold for the standard library: `since(lib, version)` skips it for
an asyncio that does not behave so yet.
"""

import asyncio
import gc
import sys
from collections.abc import Callable, Generator
from typing import Any

import corolla
import pytest

Run = Callable[[Any], Any]

LIBRARIES = [pytest.param(asyncio, id="asyncio"), pytest.param(corolla, id="corolla")]


class SubclassedLoop(corolla.EventLoop):
    """Its methods are the ones to call: the way of any loop that is not ours."""

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        return super().call_soon(callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        return super().call_at(when, callback, *args, context=context)

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def create_future(self) -> Any:
        return OwnFuture(loop=self)

    def create_task(self, coro: Any, **options: Any) -> Any:
        return OwnTask(coro, loop=self, **options)


class OwnFuture(corolla.Future):  # type: ignore[type-arg]
    """Not exactly a Future."""


class OwnTask(corolla.Task):  # type: ignore[type-arg]
    """Not exactly a Task."""


LOOPS = [
    pytest.param(asyncio.SelectorEventLoop, id="on-asyncio"),
    pytest.param(corolla.EventLoop, id="on-corolla"),
    pytest.param(SubclassedLoop, id="on-subclass"),
]


def since(lib: Any, *version: int) -> None:
    if lib is asyncio and sys.version_info < version:
        pytest.skip(f"asyncio does so from {'.'.join(map(str, version))} on")


@pytest.fixture(params=LIBRARIES)
def lib(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest, reports: list[dict[str, Any]]) -> Generator[Any]:
    loop = request.param()
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    yield loop
    loop.close()
    gc.collect()
    assert not reports, f"the loop's exception handler was called: {reports}"


@pytest.fixture
def run(loop: Any) -> Run:
    return loop.run_until_complete  # type: ignore[no-any-return]


class Oops(Exception):
    pass


class Awaitable:
    """Not a coroutine nor a future."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Generator[Any, Any, Any]:
        yield from asyncio.sleep(0).__await__()
        return self.value


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def give(value: Any, after: int = 0) -> Any:
    await turns(after)
    return value


async def fail(exc: BaseException, after: int = 0) -> None:
    await turns(after)
    raise exc


async def forever() -> None:
    await asyncio.get_running_loop().create_future()
