"""Processes with streams: on corolla's loop, and the same ones on the standard library's and on uvloop's."""

import asyncio
import contextlib
import fcntl
import gc
import inspect
import logging
import os
import random
import shlex
import signal
import sys
import threading
import weakref

import corolla
import pytest
from corolla.subprocess import DEVNULL, PIPE, STDOUT, Process, SubprocessStreamProtocol

try:
    import uvloop
except ImportError:
    uvloop = None

LOOPS = {"corolla": corolla.new_event_loop, "asyncio": asyncio.SelectorEventLoop}
if uvloop is not None:
    LOOPS["uvloop"] = uvloop.new_event_loop

# Python without site: a child is there in 10 ms.
PYTHON = (sys.executable, "-I", "-S", "-c")


@pytest.fixture(params=list(LOOPS))
def kind(request):
    return request.param


@pytest.fixture
def on(kind):
    """on(coroutine): run it on a new loop of each kind."""
    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        yield runner.run


@pytest.fixture(scope="module", autouse=True)
def warm():
    """What libuv opens once for all loops, and the standard library for its children, is there before the first test."""
    if uvloop is not None:

        async def main():
            process = await asyncio.create_subprocess_exec("true")
            await process.wait()

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())


def not_uvloops(kind, why):
    if kind == "uvloop":
        pytest.skip(f"uvloop: {why}")


@pytest.fixture
def ours():
    """The same on corolla's alone: for what a loop does, and the streams do not."""
    with asyncio.Runner(loop_factory=corolla.new_event_loop) as runner:
        yield runner.run


def python(source, *args, **options):
    return corolla.create_subprocess_exec(*PYTHON, source, *args, **options)


