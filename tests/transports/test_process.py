"""Subprocess transports: what the protocol is told and when, signals, close(), and how they end."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import warnings
import weakref

import corolla
import pytest


class Recorder(asyncio.SubprocessProtocol):
    """Keeps what it is told."""

    def __init__(self):
        loop = asyncio.get_running_loop()
        self.events, self.data = [], {1: b"", 2: b""}
        self.exited, self.lost = loop.create_future(), loop.create_future()
        self.arrived = asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport
        self.events.append("made")

    def pipe_data_received(self, fd, data):
        if self.events[-1] != ("data", fd):
            self.events.append(("data", fd))
        self.data[fd] += data
        self.arrived.set()

    def pipe_connection_lost(self, fd, exc):
        self.events.append(("lost", fd, exc))

    def process_exited(self):
        self.events.append("exited")
        self.exited.set_result(self.transport.get_returncode())

    def connection_lost(self, exc):
        self.events.append(("connection lost", exc))
        self.lost.set_result(None)


@contextlib.asynccontextmanager
async def running(*program, factory=Recorder, **kwargs):
    """(transport, protocol) of a child that is gone at the end."""
    transport, protocol = await asyncio.get_running_loop().subprocess_exec(factory, *program, **kwargs)
    try:
        yield transport, protocol
    finally:
        transport.close()
        await transport._wait()
        await protocol.lost


def is_child(pid):
    """Whether it runs, or is a zombie of ours."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) or True
    except ChildProcessError:
        return False


def wait_until_reaped(pid):
    """By a thread of nobody in particular: no event tells."""
    while is_child(pid):
        os.sched_yield()


def python(code):
    return sys.executable, "-I", "-c", code


# Ends with 5 once it is told to, and nobody has noticed before we await something.
WAITING = ("sh", "-c", "read line; exit 5")


def end(transport):
    transport.get_pipe_transport(0).write(b"\n")


# ---- What the protocol is told ---------------------------------------------------------------------


def test_pipes_carry_and_end(run):
    async def main():
        async with running("cat") as (transport, protocol):
            assert protocol.events == ["made"]
            stdin = transport.get_pipe_transport(0)
            stdin.write(b"x" * 1_000_000)
            stdin.write_eof()
            await protocol.lost
            assert protocol.data == {1: b"x" * 1_000_000, 2: b""}
            assert protocol.events[0] == "made"
            assert protocol.events[-1] == ("connection lost", None)
            told = [event for event in protocol.events if event != ("data", 1)]
            assert sorted(told[1:-1], key=str) == [("lost", 0, None), ("lost", 1, None), ("lost", 2, None), "exited"]

    run(main())


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_exit_code(run, code):
    async def main():
        async with running("sh", "-c", f"exit {code}") as (transport, protocol):
            assert transport.get_returncode() in (None, code)
            assert await transport._wait() == code
            assert await protocol.exited == code
            assert await transport._wait() == code
            assert transport.get_returncode() == code

    run(main())


def test_without_pipes_it_ends_with_the_process(run):
    async def main():
        async with running("true", stdin=None, stdout=subprocess.DEVNULL, stderr=None) as (transport, protocol):
            assert [transport.get_pipe_transport(fd) for fd in (0, 1, 2, 3, -1, "x")] == [None] * 6
            await protocol.lost
            assert protocol.events == ["made", "exited", ("connection lost", None)]

    run(main())


def test_stderr_into_stdout(run):
    async def main():
        async with running("sh", "-c", "echo out; echo err >&2", stderr=subprocess.STDOUT) as (transport, protocol):
            await protocol.lost
            assert protocol.data[1] == b"out\nerr\n"
            assert transport.get_pipe_transport(2) is None

    run(main())


def test_pipes_close_before_the_process_ends(run):
    """process_exited() comes at once, connection_lost() when all is over."""

    async def main():
        code = "import os, sys; os.close(1); os.close(2); sys.stdin.read()"
        async with running(*python(code)) as (transport, protocol):
            while len(protocol.events) < 3:
                await asyncio.sleep(0)
            assert sorted(protocol.events[1:]) == [("lost", 1, None), ("lost", 2, None)]
            assert transport.get_returncode() is None
            transport.get_pipe_transport(0).close()
            assert await protocol.exited == 0
            await protocol.lost
            assert protocol.events[-1] == ("connection lost", None)

    run(main())


