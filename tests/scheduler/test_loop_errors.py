"""The loop: exceptions in callbacks, exception handlers, and what the default one writes."""

import asyncio
import contextvars
import logging
import re

import impl
import pytest
from impl import EventLoop, beyond_stdlib, shown_callback


def fail():
    raise LookupError("from the callback")


def test_exceptions_go_to_the_handler(loop, turn, reports):
    order = []
    handle = loop.call_soon(fail)
    loop.call_soon(order.append, "after")
    turn()
    assert order == ["after"]
    report = reports.pop()
    assert report["message"] == f"Exception in callback {shown_callback(fail)}"
    assert isinstance(report["exception"], LookupError)
    assert report["handle"] is handle
    assert "source_traceback" not in report


def test_the_traceback_names_the_callback(loop, turn, reports):
    loop.call_soon(fail)
    turn()
    traceback = reports.pop()["exception"].__traceback__
    names = []
    while traceback is not None:
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert names[-1] == "fail"


def test_in_debug_mode_with_source_traceback(loop, turn, reports):
    loop.set_debug(True)
    loop.call_soon(fail)
    turn()
    assert reports.pop()["source_traceback"][-1].name == "test_in_debug_mode_with_source_traceback"


def test_timers_too(loop, turn, reports):
    handle = loop.call_later(0, fail)
    turn()
    report = reports.pop()
    assert report["handle"] is handle
    assert report["message"] == f"Exception in callback {shown_callback(fail)}"


def test_threadsafe_too(loop, turn, reports):
    loop.call_soon_threadsafe(fail)
    turn()
    turn()
    assert isinstance(reports.pop()["exception"], LookupError)


@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit, BaseException])
def test_other_base_exceptions_are_reported_too(loop, turn, reports, error):
    def raises():
        raise error("reported")

    loop.call_soon(raises)
    turn()
    assert type(reports.pop()["exception"]) is error


def test_a_callback_that_is_not_callable(loop, turn, reports):
    loop.call_soon(5)
    turn()
    assert isinstance(reports.pop()["exception"], TypeError)


def test_wrong_arguments(loop, turn, reports):
    loop.call_soon(fail, 1, 2)
    turn()
    assert isinstance(reports.pop()["exception"], TypeError)


def test_a_callback_that_cancels_itself_and_raises(loop, turn, reports):
    def raises():
        handle.cancel()
        raise LookupError

    handle = loop.call_soon(raises)
    turn()
    report = reports.pop()
    assert report["message"].startswith("Exception in callback ")
    assert isinstance(report["exception"], LookupError)


# ---- handlers -------------------------------------------------------------------------------------------------------


def test_set_exception_handler(loop):
    assert loop.get_exception_handler() is not None  # the fixture's

    def handler(loop, context): ...

    assert loop.set_exception_handler(handler) is None
    assert loop.get_exception_handler() is handler
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None


@pytest.mark.parametrize("bad", [5, "x", object()])
def test_a_handler_that_is_not_callable(loop, bad):
    with pytest.raises(TypeError, match="A callable object or None is expected, got "):
        loop.set_exception_handler(bad)


def test_the_handler_gets_loop_and_context(loop):
    calls = []
    loop.set_exception_handler(lambda *args: calls.append(args))
    context = {"message": "by hand"}
    assert loop.call_exception_handler(context) is None
    assert calls == [(loop, context)]
    assert calls[0][1] is context


def test_call_exception_handler_takes_a_context(loop):
    with pytest.raises(TypeError):
        loop.call_exception_handler()


@beyond_stdlib("came with 3.12", until=(3, 12))
def test_the_handler_runs_in_the_context_of_what_failed(loop, turn):
    var = contextvars.ContextVar("var", default="outside")
    seen = []
    loop.set_exception_handler(lambda loop, context: seen.append(var.get()))
    context = contextvars.copy_context()
    context.run(var.set, "handle's")
    loop.call_soon(fail, context=context)
    turn()
    assert seen == ["handle's"]


def test_a_handler_that_raises(loop, turn, caplog):
    def handler(loop, context):
        raise KeyError("in the handler")

    loop.set_exception_handler(handler)
    order = []
    loop.call_soon(fail)
    loop.call_soon(order.append, 1)
    turn()
    assert order == [1]
    assert "Unhandled error in exception handler" in caplog.text
    assert "context: {'message':" in caplog.text
    assert "in the handler" in caplog.text


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_handler_that_interrupts(loop, error):
    def handler(loop, context):
        raise error

    loop.set_exception_handler(handler)
    order = []
    loop.call_soon(fail)
    loop.call_soon(order.append, "kept")
    with pytest.raises(error):
        loop.run_forever()
    assert order == []
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert order == ["kept"]


