"""What every test gets, and what every test is held to.

Fixtures to ask for:
    loop      a fresh corolla event loop, closed afterwards
    run       run(coroutine) on that loop, its result returned
    reports   the contexts given to that loop's exception handler; what is left there at the end fails the test, so a
              test that expects a report takes it out: `assert "never retrieved" in reports.pop()["message"]`

Held to, without asking:
    - a test that hangs is ended after 60 seconds (@pytest.mark.timeout(seconds) for another limit) with every thread's
      stack on stderr; it ends the run, for a hung loop has no safe way out;
    - a test that leaves a file descriptor open fails;
    - unraisable exceptions and ResourceWarning fail the test they happen in (filterwarnings in pyproject.toml; the
      collection at the end of each test brings them out).
"""

import faulthandler
import gc
import os
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

import corolla
import pytest

T = TypeVar("T")

# Sanitizers make everything several times as slow: there the limit is scaled.
TIMEOUT = 60.0
TIMEOUT_FACTOR = float(os.environ.get("COROLLA_TEST_TIMEOUT_FACTOR", "1"))

stderr_fd = -1


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "timeout(seconds): the hard limit for this test, in place of 60 seconds")
    # A copy, made before pytest puts its capture in fd 2's place: there a dump would die with the process.
    global stderr_fd
    stderr_fd = os.dup(2)


# Every test ends in a few full collections. What outlives tests (modules they import, pytest's reports) need not be looked at
# each time: after so many of them it is put aside. In the thousands they would take ten times as long otherwise.
TESTS_BETWEEN_FREEZES = 40
tests_begun = 0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    global tests_begun
    if tests_begun % TESTS_BETWEEN_FREEZES == 0:
        gc.collect()
        gc.freeze()
    tests_begun += 1
    marker = item.get_closest_marker("timeout")
    seconds = float(marker.args[0]) if marker else TIMEOUT
    faulthandler.dump_traceback_later(seconds * TIMEOUT_FACTOR, exit=True, file=stderr_fd)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


def open_descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            pass  # listdir's own
    return found


@pytest.fixture(autouse=True)
def no_descriptor_left_open() -> Generator[None]:
    before = open_descriptors()
    yield
    gc.collect()
    left = {fd: target for fd, target in open_descriptors().items() if fd not in before}
    assert not left, f"file descriptors left open: {left}"


@pytest.fixture
def reports() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def loop(reports: list[dict[str, Any]]) -> Generator[corolla.EventLoop]:
    loop = corolla.new_event_loop()
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    try:
        yield loop
    finally:
        loop.close()
    gc.collect()  # futures and tasks report from their finalisers
    assert not reports, f"the loop's exception handler was called: {reports}"


@pytest.fixture
def run(loop: corolla.EventLoop) -> Callable[[Coroutine[Any, Any, T]], T]:
    return loop.run_until_complete