def test_wait_does_not_wait_for_a_grandchild(run):
    """wait() ends with the process; that a grandchild holds its stdout is told apart. python/cpython PR 151983"""

    async def main():
        # The grandchild lives until its end of this pipe says that ours is closed.
        theirs, ours = os.pipe()
        code = f"import os\nif os.fork() == 0: os.read({theirs}, 1)"
        async with running(*python(code), pass_fds=(theirs,)) as (transport, protocol):
            os.close(theirs)
            assert await transport._wait() == 0
            assert protocol.events == ["made", "exited"]
            os.close(ours)
            await protocol.lost
            assert protocol.events[-1] == ("connection lost", None)

    run(main())


def test_exceptions_of_the_protocol_are_reported(run, reports):
    class Raising(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            raise ZeroDivisionError("made")

        def pipe_data_received(self, fd, data):
            super().pipe_data_received(fd, data)
            raise ZeroDivisionError("data")

        def pipe_connection_lost(self, fd, exc):
            super().pipe_connection_lost(fd, exc)
            raise ZeroDivisionError("pipe lost")

        def process_exited(self):
            super().process_exited()
            raise ZeroDivisionError("exited")

        def connection_lost(self, exc):
            super().connection_lost(exc)
            raise ZeroDivisionError("lost")

    async def main():
        program = ("sh", "-c", "echo hello; exec 1>&-; exit 3")
        async with running(*program, factory=Raising, stderr=None, stdin=None) as (transport, protocol):
            assert await transport._wait() == 3
            await protocol.lost
            assert protocol.data[1] == b"hello\n"

    run(main())
    said = sorted(str(context["exception"]) for context in reports)
    assert said == ["data", "exited", "lost", "made", "pipe lost"]
    assert all(isinstance(context["transport"], corolla.ProcessTransport) for context in reports)
    reports.clear()


@pytest.mark.parametrize("method", ["connection_made", "pipe_data_received", "process_exited", "connection_lost"])
def test_keyboard_interrupt_leaves_the_loop(loop, method):
    class Leaving(Recorder):
        pass

    def leave(self, *args):
        getattr(Recorder, method)(self, *args)
        raise KeyboardInterrupt

    setattr(Leaving, method, leave)
    made = []

    async def main():
        async with running("echo", "hello", factory=lambda: made.append(Leaving()) or made[0]) as (_, protocol):
            await protocol.lost

    task = loop.create_task(main())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(task)
    loop.run_until_complete(task)
    assert made[0].events[-1] == ("connection lost", None)


def test_context(run):
    """Protocols are called in a copy of the context that the process was started in."""
    import contextvars

    var = contextvars.ContextVar("var")
    seen = []

    class Looking(Recorder):
        def look(self, name, *args):
            seen.append(var.get())
            getattr(Recorder, name)(self, *args)

        def connection_made(self, *args):
            self.look("connection_made", *args)

        def pipe_data_received(self, *args):
            self.look("pipe_data_received", *args)

        def pipe_connection_lost(self, *args):
            self.look("pipe_connection_lost", *args)

        def process_exited(self, *args):
            self.look("process_exited", *args)

        def connection_lost(self, *args):
            self.look("connection_lost", *args)

    async def main():
        var.set("here")
        async with running("echo", "hello", factory=Looking) as (_, protocol):
            var.set("elsewhere")
            await protocol.lost

    run(main())
    assert seen == ["here"] * 7


def test_flow_control_of_stdin(run):
    async def main():
        class Paused(Recorder):
            def pause_writing(self):
                self.events.append("pause")

            def resume_writing(self):
                self.events.append("resume")

        async with running("cat", factory=Paused, stdout=subprocess.DEVNULL) as (transport, protocol):
            stdin = transport.get_pipe_transport(0)
            stdin.write(bytes(10_000_000))
            assert protocol.events == ["made", "pause"]
            stdin.write_eof()
            await protocol.lost
            assert protocol.events[:2] == ["made", "pause"]

    run(main())


def test_reading_can_be_paused(run):
    async def main():
        async with running("cat") as (transport, protocol):
            stdout = transport.get_pipe_transport(1)
            stdout.pause_reading()
            transport.get_pipe_transport(0).write(b"hello")
            for _ in range(10):
                await asyncio.sleep(0)
            assert protocol.data[1] == b""
            stdout.resume_reading()
            await protocol.arrived.wait()
            assert protocol.data[1] == b"hello"

    run(main())


def test_set_protocol(run):
    async def main():
        async with running("cat") as (transport, protocol):
            assert transport.get_protocol() is protocol
            other = Recorder()
            other.events.append("made")
            other.transport = transport
            transport.set_protocol(other)
            transport.get_pipe_transport(0).write(b"hello")
            transport.get_pipe_transport(0).write_eof()
            await other.lost
            assert other.data[1] == b"hello"
            assert protocol.events == ["made"]
            assert transport.get_protocol() is None
            protocol.lost.set_result(None)

    run(main())


# ---- Signals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("send", "code"),
    [
        (lambda t: t.send_signal(signal.SIGHUP), -signal.SIGHUP),
        (lambda t: t.send_signal(signal=10), -10),
        (lambda t: t.terminate(), -signal.SIGTERM),
        (lambda t: t.kill(), -signal.SIGKILL),
    ],
)
def test_signals(run, send, code):
    async def main():
        async with running("sleep", "1000") as (transport, protocol):
            send(transport)
            assert await transport._wait() == code
            assert await protocol.exited == code

    run(main())


