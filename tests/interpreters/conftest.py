"""python(source): runs a program in a process of its own, with what these tests' programs need in front."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable

import pytest

PRELUDE = """
import asyncio, faulthandler, gc, os, signal, socket, sys, threading, warnings
sys.path.insert(0, {tests!r})
faulthandler.enable()
import impl
"""

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


LIMIT = 30 * float(os.environ.get("COROLLA_TEST_TIMEOUT_FACTOR", "1"))


def run(source: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs the program; one that hangs is killed with all its children, and its returncode says so."""
    process = subprocess.Popen(
        [sys.executable, *options, "-c", PRELUDE.format(tests=TESTS) + textwrap.dedent(source)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGABRT)  # faulthandler shows where each was
        out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture
def python() -> Callable[..., str]:
    """What the program printed; that it ended well and said nothing on stderr has been checked."""

    def python(source: str, *options: str) -> str:
        done = run(source, *options)
        assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
        assert done.stderr == "", done.stderr
        return done.stdout

    return python
