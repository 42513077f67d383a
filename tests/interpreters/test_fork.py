"""fork(): the child's inherited loop does not run, its descriptors are left alone, and the parent notices nothing."""

import pytest
from impl import beyond_stdlib
from interpreters.forking import program

pytestmark = [
    pytest.mark.timeout(120),
    # 3.12 and later warn when a process with threads forks.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
]


def test_forked_inside_a_callback(python):
    """Seen in python/cpython issues 66285 (bpo-22087) and 75155, and PR 404 (bpo-29703): the child still saw the parent's
    running loop and could not start its own."""
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


@beyond_stdlib("its loop goes on in the child, on the parent's poller")
@pytest.mark.parametrize("where", ["callback", "signal handler", "protocol"])
def test_a_child_that_comes_back_runs_nothing_of_the_parents(python, where):
    """The callbacks that were ready at the fork are the parent's, and so is what was written in this turn."""
    source = f"""
    where = {where!r}
    loop = impl.new_event_loop()
    loop.set_debug(False)
    ran, pids = [], []
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    def fork(*args):
        pids.append(os.fork())

    class Forks(asyncio.Protocol):
        def data_received(self, data):
            transport.write(b"one ")
            transport.write(b"two ")
            fork()

    signal.signal(signal.SIGUSR1, fork)
    transport, _ = loop.run_until_complete(loop.connect_accepted_socket(Forks, ours))
    if where == "callback":
        loop.call_soon(fork)
    elif where == "signal handler":
        loop.add_reader(reading := os.pipe()[0], print)
        main_thread = threading.get_ident()
        loop.call_later(0.01, lambda: threading.Timer(0.01, signal.pthread_kill, (main_thread, signal.SIGUSR1)).start())
    else:
        # This connection has lately written twice in a turn, and so its writes wait for the end of the turn.
        async def warm_up():
            for _ in range(20):
                transport.write(b"warm ")
                transport.write(b"up ")
                await asyncio.sleep(0)
        loop.run_until_complete(warm_up())
        theirs.recv(1000)
        theirs.send(b"go")

    def rest():
        ran.append(os.getpid())

    def forever():
        if pids:
            rest()
            loop.stop()
        else:
            loop.call_later(0.001, forever)

    loop.call_soon(forever)
    loop.call_soon(rest)
    try:
        loop.run_forever()
    except RuntimeError as exc:
        assert pids == [0] and "forked" in str(exc), (pids, exc)
        assert os.getpid() not in ran, ran
        try:
            loop.run_forever()
        except RuntimeError as exc:
            assert "belongs to the process" in str(exc), exc
        os._exit(5)
    status = os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1])
    assert set(ran) == {{os.getpid()}}, ran
    transport.close()
    loop.run_until_complete(returns())
    loop.close()
    print(status, theirs.recv(1000))
    """
    written = "b'one two '" if where == "protocol" else "b''"
    assert python(program(source), "-W", "ignore") == f"5 {written}\n"


