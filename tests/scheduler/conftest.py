"""Fixtures of the scheduler's tests: the loop of the implementation at hand, and single turns of it."""

import gc
from collections.abc import Callable, Generator
from typing import Any

import impl
import pytest


@pytest.fixture
def loop(reports: list[dict[str, Any]]) -> Generator[Any]:
    loop = impl.new_event_loop()
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    try:
        yield loop
    finally:
        loop.close()
    gc.collect()
    assert not reports, f"the loop's exception handler was called: {reports}"


@pytest.fixture
def turn(loop: Any) -> Callable[[], None]:
    """turn(): one turn of the loop. What is ready now runs; what that makes ready does not."""

    def turn() -> None:
        loop.stop()
        loop.run_forever()

    return turn


@pytest.fixture
def no_gc() -> Generator[None]:
    """Nothing in this test may depend on the cyclic collector."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
