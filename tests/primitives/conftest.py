"""A module with EVERYWHERE = True has its tests run with the standard library's classes and with ours (`library`), and on
asyncio's loop and on ours (`loop`, `run`)."""

import asyncio
import gc
from collections.abc import Generator
from typing import Any

import corolla
import pytest

LIBRARIES = [pytest.param(asyncio, id="asyncio"), pytest.param(corolla, id="corolla")]
LOOPS = [pytest.param(asyncio.SelectorEventLoop, id="on-asyncio"), pytest.param(corolla.EventLoop, id="on-corolla")]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if getattr(metafunc.module, "EVERYWHERE", False):
        for name, values in (("library", LIBRARIES), ("loop", LOOPS)):
            if name in metafunc.fixturenames:
                metafunc.parametrize(name, values, indirect=True)


@pytest.fixture
def library(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def loop(request: pytest.FixtureRequest, reports: list[dict[str, Any]]) -> Generator[Any]:
    loop = getattr(request, "param", corolla.EventLoop)()
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    try:
        yield loop
    finally:
        loop.close()
    gc.collect()  # futures and tasks report from their finalisers
    assert not reports, f"the loop's exception handler was called: {reports}"