@beyond_stdlib("there such calls do what they would in the parent")
def test_what_the_inherited_loop_says(python):
    """RuntimeError for whatever would need the loop, and no wakeup of the parent."""
    source = """
    import pathlib

    def wakeups():
        found = []
        for name in os.listdir("/proc/self/fd"):
            try:
                if os.readlink(f"/proc/self/fd/{name}") == "anon_inode:[eventfd]":
                    text = pathlib.Path(f"/proc/self/fdinfo/{name}").read_text()
                    found.append(text.partition("eventfd-count:")[2].split()[0])
            except FileNotFoundError:
                pass
        return found

    async def nothing():
        pass

    async def main():
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        sock = socket.socket()
        sock.setblocking(False)

        async def in_child():
            await loop.getaddrinfo("localhost", None)

        def child():
            before = wakeups()
            coro = nothing()
            refused = 0
            for call in (
                lambda: loop.call_soon(print),
                lambda: loop.call_soon_threadsafe(print),
                lambda: loop.call_later(0, print),
                lambda: loop.call_at(0, print),
                lambda: loop.add_reader(sock, print),
                lambda: loop.add_writer(sock, print),
                lambda: loop.add_signal_handler(signal.SIGUSR1, print),
                lambda: loop.run_in_executor(None, print),
                lambda: loop.create_task(coro),
                lambda: loop.run_until_complete(coro),
                lambda: loop.run_forever(),
                lambda: asyncio.run_coroutine_threadsafe(coro, loop),
                lambda: run(in_child()),
            ):
                try:
                    call()
                except RuntimeError as exc:
                    assert "belongs to the process that was forked from" in str(exc), exc
                    refused += 1
            assert refused == 13, refused
            coro.close()
            # Nobody is woken by these, and that is no error.
            future.set_result(1)
            assert not loop.is_running() and not loop.is_closed()
            assert wakeups() == before
            loop.close()
            assert loop.is_closed()
            loop.close()
            try:
                loop.call_soon(print)
            except RuntimeError as exc:
                assert str(exc) == "Event loop is closed", exc
            else:
                raise AssertionError("took a callback")

        statuses = [forked(child)]
        # From another thread, while the loop is asleep and would be woken.
        statuses.append(await loop.run_in_executor(None, forked, child))
        sock.close()
        return statuses

    print(run(main()))
    """
    assert python(program(source), "-W", "ignore") == "[0, 0]\n"


@beyond_stdlib("before 3.12 it leaves the parent's there", until=(3, 12))
def test_the_childs_signals_do_not_wake_the_parent(python):
    """Its wakeup descriptor is the parent's, until it is told."""
    source = """
    async def main():
        def child():
            assert signal.set_wakeup_fd(-1) == -1
            assert signal.getsignal(signal.SIGUSR1) is not signal.SIG_DFL
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print)
        statuses = [forked(child)]
        fd = signal.set_wakeup_fd(-1)
        assert fd >= 0
        signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
        return statuses

    print(run(main()), run(main()))
    """
    assert python(program(source)) == "[0] [0]\n"


@beyond_stdlib("its Runner runs the loop again in the child")
@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("sys.exit(3)", 3),
        ("raise KeyboardInterrupt", -2),
        ("signal.raise_signal(signal.SIGINT)", -2),  # the parent's handler would cancel the parent's task
    ],
)
def test_leaving_the_run_in_the_child(python, end, status):
    source = f"""
    import corolla

    async def main():
        other = asyncio.ensure_future(asyncio.sleep(100))
        await asyncio.to_thread(int)
        pid = os.fork()
        if pid == 0:
            sys.stderr = open(os.devnull, "w") if {status} < 0 else sys.stderr
            {end}
            os._exit(1)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert not other.done()
        return status

    print(corolla.run(main()))
    """
    options = ["-W", "ignore"]
    assert python(program(source), *options) == f"{status}\n"


def test_locks_that_vanished_threads_held(python):
    """Seen in uvloop commit fde5d14, whose hook took a lock: the parent's threads are in the middle of posting, of look-ups
    and of work when it forks, again and again."""
    source = """
    async def main():
        loop = asyncio.get_running_loop()
        stop = False
        seen = []

        def post():
            while not stop:
                try:
                    loop.call_soon_threadsafe(seen.clear)
                except RuntimeError:
                    break

        threads = [threading.Thread(target=post) for _ in range(2)]
        for thread in threads:
            thread.start()

        async def look():
            while not stop:
                await loop.getaddrinfo("localhost", 80)

        lookups = [asyncio.ensure_future(look()) for _ in range(3)]

        def child():
            for lookup in lookups:
                lookup.cancel()
            loop.close()
            assert run(returns(5)) == 5

        statuses = set()
        for _ in range(20):
            await asyncio.sleep(0.001)
            statuses.add(forked(child))
        stop = True
        for thread in threads:
            while thread.is_alive():
                await asyncio.sleep(0.001)
        await asyncio.gather(*lookups)
        return statuses

    print(run(main()))
    """
    assert python(program(source), "-W", "ignore") == "{0}\n"
