"""In debug mode os.fork() in the thread of a running loop raises RuntimeError before it forks (bugs.python.org issue 21998),
and all other ways to have a process are as they were."""

import pytest
from impl import beyond_stdlib
from interpreters.forking import program

pytestmark = [pytest.mark.timeout(120), beyond_stdlib("it forks")]

REFUSED = """
import multiprocessing, pty
from os import fork

def refused(forks):
    '''Calls forks() in a running loop in debug mode: the message it was refused with.'''
    async def main():
        try:
            pid = forks()
        except RuntimeError as exc:
            return str(exc)
        if pid in (0, (0, pty.STDIN_FILENO)):
            os._exit(0)
        return "forked"
    return run(main(), debug=True)

def children():
    with open(f"/proc/self/task/{threading.get_native_id()}/children") as file:
        return file.read().split()
"""


@pytest.mark.parametrize(
    ("forks", "name"),
    [
        ("os.fork", "os.fork"),
        ("fork", "os.fork"),  # imported by name before anything of ours
        ("os.forkpty", "os.forkpty"),
        ("pty.fork", "os.forkpty"),
        ("multiprocessing.get_context('fork').Process(target=int).start", "os.fork"),
    ],
)
def test_refused(python, forks, name):
    source = f"""
    print(refused({forks}).partition(" ")[0])
    assert children() == []
    assert "spawn" in refused(os.fork) and "subprocess" in refused(os.fork)
    assert run(returns(5), debug=True) == 5
    """
    assert python(REFUSED + program(source)) == f"{name}()\n"


def test_the_loop_goes_on(python):
    """It is an exception like any other: the task may catch it, and else the loop reports it."""
    source = """
    loop = impl.new_event_loop()
    loop.set_debug(True)
    reports = []
    loop.set_exception_handler(lambda loop, context: reports.append(context))

    async def main():
        loop.call_soon(os.fork)
        for _ in range(2):
            await asyncio.sleep(0)
        try:
            os.fork()
        except RuntimeError:
            return "went on"

    print(loop.run_until_complete(main()), [type(report["exception"]).__name__ for report in reports])
    loop.close()
    """
    assert python(program(source)) == "went on ['RuntimeError']\n"


@pytest.mark.parametrize("option", ["-Xdev", "PYTHONASYNCIODEBUG"])
def test_debug_mode_from_outside(python, monkeypatch, option):
    if not option.startswith("-"):
        monkeypatch.setenv(option, "1")
    source = """
    async def main():
        try:
            os.fork()
        except RuntimeError:
            print("refused")

    run(main())
    """
    assert python(program(source), *([option] if option.startswith("-") else [])) == "refused\n"


def test_switched_during_the_run(python):
    source = """
    async def main():
        loop = asyncio.get_running_loop()
        outcomes = []
        for debug in (False, True, False, True):
            loop.set_debug(debug)
            try:
                outcomes.append(forked(lambda: None))
            except RuntimeError:
                outcomes.append("refused")
        await asyncio.to_thread(loop.set_debug, False)
        outcomes.append(forked(lambda: None))
        return outcomes

    print(run(main()))
    """
    assert python(program(source), "-W", "ignore") == "[0, 'refused', 0, 'refused', 0]\n"


def test_only_in_the_thread_and_during_the_run(python):
    source = """
    outcomes = []

    async def main():
        outcomes.append(await asyncio.to_thread(forked, lambda: run(returns(1), debug=True)))
        thread = threading.Thread(target=lambda: outcomes.append(forked(lambda: run(returns(2), debug=True))))
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0.001)

    run(main(), debug=True)
    loop = impl.new_event_loop()
    loop.set_debug(True)
    loop.run_until_complete(returns(3))
    outcomes.append(forked(lambda: run(returns(4), debug=True)))
    loop.close()
    print(outcomes)
    """
    assert python(program(source), "-W", "ignore") == "[0, 0, 0]\n"


