"""The loop: turns, order, stop, run_forever and run_until_complete, close."""

import asyncio
import contextvars
import gc
import sys
import threading
import warnings
import weakref

import impl
import pytest
from impl import EventLoop, Future, beyond_stdlib


async def returns(value=None):
    return value


nested = beyond_stdlib("a refused nested run of 3.13.0 takes the running loop away")


# ---- order ----------------------------------------------------------------------------------------------------------


def test_first_in_first_out(loop, turn):
    order = []
    for i in range(5000):
        loop.call_soon(order.append, i)
    turn()
    assert order == list(range(5000))


def test_nothing_runs_inside_call_soon(loop, turn):
    calls = []
    loop.call_soon(calls.append, 1)
    loop.call_soon_threadsafe(calls.append, 2)
    assert calls == []
    turn()
    assert calls == [1, 2]


def test_one_batch_a_turn(loop, turn):
    order = []

    def again(n):
        order.append(n)
        loop.call_soon(again, n + 1)

    loop.call_soon(again, 0)
    for expected in range(1, 50):
        turn()
        assert order == list(range(expected))


def test_a_batch_grows_the_queue_while_it_runs(loop, turn):
    # The ring moves to a larger one in the middle of a batch, wrapped around.
    order = []
    expected = []

    def more(i):
        order.append(i)
        for k in range(20):
            loop.call_soon(order.append, (i, k))

    for i in range(100):
        loop.call_soon(more, i)
        expected.append(i)
    turn()
    assert order == expected
    expected += [(i, k) for i in range(100) for k in range(20)]
    turn()
    assert order == expected


def test_jobs_of_every_kind_in_one_order(loop, turn):
    order = []
    future = loop.create_future()
    future.add_done_callback(lambda f: order.append("future"))

    async def task():
        order.append("task")

    loop.call_soon(order.append, "soon")
    loop.create_task(task())
    future.set_result(1)
    loop.call_soon_threadsafe(order.append, "threadsafe")
    loop.call_soon(order.append, "last")
    turn()
    turn()
    assert [name for name in order if name != "threadsafe"] == ["soon", "task", "future", "last"]
    assert "threadsafe" in order


def test_threadsafe_from_the_loops_own_thread_keeps_its_order_among_its_kind(loop, turn):
    order = []
    for i in range(100):
        loop.call_soon_threadsafe(order.append, i)
    turn()
    turn()
    assert order == list(range(100))


# ---- stop -----------------------------------------------------------------------------------------------------------


def test_stop_finishes_the_batch(loop):
    order = []
    loop.call_soon(order.append, 1)
    loop.call_soon(loop.stop)
    loop.call_soon(lambda: (order.append(2), loop.call_soon(order.append, "next turn")))
    loop.run_forever()
    assert order == [1, 2]
    assert not loop.is_running()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert order == [1, 2, "next turn"]


def test_stop_before_run_gives_one_turn(loop):
    order = []
    loop.call_soon(order.append, 1)
    assert loop.stop() is None
    loop.run_forever()
    assert order == [1]


def test_stop_twice_counts_once(loop):
    loop.stop()
    loop.stop()
    loop.run_forever()
    order = []
    loop.call_later(0.0005, order.append, "ran on")
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert order == ["ran on"]


def test_stop_does_not_wait_for_timers(loop):
    loop.call_later(3600, print)
    loop.stop()
    loop.run_forever()


def test_stop_from_a_thread(loop):
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(loop.stop,))
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()


# ---- run_forever ----------------------------------------------------------------------------------------------------


def test_is_running(loop):
    seen = []
    assert loop.is_running() is False
    loop.call_soon(lambda: seen.append(loop.is_running()))
    loop.call_soon(loop.stop)
    assert loop.run_forever() is None
    assert seen == [True]
    assert loop.is_running() is False
    assert loop.is_closed() is False


@nested
def test_running_inside_running(loop):
    other = impl.new_event_loop()
    messages = []

    def run_nested():
        for run in (
            loop.run_forever,
            other.run_forever,
            lambda: loop.run_until_complete(future),
            lambda: other.run_until_complete(other_future),
        ):
            with pytest.raises(RuntimeError) as caught:
                run()
            messages.append(str(caught.value))

    future, other_future = loop.create_future(), other.create_future()
    try:
        loop.call_soon(run_nested)
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert (
            messages
            == [
                "This event loop is already running",
                "Cannot run the event loop while another loop is running",
            ]
            * 2
        )
        # Nothing was left behind.
        assert other.run_until_complete(returns(1)) == 1
        assert loop.run_until_complete(returns(2)) == 2
    finally:
        other.close()


