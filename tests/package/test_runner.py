"""corolla.run() and corolla.Runner, which follow the newest CPython's on every version."""

import asyncio
import contextvars
import gc
import signal
import threading

import corolla
import pytest

var = contextvars.ContextVar("var", default="outside")


async def returns(value=None):
    return value


class Awaitable:
    def __await__(self):
        return returns("awaited").__await__()


# ---- what is run ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("main", [returns("awaited"), Awaitable(), corolla.sleep(0, "awaited")])
def test_anything_that_can_be_awaited(main):
    assert corolla.run(main) == "awaited"


def test_a_future():
    with corolla.Runner() as runner:
        future = runner.get_loop().create_future()
        future.set_result(5)
        assert runner.run(future) == 5


@pytest.mark.parametrize("main", [None, 5, returns, object()])
def test_what_cannot_be_awaited(main):
    """asyncio of 3.14 says so, too; before, it was ValueError."""
    with pytest.raises(TypeError, match="a coroutine or an awaitable is required"):
        corolla.run(main)
    with corolla.Runner() as runner:
        with pytest.raises(TypeError, match="a coroutine or an awaitable is required"):
            runner.run(main)
        assert runner.run(returns(1)) == 1


def test_errors(run):
    async def main():
        coro = returns()
        with pytest.raises(RuntimeError, match=r"asyncio\.run\(\) cannot be called from a running event loop"):
            corolla.run(coro)
        runner = corolla.Runner()
        with pytest.raises(RuntimeError, match=r"Runner\.run\(\) cannot be called from a running event loop"):
            runner.run(coro)
        coro.close()

    run(main())


# ---- the loop ---------------------------------------------------------------------------------------------------------


def test_the_loop_is_ours_and_the_threads():
    async def main():
        return corolla.get_running_loop()

    with corolla.Runner() as runner:
        loop = runner.get_loop()
        assert type(loop) is corolla.EventLoop
        assert corolla.get_event_loop() is loop
        assert runner.run(main()) is loop is runner.get_loop()
        assert not loop.is_closed()
    assert loop.is_closed()
    with pytest.raises(RuntimeError):
        corolla.get_event_loop()


def test_a_loop_that_a_factory_made_is_nobodys():
    corolla.set_event_loop(None)
    with corolla.Runner(loop_factory=corolla.new_event_loop) as runner:
        with pytest.raises(RuntimeError):
            corolla.get_event_loop()
        assert type(runner.get_loop()) is corolla.EventLoop


@pytest.mark.parametrize("debug", [None, False, True])
def test_debug(debug):
    async def main():
        return corolla.get_running_loop().get_debug()

    assert corolla.run(main(), debug=debug) is bool(debug)


def test_other_loops():
    async def main():
        loop = corolla.get_running_loop()
        assert await loop.run_in_executor(None, sum, [1, 2]) == 3
        return type(loop), await corolla.gather(corolla.sleep(0, 1), corolla.create_task(returns(2)))

    assert corolla.run(main(), loop_factory=asyncio.SelectorEventLoop) == (asyncio.SelectorEventLoop, [1, 2])


def test_never_entered():
    runner = corolla.Runner()
    runner.close()
    assert runner.run(returns(1)) == 1
    runner.close()
    runner.close()
    for use in (runner.get_loop, runner.__enter__):
        with pytest.raises(RuntimeError, match="Runner is closed"):
            use()
    coro = returns()
    with pytest.raises(RuntimeError, match="Runner is closed"):
        runner.run(coro)
    coro.close()


def test_a_factory_that_fails():
    def factory():
        raise LookupError("no loop today")

    with pytest.raises(LookupError):
        with corolla.Runner(loop_factory=factory):
            raise AssertionError("entered")
    coro = returns()
    with pytest.raises(LookupError):
        corolla.run(coro, loop_factory=factory)
    coro.close()


# ---- contexts ---------------------------------------------------------------------------------------------------------


def test_contexts():
    async def change(value):
        before = var.get()
        var.set(value)
        return before

    with corolla.Runner() as runner:
        assert [runner.run(change(value)) for value in ("one", "two")] == ["outside", "one"]
        context = contextvars.copy_context()
        assert runner.run(change("three"), context=context) == "outside"
        assert context[var] == "three"
        assert runner.run(change("four")) == "two"
    assert var.get() == "outside"


# ---- the end ----------------------------------------------------------------------------------------------------------


def test_everything_is_shut_down(caplog):
    ended = []

    async def generate():
        try:
            yield 1
        finally:
            ended.append("generator")

    async def forever():
        try:
            await corolla.sleep(1000)
        except corolla.CancelledError:
            ended.append("task")
            raise

    async def fails():
        try:
            await corolla.sleep(1000)
        finally:
            raise ZeroDivisionError("at the end")

    async def main():
        generator = generate()
        await anext(generator)
        kept.append(generator)
        for child in forever, fails:
            kept.append(corolla.create_task(child()))
        corolla.get_running_loop().run_in_executor(None, ended.append, "thread")
        await corolla.sleep(0)

    kept = []
    corolla.run(main())
    assert sorted(ended) == ["generator", "task", "thread"]
    assert "unhandled exception during asyncio.run() shutdown" in caplog.text
    assert "at the end" in caplog.text
    kept.clear()
    gc.collect()


