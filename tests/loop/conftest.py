"""Fixtures of the loop's tests: the loop of the implementation at hand, and sockets."""

import gc
import socket
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

import impl
import pytest

T = TypeVar("T")


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
def run(loop: Any) -> Callable[[Coroutine[Any, Any, T]], T]:
    return loop.run_until_complete


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


@pytest.fixture
def pair() -> Generator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets, non-blocking."""
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        other.setblocking(False)
        yield one, other


@pytest.fixture
def listening() -> Generator[socket.socket]:
    """A non-blocking socket that listens on a port of 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield sock
