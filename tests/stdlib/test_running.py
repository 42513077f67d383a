"""asyncio.run, Runner, policies, threads and anyio, on our loop."""

import asyncio
import concurrent.futures
import contextvars
import os
import signal
import subprocess
import sys
import threading

import corolla
import impl
import pytest

only_corolla = pytest.mark.skipif(not impl.IS_COROLLA, reason="about corolla's own names")

# What 3.14 and later say about policies.
policies = [
    pytest.mark.skipif(sys.version_info >= (3, 16), reason="policies went with 3.16"),
    pytest.mark.filterwarnings("ignore:.*polic.*:DeprecationWarning"),
]


async def returns(value=None):
    return value


def test_asyncio_run(asyncio_run):
    async def main():
        assert isinstance(asyncio.get_running_loop(), impl.EventLoop)
        task = asyncio.create_task(asyncio.sleep(1000))
        await asyncio.sleep(0)
        left.append(task)
        return "result"

    left = []
    assert asyncio_run(main()) == "result"
    assert left[0].cancelled()
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_asyncio_run_with_an_error(asyncio_run):
    async def main():
        raise LookupError("out")

    with pytest.raises(LookupError, match="out"):
        asyncio_run(main())


def test_asyncio_run_in_debug_mode(asyncio_run):
    async def main():
        await asyncio.sleep(0)
        return asyncio.get_running_loop().get_debug()

    assert asyncio_run(main(), debug=True) is True


def test_asyncio_run_shuts_the_executor_down(asyncio_run):
    done = []

    async def main():
        asyncio.get_running_loop().run_in_executor(None, done.append, 1)

    asyncio_run(main())
    assert done == [1]


def test_a_task_that_fails_during_the_final_cancel(asyncio_run, caplog):
    async def stubborn():
        try:
            await asyncio.sleep(1000)
        finally:
            raise ZeroDivisionError("during shutdown")

    async def main():
        asyncio.create_task(stubborn())
        await asyncio.sleep(0)

    asyncio_run(main())
    assert "unhandled exception during asyncio.run() shutdown" in caplog.text
    assert "during shutdown" in caplog.text


def test_runner():
    var = contextvars.ContextVar("var", default=0)

    async def count():
        var.set(var.get() + 1)
        return var.get()

    with asyncio.Runner(loop_factory=impl.new_event_loop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, impl.EventLoop)
        assert [runner.run(count()) for _ in range(3)] == [1, 2, 3]
        assert not loop.is_closed()
    assert loop.is_closed()


def test_runner_and_ctrl_c():
    cleaned_up = []

    async def main():
        try:
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(1000)
        finally:
            cleaned_up.append(asyncio.current_task().cancelling())

    with asyncio.Runner(loop_factory=impl.new_event_loop) as runner:
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                runner.run(main())
        assert runner.run(returns(1)) == 1
    assert cleaned_up == [1] * 3


def test_runner_and_ctrl_c_while_it_waits():
    main_thread = threading.main_thread().ident

    async def main():
        thread = threading.Thread(target=signal.pthread_kill, args=(main_thread, signal.SIGINT))
        asyncio.get_running_loop().call_soon(thread.start)
        try:
            await asyncio.sleep(1000)
        finally:
            thread.join()

    with asyncio.Runner(loop_factory=impl.new_event_loop) as runner:
        for _ in range(5):
            with pytest.raises(KeyboardInterrupt):
                runner.run(main())


def test_runner_and_a_task_that_eats_ctrl_c():
    async def main():
        signal.raise_signal(signal.SIGINT)
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            return "survived"

    with asyncio.Runner(loop_factory=impl.new_event_loop) as runner:
        assert runner.run(main()) == "survived"


# ---- corolla.run ----------------------------------------------------------------------------------------------------


@only_corolla
def test_corolla_run():
    async def main():
        loop = asyncio.get_running_loop()
        assert type(loop) is corolla.EventLoop
        assert type(asyncio.current_task()) is corolla.Task
        return "result"

    assert corolla.run(main()) == "result"
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