def test_other_ways_to_have_a_process(python):
    """preexec_fn is what needs a true fork, and the hooks of os.register_at_fork() with it."""
    source = """
    import subprocess
    told = []
    os.register_at_fork(before=lambda: told.append("before"))

    async def main():
        asyncio.get_running_loop().slow_callback_duration = 60
        command = [sys.executable, "-c", "print('hello')"]
        shown = [
            subprocess.run(command, capture_output=True, text=True).stdout,
            subprocess.run(command, capture_output=True, text=True, preexec_fn=os.setsid).stdout,
            subprocess.run(command, capture_output=True, text=True, close_fds=False, start_new_session=True).stdout,
            subprocess.run("echo hello", shell=True, capture_output=True, text=True).stdout,
            os.popen("echo hello").read(),
        ]
        assert shown == ["hello\\n"] * 5, shown
        assert told == ["before"], told
        assert os.system("exit 3") == 3 << 8
        pid = os.posix_spawn("/bin/true", ["true"], {})
        assert os.waitpid(pid, 0)[1] == 0
        return "all"

    print(run(main(), debug=True))
    """
    assert python(program(source), "-W", "ignore") == "all\n"


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_multiprocessing(tmp_path, python, method):
    source = f"""
    import multiprocessing
    sys.path.insert(0, {str(tmp_path)!r})
    import work

    async def main():
        asyncio.get_running_loop().slow_callback_duration = 60
        context = multiprocessing.get_context({method!r})
        queue = context.SimpleQueue()
        processes = [context.Process(target=work.work, args=(queue,)) for _ in range(2)]
        for process in processes:
            process.start()
        pids = {{queue.get() for _ in processes}}
        for process in processes:
            process.join()
        return len(pids), [process.exitcode for process in processes]

    if __name__ == "__main__":
        print(run(main(), debug=True))
    """
    (tmp_path / "work.py").write_text(
        "import corolla, os\n\nasync def main():\n    return os.getpid()\n\n"
        "def work(queue):\n    queue.put(corolla.run(main(), debug=True))\n"
    )
    assert python(program(source)) == "(2, [0, 0])\n"


def test_debug_off_costs_nothing(python):
    """The hook hears of everything that is audited, so there is none before a loop runs in debug mode; and one then."""
    source = """
    hooks = []
    sys.addaudithook(lambda event, args: hooks.append(event) if event == "sys.addaudithook" else None)

    async def switch():
        asyncio.get_running_loop().set_debug(True)

    loop = impl.new_event_loop()
    loop.set_debug(True)
    loop.set_debug(False)
    loop.run_until_complete(returns())
    loop.close()
    run(returns())
    before = list(hooks)
    for _ in range(3):
        run(returns(), debug=True)
        run(switch())
    thread = threading.Thread(target=run, args=(returns(), True))
    thread.start()
    thread.join()
    print(before, hooks)
    """
    assert python(program(source)) == "[] ['sys.addaudithook']\n"


@pytest.mark.parametrize("error", ["RuntimeError", "PermissionError"])
def test_a_program_that_allows_no_hooks(python, error):
    source = f"""
    def forbid(event, args):
        if event == "sys.addaudithook":
            raise {error}("no hooks")

    sys.addaudithook(forbid)

    async def main():
        return forked(lambda: run(returns(), debug=True))

    print(run(main(), debug=True), run(main(), debug=True))
    """
    assert python(program(source)) == "0 0\n"


INNER = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

INNER = '''
import sys
sys.path[:] = {path!r}
import asyncio, corolla, os

async def main():
    try:
        os.fork()
    except RuntimeError:
        return
    raise AssertionError("forked")

corolla.run(main(), debug=True)
'''.format(path=sys.path)
"""


def test_interpreters_come_and_go(python):
    """The hook is the process's: the interpreter that had it made may end."""
    source = """
    async def main():
        try:
            os.fork()
        except RuntimeError:
            return "refused"

    for _ in range(2):
        other = interpreters.create("legacy") if sys.version_info >= (3, 13) else interpreters.create(isolated=False)
        failed = interpreters.run_string(other, INNER)
        assert failed is None, failed
        interpreters.destroy(other)
        print(run(main(), debug=True), forked(lambda: None))
    """
    assert python(INNER + program(source), "-W", "ignore") == "refused 0\n" * 2


def test_a_child_may_debug(python):
    """In the child no loop runs, and its own are held to the same."""
    source = """
    async def inside():
        try:
            os.fork()
        except RuntimeError:
            return "refused"

    async def main():
        loop = asyncio.get_running_loop()
        def child():
            loop.set_debug(True)
            assert forked(lambda: None) == 0
            assert run(inside(), debug=True) == "refused"
            assert forked(lambda: None) == 0
        return forked(child)

    print(run(main()))
    """
    assert python(program(source)) == "0\n"
