"""The loop in debug mode: wrong threads, bad callbacks, slow callbacks, origins of coroutines."""

import asyncio
import gc
import logging
import sys
import threading

import impl
import pytest
from impl import beyond_stdlib


async def returns(value=None):
    return value


@pytest.fixture
def debug_loop(loop):
    loop.set_debug(True)
    return loop


def test_set_debug(loop):
    assert loop.get_debug() is False
    assert loop.set_debug(True) is None
    assert loop.get_debug() is True
    assert "debug=True" in repr(loop)
    loop.set_debug(False)
    assert loop.get_debug() is False


def in_thread(fn):
    """What fn() raised in a thread of its own."""
    errors = []

    def run():
        try:
            fn()
        except BaseException as error:
            errors.append(error)
        else:
            errors.append(None)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return errors[0]


ACTS = {
    "call_soon": lambda loop: loop.call_soon(print),
    "call_later": lambda loop: loop.call_later(1000, print),
    "call_at": lambda loop: loop.call_at(1e9, print),
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_from_the_wrong_thread(debug_loop, act):
    errors = []
    debug_loop.call_soon(lambda: errors.append(in_thread(lambda: act(debug_loop))))
    debug_loop.call_soon(debug_loop.stop)
    debug_loop.run_forever()
    assert type(errors[0]) is RuntimeError
    assert str(errors[0]) == "Non-thread-safe operation invoked on an event loop other than the current one"


def test_from_the_wrong_thread_through_a_future(debug_loop):
    future = debug_loop.create_future()
    future.add_done_callback(lambda f: None)
    errors = []
    debug_loop.call_soon(lambda: errors.append(in_thread(lambda: future.set_result(1))))
    debug_loop.call_soon(debug_loop.stop)
    debug_loop.run_forever()
    assert type(errors[0]) is RuntimeError


def test_from_the_wrong_thread_through_a_new_task(debug_loop, reports):
    coro = returns()
    errors = []
    debug_loop.call_soon(lambda: errors.append(in_thread(lambda: debug_loop.create_task(coro))))
    debug_loop.call_soon(debug_loop.stop)
    debug_loop.run_forever()
    assert type(errors[0]) is RuntimeError
    errors.clear()
    coro.close()
    gc.collect()
    reports.clear()  # of a task destroyed while pending: asyncio makes one


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_while_it_does_not_run_any_thread_may(debug_loop, act):
    handles = []
    assert in_thread(lambda: handles.append(act(debug_loop))) is None
    handles[0].cancel()


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_without_debug_no_thread_is_checked(loop, act):
    errors = []
    handles = []
    loop.call_soon(lambda: errors.append(in_thread(lambda: handles.append(act(loop)))))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert errors == [None]
    handles[0].cancel()


def test_threadsafe_is_what_it_says(debug_loop):
    errors, ran = [], []
    debug_loop.call_soon(lambda: errors.append(in_thread(lambda: debug_loop.call_soon_threadsafe(ran.append, 1))))
    debug_loop.call_soon(lambda: debug_loop.call_soon_threadsafe(debug_loop.stop))
    debug_loop.run_forever()
    assert errors == [None]
    assert ran == [1]


@pytest.mark.parametrize("name", ["call_soon", "call_soon_threadsafe", "call_at", "call_later"])
def test_callbacks_that_are_none(debug_loop, name):
    call = getattr(debug_loop, name)
    before = (1,) if name in ("call_at", "call_later") else ()
    said = "(call_at|call_later)" if name == "call_later" else name  # asyncio's call_later() says call_at
    coro = returns()
    for bad in (coro, returns):
        with pytest.raises(TypeError, match=rf"coroutines cannot be used with {said}\(\)"):
            call(*before, bad)
    coro.close()
    for bad in (5, None, "x", object()):
        with pytest.raises(TypeError, match=rf"a callable object was expected by {said}\(\), got "):
            call(*before, bad)


def test_run_in_executor_checks_too(debug_loop):
    with pytest.raises(TypeError, match=r"coroutines cannot be used with run_in_executor\(\)"):
        debug_loop.run_in_executor(None, returns)


# ---- slow callbacks -------------------------------------------------------------------------------------------------


def test_slow_callback_duration(loop):
    assert loop.slow_callback_duration == 0.1
    loop.slow_callback_duration = 0.25
    assert loop.slow_callback_duration == 0.25
    loop.slow_callback_duration = 1
    assert loop.slow_callback_duration == 1


def slow(*args): ...


def test_slow_callbacks_are_logged(debug_loop, turn, caplog):
    debug_loop.slow_callback_duration = 0
    debug_loop.call_soon(slow, 1)
    turn()
    record = next(record for record in caplog.records if "slow" in record.getMessage())
    assert record.levelno == logging.WARNING
    assert record.name == "asyncio"
    text = record.getMessage()
    assert text.startswith("Executing <Handle slow(1) at ")
    assert f" created at {__file__}:" in text
    assert text.endswith(" seconds")
    assert " took 0." in text


def test_slow_timers_are_logged(debug_loop, turn, caplog):
    debug_loop.slow_callback_duration = 0
    debug_loop.call_later(0, slow, 1)
    turn()
    assert any(record.getMessage().startswith("Executing <TimerHandle when=") for record in caplog.records)


def test_slow_tasks_are_logged_as_tasks(debug_loop, caplog):
    debug_loop.slow_callback_duration = 0

    async def main():
        await asyncio.sleep(0)

    debug_loop.run_until_complete(debug_loop.create_task(main(), name="mine"))
    texts = [record.getMessage() for record in caplog.records]
    assert any(text.startswith("Executing <Task ") and "name='mine'" in text for text in texts), texts


def test_quick_callbacks_are_not_logged(debug_loop, turn, caplog):
    debug_loop.slow_callback_duration = 3600
    debug_loop.call_soon(slow)
    turn()
    assert not [record for record in caplog.records if "Executing" in record.getMessage()]


def test_without_debug_nothing_is_timed(loop, turn, caplog):
    loop.slow_callback_duration = 0
    loop.call_soon(slow)
    turn()
    assert not [record for record in caplog.records if "Executing" in record.getMessage()]


def test_a_slow_callback_that_cancelled_itself_is_still_named(debug_loop, turn, caplog):
    debug_loop.slow_callback_duration = 0

    def cancels():
        handle.cancel()

    handle = debug_loop.call_soon(cancels)
    turn()
    assert any("cancels()" in record.getMessage() for record in caplog.records)


@beyond_stdlib("asyncio's repr of such arguments never ends: python/cpython 93837, 90381, 122296")
def test_a_slow_callback_whose_arguments_lead_back_to_it(debug_loop, turn, caplog):
    debug_loop.slow_callback_duration = 0
    circle = {}
    circle["handle"] = debug_loop.call_soon(slow, circle, [circle])
    future = debug_loop.create_future()
    future.set_result([future, circle])
    debug_loop.call_soon(slow, future)
    turn()
    circle.clear()
    assert all(len(record.getMessage()) < 20_000 for record in caplog.records)


# ---- origins of coroutines -------------------------------------------------------------------------------------------


def test_origins_are_tracked_while_it_runs(debug_loop):
    depths = []
    assert sys.get_coroutine_origin_tracking_depth() == 0
    debug_loop.call_soon(lambda: depths.append(sys.get_coroutine_origin_tracking_depth()))
    debug_loop.call_soon(debug_loop.stop)
    debug_loop.run_forever()
    assert depths[0] > 0
    assert sys.get_coroutine_origin_tracking_depth() == 0


def test_origins_are_not_tracked_without_debug(loop):
    depths = []
    loop.call_soon(lambda: depths.append(sys.get_coroutine_origin_tracking_depth()))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert depths == [0]


def test_origins_follow_set_debug_in_the_middle(loop):
    depths = []

    async def main():
        for enabled in (True, False):
            loop.set_debug(enabled)
            for _ in range(3):
                await asyncio.sleep(0)
            depths.append(sys.get_coroutine_origin_tracking_depth() > 0)

    loop.run_until_complete(main())
    assert depths == [True, False]
    assert sys.get_coroutine_origin_tracking_depth() == 0


def test_origins_of_before_are_restored_after_an_interrupt(debug_loop):
    def interrupt():
        raise KeyboardInterrupt

    sys.set_coroutine_origin_tracking_depth(7)
    try:
        debug_loop.call_soon(interrupt)
        with pytest.raises(KeyboardInterrupt):
            debug_loop.run_forever()
        assert sys.get_coroutine_origin_tracking_depth() == 7
    finally:
        sys.set_coroutine_origin_tracking_depth(0)


def test_never_awaited_names_its_origin(debug_loop):
    async def main():
        returns()

    with pytest.warns(RuntimeWarning, match="was never awaited") as caught:
        debug_loop.run_until_complete(main())
    assert "Coroutine created at (most recent call last)" in str(caught[0].message)


def test_close_is_logged(caplog):
    caplog.set_level(logging.DEBUG, "asyncio")
    loop = impl.new_event_loop()
    loop.set_debug(True)
    loop.close()
    assert any(record.getMessage().startswith("Close <") for record in caplog.records)


def test_everything_still_works_in_debug_mode(debug_loop):
    async def child(i):
        await asyncio.sleep(0)
        future = debug_loop.create_future()
        debug_loop.call_soon(future.set_result, i)
        debug_loop.call_later(0, slow)
        return await asyncio.wait_for(future, 10)

    async def main():
        return await asyncio.gather(*(child(i) for i in range(10)))

    assert debug_loop.run_until_complete(main()) == list(range(10))