# ---- SIGINT -----------------------------------------------------------------------------------------------------------


def test_ctrl_c_cancels():
    cleaned_up = []

    async def main():
        try:
            signal.raise_signal(signal.SIGINT)
            await corolla.sleep(1000)
        finally:
            cleaned_up.append(asyncio.current_task().cancelling())

    with corolla.Runner() as runner:
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt) as caught:
                runner.run(main())
            assert isinstance(caught.value.__context__, asyncio.CancelledError)
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert runner.run(returns(1)) == 1
    assert cleaned_up == [1] * 3


def test_ctrl_c_while_the_loop_sleeps():
    main_thread = threading.main_thread().ident

    async def main():
        thread = threading.Thread(target=signal.pthread_kill, args=(main_thread, signal.SIGINT))
        corolla.get_running_loop().call_soon(thread.start)
        try:
            await corolla.sleep(1000)
        finally:
            thread.join()

    with pytest.raises(KeyboardInterrupt):
        corolla.run(main())


def test_ctrl_c_twice():
    async def main():
        signal.raise_signal(signal.SIGINT)
        try:
            await corolla.sleep(1000)
        except corolla.CancelledError:
            signal.raise_signal(signal.SIGINT)
        raise AssertionError("went on")

    with pytest.raises(KeyboardInterrupt):
        corolla.run(main())


def test_ctrl_c_that_is_eaten():
    async def main():
        signal.raise_signal(signal.SIGINT)
        try:
            await corolla.sleep(1000)
        except corolla.CancelledError:
            return "survived"

    assert corolla.run(main()) == "survived"


def test_cancelled_for_another_reason_as_well():
    """KeyboardInterrupt takes back the one cancellation that was its own."""

    async def main():
        task = asyncio.current_task()
        signal.raise_signal(signal.SIGINT)
        task.cancel()
        await corolla.sleep(1000)

    with pytest.raises(corolla.CancelledError):
        corolla.run(main())


def test_a_programs_own_handler():
    seen = []
    before = signal.signal(signal.SIGINT, lambda *args: seen.append(args))
    try:

        async def main():
            signal.raise_signal(signal.SIGINT)
            await corolla.sleep(0)
            return "went on"

        assert corolla.run(main()) == "went on"
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(seen) == 1


def test_a_handler_set_meanwhile():
    async def main():
        corolla.get_running_loop().add_signal_handler(signal.SIGINT, seen.append, 1)
        signal.raise_signal(signal.SIGINT)
        while not seen:
            await corolla.sleep(0)

    seen = []
    try:
        corolla.run(main())
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert seen == [1]


def test_in_another_thread():
    def work():
        results.append(corolla.run(returns("there")))

    results = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results == ["there"]


def test_two_ctrl_cs_cancel_no_finished_task():
    """The second run's task is cancelled, not the first's, which is done."""

    async def interrupted():
        signal.raise_signal(signal.SIGINT)
        await corolla.sleep(0)

    with corolla.Runner() as runner:
        runner.run(returns())
        with pytest.raises(KeyboardInterrupt):
            runner.run(interrupted())
        assert runner.run(returns(2)) == 2


def test_runners_that_take_turns():
    """Each run has Ctrl-C to itself, and leaves it as it found it."""

    async def interrupted():
        signal.raise_signal(signal.SIGINT)
        await corolla.sleep(1000)

    with corolla.Runner() as one, corolla.Runner() as other:
        for runner in (one, other, one, other):
            with pytest.raises(KeyboardInterrupt):
                runner.run(interrupted())
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
            assert runner.run(returns(1)) == 1
            with pytest.raises(KeyboardInterrupt):
                corolla.run(interrupted())
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_loops_handlers_are_kept_from_run_to_run():
    """Those of add_signal_handler(), SIGINT's among them: until the loop closes."""
    seen = []

    async def add():
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, seen.append, "usr1")
        loop.add_signal_handler(signal.SIGINT, seen.append, "int")

    async def both():
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGINT)
        while len(seen) < 2:
            await corolla.sleep(0)

    with corolla.Runner() as runner:
        runner.run(add())
        for _ in range(3):
            seen.clear()
            signal.raise_signal(signal.SIGINT)  # between two runs: told in the next
            runner.run(both())
            assert sorted(set(seen)) == ["int", "usr1"]
            with corolla.Runner() as inner:
                inner.run(returns())  # closes a loop of its own
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("before", [signal.SIG_IGN, signal.SIG_DFL])
def test_a_disposition_set_before_the_run_is_kept(before):
    """Ctrl-C is a Runner's only where nobody has said otherwise."""
    old = signal.signal(signal.SIGINT, before)
    try:

        async def main():
            assert signal.getsignal(signal.SIGINT) is before
            if before is signal.SIG_IGN:
                signal.raise_signal(signal.SIGINT)
            return 1

        assert corolla.run(main()) == 1
        assert signal.getsignal(signal.SIGINT) is before
    finally:
        signal.signal(signal.SIGINT, old)