async def end(process):
    """Nothing of it is left, whatever it was doing."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    if process.stdin is not None:
        process.stdin.close()
        with contextlib.suppress(ConnectionError):
            await process.stdin.wait_closed()
    for reader in process.stdout, process.stderr:
        if reader is not None:
            await reader.read()
    await process.wait()


# ---- communicate() --------------------------------------------------------------------------------------------------


def test_what_a_process_is(on):
    async def main():
        process = await corolla.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        assert type(process) is Process
        assert (type(process.stdin), type(process.stdout)) == (corolla.StreamWriter, corolla.StreamReader)
        assert process.stderr is None
        assert process.returncode is None
        assert repr(process) == f"<Process {process.pid}>"
        os.kill(process.pid, 0)
        assert repr(process._protocol).startswith("<SubprocessStreamProtocol stdin=<StreamWriter ")
        assert isinstance(process._protocol, asyncio.SubprocessProtocol)
        assert await process.communicate(b"hello") == (b"hello", None)
        assert process.returncode == 0

    on(main())


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 5_000_000])
def test_everything_there_and_back(on, size):
    async def main():
        data = random.Random(size).randbytes(size)
        process = await corolla.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        assert await process.communicate(data) == (data, None)
        assert process.returncode == 0

    on(main())


def test_talkative_both_ways(on):
    """A child that writes to both outputs while it is still being written to: nobody waits for the other."""
    source = """if 1:
        import os
        total = 0
        while data := os.read(0, 10_000):
            total += len(data)
            os.write(1, b"o" * len(data) * 2)
            os.write(2, b"e" * len(data))
        os.write(1, b"%d" % total)
    """

    async def main():
        process = await python(source, stdin=PIPE, stdout=PIPE, stderr=PIPE, limit=1000)
        out, err = await process.communicate(b"x" * 1_000_000)
        assert out == b"o" * 2_000_000 + b"1000000"
        assert err == b"e" * 1_000_000
        assert await process.wait() == 0

    on(main())


def test_the_end_of_stdin_without_input(on):
    async def main():
        process = await corolla.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, stderr=STDOUT)
        assert await process.communicate() == (b"", None)
        process = await corolla.create_subprocess_exec("cat", stdin=PIPE, stdout=DEVNULL)
        assert await process.communicate(None) == (None, None)

    on(main())


def test_input_without_stdin(on):
    """Not an error, as in asyncio."""

    async def main():
        process = await corolla.create_subprocess_exec("echo", "hello", stdin=DEVNULL, stdout=PIPE)
        assert await process.communicate(b"nobody reads it") == (b"hello\n", None)

    on(main())


def test_input_that_is_no_bytes(on):
    async def main():
        process = await corolla.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        with pytest.raises((TypeError, AssertionError)):  # the transport's
            await process.communicate("a string")
        assert await process.communicate(bytearray(b"a bytearray")) == (b"a bytearray", None)
        process = await corolla.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        assert await process.communicate(input=memoryview(b"a memoryview")) == (b"a memoryview", None)

    on(main())


def test_input_that_nobody_reads(kind, on):
    """Passed over, whether the child is gone before it is written or while it is."""
    not_uvloops(kind, "write() to a pipe that was closed is a RuntimeError")

    async def main():
        process = await corolla.create_subprocess_exec("true", stdin=PIPE, stdout=PIPE)
        assert await process.communicate(b"x" * 10_000_000) == (b"", None)
        assert process.returncode == 0
        process = await corolla.create_subprocess_exec("true", stdin=PIPE)
        await process.wait()
        assert await process.communicate(b"x" * 10_000_000) == (None, None)
        process = await corolla.create_subprocess_shell(
            "head -c 1000; exec <&-; echo; echo done", stdin=PIPE, stdout=PIPE
        )
        out, _ = await process.communicate(b"x" * 10_000_000)
        assert out == b"x" * 1000 + b"\ndone\n"

    on(main())


def test_communicate_with_a_process_that_has_ended(on):
    async def main():
        process = await corolla.create_subprocess_exec("echo", "hello", stdout=PIPE)
        await process.wait()
        assert await process.communicate() == (b"hello\n", None)
        assert await process.communicate() == (b"", None)

    on(main())


def test_cancelled_and_called_again(kind, on):
    """Nothing that had come is lost: neither of one output that had ended, nor of one that had not.

    Seen in python/cpython issue 125502, and in the manual's word on subprocess.Popen.communicate().
    """
    not_uvloops(kind, "its children have the pipes twice, and so no end of one that they close")

    async def main():
        source = "import os; os.close(2); os.write(1, b'first '); os.read(0, 1); os.write(1, b'second')"
        process = await python(source, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        task = asyncio.ensure_future(process.communicate(b""))
        # It has stdin's pipe closed, so that the child ends; that is not what this is about.
        await asyncio.wait([task])
        assert task.result() == (b"first second", b"")

        source = (
            "import os; os.write(2, b'error'); os.close(2); os.write(1, b'first '); os.kill(os.getpid(), 19); "
            "os.write(1, b'second')"
        )
        process = await python(source, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        for _ in range(3):
            task = asyncio.ensure_future(process.communicate())
            # The child has stopped itself, and all it had said is in the pipes.
            await asyncio.to_thread(os.waitid, os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
            while process.stdout._buffer != b"first " or not process.stderr._eof:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        process.send_signal(signal.SIGCONT)
        assert await process.communicate() == (b"first second", b"error")

    on(main())


def test_a_deadline_while_input_is_on_its_way(on):
    async def main():
        process = await corolla.create_subprocess_exec("sh", "-c", "kill -STOP $$; cat", stdin=PIPE, stdout=PIPE)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await process.communicate(b"x" * 1_000_000)
        await asyncio.to_thread(os.waitid, os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        process.send_signal(signal.SIGCONT)
        # What was written has been written; the rest of the conversation goes on.
        assert await process.communicate() == (b"x" * 1_000_000, None)

    on(main())


def test_two_that_read_the_same(on):
    async def main():
        process = await corolla.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        reading = asyncio.ensure_future(process.stdout.read())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already waiting"):
            await process.communicate(b"x")
        assert await reading == b"x"
        await process.wait()

    on(main())


def test_what_a_reader_is_given_as_exception(on):
    async def main():
        process = await corolla.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)
        task = asyncio.ensure_future(process.communicate(b"x" * 1_000_000))
        await asyncio.sleep(0)
        process._protocol.pipe_connection_lost(2, ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            await task
        with pytest.raises(ZeroDivisionError):
            await process.communicate()
        process.stderr._exception  # it stays
        process.kill()
        process.stdin.close()
        await process.stdout.read()
        await process.wait()

    on(main())


# ---- Streams of a process -------------------------------------------------------------------------------------------


def test_lines_and_an_end_without_one(on):
    async def main():
        process = await corolla.create_subprocess_exec("printf", r"one\ntwo\nthree", stdout=PIPE)
        assert [line async for line in process.stdout] == [b"one\n", b"two\n", b"three"]
        assert process.stdout.at_eof()
        assert await process.wait() == 0

    on(main())


def test_a_conversation(on):
    async def main():
        process = await python(
            "import sys\nfor line in sys.stdin: print(line.upper(), end='', flush=True)", stdin=PIPE, stdout=PIPE
        )
        for i in range(200):
            process.stdin.write(b"line %d\n" % i)
            await process.stdin.drain()
            assert await process.stdout.readline() == b"LINE %d\n" % i
        process.stdin.close()
        await process.stdin.wait_closed()
        assert await process.stdout.read() == b""
        assert await process.wait() == 0

    on(main())


def test_limits(on):
    async def main():
        process = await corolla.create_subprocess_exec("printf", "%05000d\\nend\\n", "0", stdout=PIPE, limit=100)
        with pytest.raises(asyncio.LimitOverrunError):
            await process.stdout.readuntil(b"\n")
        with pytest.raises(ValueError, match="limit"):
            while await process.stdout.readline() != b"end\n":
                pass
        await process.communicate()

    on(main())


def test_the_child_waits_for_those_who_do_not_read(on):
    """Back-pressure through the pipe: neither we nor the pipe take more than they should."""

    async def main():
        process = await python("import os\nfor _ in range(1000): os.write(1, b'x' * 10_000)", stdout=PIPE, limit=1000)
        while not process.stdout._paused:
            await asyncio.sleep(0)
        # What is in the buffer is at most what was read at once.
        for _ in range(100):
            await asyncio.sleep(0)
            assert len(process.stdout._buffer) < 2_000_000
        assert process.returncode is None
        assert await process.stdout.readexactly(10) == b"x" * 10
        assert len(await process.stdout.readexactly(5_000_000)) == 5_000_000
        assert len(await process.stdout.read()) == 4_999_990
        assert await process.wait() == 0

    on(main())


def test_drain_waits_for_the_child(on):
    async def main():
        process = await corolla.create_subprocess_exec("sh", "-c", "read line; cat", stdin=PIPE, stdout=PIPE)
        process._transport.get_pipe_transport(0).set_write_buffer_limits(1000)
        process.stdin.write(b"x" * 1_000_000)
        waiting = [asyncio.ensure_future(process.stdin.drain()) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        waiting[1].cancel()
        process.stdin.write(b"\nrest")
        process.stdin.close()
        assert process.stdin.is_closing()
        assert await process.stdout.read() == b"rest"
        await asyncio.gather(waiting[0], waiting[2])
        await asyncio.gather(process.stdin.wait_closed(), process.stdin.wait_closed())
        assert await process.wait() == 0

    on(main())


def test_nobody_reads_stdin_any_more(kind, on):
    """A loop of write() and drain() ends, and wait_closed() says why."""
    not_uvloops(kind, "write() to a pipe that was closed is a RuntimeError")

    async def main():
        process = await corolla.create_subprocess_exec("true", stdin=PIPE)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while True:
                process.stdin.write(b"x" * 100_000)
                await process.stdin.drain()
        await process.wait()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await process.stdin.wait_closed()
        with pytest.raises(ConnectionResetError):
            await process.stdin.drain()

    on(main())


def test_wait_closed_of_something_else(on):
    async def main():
        process = await corolla.create_subprocess_exec("cat", stdin=PIPE)
        other = corolla.StreamWriter(process.stdin.transport, process._protocol, None, asyncio.get_running_loop())
        with pytest.raises(TypeError):
            await other.wait_closed()
        assert process._protocol._get_close_waiter(other) is None
        process.stdin.close()
        assert await process._protocol._get_close_waiter(process.stdin) is None
        assert await process.wait() == 0

    on(main())


# ---- wait() ---------------------------------------------------------------------------------------------------------


def test_wait_of_several_tasks(on):
    async def main():
        process = await corolla.create_subprocess_exec("sh", "-c", "read line; exit 5", stdin=PIPE)
        waiting = [asyncio.ensure_future(process.wait()) for _ in range(10)]
        await asyncio.sleep(0)
        waiting[3].cancel()
        process.stdin.write(b"\n")
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(results.pop(3), asyncio.CancelledError)
        assert results == [5] * 9
        # It has ended: there is nothing to wait for.
        with pytest.raises(StopIteration) as caught:
            process.wait().send(None)
        assert caught.value.value == 5
        process.stdin.close()

    on(main())


def test_wait_while_a_grandchild_holds_the_output(on):
    """The end of the process and the end of its output are two things.

    Seen in python/cpython PR 151983 (issue 119710), and agronholm/anyio's changelog 4.14.1 (issue 1174).
    """

    async def main():
        # The grandchild has stdout, and reads from a pipe that ends with us.
        ours, theirs = os.pipe()
        command = "exec 3<&0; cat <&3 & echo started; exit 7"
        process = await corolla.create_subprocess_shell(command, stdin=ours, stdout=PIPE)
        os.close(ours)
        assert await process.wait() == 7
        assert process.returncode == 7
        assert await process.stdout.readline() == b"started\n"
        assert not process.stdout.at_eof()
        os.write(theirs, b"later")
        assert await process.stdout.readexactly(5) == b"later"
        os.close(theirs)
        assert await process.communicate() == (b"", None)

    on(main())


def test_wait_in_threads_and_without_a_current_loop(kind):
    """The loop that made the process gets its end, whatever the thread.

    Seen in python/cpython issue 95899, and python/asyncio issues 281 and 478.
    """
    not_uvloops(kind, "children in the main thread only")
    codes = {}

    async def main(number):
        processes = [await corolla.create_subprocess_exec("sh", "-c", f"exit {number}") for _ in range(5)]
        codes[number] = [await process.wait() for process in processes]
        process = await corolla.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        assert await process.communicate(b"x") == (b"x", None)

    def run(number):
        loop = LOOPS[kind]()
        try:
            loop.run_until_complete(main(number))
        finally:
            loop.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == {number: [number] * 5 for number in range(1, 5)}


# ---- Signals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["terminate", "kill", "send_signal"])
def test_signals(on, how):
    async def main():
        process = await corolla.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        expected = {"terminate": signal.SIGTERM, "kill": signal.SIGKILL, "send_signal": signal.SIGHUP}[how]
        assert getattr(process, how)(*([signal.SIGHUP] if how == "send_signal" else [])) is None
        assert await process.wait() == -expected
        assert await process.communicate() == (b"", None)

    on(main())


def test_signals_to_a_process_that_has_ended(on):
    """They hit nobody else.

    Seen in python/cpython issue 127049.
    """

    async def main():
        process = await corolla.create_subprocess_exec("true")
        await process.wait()
        for _ in range(3):
            for send in process.kill, process.terminate, lambda: process.send_signal(0):
                with contextlib.suppress(ProcessLookupError):
                    send()
                    pytest.fail("nothing raised")

    on(main())


# ---- What is passed on ----------------------------------------------------------------------------------------------


def test_shell_quoting(on):
    async def main():
        nasty = 'it\'s "$HOME" `ls` \\ ; exit 3 #\n\u00e9'
        command = "printf %s " + shlex.quote(nasty)
        for given in command, command.encode():
            process = await corolla.create_subprocess_shell(given, stdout=PIPE)
            out, _ = await process.communicate()
            assert out.decode() == nasty
        process = await corolla.create_subprocess_shell("cat; echo error >&2", PIPE, PIPE, STDOUT, 1000)
        assert process.stdout._limit == 1000
        assert await process.communicate(b"x") == (b"xerror\n", None)
        process = await corolla.create_subprocess_shell(cmd="exit 3")
        assert await process.wait() == 3

    on(main())


def test_environment_directory_and_descriptors(on, tmp_path):
    async def main():
        with open(tmp_path / "file", "wb") as file:
            process = await corolla.create_subprocess_exec(
                "sh",
                "-c",
                f"pwd; echo $GREETING; echo there >/proc/self/fd/{file.fileno()}",
                stdout=PIPE,
                env={"GREETING": "hello", "PATH": os.environ["PATH"]},
                cwd=tmp_path,
                pass_fds=(file.fileno(),),
            )
            assert await process.communicate() == (f"{tmp_path}\nhello\n".encode(), None)
        assert (tmp_path / "file").read_bytes() == b"there\n"
        with open(tmp_path / "file", "wb") as file:
            process = await corolla.create_subprocess_exec("echo", "to a file", stdout=file)
            assert process.stdout is None
            assert await process.wait() == 0
        assert (tmp_path / "file").read_bytes() == b"to a file\n"

    on(main())


def test_bytes_and_paths(on):
    async def main():
        import pathlib

        for program in b"echo", "echo", pathlib.Path("/bin/echo"):
            process = await corolla.create_subprocess_exec(program, b"\xff\xfe", "str", stdout=PIPE)
            assert await process.communicate() == (b"\xff\xfe str\n", None)
        process = await corolla.create_subprocess_exec(program="true")
        assert await process.wait() == 0

    on(main())


def test_programs_that_are_not_there(kind, on, tmp_path):
    not_uvloops(kind, "leaves the pipes open")

    async def main():
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            with pytest.raises(FileNotFoundError):
                await corolla.create_subprocess_exec(str(tmp_path / "nothing"), stdin=PIPE, stdout=PIPE, stderr=PIPE)
            with pytest.raises(PermissionError):
                await corolla.create_subprocess_exec(str(tmp_path), stdout=PIPE)
        assert len(os.listdir("/proc/self/fd")) <= before + 2

    on(main())


def test_arguments(on):
    async def main():
        for call in (
            lambda: corolla.create_subprocess_exec(),
            lambda: corolla.create_subprocess_shell(),
            lambda: corolla.create_subprocess_exec("true", program="true"),
            lambda: corolla.create_subprocess_shell("true", cmd="true"),
            lambda: corolla.create_subprocess_shell("true", None, stdin=None),
            lambda: corolla.create_subprocess_shell("true", None, None, None, 10, 11),
            lambda: corolla.create_subprocess_exec("true", limit="many"),
        ):
            with pytest.raises(TypeError):
                call().close()
        for limit in 0, -1:
            with pytest.raises(ValueError, match="Limit"):
                corolla.create_subprocess_exec("true", limit=limit)
        for options in (
            {"universal_newlines": True},
            {"shell": True},
            {"bufsize": 1},
            {"text": True},
            {"encoding": "ascii"},
        ):
            with pytest.raises(ValueError):
                await corolla.create_subprocess_exec("true", **options)

    on(main())


def test_arguments_of_the_loop(ours):
    async def main():
        with pytest.raises(TypeError):
            await corolla.create_subprocess_exec("true", loop=asyncio.get_running_loop())
        with pytest.raises(TypeError):
            await corolla.create_subprocess_exec("true", 5)
        with pytest.raises(ValueError):
            await corolla.create_subprocess_shell(["true"])

    ours(main())


def test_outside_a_loop():
    coro = corolla.create_subprocess_exec("true")
    with pytest.raises(RuntimeError, match="no running event loop"):
        coro.send(None)


def test_what_they_are():
    for function in corolla.create_subprocess_exec, corolla.create_subprocess_shell, Process.wait, Process.communicate:
        assert inspect.iscoroutinefunction(function)
    assert (PIPE, STDOUT, DEVNULL) == (-1, -2, -3)


# ---- Many -----------------------------------------------------------------------------------------------------------


def test_a_hundred_at_once(on):
    """Each gets its own bytes, and the end of its own stdin.

    Seen in Kludex/zuvloop commit 5310b9d.
    """

    async def one(number):
        data = b"%d\n" % number * 1000
        process = await corolla.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        assert await process.communicate(data) == (data, None)
        return process.returncode

    async def main():
        assert await asyncio.gather(*map(one, range(100))) == [0] * 100

    on(main())


def test_a_hundred_killed_at_once(on):
    async def main():
        processes = await asyncio.gather(
            *[corolla.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE) for _ in range(100)]
        )
        for process in processes:
            process.kill()
        assert await asyncio.gather(*[process.wait() for process in processes]) == [-signal.SIGKILL] * 100
        for process in processes:
            await end(process)

    on(main())


# ---- Cancellation and the end of the loop ---------------------------------------------------------------------------


# What is dropped open, says so.
LEFT_OPEN = pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning",
    "ignore:loop is closed:ResourceWarning",
    "ignore:subprocess .* is still running:ResourceWarning",
)


def children():
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return set(map(int, file.read().split()))


@LEFT_OPEN
def test_cancelled_at_every_await():
    """Then the loop ends: nothing hangs, no child is left, nothing is raised where nobody sees it.

    Seen in python/cpython issues 125502, 103847 and 114177.
    """

    async def work():
        process = await corolla.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        out, _ = await process.communicate(b"x" * 100_000)
        return len(out)

    async def main(turns):
        task = asyncio.ensure_future(work())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            assert await task == 100_000

    before = children()
    for turns in range(40):
        with asyncio.Runner(loop_factory=corolla.new_event_loop) as runner:
            runner.run(main(turns))
        del runner
        gc.collect()
        assert wait_for_children(before)


def wait_for_children(before):
    """Those that are left end by themselves, since their stdin does; nobody has them as zombies but us."""
    for pid in children() - before:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    return children() <= before


@LEFT_OPEN
def test_collected_after_the_loop():
    """Seen in python/cpython issue 114177."""
    kept = []

    async def main():
        process = await corolla.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)
        process.stdin.write(b"x" * 1_000_000)
        kept.append(process)

    before = children()
    loop = corolla.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    process = kept.pop()
    ref, pid = weakref.ref(process), process.pid
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    del process
    gc.collect()
    assert ref() is None
    assert wait_for_children(before)


def test_sigchld_ignored(ours):
    """Inherited by a program that never looked.

    Seen in python/cpython issue 76296 (bpo-32115).
    """

    async def main():
        before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            process = await corolla.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
            assert await process.communicate(b"x") == (b"x", None)
            await process.wait()
            assert process.returncode is not None
        finally:
            signal.signal(signal.SIGCHLD, before)

    ours(main())


# ---- Debug mode -----------------------------------------------------------------------------------------------------


def test_debug_lines_are_asyncios(kind, caplog):
    not_uvloops(kind, "write() to a pipe that was closed is a RuntimeError")
    caplog.set_level(logging.DEBUG, "asyncio")

    async def main(create):
        said = []
        for command, data in (
            ("cat", b"hello"),
            ("cat", b""),
            ("cat >&2", b"x" * 1_000_000),
            ("exec <&-", b"x" * 1_000_000),
        ):
            process = await create(command, stdin=PIPE, stdout=PIPE, stderr=PIPE)
            if "&-" in command:
                await process.wait()
                while not process._protocol._connection_lost:
                    await asyncio.sleep(0)
            caplog.clear()
            await process.communicate(data)
            said.append([r.getMessage().replace(str(process.pid), "PID") for r in caplog.records])
        return [[line for line in lines if "communicate" in line] for lines in said]

    lines = []
    for create in corolla.create_subprocess_shell, asyncio.create_subprocess_shell:
        with asyncio.Runner(loop_factory=LOOPS[kind], debug=True) as runner:
            lines.append(runner.run(main(create)))
    ours, theirs = lines
    assert sorted(ours[0]) == sorted(
        [
            "<Process PID> communicate: feed stdin (5 bytes)",
            "<Process PID> communicate: close stdin",
            "<Process PID> communicate: read stdout",
            "<Process PID> communicate: read stderr",
            "<Process PID> communicate: close stdout",
            "<Process PID> communicate: close stderr",
        ]
    )
    # The order of the two ends is the system's.
    assert [sorted(group) for group in ours[:3]] == [sorted(group) for group in theirs[:3]]
    assert any("stdin got " in line for line in ours[3])


# ---- Protocols and streams of others --------------------------------------------------------------------------------


def test_a_protocol_of_ones_own(on):
    """A subclass with streams of its own: communicate() uses their public methods."""

    class Reader(corolla.StreamReader):
        def feed_data(self, data):
            super().feed_data(data.upper())

    class Own(SubprocessStreamProtocol):
        exited = False

        def connection_made(self, transport):
            super().connection_made(transport)
            self.stdout = Reader(loop=asyncio.get_running_loop())

        def process_exited(self):
            self.exited = True
            super().process_exited()

    async def main():
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.subprocess_exec(lambda: Own(1000, loop), "cat", stdin=PIPE, stdout=PIPE)
        process = Process(transport, protocol, loop)
        assert process.stdout is protocol.stdout
        assert repr(protocol).startswith("<Own ")
        out, err = await process.communicate(b"hello" * 100_000)
        assert out == b"HELLO" * 100_000
        assert err == b""
        assert await process.wait() == process.returncode == 0
        while not protocol.exited:  # asyncio has set the return code, and may not have come to tell yet
            await asyncio.sleep(0)

    on(main())


def test_the_standard_librarys_protocol(on):
    async def main():
        loop = asyncio.get_running_loop()
        factory = asyncio.subprocess.SubprocessStreamProtocol
        transport, protocol = await loop.subprocess_exec(lambda: factory(1000, loop), "cat", stdin=PIPE, stdout=PIPE)
        process = Process(transport, protocol, loop)
        waiting = asyncio.ensure_future(process.wait())
        assert await process.communicate(b"x" * 1_000_000) == (b"x" * 1_000_000, b"")
        assert await waiting == 0
        little = (
            "head -c 1 >/dev/null"  # it lives until something is written: uvloop refuses to write to what has ended
        )
        transport, protocol = await loop.subprocess_shell(lambda: factory(1000, loop), little, stdin=PIPE)
        process = Process(transport, protocol, loop)
        assert await process.communicate(b"x" * 1_000_000) == (b"", b"")
        assert process.returncode == 0

    on(main())


def test_a_subclass_of_process(on):
    class Own(Process):
        waited = 0

        def wait(self):
            self.waited += 1
            return super().wait()

    async def main():
        made = await corolla.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        process = Own(made._transport, made._protocol, asyncio.get_running_loop())
        assert repr(process) == f"<Own {made.pid}>"
        assert await process.communicate(b"x") == (b"x", None)
        assert process.waited == 1

    on(main())


def test_the_protocol_by_hand(run, loop):
    protocol = SubprocessStreamProtocol(limit=10, loop=loop)
    assert repr(protocol) == "<SubprocessStreamProtocol>"
    assert (protocol.stdin, protocol.stdout, protocol.stderr, protocol._pipe_fds) == (None, None, None, [])
    protocol.pipe_data_received(1, b"nobody has it")
    protocol.pipe_data_received(5, b"nobody has it")
    protocol.pipe_connection_lost(1, None)
    protocol.process_exited()
    protocol.process_exited()
    protocol.stdout = corolla.StreamReader(loop=loop)
    protocol.pipe_data_received(fd=1, data=b"data")
    protocol.pipe_connection_lost(fd=1, exc=None)
    assert run(protocol.stdout.read()) == b"data"
    protocol.pause_writing()
    with pytest.raises(AssertionError):
        protocol.pause_writing()
    protocol.pipe_connection_lost(0, ConnectionAbortedError("gone"))
    with pytest.raises(ConnectionAbortedError):
        run(asyncio.wait_for(protocol._stdin_closed, 10))
    protocol.connection_lost(None)
    with pytest.raises(ConnectionResetError):
        run(protocol._drain_helper())
    for bad in (lambda: protocol.pipe_data_received("1", b""), lambda: protocol.pipe_connection_lost(1)):
        with pytest.raises(TypeError):
            bad()
    with pytest.raises(ValueError, match="Limit"):
        SubprocessStreamProtocol(0, loop)


def test_half_made():
    process, protocol = Process.__new__(Process), SubprocessStreamProtocol.__new__(SubprocessStreamProtocol)
    assert repr(process) == "<Process None>"
    assert repr(protocol) == "<SubprocessStreamProtocol>"
    for call in (
        lambda: process.returncode,
        process.kill,
        lambda: process.send_signal(9),
        lambda: process.wait().send(None),
        lambda: process.communicate().send(None),
        lambda: protocol.connection_made(None),
        lambda: protocol.connection_lost(None),
        lambda: protocol.process_exited(),
        lambda: protocol.pipe_connection_lost(0, None),
        lambda: protocol._stdin_closed,
    ):
        with pytest.raises(RuntimeError, match="not initialized"):
            call()


def test_a_busy_pipe_grows(run):
    """Only one that more goes through than it holds; the kernel has an allowance for each user."""

    async def main():
        process = await corolla.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        pipes = [process._transport.get_pipe_transport(fd).get_extra_info("pipe") for fd in (0, 1)]
        before = [fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) for pipe in pipes]
        for _ in range(5):
            for _ in range(3):  # in one turn: they learn to wait for each other
                process.stdin.write(b"little")
            assert await process.stdout.readexactly(18) == b"little" * 3
        assert [fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) for pipe in pipes] == before
        process.stdin.write(b"x" * 1_000_000)
        after = fcntl.fcntl(pipes[0], fcntl.F_GETPIPE_SZ)
        assert after == (256 * 1024 if before[0] == 64 * 1024 else before[0])  # less: the user is over the allowance
        assert await process.stdout.readexactly(1_000_000) == b"x" * 1_000_000
        process.stdin.close()
        assert await process.wait() == 0

    run(main())
