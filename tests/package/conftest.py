"""python(source) and corolla(*arguments): programs in a process of their own, for what changes a whole process."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable

import impl
import pytest

LIMIT = 30 * float(os.environ.get("COROLLA_TEST_TIMEOUT_FACTOR", "1"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not impl.IS_COROLLA:
        for item in items:
            if "tests/package/" in item.nodeid:
                item.add_marker(pytest.mark.skip(reason="about the package corolla"))


def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, **options
    )


@pytest.fixture
def python() -> Callable[..., str]:
    """What the program printed; that it ended well and said nothing on stderr has been checked."""

    def python(source: str, *options: str) -> str:
        done = run(*options, "-c", "import asyncio, corolla, gc, sys\n" + textwrap.dedent(source))
        assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
        assert done.stderr == "", done.stderr
        return done.stdout

    return python


@pytest.fixture
def corolla_command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """python -m corolla, with these arguments."""

    def corolla_command(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        return run("-m", "corolla", *map(str, arguments), **options)

    return corolla_command