@nested
def test_a_refused_coroutine_is_not_started(loop):
    ran = []

    async def coro():
        ran.append(1)

    async def main():
        inner = coro()
        with pytest.raises(RuntimeError, match="already running"):
            loop.run_until_complete(inner)
        inner.close()

    loop.run_until_complete(main())
    assert ran == []


@nested
def test_running_inside_a_stdlib_loop(loop):
    stdlib = asyncio.SelectorEventLoop()

    async def main():
        with pytest.raises(RuntimeError, match="Cannot run the event loop while another loop is running"):
            loop.run_forever()

    async def reverse():
        if sys.version_info[:3] == (3, 13, 0):
            return  # its refusal takes the running loop away
        with pytest.raises(RuntimeError, match="Cannot run the event loop while another loop is running"):
            stdlib.run_forever()

    try:
        stdlib.run_until_complete(main())
        loop.run_until_complete(reverse())
    finally:
        stdlib.close()


@nested
def test_running_in_another_thread_meanwhile(loop):
    # One loop is run by one thread at a time.
    errors = []

    def run():
        try:
            loop.run_forever()
        except RuntimeError as error:
            errors.append(str(error))

    async def main():
        thread = threading.Thread(target=run)
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0)
        thread.join()

    loop.run_until_complete(main())
    assert errors == ["This event loop is already running"]


def test_by_different_threads_in_turn(loop):
    results = []

    def run():
        results.append(loop.run_until_complete(returns(threading.get_ident())))

    for _ in range(3):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert len(results) == 3
    assert loop.run_until_complete(returns("main")) == "main"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_base_exceptions_leave_at_once_and_keep_the_rest(loop, error):
    order = []

    def interrupt():
        order.append("interrupt")
        raise error("out")

    loop.call_soon(order.append, "before")
    loop.call_soon(interrupt)
    for i in range(10):
        loop.call_soon(order.append, i)
    with pytest.raises(error, match="out"):
        loop.run_forever()
    assert order == ["before", "interrupt"]
    assert not loop.is_running()
    loop.call_soon(order.append, "newer")
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert order == ["before", "interrupt", *range(10), "newer"]


def test_a_completion_and_an_interrupt_in_one_callback(loop):
    # The waiter's wakeup was queued just before: the next run must find it.
    future = loop.create_future()

    def complete():
        future.set_result("kept")
        raise KeyboardInterrupt

    async def main():
        return await future

    task = loop.create_task(main())
    loop.call_soon(complete)
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(task)
    assert loop.run_until_complete(task) == "kept"


def test_interrupts_one_after_the_other(loop):
    def interrupt(i):
        raise KeyboardInterrupt(i)

    for i in range(5):
        loop.call_soon(interrupt, i)
    for i in range(5):
        with pytest.raises(KeyboardInterrupt) as caught:
            loop.run_forever()
        assert caught.value.args == (i,)
    assert loop.run_until_complete(returns(1)) == 1


def test_an_interrupt_from_a_timer(loop):
    def interrupt():
        raise KeyboardInterrupt

    order = []
    now = loop.time()
    loop.call_at(now - 2, interrupt)
    loop.call_at(now - 1, order.append, "second timer")
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert order == ["second timer"]


def test_stop_with_an_interrupt_is_forgotten(loop):
    def interrupt():
        loop.stop()
        raise KeyboardInterrupt

    loop.call_soon(interrupt)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    order = []
    loop.call_later(0.0005, order.append, "runs on")
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert order == ["runs on"]


# ---- run_until_complete ---------------------------------------------------------------------------------------------


def test_run_until_complete(loop):
    assert loop.run_until_complete(returns(5)) == 5
    future = Future(loop=loop)
    loop.call_soon(future.set_result, 6)
    assert loop.run_until_complete(future) == 6
    assert loop.run_until_complete(future) == 6
    with pytest.raises(TypeError):
        loop.run_until_complete(5)
    with pytest.raises(TypeError):
        loop.run_until_complete()


def test_run_until_complete_takes_any_awaitable(loop):
    class Awaitable:
        def __await__(self):
            first = yield from asyncio.sleep(0, "await").__await__()
            return first + (yield from impl.sleep(0, "ed").__await__())

    assert loop.run_until_complete(Awaitable()) == "awaited"


def test_run_until_complete_of_a_stdlib_future(loop):
    future = asyncio.Future(loop=loop)
    loop.call_soon(future.set_result, 1)
    assert loop.run_until_complete(future) == 1


def test_run_until_complete_of_another_loops_future(loop):
    other = impl.new_event_loop()
    try:
        with pytest.raises(ValueError, match="The future belongs to a different loop"):
            loop.run_until_complete(other.create_future())
    finally:
        other.close()


