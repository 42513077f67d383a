"""Fixtures for running asyncio's own Python code on the loop of the implementation at hand."""

import asyncio
import gc
import sys
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
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
    gc.collect()
    assert not reports, f"the loop's exception handler was called: {reports}"


@pytest.fixture
def run(loop: Any) -> Callable[[Any], Any]:
    run: Callable[[Any], Any] = loop.run_until_complete
    return run


@pytest.fixture
def asyncio_run() -> Callable[..., Any]:
    """asyncio.run(), on our loop: by loop_factory where run() has it (3.12), else by Runner's."""

    def asyncio_run(main: Any, **options: Any) -> Any:
        if sys.version_info >= (3, 12):
            return asyncio.run(main, loop_factory=impl.new_event_loop, **options)
        with asyncio.Runner(loop_factory=impl.new_event_loop, **options) as runner:
            return runner.run(main)

    return asyncio_run
