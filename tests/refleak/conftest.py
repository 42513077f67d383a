"""leaks_nothing(operation): runs it a thousand rounds and compares what the process holds before and after."""

import inspect
from collections.abc import Callable
from typing import Any

import impl
import pytest
from refleak.leaks import ROUNDS, grown


@pytest.fixture
def leaks_nothing(loop: Any) -> Callable[..., None]:
    """leaks_nothing(operation): a coroutine function, awaited anew each round; or a plain function."""

    def check(operation: Callable[[], Any], rounds: int = ROUNDS) -> None:
        if inspect.iscoroutinefunction(operation):
            excess = grown(lambda: loop.run_until_complete(operation()), rounds)
        else:
            excess = grown(operation, rounds)
        assert not excess, f"grown over {rounds} rounds: {excess}"

    return check


@pytest.fixture
def loop() -> Any:
    loop = impl.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)
    yield loop
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
