"""One test module from end to end, in child processes: start, watch, charge a crash or a hang to its test, go on.

A child that dies or hangs takes down only the test it was running. That test has failed, and a new child runs the ones that
are left.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
LOG_LINES = 40  # of what a dead child printed last
HANGS = 10  # tests of a module that may hang before the rest is given up


class Outcome(NamedTuple):
    status: str  # "ok", "failed", "skipped" or "left out"
    detail: str = ""  # traceback or reason
    seconds: float = 0.0


@dataclass
class ModuleResult:
    module: str
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    collected: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Settings:
    implementation: str
    test_timeout: float
    install: bool = False  # call the implementation's install()
    suite: Path | None = None  # tests that the interpreter was shipped without
    on_end: Callable[[str, Outcome], None] = lambda name, outcome: None


class Child:
    """A running child.py. Events are read with next_event(), which also notices that the child is gone, or silent too long."""

    def __init__(self, module: str, settings: Settings, directory: str) -> None:
        self._log = open(os.path.join(directory, "output"), "w+b")  # noqa: SIM115
        self._events, reports = os.pipe()
        command = [sys.executable, "-W", "default", str(HERE / "child.py"), str(reports)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            pass_fds=[reports],
            cwd=directory,
            env=environment(settings),
            start_new_session=True,
        )
        os.close(reports)
        self._unread = b""
        self.send({"implementation": settings.implementation, "module": module, "install": settings.install})

    def send(self, message: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # next_event() will find it gone

    def next_event(self, timeout: float) -> dict[str, Any] | None:
        """The child's next event, None at the end of them. TimeoutError when there is none in time."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._unread:
            if not select.select([self._events], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError
            data = os.read(self._events, 1 << 16)
            if not data:
                return None
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        event: dict[str, Any] = json.loads(line)
        return event

    def wait(self, timeout: float) -> int:
        """Its exit code. TimeoutError when it does not exit in time. What it has started is ended with it."""
        deadline = time.monotonic() + timeout
        pid = self._process.pid
        # WNOWAIT: the number stays the child's until the processes of its session are gone as well.
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(0.01)
        self._signal_session(signal.SIGKILL)
        return self._process.wait()

    def abort(self) -> None:
        """End a child that hangs, letting faulthandler print where every thread is."""
        os.kill(self._process.pid, signal.SIGABRT)
        try:
            self.wait(2.0)
        except TimeoutError:
            self._signal_session(signal.SIGKILL)
            self._process.wait()

    def close(self) -> None:
        if self._process.returncode is None:
            self._signal_session(signal.SIGKILL)
            self._process.wait()
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        os.close(self._events)
        self._log.close()

    def printed(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-LOG_LINES:])

    def _signal_session(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass


class ModuleRun:
    """The run of one module, over as many children as it takes."""

    def __init__(
        self, module: str, settings: Settings, choose: Callable[[list[str]], dict[str, Outcome | None]]
    ) -> None:
        self._module = module
        self._settings = settings
        self._choose = choose  # of all tests: those of interest, each with its outcome where it is not to be run
        self._result = ModuleResult(module)
        self._remaining: list[str] | None = None  # None until the first child has told what there is
        self._hung = 0

    def run(self) -> ModuleResult:
        started = time.monotonic()
        while self._remaining is None or self._remaining:
            before = None if self._remaining is None else list(self._remaining)
            with tempfile.TemporaryDirectory(prefix="conformance-") as directory:
                child = Child(self._module, self._settings, directory)
                try:
                    self._follow(child)
                finally:
                    child.close()
            # A child that got nowhere: so would the next one. Many that hung: waiting for more of them tells nothing new.
            if self._remaining == before or self._hung >= HANGS:
                for name in list(self._remaining or []):
                    self._end(name, Outcome("failed", f"was not run, after {self._hung} tests of the module had hung"))
                break
        self._result.seconds = time.monotonic() - started
        return self._result

    def _follow(self, child: Child) -> None:
        """Take in everything this child reports, to its end."""
        current: str | None = None  # the test it is running
        last = "import"  # what it did last
        since = time.monotonic()
        done = False
        fixtures: list[dict[str, Any]] = []
        try:
            while (event := child.next_event(self._settings.test_timeout)) is not None:
                kind = event["event"]
                if kind == "collected":
                    self._collected(event["tests"])
                    if not self._remaining:
                        return
                    child.send(self._remaining)
                elif kind == "start":
                    current, since = event["test"], time.monotonic()
                elif kind == "end":
                    current, last = None, event["test"]
                    self._end(event["test"], Outcome(event["status"], event["detail"], event["seconds"]))
                elif kind == "fixture":
                    fixtures.append(event)
                elif kind == "unavailable":
                    self._unavailable(event)
                    return
                elif kind == "done":
                    done = True
                    self._not_started(fixtures)
            code = child.wait(self._settings.test_timeout)
        except TimeoutError:
            child.abort()
            self._hung += 1
            what = f"hung: no end after {self._settings.test_timeout:g} s\n{child.printed()}"
        else:
            if done and code == 0:
                return
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
            what = f"crashed: the process {how}\n{child.printed()}"
        # A death between two tests is the doing of something that came before, and has no better name than this.
        name = current or f"{self._module}.({'exit' if done else f'after {last}'})"
        self._end(name, Outcome("failed", what, time.monotonic() - since))

    def _collected(self, tests: list[str]) -> None:
        if self._remaining is not None:
            return
        self._result.collected = tests
        self._remaining = []
        for name, outcome in self._choose(tests).items():
            if outcome is None:
                self._remaining.append(name)
            else:
                self._result.outcomes[name] = outcome

    def _unavailable(self, event: dict[str, Any]) -> None:
        self._end(f"{self._module}.(import)", Outcome(event["status"], event["detail"]))
        self._remaining = self._remaining or []

    def _not_started(self, fixtures: list[dict[str, Any]]) -> None:
        """Tests that unittest passed over, because the set-up of their class or module failed or asked for that."""
        for event in fixtures:
            scope = event["fixture"].partition("(")[2].rstrip(")").removeprefix("test.test_asyncio.")
            passed_over = [name for name in self._remaining or [] if f"{name}.".startswith(f"{scope}.")]
            for name in passed_over:
                self._end(name, Outcome(event["status"], event["detail"]))
            if event["status"] == "failed" and not passed_over:
                self._end(f"{scope}.({event['fixture'].partition(' ')[0]})", Outcome("failed", event["detail"]))

    def _end(self, name: str, outcome: Outcome) -> None:
        self._result.outcomes[name] = outcome
        if self._remaining is None:
            self._remaining = []
        if name in self._remaining:
            self._remaining.remove(name)
        self._settings.on_end(name, outcome)


def environment(settings: Settings) -> dict[str, str]:
    env = dict(os.environ)
    for name in ("PYTHONASYNCIODEBUG", "PYTHONDEVMODE", "PYTHONWARNINGS"):
        env.pop(name, None)  # tests expect these unset
    # The child runs in a directory of its own: what is given relative to ours has to be found from there, too.
    path = [os.path.abspath(entry) for entry in env.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if settings.suite is not None:
        env["CONFORMANCE_SUITE"] = str(settings.suite)
        path.insert(0, str(HERE / "overlay"))
    if path:
        env["PYTHONPATH"] = os.pathsep.join(path)
    return env
