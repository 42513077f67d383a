"""What is not built yet says so: a coroutine that raises NotImplementedError with the method's name."""

import asyncio

import impl
import pytest

LATER = [
    "start_tls",
]

pytestmark = pytest.mark.skipif(not impl.IS_COROLLA, reason="asyncio has them")


@pytest.mark.parametrize("name", LATER)
def test_not_implemented(loop, run, name):
    coro = getattr(loop, name)(1, 2, three=3)
    assert asyncio.iscoroutine(coro)
    with pytest.raises(NotImplementedError, match=f"^{name}$"):
        run(coro)


def test_nothing_else_is_missing():
    """Every method of AbstractEventLoop that is not in the list is the loop's own."""
    names = [name for name in vars(asyncio.AbstractEventLoop) if not name.startswith("_")]
    missing = [name for name in names if getattr(impl.EventLoop, name) is getattr(asyncio.AbstractEventLoop, name)]
    assert missing == []
