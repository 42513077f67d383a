"""Other people's programs: found, started, fed and ended."""

import asyncio
import contextlib
import functools
import glob
import os
import shutil
import socket
import subprocess

import pytest

# Some are installed where only root's PATH looks, PostgreSQL's where no PATH does.
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", *sorted(glob.glob("/usr/lib/postgresql/*/bin"))])
# Without what a run under sanitizers preloads: these are not the programs under test.
ENVIRON = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "PYTHONPATH")} | {
    "PATH": PATH
}
SECONDS = 50


def program(name):
    found = shutil.which(name, path=PATH)
    if found is None:
        pytest.skip(f"!!! SKIPPED: {name} is missing and could not be installed: tools/need clients")
    return found


async def in_thread(call, *args, **kwargs):
    return await asyncio.get_running_loop().run_in_executor(None, functools.partial(call, *args, **kwargs))


async def output(*command, **kwargs):
    done = await in_thread(subprocess.run, command, capture_output=True, timeout=SECONDS, env=ENVIRON, **kwargs)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


def free_port():
    """For a program that can be handed no socket. Somebody may take it in between: its user tries again."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


class Talk:
    """A program that is talked to, line by line; what it says is read in a thread, so that the loop goes on."""

    def __init__(self, *command, **kwargs):
        self.process = subprocess.Popen(
            command, env=ENVIRON, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kwargs
        )
        self.said = bytearray()

    async def until(self, *words):
        """Reads until it has said one of these since the last time."""
        words = [word.encode() for word in words]
        found = bytearray()
        while not any(word in found for word in words):
            data = await in_thread(self.process.stdout.read1, 65536)
            assert data, f"ended, and said none of {words}: {bytes(self.said).decode(errors='replace')}"
            found += data
            self.said += data
        return bytes(found)

    async def as_much_as(self, size):
        while len(self.said) < size:
            data = await in_thread(self.process.stdout.read1, 1 << 20)
            assert data
            self.said += data

    async def rest(self):
        data = await in_thread(self.process.stdout.read)
        self.said += data
        return data

    async def say(self, text):
        await in_thread(self._say, text)

    def _say(self, text):
        self.process.stdin.write(text)
        self.process.stdin.flush()

    async def ended(self):
        return await in_thread(self.process.wait, SECONDS)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()


@contextlib.asynccontextmanager
async def talk(*command, **kwargs):
    talking = Talk(*command, **kwargs)
    try:
        yield talking
    finally:
        await in_thread(talking.end)
