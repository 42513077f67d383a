"""What is left when an exception leaves the loop in the middle of a batch, and the loop is closed after that."""

import sys

import impl
import pytest
from impl import Future


def interrupt():
    raise KeyboardInterrupt


class Kept:
    def __call__(self): ...


@pytest.fixture
def left():
    """left(): a timer whose callback was due and queued when the loop was left, on a loop that is closed now."""

    def left():
        loop = impl.new_event_loop()
        loop.call_soon(interrupt)
        handle = loop.call_at(0, Kept())
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        loop.close()
        return handle

    return left


def test_cancel_of_a_timer_that_was_queued(left):
    handle = left()
    before = sys.getrefcount(handle)
    handle.cancel()
    assert sys.getrefcount(handle) == before
    assert handle.cancelled()


def test_an_exception_that_could_not_be_told_is_not_reported_as_forgotten():
    loop = impl.new_event_loop()
    future = Future(loop=loop)
    future.add_done_callback(print)
    reports = []
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        future.set_exception(ValueError())
    del future
    assert reports == []