@pytest.mark.parametrize(
    ("number", "error"),
    [(12345, OSError), (-1, OSError), (1 << 40, OverflowError), ("9", TypeError), (None, TypeError)],
)
def test_bad_signals(run, number, error):
    async def main():
        async with running("cat") as (transport, _):
            with pytest.raises(error):
                transport.send_signal(number)
            transport.send_signal(0)

    run(main())


def test_signals_after_the_end(run):
    """Once the return code is there, nobody is signalled: the number may be another's. python/cpython issue 127049"""

    async def main():
        async with running("sh", "-c", "exit 0") as (transport, protocol):
            await transport._wait()
            for call in (lambda: transport.send_signal(0), transport.terminate, transport.kill):
                with pytest.raises(ProcessLookupError):
                    call()
            await protocol.lost
            with pytest.raises(ProcessLookupError):
                transport.kill()

    run(main())


def test_signals_before_the_end_is_noticed(run):
    """A zombie still has its number, and takes signals: no error, and its own exit code."""

    async def main():
        async with running(*WAITING) as (transport, protocol):
            end(transport)
            os.waitid(os.P_PID, transport.get_pid(), os.WEXITED | os.WNOWAIT)
            transport.kill()
            assert transport.get_returncode() is None
            assert await protocol.exited == 5

    run(main())


# ---- Exit status and SIGCHLD -------------------------------------------------------------------------


def test_stolen_status(run, caplog):
    """255 with a warning, and nothing left open. python/cpython PR 17477, PR 151186"""

    async def main():
        async with running(*WAITING) as (transport, protocol):
            end(transport)
            os.waitpid(transport.get_pid(), 0)
            assert await transport._wait() == 255
            assert await protocol.exited == 255
        return transport.get_pid()

    pid = run(main())
    assert caplog.messages == [f"Unknown child process pid {pid}, will report returncode 255"]


def test_status_taken_by_the_popen(run, caplog):
    """What somebody waited for on the Popen itself is not lost."""

    async def main():
        async with running(*WAITING) as (transport, protocol):
            end(transport)
            assert transport.get_extra_info("subprocess").wait() == 5
            with pytest.raises(ProcessLookupError):
                transport.kill()
            assert await protocol.exited == 5

    run(main())
    assert not caplog.messages


@pytest.fixture
def sigchld():
    before = signal.getsignal(signal.SIGCHLD)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield
    signal.signal(signal.SIGCHLD, before)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def test_sigchld_ignored(run, sigchld, caplog):
    """The kernel keeps no status then; the end is noticed all the same. python/cpython issue 76296"""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    async def main():
        async with running("cat") as (transport, protocol):
            transport.get_pipe_transport(0).close()
            assert await transport._wait() == 255
            await protocol.lost

    run(main())
    assert len(caplog.messages) == 1


def test_sigchld_blocked(run, sigchld):
    """python/cpython issue 76296"""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])

    async def main():
        async with running("sh", "-c", "exit 5") as (transport, _):
            assert await transport._wait() == 5

    run(main())


