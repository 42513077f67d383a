"""Every public type, in every state, against every odd argument: a value or a Python exception each time, never a crash or a hang.

The actions run in child processes (child.py); what ends a child is charged to the action it was at, and the rest still run.
"""

import asyncio
import os
import pathlib
import signal
import subprocess
import sys

import impl
import pytest
from sweep.subjects import STATES, SUBJECTS

CHILD = os.path.join(os.path.dirname(__file__), "child.py")
# Where asyncio itself dies; not ours to mend.
MOST_CRASHES = 20


def sweep(subject: str, state: str, log: pathlib.Path) -> list[str]:
    """The actions that killed a child, or broke the interpreter's rules."""
    problems = []
    first = 0
    while len(problems) < MOST_CRASHES:
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", CHILD, subject, state, str(first), str(log)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        lines = log.read_text().splitlines()
        if done.returncode == 0:
            break
        last = next((line for line in reversed(lines) if not line.startswith("!")), "0 before the first action")
        number, action = last.split(" ", 1)
        how = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit {done.returncode}"
        problems.append(f"{subject}, {state}: {action}: {how}\n{done.stderr[-1500:]}")
        if action in ("exit", "collecting at the end"):
            break
        first = int(number) + 1
    problems += [f"{subject}, {state}: {line[2:]}" for line in lines if line.startswith("!")]
    return problems


@pytest.mark.timeout(600)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.skipif(not impl.IS_COROLLA, reason="a sweep over corolla's types")
def test_sweep(subject: str, state: str, tmp_path: pathlib.Path) -> None:
    log = tmp_path / "log"
    problems = sweep(subject, state, log)
    assert not problems, "\n".join(problems)
    if log.read_text() == "cannot be made\n":
        return  # which is a Python exception, too
    assert len(log.read_text().splitlines()) > 500


@pytest.mark.skipif(not impl.IS_COROLLA, reason="a sweep over corolla's types")
def test_nothing_public_is_missing() -> None:
    import corolla

    types = {
        name
        for name, value in vars(corolla).items()
        if isinstance(value, type)
        and not name.startswith("_")
        and value is not vars(asyncio).get(name)
        and not issubclass(value, BaseException)  # QueueShutDown, where asyncio has none: Python's
    }
    assert types <= set(SUBJECTS), "a new public type: give it a maker in subjects.py"


@pytest.mark.timeout(60)
def test_the_sweep_sees_a_crash(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The test of the test: a child that dies at an action is charged with it.
    log = tmp_path / "log"
    fake = tmp_path / "child.py"
    fake.write_text(
        "import os, signal, sys\n"
        "signal.signal(signal.SIGSEGV, signal.SIG_DFL)\n"  # a sanitizer has a handler of its own
        "first, log = int(sys.argv[3]), open(sys.argv[4], 'a')\n"
        "for number in range(first, 5):\n"
        "    print(number, f'action {number}', file=log, flush=True)\n"
        "    if number == 3: os.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    monkeypatch.setattr(sys.modules[__name__], "CHILD", str(fake))
    (problem,) = sweep("Future", "normal", log)
    assert problem.startswith("Future, normal: action 3: SIGSEGV")
    assert log.read_text().splitlines()[-1] == "4 action 4"
