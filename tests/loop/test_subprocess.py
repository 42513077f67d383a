"""subprocess_exec() and subprocess_shell(): their arguments, starts that fail or are cancelled, and many at once."""

import asyncio
import gc
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading

import impl
import pytest

pytestmark = pytest.mark.skipif(not impl.IS_COROLLA, reason="corolla's subprocesses")


class Quiet(asyncio.SubprocessProtocol):
    def __init__(self):
        self.lost = asyncio.get_running_loop().create_future()
        self.output = {1: b"", 2: b""}

    def pipe_data_received(self, fd, data):
        self.output[fd] += data

    def connection_lost(self, exc):
        self.lost.set_result(exc)


NO_PIPES = {"stdin": None, "stdout": None, "stderr": None}


async def output_of(*program, shell=False, **kwargs):
    """(exit code, what it wrote to its stdout)"""
    loop = asyncio.get_running_loop()
    start = loop.subprocess_shell if shell else loop.subprocess_exec
    transport, protocol = await start(Quiet, *program, **kwargs)
    await protocol.lost
    transport.close()
    return transport.get_returncode(), protocol.output[1]


def has_children():
    """Whether there is any, running or a zombie."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


@pytest.fixture(autouse=True)
def no_child_left():
    assert not has_children()
    yield
    assert not has_children()


# ---- Arguments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("universal_newlines", True, "universal_newlines must be False"),
        ("bufsize", 4096, "bufsize must be 0"),
        ("bufsize", -1, "bufsize must be 0"),
        ("text", True, "text must be False"),
        ("encoding", "utf-8", "encoding must be None"),
        ("errors", "strict", "errors must be None"),
    ],
)
def test_options_that_cannot_be(loop, run, option, value, said):
    def factory():
        pytest.fail("a protocol was made")

    with pytest.raises(ValueError, match=f"^{said}$"):
        run(loop.subprocess_exec(factory, "true", **{option: value}))
    with pytest.raises(ValueError, match=f"^{said}$"):
        run(loop.subprocess_shell(factory, "true", **{option: value}))


def test_shell_must_fit(loop, run):
    with pytest.raises(ValueError, match="^shell must be False$"):
        run(loop.subprocess_exec(Quiet, "true", shell=True))
    with pytest.raises(ValueError, match="^shell must be True$"):
        run(loop.subprocess_shell(Quiet, "true", shell=False))
    for cmd in (["ls", "-l"], 1, None):
        with pytest.raises(ValueError, match="^cmd must be a string$"):
            run(loop.subprocess_shell(Quiet, cmd))


def test_options_that_say_nothing(run):
    nothing = {"universal_newlines": False, "bufsize": 0, "text": None, "encoding": None, "errors": None}
    assert run(output_of("echo", "hello", shell=False, **nothing)) == (0, b"hello\n")
    assert run(output_of("echo hello", shell=True, **nothing)) == (0, b"hello\n")
    assert run(output_of(b"echo hello", shell=True)) == (0, b"hello\n")


def test_missing_and_odd_arguments(loop, run):
    for call in (loop.subprocess_exec, loop.subprocess_shell):
        for args in ((), (Quiet,)):
            with pytest.raises(TypeError):
                call(*args)
        with pytest.raises(TypeError):
            call(Quiet, "true", protocol_factory=Quiet)
        with pytest.raises(TypeError, match="nonsense"):
            run(call(Quiet, "true", nonsense=1))
    with pytest.raises(TypeError):
        loop.subprocess_shell(Quiet, "true", "more")
    with pytest.raises(TypeError):
        run(loop.subprocess_exec(Quiet, 5))
    with pytest.raises(TypeError):
        run(loop.subprocess_exec(Quiet, "true", 5))
    with pytest.raises(ValueError):
        run(loop.subprocess_exec(Quiet, "tr\0ue"))


def test_arguments_by_name(loop, run):
    async def main():
        transport, protocol = await loop.subprocess_exec(program="true", protocol_factory=Quiet)
        await protocol.lost
        transport.close()
        transport, protocol = await loop.subprocess_shell(cmd="true", protocol_factory=Quiet)
        await protocol.lost
        transport.close()

    run(main())


def test_factory_that_fails_starts_nothing(loop, run, tmp_path):
    with pytest.raises(ZeroDivisionError):
        run(loop.subprocess_exec(lambda: 1 / 0, "touch", str(tmp_path / "made")))
    assert not list(tmp_path.iterdir())


def test_bytes_and_paths(run):
    assert run(output_of(pathlib.Path("/bin/echo"), b"one", pathlib.Path("two"), "drei")) == (0, b"one two drei\n")


@pytest.mark.parametrize(
    ("option", "program", "said"),
    [
        ({"cwd": "/"}, ("pwd",), b"/\n"),
        ({"cwd": pathlib.Path("/")}, ("pwd",), b"/\n"),
        ({"env": {"A": "b", "PATH": os.environ["PATH"]}}, ("sh", "-c", "echo $A"), b"b\n"),
        ({"umask": 0o27}, ("sh", "-c", "umask"), b"0027\n"),
        ({"preexec_fn": lambda: os.write(1, b"pre ")}, ("echo", "hello"), b"pre hello\n"),
        ({"executable": "/bin/sh"}, ("odd name", "-c", "echo hello"), b"hello\n"),
        ({"restore_signals": False}, ("echo", "hello"), b"hello\n"),
        ({"close_fds": False}, ("echo", "hello"), b"hello\n"),
        ({"pipesize": 4096}, ("echo", "hello"), b"hello\n"),
        ({"user": os.getuid(), "group": os.getgid()}, ("echo", "hello"), b"hello\n"),
    ],
)
def test_options_of_popen(run, option, program, said):
    if "user" in option and os.getuid() != 0:
        pytest.skip("only root may change its user")
    assert run(output_of(*program, **option)) == (0, said)


@pytest.mark.parametrize("option", [{"start_new_session": True}, {"process_group": 0}])
def test_sessions_and_groups(loop, run, option):
    async def main():
        transport, protocol = await loop.subprocess_exec(Quiet, "cat", **option)
        pid = transport.get_pid()
        assert os.getpgid(pid) == pid
        assert (os.getsid(pid) == pid) is ("start_new_session" in option)
        transport.close()
        await protocol.lost

    run(main())


def test_stdio_of_every_kind(loop, run, tmp_path):
    async def main():
        file = tmp_path / "file"
        file.write_bytes(b"some bytes")
        with file.open() as source:
            assert await output_of("cat", stdin=source) == (0, b"some bytes")
            source.seek(0)
            assert await output_of("cat", stdin=source.fileno()) == (0, b"some bytes")
        assert await output_of("cat", stdin=subprocess.DEVNULL) == (0, b"")
        with (tmp_path / "out").open("wb") as target:
            assert await output_of("echo", "hello", stdout=target, stdin=None) == (0, b"")
        assert (tmp_path / "out").read_bytes() == b"hello\n"
        ours, theirs = socket.socketpair()
        with ours, theirs:
            assert await output_of("echo", "hello", stdout=theirs) == (0, b"")
            assert ours.recv(100) == b"hello\n"
        with pytest.raises(FileNotFoundError):
            await output_of("no such program", stdout=ours.fileno() if ours.fileno() >= 0 else None)

    run(main())


def test_popen_is_what_the_program_says(loop, run, monkeypatch):
    """subprocess.Popen is looked up each time: programs replace it."""

    def refuse(*args, **kwargs):
        raise ZeroDivisionError(args, kwargs)

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(ZeroDivisionError):
        run(loop.subprocess_exec(Quiet, "true"))


# ---- Starts that fail -----------------------------------------------------------------------------------


def fds():
    return sorted(os.listdir("/proc/self/fd"))


@pytest.fixture
def run(loop):
    """With what a loop opens for its first run."""
    loop.run_until_complete(asyncio.sleep(0))
    return loop.run_until_complete


@pytest.mark.parametrize("pipes", [{}, NO_PIPES])
def test_program_that_cannot_be_started(loop, run, tmp_path, pipes):
    data = tmp_path / "data"
    data.write_bytes(b"\x7fELF no program")
    data.chmod(0o755)
    before = fds()
    for _ in range(3):
        with pytest.raises(FileNotFoundError) as caught:
            run(loop.subprocess_exec(Quiet, "/no/such/program", **pipes))
        assert caught.value.filename == "/no/such/program"
        with pytest.raises(FileNotFoundError) as caught:
            run(loop.subprocess_exec(Quiet, "no-such-program", **pipes))
        assert caught.value.filename == "no-such-program"
        with pytest.raises(PermissionError) as caught:
            run(loop.subprocess_exec(Quiet, str(tmp_path), **pipes))
        assert caught.value.filename == str(tmp_path)
        with pytest.raises(FileNotFoundError) as caught:
            run(loop.subprocess_exec(Quiet, "true", cwd="/no/such/place", **pipes))
        assert caught.value.filename == "/no/such/place"
        with pytest.raises(OSError, match="Exec format error"):
            run(loop.subprocess_exec(Quiet, str(data), **pipes))
    assert fds() == before


def test_bad_pass_fds(loop, run):
    """They are refused in the parent, and nothing is left open. Kludex/zuvloop commits e03f58c, e1012bc"""
    before = fds()
    for bad in ([-1], ["x"], [1 << 40]):
        with pytest.raises((ValueError, TypeError, OverflowError)):
            run(loop.subprocess_exec(Quiet, "true", pass_fds=bad))
    assert fds() == before


def test_closed_loop():
    loop = impl.new_event_loop()
    loop.close()
    for call in (loop.subprocess_exec, loop.subprocess_shell):
        with pytest.raises(RuntimeError, match="closed"):
            call(Quiet, "true")


# ---- Cancelled starts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", range(6))
def test_cancelled_at_every_turn(loop, run, turns):
    """Cancelled wherever it stands, the child is killed and waited for: no hang, no zombie, nothing in __del__.
    python/cpython issues 125502, 103847, 114177"""

    async def main():
        task = loop.create_task(loop.subprocess_exec(Quiet, "sleep", "1000"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            transport, protocol = task.result()
            transport.close()
            await protocol.lost

    run(main())
    gc.collect()


def test_cancelled_twice_then_closed(loop):
    """The second one does not wait any longer; the loop's end leaves no zombie all the same."""

    async def main():
        task = loop.create_task(loop.subprocess_exec(Quiet, "sleep", "1000"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    loop.run_until_complete(main())
    loop.close()
    while has_children():
        os.sched_yield()


def test_timeout_around_a_start(loop, run):
    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await loop.subprocess_exec(Quiet, "sleep", "1000")

    run(main())


def test_dropped_coroutine(loop, run):
    """close() of a start that has begun kills the child, and does not wait."""

    async def main():
        coro = loop.subprocess_exec(Quiet, "sleep", "1000")
        coro.send(None)
        coro.close()
        while has_children():
            await asyncio.sleep(0)

    run(main())


# ---- Descriptors ---------------------------------------------------------------------------------------------

LIST = "import os; print(*sorted(int(n) for n in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + n)))"


def test_child_has_its_own_descriptors_only(loop, run):
    """0 to 2, and what pass_fds names: inheritable ones of the parent's do not leak. Kludex/zuvloop commit e03f58c"""
    reader, writer = os.pipe()
    other = os.dup(reader)
    try:
        for fd in (reader, writer):
            os.set_inheritable(fd, True)
        _, said = run(output_of(sys.executable, "-I", "-c", LIST))
        assert said == b"0 1 2\n"
        _, said = run(output_of(sys.executable, "-I", "-c", LIST, pass_fds=(writer, other)))
        assert said.split() == [b"%d" % fd for fd in sorted([0, 1, 2, writer, other])]
    finally:
        for fd in (reader, writer, other):
            os.close(fd)


def test_blocking_mode_of_shared_descriptors_stays(loop, run):
    """What a child shares with its parent is not made non-blocking, nor blocking. Kludex/zuvloop commit e1012bc"""
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    with ours, theirs:
        theirs.setblocking(False)
        run(output_of("true", stdin=theirs.fileno(), stdout=writer, pass_fds=(theirs.fileno(), reader)))
        assert not os.get_blocking(theirs.fileno())
        assert os.get_blocking(writer)
        assert os.get_blocking(reader)
        stdio = [os.get_blocking(fd) for fd in range(3)]
        run(output_of("true", **NO_PIPES))
        assert [os.get_blocking(fd) for fd in range(3)] == stdio
    os.close(reader)
    os.close(writer)


def test_cat_ends_when_its_stdin_closes(loop, run):
    """No other child holds its stdin open. Kludex/zuvloop commit 5310b9d"""

    async def one(number):
        transport, protocol = await loop.subprocess_exec(Quiet, "cat")
        transport.get_pipe_transport(0).write(b"%d" % number)
        return transport, protocol

    async def main():
        started = await asyncio.gather(*(one(number) for number in range(30)))
        for number, (transport, protocol) in reversed(list(enumerate(started))):
            transport.get_pipe_transport(0).close()
            await protocol.lost
            assert (transport.get_returncode(), protocol.output[1]) == (0, b"%d" % number)
            transport.close()

    run(main())


def test_exec_error_pipe_is_closed_once(loop, run):
    """Another thread's new descriptors are never closed by a start, one that fails or one that works.
    uvloop issue 414"""
    stopped, wrong = threading.Event(), []

    def opener():
        while not stopped.is_set():
            fd = os.open("/dev/zero", os.O_RDONLY)
            try:
                if os.read(fd, 1) != b"\0":
                    wrong.append("not ours")
                os.close(fd)
            except OSError as error:
                wrong.append(error)

    async def main():
        for number in range(60):
            if number % 2:
                await output_of("true")
            else:
                with pytest.raises(FileNotFoundError):
                    await output_of("/no/such/program")

    threads = [threading.Thread(target=opener) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        run(main())
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
    assert not wrong


# ---- Many ------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(120)
def test_a_hundred_from_several_threads():
    """Started and killed at once from four loops in four threads: no zombie, every exit code, every descriptor closed;
    and each loop hears of its own."""
    before = fds()
    barrier = threading.Barrier(4)
    seen, wrong = [], []

    async def one(loop, number):
        code = number % 7
        program = ("sh", "-c", f"exit {code}") if number % 2 else ("sleep", "1000")
        transport, protocol = await loop.subprocess_exec(Quiet, *program)
        if number % 2 == 0:
            transport.kill()
            code = -signal.SIGKILL
        assert asyncio.get_running_loop() is loop
        await protocol.lost
        transport.close()
        seen.append(transport.get_returncode() == code)

    def body():
        loop = impl.new_event_loop()
        try:
            barrier.wait()

            async def main():
                await asyncio.gather(*(one(loop, number) for number in range(25)))

            loop.run_until_complete(main())
        except BaseException as error:
            wrong.append(error)
        finally:
            loop.close()

    threads = [threading.Thread(target=body) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert seen == [True] * 100
    assert fds() == before


def test_descriptors_stay_constant(loop, run):
    async def main():
        counts = set()
        for _ in range(5):
            await asyncio.gather(*(output_of("true") for _ in range(8)))
            counts.add(len(fds()))
        assert len(counts) == 1

    run(main())