def test_sigchld_handled(run, sigchld):
    """A program's own handler is called, and ours is no other. python/cpython issue 76296"""
    seen = []
    signal.signal(signal.SIGCHLD, lambda *args: seen.append(args))
    handler = signal.getsignal(signal.SIGCHLD)

    async def main():
        async with running("sh", "-c", "exit 5") as (transport, _):
            assert await transport._wait() == 5

    run(main())
    assert seen
    assert signal.getsignal(signal.SIGCHLD) is handler


# ---- close() and the end -----------------------------------------------------------------------------


def test_close_kills(run):
    async def main():
        transport, protocol = await asyncio.get_running_loop().subprocess_exec(Recorder, "sleep", "1000")
        assert not transport.is_closing()
        transport.close()
        transport.close()
        assert transport.is_closing()
        assert await transport._wait() == -signal.SIGKILL
        await protocol.lost
        lost = [("lost", fd, None) for fd in range(3)]
        assert protocol.events == ["made", *lost, "exited", ("connection lost", None)]
        assert not is_child(transport.get_pid())

    run(main())


def test_close_calls_the_kill_of_the_popen(run):
    """Programs watch it."""

    async def main():
        async with running("sleep", "1000") as (transport, protocol):
            popen = transport.get_extra_info("subprocess")
            kill, calls = popen.kill, []
            popen.kill = lambda: calls.append(kill())
            transport.close()
            assert calls == [None]
            assert await protocol.exited == -signal.SIGKILL

    run(main())


def test_close_behind_the_end_kills_nobody(run):
    async def main():
        transport, protocol = await asyncio.get_running_loop().subprocess_exec(Recorder, *WAITING)
        popen = transport.get_extra_info("subprocess")
        popen.kill = lambda: pytest.fail("killed")
        end(transport)
        os.waitid(os.P_PID, transport.get_pid(), os.WEXITED | os.WNOWAIT)
        transport.close()
        assert await transport._wait() == 5
        await protocol.lost

    run(main())


def test_loop_closed_with_a_running_child():
    """Its transport warns when it goes, and kills; nothing is raised from there, and no zombie stays.
    python/cpython issue 114177"""
    loop = corolla.new_event_loop()
    transport, protocol = loop.run_until_complete(loop.subprocess_exec(asyncio.SubprocessProtocol, "sleep", "1000"))
    pid, ref = transport.get_pid(), weakref.ref(transport)
    loop.close()
    assert is_child(pid)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del transport, protocol, loop
        gc.collect()
    said = [str(warning.message) for warning in caught]
    assert ref() is None
    assert any(text.startswith(f"unclosed transport <ProcessTransport pid={pid} running stdin=") for text in said), said
    wait_until_reaped(pid)


def test_closed_behind_the_loop():
    """python/cpython issue 114177"""
    loop = corolla.new_event_loop()
    start = loop.subprocess_exec(asyncio.SubprocessProtocol, "sleep", "1000", stdin=None, stdout=None, stderr=None)
    transport, _protocol = loop.run_until_complete(start)
    loop.close()
    transport.close()
    wait_until_reaped(transport.get_pid())
    assert transport.get_returncode() is None
    with pytest.raises(ProcessLookupError):
        transport.kill()


def test_loop_closed_while_a_child_is_being_killed():
    """python/cpython issue 114177"""
    loop = corolla.new_event_loop()
    start = loop.subprocess_exec(asyncio.SubprocessProtocol, "sleep", "1000", stdin=None, stdout=None, stderr=None)
    transport, _protocol = loop.run_until_complete(start)
    transport.close()
    loop.close()
    wait_until_reaped(transport.get_pid())


def test_unclosed_transport_warns(run):
    async def main():
        loop = asyncio.get_running_loop()
        start = loop.subprocess_exec(Recorder, "true", stdin=None, stdout=None, stderr=None)
        transport, protocol = await start
        await protocol.lost
        del transport
        protocol.transport = None

    with pytest.warns(ResourceWarning, match=r"unclosed transport <ProcessTransport pid=\d+ returncode=0>"):
        run(main())
        gc.collect()