def test_stopped_before_completion(loop):
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match="Event loop stopped before Future completed"):
        loop.run_until_complete(future)
    future.set_result(1)
    assert loop.run_until_complete(future) == 1


def test_stopped_before_completion_leaves_no_callback(loop):
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError):
        loop.run_until_complete(future)
    assert not future._callbacks


def test_what_the_coroutine_started_goes_on_next_time(loop):
    order = []

    async def background():
        for i in range(3):
            order.append(i)
            await asyncio.sleep(0)

    async def main():
        return loop.create_task(background())

    task = loop.run_until_complete(main())
    loop.run_until_complete(task)
    assert order == [0, 1, 2]


def test_the_context_of_the_caller(loop):
    var = contextvars.ContextVar("var")
    var.set("caller")

    async def main():
        before = var.get()
        var.set("inside")
        return before

    assert loop.run_until_complete(main()) == "caller"
    assert var.get() == "caller"


# ---- close ----------------------------------------------------------------------------------------------------------


def test_close():
    loop = impl.new_event_loop()
    assert loop.is_closed() is False
    assert loop.close() is None
    assert loop.is_closed() is True
    assert loop.close() is None
    assert "closed=True" in repr(loop)


@pytest.mark.parametrize(
    "act",
    [
        lambda loop: loop.call_soon(print),
        lambda loop: loop.call_soon_threadsafe(print),
        lambda loop: loop.call_later(1, print),
        lambda loop: loop.call_at(1, print),
        lambda loop: loop.run_forever(),
        lambda loop: loop.run_until_complete(asyncio.Future(loop=loop)),
        lambda loop: loop.run_in_executor(None, print),
    ],
    ids=["call_soon", "call_soon_threadsafe", "call_later", "call_at", "run_forever", "run_until", "executor"],
)
@pytest.mark.parametrize("debug", [False, True])
def test_after_close(act, debug):
    loop = impl.new_event_loop()
    loop.set_debug(debug)
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        act(loop)


def test_what_still_works_after_close():
    loop = impl.new_event_loop()
    future = loop.create_future()
    loop.close()
    assert loop.time() > 0
    assert loop.is_running() is False
    assert loop.get_debug() is False
    assert loop.get_exception_handler() is None
    assert loop.get_task_factory() is None
    loop.stop()
    future.set_result(1)
    loop.create_future().cancel()


def test_close_while_running(loop):
    def close():
        with pytest.raises(RuntimeError, match="Cannot close a running event loop"):
            loop.close()
        loop.stop()

    loop.call_soon(close)
    loop.run_forever()
    assert not loop.is_closed()


def test_unclosed_is_warned_of():
    loop = impl.new_event_loop()
    shown = repr(loop)
    with pytest.warns(ResourceWarning, match="unclosed event loop") as caught:
        del loop
        gc.collect()
    assert any(shown in str(warning.message) for warning in caught)


def test_loops_are_collected_in_cycles():
    loop = impl.new_event_loop()
    loop.itself = loop
    loop.call_soon(lambda: loop)
    loop.call_later(1000, lambda: loop)
    future = loop.create_future()
    future.add_done_callback(lambda f: (future, loop))
    loop.run_until_complete(returns())
    dead = weakref.ref(loop)
    loop.close()
    del loop, future
    gc.collect()
    assert dead() is None


def test_attributes_and_weak_references(loop):
    loop.mine = 1
    assert loop.mine == 1
    dead = weakref.ref(loop)
    assert dead() is loop
    assert hash(loop) == hash(loop)


def test_a_thousand_loops():
    for _ in range(300):
        loop = impl.new_event_loop()
        loop.run_until_complete(returns())
        loop.close()


def test_new_event_loop_and_the_constructor():
    for make in (impl.new_event_loop, EventLoop):
        loop = make()
        try:
            assert isinstance(loop, EventLoop)
            assert not loop.is_running()
        finally:
            loop.close()


def test_the_constructor_takes_nothing():
    if impl.IS_COROLLA:
        for args, kwargs in (((1,), {}), ((), {"x": 1})):
            with pytest.raises(TypeError):
                EventLoop(*args, **kwargs)


@beyond_stdlib("nothing is half-made in Python")
def test_a_second_init_is_refused(loop):
    with pytest.raises(RuntimeError):
        loop.__init__()
    assert loop.run_until_complete(returns(1)) == 1


def test_debug_mode_by_environment(monkeypatch):
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    loop = impl.new_event_loop()
    try:
        assert loop.get_debug() is (not sys.flags.ignore_environment)
    finally:
        loop.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()


def test_the_current_context_is_not_changed_by_callbacks(loop, turn):
    var = contextvars.ContextVar("var", default=0)
    for i in range(1, 4):
        loop.call_soon(var.set, i)
    turn()
    assert var.get() == 0