def test_an_overridden_default_handler_that_raises(caplog, turn_of):
    class Loop(EventLoop):
        def default_exception_handler(self, context):
            raise KeyError("in the default handler")

    loop = Loop()
    try:
        loop.call_soon(fail)
        turn_of(loop)
        assert "Exception in default exception handler" in caplog.text
        caplog.clear()

        def handler(loop, context):
            raise ZeroDivisionError

        loop.set_exception_handler(handler)
        loop.call_soon(fail)
        turn_of(loop)
        assert "Exception in default exception handler while handling an unexpected error in custom" in caplog.text
    finally:
        loop.close()


@pytest.fixture
def turn_of():
    def turn(loop):
        loop.call_soon(loop.stop)
        loop.run_forever()

    return turn


# ---- what the default handler writes --------------------------------------------------------------------------------


@pytest.fixture
def default(loop, caplog):
    """default(context): what the default handler logs."""

    def default(context):
        caplog.clear()
        loop.default_exception_handler(context)
        (record,) = caplog.records
        assert record.name == "asyncio"
        assert record.levelno == logging.ERROR
        return record

    return default


def test_default_handler(default):
    record = default({"message": "something", "zebra": 5, "apple": "x"})
    assert record.getMessage() == "something\napple: 'x'\nzebra: 5"
    assert not record.exc_info


def test_default_handler_without_a_message(default):
    assert default({}).getMessage() == "Unhandled exception in event loop"
    assert default({"message": ""}).getMessage() == "Unhandled exception in event loop"


def test_default_handler_with_an_exception(default):
    error = LookupError("x")
    record = default({"message": "something", "exception": error})
    assert record.getMessage() == "something"
    assert record.exc_info[0] is LookupError
    assert record.exc_info[1] is error


def test_default_handler_with_tracebacks(default, loop):
    loop.set_debug(True)
    stack = loop.create_future()._source_traceback
    record = default({"message": "something", "source_traceback": stack})
    lines = record.getMessage().splitlines()
    assert lines[0] == "something"
    assert lines[1] == "source_traceback: Object created at (most recent call last):"
    assert re.match(r'  File ".*", line \d+, in ', lines[2])
    record = default({"message": "something", "handle_traceback": stack})
    assert record.getMessage().splitlines()[1] == "handle_traceback: Handle created at (most recent call last):"


def test_default_handler_tells_where_the_current_handle_was_made(loop, turn, caplog):
    loop.set_debug(True)
    loop.call_soon(lambda: loop.default_exception_handler({"message": "inside a callback"}))
    turn()
    assert "Handle created at (most recent call last):" in caplog.text
    assert "test_default_handler_tells_where" in caplog.text


def test_unhandled_exceptions_are_logged(loop, turn, caplog):
    loop.set_exception_handler(None)
    loop.call_soon(fail)
    turn()
    (record,) = caplog.records
    lines = record.getMessage().splitlines()
    assert lines[0] == f"Exception in callback {shown_callback(fail)}"
    assert lines[1] == f"handle: <Handle {shown_callback(fail)}>"
    assert isinstance(record.exc_info[1], LookupError)


def test_a_context_with_odd_keys(default):
    class Bad:
        def __repr__(self):
            raise LookupError("in repr")

    with pytest.raises(LookupError):
        default({"message": "x", "bad": Bad()})


def test_a_custom_handler_may_defer_to_the_default_one(loop, turn, caplog):
    loop.set_exception_handler(lambda loop, context: loop.default_exception_handler(context))
    loop.call_soon(fail)
    turn()
    assert "Exception in callback" in caplog.text


def test_an_overridden_call_exception_handler(turn_of):
    class Loop(EventLoop):
        def call_exception_handler(self, context):
            calls.append(context["message"])

    calls = []
    loop = Loop()
    try:
        loop.call_soon(fail)
        turn_of(loop)
        future = loop.create_future()
        future.set_exception(ValueError())
        del future
        assert calls == [f"Exception in callback {shown_callback(fail)}", "Future exception was never retrieved"]
    finally:
        loop.close()


def test_a_handler_set_on_the_instance(loop, turn):
    calls = []
    loop.call_exception_handler = lambda context: calls.append(context["message"])
    loop.call_soon(fail)
    turn()
    del loop.call_exception_handler
    assert calls == [f"Exception in callback {shown_callback(fail)}"]


def test_reports_during_close():
    # A finaliser that fails while close() drops the queue must not get in its way.
    class Dying:
        def __del__(self):
            loop.call_exception_handler({"message": "from a finaliser"})

    calls = []
    loop = impl.new_event_loop()
    loop.set_exception_handler(lambda loop, context: calls.append(context["message"]))
    loop.call_soon(print, Dying())
    loop.call_later(100, print, Dying())
    loop.close()
    assert calls == ["from a finaliser"] * 2
    assert loop.is_closed()
