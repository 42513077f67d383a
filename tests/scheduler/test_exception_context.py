"""An exception that a future holds is raised as by `raise`: what is being handled then becomes its __context__."""

import asyncio

import pytest
from impl import Future


def fail(future):
    future.set_exception(ValueError())
    return ValueError


def cancel(future):
    future.cancel()
    return asyncio.CancelledError


@pytest.fixture(params=[fail, cancel], ids=["exception", "cancelled"])
def end(request):
    return request.param


def test_result(loop, end):
    future = Future(loop=loop)
    kind = end(future)
    try:
        raise LookupError
    except LookupError as outer:
        with pytest.raises(kind) as caught:
            future.result()
        assert caught.value.__context__ is outer


def test_exception_of_a_cancelled_one(loop):
    future = Future(loop=loop)
    future.cancel()
    try:
        raise LookupError
    except LookupError as outer:
        with pytest.raises(asyncio.CancelledError) as caught:
            future.exception()
        assert caught.value.__context__ is outer


@pytest.mark.parametrize("early", [True, False], ids=["done before", "waited for"])
def test_await(loop, end, early):
    future = Future(loop=loop)
    kind = asyncio.CancelledError if end is cancel else ValueError

    async def main():
        if not early:
            loop.call_soon(end, future)
        else:
            end(future)
        try:
            raise LookupError
        except LookupError as outer:
            try:
                await future
            except kind as error:
                return error.__context__ is outer

    assert loop.run_until_complete(main()) is True


def test_no_context_from_around_the_run(loop):
    # What is handled outside the coroutine is no business of its.
    future = Future(loop=loop)

    async def main():
        loop.call_soon(fail, future)
        try:
            await future
        except ValueError as error:
            return error.__context__

    try:
        raise LookupError
    except LookupError:
        assert loop.run_until_complete(main()) is None


def test_result_of_itself(loop):
    # No circle of contexts.
    future = Future(loop=loop)
    error = ValueError()
    future.set_exception(error)
    try:
        future.result()
    except ValueError:
        with pytest.raises(ValueError) as caught:
            future.result()
    assert caught.value is error
    assert error.__context__ is None
