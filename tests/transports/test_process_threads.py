"""Where the kernel gives no pidfd a thread waits for each child: all that holds with one holds without."""

import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
FILES = [HERE / "test_process.py", HERE.parent / "loop" / "test_subprocess.py"]


@pytest.mark.timeout(180)
def test_without_pidfds():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, FILES)],
        env=os.environ | {"COROLLA_NO_PIDFD": "1"},
        cwd=HERE.parent.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def test_it_is_a_thread():
    """Seen from outside: no descriptor for the child, but one thread more."""
    code = """
import asyncio, corolla, os
async def main():
    loop = asyncio.get_running_loop()
    before = len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))
    transport, _ = await loop.subprocess_exec(asyncio.SubprocessProtocol, "sleep", "1000", stdin=None, stdout=None, stderr=None)
    after = len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))
    transport.close()
    assert await transport._wait() == -9
    print(after[0] - before[0], after[1] - before[1])
corolla.run(main())
"""
    for value, said in (("1", "1 0"), ("", "0 1")):
        env = os.environ | {"COROLLA_NO_PIDFD": value, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
        assert (done.stdout.strip(), done.returncode) == (said, 0), done.stderr