@only_corolla
def test_corolla_run_options():
    context = contextvars.copy_context()
    var = contextvars.ContextVar("var", default="outside")
    context.run(var.set, "given")

    async def main():
        return asyncio.get_running_loop().get_debug(), var.get()

    assert corolla.run(main()) == (False, "outside")
    assert corolla.run(main(), debug=True) == (True, "outside")
    assert corolla.run(main(), context=context) == (False, "given")


@only_corolla
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_corolla_run_inside_a_loop(run):
    async def main():
        coro = returns()
        with pytest.raises(RuntimeError):
            corolla.run(coro)
        coro.close()

    run(main())


@only_corolla
@pytest.mark.parametrize("bad", [None, 5, returns])
def test_corolla_run_of_what_is_no_coroutine(bad):
    with pytest.raises((ValueError, TypeError)):
        corolla.run(bad)


@only_corolla
def test_new_event_loop():
    loop = corolla.new_event_loop()
    assert type(loop) is corolla.EventLoop
    loop.close()


# ---- policies -------------------------------------------------------------------------------------------------------


class TestPolicy:
    pytestmark = policies

    @pytest.fixture
    def policy(self):
        before = asyncio.get_event_loop_policy()
        policy = impl.EventLoopPolicy()
        asyncio.set_event_loop_policy(policy)
        yield policy
        asyncio.set_event_loop_policy(before)

    def test_new_event_loop(self, policy):
        loop = asyncio.new_event_loop()
        assert isinstance(loop, impl.EventLoop)
        loop.close()

    def test_asyncio_run(self, policy):
        async def main():
            return isinstance(asyncio.get_running_loop(), impl.EventLoop)

        assert asyncio.run(main()) is True

    def test_set_and_get(self, policy):
        loop = policy.new_event_loop()
        asyncio.set_event_loop(loop)
        assert asyncio.get_event_loop() is loop
        asyncio.set_event_loop(None)
        loop.close()

    def test_is_a_policy(self, policy):
        assert isinstance(policy, asyncio.AbstractEventLoopPolicy)

    def test_in_other_threads(self, policy):
        outcomes = []

        def thread():
            outcomes.append(asyncio.run(returns("from a thread")))

        threads = [threading.Thread(target=thread) for _ in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert outcomes == ["from a thread"] * 4


# ---- threads --------------------------------------------------------------------------------------------------------


def test_to_thread(run):
    var = contextvars.ContextVar("var", default="outside")

    async def main():
        var.set("inside")
        assert await asyncio.to_thread(var.get) == "inside"
        assert await asyncio.to_thread(threading.get_ident) != threading.get_ident()
        with pytest.raises(LookupError):
            await asyncio.to_thread(_raise, LookupError())
        assert await asyncio.gather(*(asyncio.to_thread(int, i) for i in range(50))) == list(range(50))

    run(main())


def _raise(error):
    raise error


def test_run_coroutine_threadsafe(loop, run):
    async def child(value):
        await asyncio.sleep(0)
        return value

    def thread():
        results.append(asyncio.run_coroutine_threadsafe(child(1), loop).result())
        with pytest.raises(LookupError):
            asyncio.run_coroutine_threadsafe(fails(), loop).result()
        return "thread"

    async def fails():
        raise LookupError

    results = []

    async def main():
        assert await asyncio.to_thread(thread) == "thread"

    run(main())
    assert results == [1]


def test_run_coroutine_threadsafe_is_cancelled(loop, run):
    started, cancelled = threading.Event(), threading.Event()

    async def child():
        started.set()
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def thread():
        future = asyncio.run_coroutine_threadsafe(child(), loop)
        started.wait()
        assert future.cancel()
        cancelled.wait()
        with pytest.raises(concurrent.futures.CancelledError):
            future.result()

    async def main():
        await asyncio.to_thread(thread)

    run(main())


def test_loops_in_several_threads_talk_to_each_other():
    loops, ready = [], threading.Barrier(3)

    async def pong(value):
        return value + 1

    def thread(index):
        async def main():
            loops.append(asyncio.get_running_loop())
            await asyncio.to_thread(ready.wait)
            other = loops[(loops.index(asyncio.get_running_loop()) + 1) % 3]
            value = 0
            for _ in range(50):
                value = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(pong(value), other))
            results.append(value)
            await asyncio.to_thread(ready.wait)

        with asyncio.Runner(loop_factory=impl.new_event_loop) as runner:
            runner.run(main())

    results = []
    threads = [threading.Thread(target=thread, args=(index,)) for index in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert results == [50] * 3


# ---- other people's entrances ------------------------------------------------------------------------------------------


def test_isolated_asyncio_test_case():
    # unittest makes its loop by asyncio's policy or factory: here by factory (3.13).
    import unittest

    ran = []

    class Case(unittest.IsolatedAsyncioTestCase):
        loop_factory = staticmethod(impl.new_event_loop)

        async def test_it(self):
            ran.append(type(asyncio.get_running_loop()))
            await asyncio.sleep(0)

    result = unittest.TestResult()
    Case("test_it").run(result)
    assert result.wasSuccessful(), result.errors
    if sys.version_info >= (3, 13):
        assert ran == [impl.EventLoop]


def test_as_a_program():
    source = (
        "import asyncio, corolla\n"
        "async def main():\n"
        "    await asyncio.sleep(0)\n"
        "    print(type(asyncio.get_running_loop()).__module__)\n"
        "corolla.run(main()) if hasattr(corolla, 'run') else asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", source],
        capture_output=True,
        text=True,
        env=os.environ,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_anyio(run):
    anyio = pytest.importorskip("anyio", reason="anyio is not installed")

    async def child(scope_results, i):
        await anyio.sleep(0)
        scope_results.append(i)

    async def main():
        results = []
        async with anyio.create_task_group() as group:
            for i in range(5):
                group.start_soon(child, results, i)
        assert sorted(results) == list(range(5))
        with anyio.move_on_after(0.001) as scope:
            await anyio.sleep(1000)
        assert scope.cancelled_caught
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.001):
                await anyio.sleep(1000)
        assert await anyio.to_thread.run_sync(threading.get_ident) != threading.get_ident()
        send, receive = anyio.create_memory_object_stream(1)
        async with anyio.create_task_group() as group, send, receive:
            group.start_soon(send.send, "item")
            assert await receive.receive() == "item"
        lock = anyio.Lock()
        async with lock:
            pass
        info = anyio.get_current_task()
        assert info.name

    run(main())


@pytest.mark.parametrize("over", ["tcp", "unix"])
def test_anyio_over(run, over, tmp_path):
    """Its listeners accept by themselves and call connect_accepted_socket()."""
    anyio = pytest.importorskip("anyio", reason="anyio is not installed")
    path = str(tmp_path / "sock")

    async def echo(stream):
        async with stream:
            async for data in stream:
                await stream.send(data)

    async def main():
        if over == "tcp":
            listening = await anyio.create_tcp_listener(local_host="127.0.0.1")
            port = listening.extra(anyio.abc.SocketAttribute.local_port)
        else:
            listening = await anyio.create_unix_listener(path)
        async with listening, anyio.create_task_group() as group:
            group.start_soon(listening.serve, echo)
            connecting = anyio.connect_tcp("127.0.0.1", port) if over == "tcp" else anyio.connect_unix(path)
            async with await connecting as stream:
                for _ in range(3):
                    await stream.send(b"hello")
                    assert await stream.receive() == b"hello"
                await stream.send_eof()
                with pytest.raises(anyio.EndOfStream):
                    await stream.receive()
            group.cancel_scope.cancel()

    run(main())