def test_freed_without_the_collector(run):
    """When all is over there is no cycle left."""

    async def main():
        async with running("cat") as (transport, protocol):
            protocol.transport = None
            protocol.process_exited = lambda: None
            ref = weakref.ref(transport)
            transport.get_extra_info("subprocess")
        del transport, protocol
        await asyncio.sleep(0)
        return ref

    gc.collect()
    gc.disable()
    try:
        assert run(main())() is None
    finally:
        gc.enable()


def test_wait_cancelled(run):
    async def main():
        async with running("cat") as (transport, _):
            waiting = asyncio.create_task(transport._wait())
            other = asyncio.create_task(transport._wait())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            assert waiting.cancelled()
            transport.get_pipe_transport(0).close()
            assert await other == 0

    run(main())


def test_forked_child_leaves_it_alone(run):
    """A transport that goes in a forked child ends nobody."""

    async def main():
        async with running("cat", stderr=None) as (transport, protocol):
            pid = os.fork()
            if pid == 0:
                try:
                    transport.close()
                finally:
                    os._exit(0)
            assert os.waitpid(pid, 0) == (pid, 0)
            transport.get_pipe_transport(0).write(b"hello")
            await protocol.arrived.wait()
            assert protocol.data[1] == b"hello"
            transport.get_pipe_transport(0).close()
            assert await transport._wait() == 0

    run(main())


# ---- What is known of it --------------------------------------------------------------------------------


def test_extra_info(run):
    async def main():
        async with running("cat", "-u") as (transport, _):
            popen = transport.get_extra_info("subprocess")
            assert isinstance(popen, subprocess.Popen)
            assert popen is transport.get_extra_info("subprocess") is transport._proc
            assert (popen.pid, popen.args, popen.returncode) == (transport.get_pid(), ("cat", "-u"), None)
            assert popen.poll() is None
            assert popen.stdin.fileno() == transport.get_pipe_transport(0).get_extra_info("pipe").fileno()
            assert popen.stdout is transport.get_pipe_transport(1).get_extra_info("pipe")
            assert popen.stderr is transport.get_pipe_transport(2).get_extra_info("pipe")
            assert transport.get_extra_info("nothing", 5) == 5
            transport.get_pipe_transport(0).close()
            await transport._wait()
            assert (popen.returncode, popen.poll(), popen.wait()) == (0, 0, 0)
        assert repr(popen).startswith("<Popen: returncode: 0 args: ")

    run(main())


def test_repr(run):
    async def main():
        async with running("cat", stderr=None) as (transport, protocol):
            shown = repr(transport)
            stdin, stdout = transport.get_pipe_transport(0), transport.get_pipe_transport(1)
            assert shown == f"<ProcessTransport pid={transport.get_pid()} running stdin={stdin!r} stdout={stdout!r}>"
            pipe = stdout.get_protocol()
            assert repr(pipe) == f"<ReadSubprocessPipe fd=1 pipe={stdout!r}>"
            assert (pipe.fd, pipe.proc, pipe.pipe, pipe.disconnected) == (1, transport, stdout, False)
            stdin.close()
            await protocol.lost
            assert f"pid={transport.get_pid()} returncode=0 stdin=" in repr(transport)
            assert (pipe.proc, pipe.disconnected) == (None, True)
        assert repr(transport).startswith("<ProcessTransport closed pid=")

    run(main())


def test_is_asyncios(run):
    async def main():
        async with running("true") as (transport, protocol):
            assert isinstance(transport, asyncio.SubprocessTransport)
            assert type(transport) is corolla.ProcessTransport
            assert transport._protocol is protocol
            assert transport._loop is asyncio.get_running_loop()
            assert transport._pid == transport.get_pid()
            assert sorted(transport._pipes) == [0, 1, 2]
            transport.something = 1
            await protocol.lost
            assert (transport._loop, transport._protocol, transport._proc) == (None, None, None)
            assert (transport._returncode, transport._closed) == (0, False)

    run(main())


def test_debug_log(loop, caplog):
    caplog.set_level(logging.DEBUG, "asyncio")
    loop.set_debug(True)
    loop.slow_callback_duration = 10

    async def main():
        async with running("sleep", "1000", stdin=None, stdout=None, stderr=None) as (transport, _):
            return transport.get_pid()

    pid = loop.run_until_complete(main())
    said = [line.split(maxsplit=2)[2] for line in caplog.text.splitlines()]  # as it was formatted then
    assert said == [
        "execute program 'sleep'",
        f"process 'sleep' created: pid {pid}",
        f"execute program 'sleep': <ProcessTransport pid={pid} running>",
        f"Close running child process: kill <ProcessTransport closed pid={pid} running>",
        f"<ProcessTransport closed pid={pid} running> exited with return code -9",
    ]


