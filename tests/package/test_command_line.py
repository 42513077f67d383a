"""python -m corolla: a program as Python itself would run it, with corolla in asyncio's place."""

import os
import subprocess
import sys
import zipfile

import corolla
import pytest

REPORT = """\
import asyncio, sys

async def main():
    return type(asyncio.get_running_loop()).__name__

if __name__ == "__main__":
    import __main__
    assert sys.modules["__main__"].__dict__ is globals()
    print(asyncio.run(main()), sys.argv, sep="|")
    print(__main__.__file__ if hasattr(__main__, "__file__") else None, __package__, __spec__ and __spec__.name, sep="|")
    print(sys.path[0])
"""


def lines(done):
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()


def python(*arguments, **options):
    """The same without corolla: what it is compared with."""
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, **options)
    return lines(done)


@pytest.fixture
def package(tmp_path):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/__init__.py").write_text("")
    (tmp_path / "pkg/__main__.py").write_text(REPORT)
    (tmp_path / "pkg/mod.py").write_text(REPORT)
    return tmp_path


def ours(expected):
    """What corolla is to print where Python printed that."""
    loop, _, arguments = expected[0].partition("|")
    assert loop != "EventLoop"
    return [f"EventLoop|{arguments}", *expected[1:]]


def test_script(corolla_command, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(REPORT)
    assert lines(corolla_command(script, "-m", "--flag", "x")) == ours(python(script, "-m", "--flag", "x"))


def test_script_by_a_relative_path_and_a_link(corolla_command, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real/script.py").write_text(REPORT)
    (tmp_path / "link.py").symlink_to("real/script.py")
    assert lines(corolla_command("link.py", cwd=tmp_path)) == ours(python("link.py", cwd=tmp_path))


@pytest.mark.parametrize("name", ["pkg", "pkg.mod"])
def test_module(corolla_command, package, name):
    expected = ours(python("-m", name, "a", "-c", cwd=package))
    assert lines(corolla_command("-m", name, "a", "-c", cwd=package)) == expected
    assert lines(corolla_command(f"-m{name}", "a", "-c", cwd=package)) == expected


def test_code(corolla_command, tmp_path):
    expected = ours(python("-c", REPORT, "a", "b", cwd=tmp_path))
    assert lines(corolla_command("-c", REPORT, "a", "b", cwd=tmp_path)) == expected


def test_directory_and_zip(corolla_command, tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app/__main__.py").write_text("import helper, asyncio, sys; helper.report()")
    (tmp_path / "app/helper.py").write_text(
        "import asyncio, sys\n"
        "async def main(): return type(asyncio.get_running_loop()).__name__\n"
        "def report(): print(asyncio.run(main()), sys.argv, sep='|')\n"
    )
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as archive:
        for name in ("__main__.py", "helper.py"):
            archive.write(tmp_path / "app" / name, name)
    for path in (tmp_path / "app", tmp_path / "app.zip"):
        assert lines(corolla_command(path, "arg")) == ours(python(path, "arg"))


def test_safe_path(tmp_path):
    """With -P neither the script's directory nor the current one is on sys.path."""
    script = tmp_path / "script.py"
    script.write_text("import sys; print(sys.path)")
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    expected = python(script, env=environment)
    assert python("-m", "corolla", script, env=environment) == expected


@pytest.mark.parametrize(
    ("program", "status", "said"),
    [
        ("raise SystemExit(3)", 3, ""),
        ("raise SystemExit('stopped')", 1, "stopped\n"),
        ("raise SystemExit", 0, ""),
    ],
)
def test_exit_status(corolla_command, program, status, said):
    done = corolla_command("-c", program)
    assert (done.returncode, done.stderr) == (status, said)


def test_an_error(corolla_command, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("def f():\n    raise LookupError('out')\nf()\n")
    done = corolla_command(script)
    assert done.returncode == 1
    assert f'File "{script}", line 2, in f' in done.stderr
    assert "raise LookupError('out')" in done.stderr
    assert done.stderr.endswith("LookupError: out\n")


def test_a_syntax_error(corolla_command, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("def f(:\n")
    done = corolla_command(script)
    assert done.returncode == 1
    assert "SyntaxError" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["/no/such/file.py"], "can't open '/no/such/file.py'"),
        (["-m", "no.such.module"], "error while finding module 'no.such.module'"),
        (["-m", "no_such_module"], "no module named 'no_such_module'"),
        (["-m", "sys"], "'sys'"),
        (["-m"], "usage:"),
        (["-c"], "usage:"),
        (["-x"], "usage:"),
        ([], "usage:"),
    ],
)
def test_what_cannot_be_run(corolla_command, arguments, said):
    done = corolla_command(*arguments)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_help_and_version(corolla_command):
    assert lines(corolla_command("--help"))[0].startswith("usage: python -m corolla")
    assert lines(corolla_command("--version")) == [f"corolla {corolla.__version__}"]


def test_main_stays_what_it_is(corolla_command, tmp_path):
    """Threads, exit handlers and pickles that come after the program's last line still find it in __main__."""
    script = tmp_path / "script.py"
    script.write_text("""\
import atexit, pickle, sys, threading

class Thing:
    pass

def last():
    assert type(pickle.loads(pickle.dumps(Thing()))) is Thing
    print("pickled at exit")

atexit.register(last)
started = threading.Event()
def later():
    threading.main_thread().join()
    print(sys.modules["__main__"].Thing is Thing)
threading.Thread(target=later).start()
""")
    assert lines(corolla_command(script)) == ["True", "pickled at exit"]


def test_processes(corolla_command, tmp_path):
    """multiprocessing finds the program's functions, by fork and by a new interpreter."""
    script = tmp_path / "script.py"
    script.write_text("""\
import asyncio, concurrent.futures, multiprocessing

def double(x):
    return 2 * x

async def main(method):
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return await asyncio.get_running_loop().run_in_executor(pool, double, 21)

if __name__ == "__main__":
    for method in ("fork", "spawn"):
        print(asyncio.run(main(method)))
""")
    assert lines(corolla_command(script)) == ["42", "42"]


def test_under_unittest(corolla_command, tmp_path):
    """A tool run with -m, which imports the program itself."""
    (tmp_path / "test_it.py").write_text("""\
import asyncio, unittest
import corolla

class Case(unittest.IsolatedAsyncioTestCase):
    async def test(self):
        self.assertIs(type(asyncio.get_running_loop()), corolla.EventLoop)
        self.assertIs(type(asyncio.create_task(asyncio.sleep(0))), corolla.Task)
""")
    done = corolla_command("-m", "unittest", "-q", "test_it", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Ran 1 test" in done.stderr
