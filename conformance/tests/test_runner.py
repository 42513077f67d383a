"""The runner itself: what becomes of tests that fail, crash, hang or are left out, in a suite made for the purpose.

python -m pytest conformance/tests
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RUN = Path(__file__).parent.parent / "run.py"

MODULE = """
import os, signal, threading, unittest

class Ends(unittest.TestCase):
    def test_a_passes(self): pass
    def test_b_fails(self): self.assertEqual(1, 2)
    def test_c_fails_in_part(self):
        with self.subTest(part=1): pass
        with self.subTest(part=2): self.fail("in part")
    @unittest.skip("by decorator")
    def test_d_is_skipped(self): pass
    def test_e_skips(self): self.skipTest("by itself")

class Dies(unittest.TestCase):
    def test_a_crashes(self): os.kill(os.getpid(), signal.SIGSEGV)
    def test_b_passes(self): pass
    def test_c_exits(self): os._exit(3)
    def test_d_hangs(self): threading.Event().wait()
    def test_e_returns_from_fork(self):
        pid = os.fork()
        if pid: os.waitpid(pid, 0)
    def test_f_passes(self): pass

class NotSetUp(unittest.TestCase):
    @classmethod
    def setUpClass(cls): raise OSError("no set-up")
    def test_a(self): pass
    def test_b(self): pass
"""
FAILS_LATE = """
import atexit, os, unittest

class Passes(unittest.TestCase):
    def test_a(self): atexit.register(os.abort)
"""
LEFT_OUT = """
[reason]
why = "because"
tests = ["test_ends.Ends.test_b_fails", "test_ends.Dies", "test_ends.Not*  >=3.0"]
except = ["test_ends.Dies.test_b_passes"]
"""


class Suite:
    """A test_asyncio of our own, and what run.py makes of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.package = directory / "test_asyncio"
        self.package.mkdir()
        (self.package / "__init__.py").touch()
        (self.package / "utils.py").touch()
        self.list = directory / "left_out.toml"
        self.list.touch()

    def run(self, *options: str) -> tuple[int, dict[str, Any], str]:
        results = self.directory / "results.json"
        command = [
            sys.executable,
            str(RUN),
            "--impl",
            "asyncio",
            "--suite",
            str(self.directory),
            "--left-out",
            str(self.list),
        ]
        done = subprocess.run(
            [*command, "--timeout", "2", "--json", str(results), *options], capture_output=True, text=True, timeout=120
        )
        assert done.stderr == ""
        modules = json.loads(results.read_text())["modules"]
        return (
            done.returncode,
            {name: test for module in modules.values() for name, test in module["tests"].items()},
            done.stdout,
        )


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite(tmp_path)


def test_every_test_gets_its_own_outcome(suite: Suite) -> None:
    (suite.package / "test_ends.py").write_text(MODULE)
    code, tests, printed = suite.run()
    assert code == 1
    assert {name.removeprefix("test_ends."): test["status"] for name, test in tests.items()} == {
        "Ends.test_a_passes": "ok",
        "Ends.test_b_fails": "failed",
        "Ends.test_c_fails_in_part": "failed",
        "Ends.test_d_is_skipped": "skipped",
        "Ends.test_e_skips": "skipped",
        "Dies.test_a_crashes": "failed",
        "Dies.test_b_passes": "ok",
        "Dies.test_c_exits": "failed",
        "Dies.test_d_hangs": "failed",
        "Dies.test_e_returns_from_fork": "ok",
        "Dies.test_f_passes": "ok",
        "NotSetUp.test_a": "failed",
        "NotSetUp.test_b": "failed",
    }
    assert "killed by SIGSEGV" in tests["test_ends.Dies.test_a_crashes"]["detail"]
    assert "exited with 3" in tests["test_ends.Dies.test_c_exits"]["detail"]
    assert tests["test_ends.Dies.test_d_hangs"]["detail"].startswith("hung: ")
    assert "in test_d_hangs" in tests["test_ends.Dies.test_d_hangs"]["detail"]  # where it was
    assert "part=2" in tests["test_ends.Ends.test_c_fails_in_part"]["detail"]
    assert "no set-up" in tests["test_ends.NotSetUp.test_a"]["detail"]
    assert "failed: test_ends.Dies.test_a_crashes" in printed


def test_a_crash_at_exit_is_a_failure(suite: Suite) -> None:
    (suite.package / "test_late.py").write_text(FAILS_LATE)
    code, tests, _ = suite.run()
    assert code == 1
    assert tests["test_late.Passes.test_a"]["status"] == "ok"
    assert "killed by SIGABRT" in tests["test_late.(exit)"]["detail"]


def test_a_module_that_cannot_be_imported_is_a_failure(suite: Suite) -> None:
    (suite.package / "test_broken.py").write_text("import no_such_module")
    code, tests, _ = suite.run()
    assert code == 1
    assert tests["test_broken.(import)"]["status"] == "failed"


def test_left_out(suite: Suite) -> None:
    (suite.package / "test_ends.py").write_text(MODULE.replace('self.fail("in part")', "pass"))
    suite.list.write_text(LEFT_OUT)
    code, tests, printed = suite.run()
    assert code == 0
    assert tests["test_ends.Dies.test_b_passes"]["status"] == "ok"
    assert sum(test["status"] == "left out" for test in tests.values()) == 8
    assert "8  because" in printed


def test_a_left_out_test_that_does_not_exist_is_a_failure(suite: Suite) -> None:
    (suite.package / "test_late.py").write_text(FAILS_LATE.replace("os.abort", "int"))
    suite.list.write_text('[reason]\nwhy = "because"\ntests = ["test_late.Passes.test_b", "test_late.Other <3.0"]\n')
    code, _, printed = suite.run()
    assert code == 1
    assert "no such test: test_late.Passes.test_b (reason)" in printed
    assert "Other" not in printed


def test_worse_than_the_baseline_is_a_failure(suite: Suite) -> None:
    module = suite.package / "test_ends.py"
    baseline = suite.directory / "baseline.json"
    ends = ("--match", "Ends")
    module.write_text(MODULE.replace("self.assertEqual(1, 2)", "pass"))
    assert suite.run(*ends, "--update-baseline", str(baseline))[0] == 1  # test_c

    code, _, printed = suite.run(*ends, "--baseline", str(baseline))
    assert "0 got worse" in printed

    module.write_text(
        MODULE.replace("self.assertEqual(1, 2)", 'self.skipTest("")').replace('self.fail("in part")', "pass")
    )
    code, _, printed = suite.run(*ends, "--baseline", str(baseline))
    assert code == 1
    assert "1 got worse\n    test_ends.Ends.test_b_fails (skipped now)" in printed