def test_not_made_by_hand():
    with pytest.raises(TypeError):
        corolla.ProcessTransport()


@pytest.mark.parametrize("instead", [None, 5], ids=["deleted", "no dict"])
def test_without_extra(run, instead):
    """The slot of asyncio.BaseTransport is everybody's to write."""

    def take_away(transport):
        if instead is None:
            del transport._extra
        else:
            transport._extra = instead

    async def main():
        async with running("cat") as (transport, _):
            for pipe in (transport.get_pipe_transport(0), transport.get_pipe_transport(1)):
                take_away(pipe)
                assert pipe.get_extra_info("pipe") is not None
                take_away(pipe)
                assert pipe.get_extra_info("pipe", 4) == 4  # it went with the dict
            take_away(transport)
            assert transport.get_extra_info("nothing", 3) == 3
            assert transport.get_extra_info("subprocess") is transport._proc

    run(main())


@pytest.mark.parametrize("pid", [0, -1, -5])
def test_popen_without_a_process(run, monkeypatch, pid):
    """Its number is never waited for, nor signalled: those mean groups."""

    class Nobody:
        stdin = stdout = stderr = returncode = None

        def __init__(self, *args, **kwargs):
            self.pid = pid

    async def main():
        monkeypatch.setattr(subprocess, "Popen", Nobody)
        with pytest.raises(ValueError, match="without a process"):
            await asyncio.get_running_loop().subprocess_exec(Recorder, "true")

    run(main())


@pytest.mark.parametrize("number", [2**70, -(2**70), 2**31, -7])
@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
def test_a_number_that_is_no_descriptor(run, name, number):
    async def main():
        with pytest.raises((OSError, OverflowError, ValueError)):
            await asyncio.get_running_loop().subprocess_exec(Recorder, "true", **{name: number})

    run(main())


@pytest.mark.parametrize("closed", ["before the loop", "after it", "never"])
def test_an_end_that_the_loop_does_not_hear_of(closed):
    """The Popen knows how its child has ended, all the same, and does not warn that it still runs."""
    theirs, ours = os.pipe()
    loop = corolla.new_event_loop()
    program = ("sh", "-c", "read line; exit 7")
    start = loop.subprocess_exec(asyncio.SubprocessProtocol, *program, stdin=theirs, stdout=None, stderr=None)
    transport, _ = loop.run_until_complete(start)
    popen = transport.get_extra_info("subprocess")
    os.close(theirs)
    os.close(ours)
    os.waitid(os.P_PID, popen.pid, os.WEXITED | os.WNOWAIT)
    if closed == "before the loop":
        transport.close()
    loop.close()
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        if closed == "after it":
            transport.close()
        del transport
        gc.collect()
    assert popen.returncode == 7


def test_an_audit_hook_that_empties_the_arguments():
    code = """if True:
        import asyncio, sys, corolla
        def hook(event, args):
            if event == "subprocess.Popen":
                args[1].clear()
        async def main():
            start = asyncio.get_running_loop().subprocess_exec(asyncio.SubprocessProtocol, "true", stdin=None)
            transport, _ = await start
            transport.close()
            await transport._wait()
        sys.addaudithook(hook)
        try:
            corolla.run(main())
        except IndexError:
            print("IndexError")
    """
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 0


# ---- Threads ----------------------------------------------------------------------------------------------


def test_no_current_loop():
    """A thread with no loop set: the loop that started the child hears of its end.
    python/cpython issue 95899; python/asyncio issues 281, 478"""
    codes = []

    def body():
        loop = corolla.new_event_loop()
        try:
            start = loop.subprocess_exec(asyncio.SubprocessProtocol, "sh", "-c", "exit 5", stdin=None)
            transport, _ = loop.run_until_complete(start)
            codes.append(loop.run_until_complete(transport._wait()))
            transport.close()
            loop.run_until_complete(asyncio.sleep(0))
        finally:
            loop.close()

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert codes == [5]
