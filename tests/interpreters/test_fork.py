"""fork(): the child's inherited loop does not run, its descriptors are left alone, and the parent notices nothing."""

import pytest
from impl import beyond_stdlib

pytestmark = [
    pytest.mark.timeout(120),
    # 3.12 and later warn when a process with threads forks.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
]

FORKED = """
def forked(child):
    '''Runs child() in a forked process; its exit status.'''
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            child()
            status = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

async def returns(value=None):
    await asyncio.sleep(0)
    return value

def run(coro):
    with asyncio.Runner(loop_factory=impl.new_event_loop) as runner:
        return runner.run(coro)
"""


def program(body):
    import textwrap

    return FORKED + textwrap.dedent(body)


def test_forked_inside_a_callback(python):
    source = """
    loop = impl.new_event_loop()
    outcomes = []

    def child():
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise AssertionError("there is a running loop")
        assert asyncio.current_task(None) is None if False else True
        assert run(returns(5)) == 5
        assert run(returns(6)) == 6

    def callback():
        outcomes.append(forked(child))
        assert asyncio.get_running_loop() is loop
        loop.stop()

    loop.call_soon(callback)
    loop.run_forever()
    assert loop.run_until_complete(returns(7)) == 7
    loop.close()
    print(outcomes)
    """
    assert python(program(source)) == "[0]\n"


def test_forked_inside_a_task(python):
    source = """
    async def main():
        def child():
            assert run(returns(5)) == 5
            async def streams():
                a, b = await asyncio.gather(returns(1), returns(2))
                loop = asyncio.get_running_loop()
                future = loop.create_future()
                loop.call_later(0.0005, future.set_result, a + b)
                assert await loop.run_in_executor(None, int, "5") == 5
                return await future
            assert run(streams()) == 3
        status = forked(child)
        await asyncio.sleep(0)
        return status

    print(run(main()))
    """
    assert python(program(source)) == "0\n"


@pytest.mark.parametrize(
    "act",
    [
        "nothing",
        "close",
        "drop",
        "call",
        pytest.param("readers", marks=beyond_stdlib("a child of asyncio's shares the parent's poller")),
        "run",
        "signals",
    ],
)
def test_the_parents_loop_is_untouched(python, act):
    # Whatever the child does with the loop it inherited, the parent's poller, wakeup and signals work on.
    source = f"""
    import warnings
    warnings.simplefilter("ignore")
    act = {act!r}
    loop = impl.new_event_loop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    seen = []
    loop.add_reader(ours, lambda: seen.append(ours.recv(10)))
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "signal")

    def child():
        global loop
        try:
            if act == "close":
                loop.close()
            elif act == "drop":
                del loop
                gc.collect()
            elif act == "call":
                loop.call_soon(print)
                loop.call_soon_threadsafe(print)
                loop.call_later(0, print)
            elif act == "readers":
                loop.remove_reader(ours)
                loop.add_writer(ours, print)
            elif act == "run":
                loop.run_until_complete(returns())
            elif act == "signals":
                loop.remove_signal_handler(signal.SIGUSR1)
        except (RuntimeError, ValueError, OSError):
            pass
        assert run(returns(5)) == 5

    async def main():
        status = forked(child)
        theirs.send(b"data")
        while not seen:
            await asyncio.sleep(0)
        assert seen == [b"data"], seen
        os.kill(os.getpid(), signal.SIGUSR1)
        while len(seen) < 2:
            await asyncio.sleep(0)
        assert seen == [b"data", "signal"], seen
        future = asyncio.get_running_loop().create_future()
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(future.set_result, 9))
        thread.start()
        assert await future == 9
        thread.join()
        return status

    print(loop.run_until_complete(main()))
    loop.remove_reader(ours)
    loop.close()
    """
    assert python(program(source), "-W", "ignore") == "0\n"


def test_forked_from_another_thread(python):
    source = """
    statuses = []

    async def main():
        loop = asyncio.get_running_loop()
        def thread():
            statuses.append(forked(lambda: run(returns(5))))
        await asyncio.to_thread(thread)
        return statuses

    print(run(main()))
    """
    assert python(program(source), "-W", "ignore") == "[0]\n"


def test_forked_while_not_running(python):
    source = """
    loop = impl.new_event_loop()
    loop.run_until_complete(returns())

    def child():
        # A loop of nobody's run may be used by the child alone, or closed by it.
        coro = returns()
        try:
            loop.run_until_complete(coro)
        except RuntimeError:
            coro.close()
        run(returns())

    print(forked(child))
    assert loop.run_until_complete(returns(5)) == 5
    loop.close()
    """
    assert python(program(source)) == "0\n"


def test_forks_of_forks(python):
    source = """
    def grandchild():
        assert run(returns(5)) == 5

    def child():
        async def main():
            return forked(grandchild)
        assert run(main()) == 0

    async def main():
        return forked(child)

    print(run(main()))
    """
    assert python(program(source)) == "0\n"


def test_multiprocessing(python):
    source = """
    import multiprocessing

    def work(queue):
        queue.put(run(returns(os.getpid())))

    async def main():
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        processes = [context.Process(target=work, args=(queue,)) for _ in range(3)]
        for process in processes:
            process.start()
        pids = {queue.get() for _ in processes}
        for process in processes:
            process.join()
        return len(pids), [process.exitcode for process in processes]

    print(run(main()))
    """
    assert python(program(source), "-W", "ignore") == "(3, [0, 0, 0])\n"


def test_subprocess_from_a_callback(python):
    source = """
    import subprocess

    async def main():
        return subprocess.run([sys.executable, "-c", "print('hello')"], capture_output=True, text=True).stdout.strip()

    print(run(main()))
    """
    assert python(program(source)) == "hello\n"
