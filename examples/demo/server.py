"""A server process under load: started, asked for its counters, stopped, and never left behind."""

from __future__ import annotations

import http.client
import json
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

HERE = Path(__file__).parent
START_SECONDS = 20.0
STOP_SECONDS = 10.0
COMPLAINTS_SHOWN = 4000


class Failed(Exception):
    """The demo cannot go on, or has shown something wrong."""


class Server:
    def __init__(self, app: str, implementation: str, core: int, seconds: float) -> None:
        self.implementation = implementation
        self.loop = ""
        self.port = 0
        # A file, not a pipe: nobody reads it while the load runs.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        arguments = [app, implementation, str(core), str(int(seconds))]
        self._process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", str(HERE / "serve.py"), *arguments],
            stdout=subprocess.PIPE,
            stderr=self._stderr,
        )

    def __enter__(self) -> Self:
        try:
            self._read_announcement()
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()

    def _read_announcement(self) -> None:
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], START_SECONDS)
        line = self._process.stdout.readline() if readable else b""
        if not line:
            why = f"ended at once, status {self._process.wait(5)}" if readable else "does not start"
            raise Failed(f"the server {why}\n{self.complaints()}")
        announced = json.loads(line)
        self.port, self.loop = announced["port"], announced["loop"]
        if self.loop.split(".")[0] != self.implementation.split("+")[0]:
            raise Failed(f"the server runs on {self.loop}")

    def _kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._stderr.close()

    def complaints(self) -> str:
        """What it has written to stderr so far."""
        self._stderr.seek(0)
        text = self._stderr.read().decode(errors="replace").strip()
        return text if len(text) <= COMPLAINTS_SHOWN else text[:COMPLAINTS_SHOWN] + " [...]"

    def counters(self) -> dict[str, int]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/stats")
            counters: dict[str, int] = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError) as exc:
            status = self._process.poll()
            how = "does not answer" if status is None else f"died, status {status}"
            raise Failed(f"the server {how}: {exc!r}\n{self.complaints()}") from exc
        finally:
            connection.close()
        return counters

    def await_disconnects(self, expected: int) -> None:
        """Each client that hung up must have cancelled its handler; the last ones may still be on their way."""
        give_up = time.monotonic() + 5
        while (counters := self.counters())["cancelled"] != expected and time.monotonic() < give_up:
            time.sleep(0.02)
        if counters != {"started": expected, "cancelled": expected}:
            raise Failed(f"{expected} clients hung up, but the application counted {counters}")

    def peak_memory(self) -> float:
        """The most it has had in memory at once, in MiB."""
        try:
            status = Path(f"/proc/{self._process.pid}/status").read_text()
            return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) / 1024
        except (OSError, StopIteration):
            return 0.0

    def core_seconds(self) -> tuple[float, float]:
        """How long the main thread, where all of the work is, was on its core, and how long it waited for it."""
        try:
            running, waiting, _ = Path(f"/proc/{self._process.pid}/schedstat").read_text().split()
        except (OSError, ValueError):
            return 0.0, 0.0
        return int(running) / 1e9, int(waiting) / 1e9

    def stop(self) -> None:
        """As a service manager does; it must end by itself, and without a complaint."""
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failed(f"the server did not stop within {STOP_SECONDS:.0f} s of SIGTERM") from None
        # uvicorn, once it has shut down, raises the signal again: 0 and -SIGTERM are both a clean end.
        if status not in (0, -signal.SIGTERM):
            raise Failed(f"the server ended with status {status}\n{self.complaints()}")
        if complaints := self.complaints():
            raise Failed(f"the server complained\n{complaints}")
