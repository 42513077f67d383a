"""Processes pinned to a core: servers that are started, used and killed, clients that report as JSON."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

BENCHMARKS = Path(__file__).resolve().parent.parent
START_TIMEOUT = 30.0


class MeasurementError(Exception):
    """A figure that could not be had: the reason, in a line."""


@dataclass(frozen=True)
class Cores:
    """Which core runs the servers (and the scheduler cases), which one the clients."""

    server: int
    client: int
    niceness: int = 0

    @classmethod
    def choose(cls, server: int | None, client: int | None, niceness: int) -> Cores:
        allowed = sorted(os.sched_getaffinity(0))
        return cls(allowed[0] if server is None else server, allowed[-1] if client is None else client, niceness)


@dataclass(frozen=True)
class RunningServer:
    process: subprocess.Popen[str]
    port: int


def python_script(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(BENCHMARKS / name), *arguments]


def spawn(command: Sequence[str], core: int, cores: Cores, **options: Any) -> subprocess.Popen[str]:
    def settle() -> None:
        os.sched_setaffinity(0, {core})
        if cores.niceness:
            os.nice(cores.niceness)

    return subprocess.Popen(command, preexec_fn=settle, text=True, **options)


def last_line(errors: IO[str]) -> str:
    errors.seek(0)
    lines = [line for line in errors.read().splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def reason(what: str, process: subprocess.Popen[str], errors: IO[str]) -> str:
    status = process.poll()
    ended = "still running" if status is None else f"signal {-status}" if status < 0 else f"exit status {status}"
    return f"{what}: {ended}; {last_line(errors)}".rstrip("; ")


def run_report(command: Sequence[str], core: int, cores: Cores, timeout: float) -> dict[str, Any]:
    """Runs a program that prints one JSON object, its report."""
    with tempfile.TemporaryFile("w+") as errors:
        process = spawn(command, core, cores, stdout=subprocess.PIPE, stderr=errors)
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise MeasurementError(f"{Path(command[0]).name}: no report after {timeout:.0f} s") from None
        if process.returncode != 0:
            raise MeasurementError(reason(Path(command[0]).name, process, errors))
    report: dict[str, Any] = json.loads(output)
    return report


def read_line(stream: IO[str], timeout: float) -> str:
    """One line, or what there is of it at the timeout. Only for streams that have been silent so far."""
    ready, _, _ = select.select([stream], [], [], timeout)
    return stream.readline().strip() if ready else ""


@contextlib.contextmanager
def server(command: Sequence[str], cores: Cores) -> Iterator[RunningServer]:
    """A server for the length of the block. What it said before it died becomes part of the block's failure."""
    with tempfile.TemporaryFile("w+") as errors:
        process = spawn(command, cores.server, cores, stdout=subprocess.PIPE, stderr=errors)
        assert process.stdout is not None
        try:
            words = read_line(process.stdout, START_TIMEOUT).split()
            if words[:2] != ["listening", "on"]:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(1)
                raise MeasurementError(reason("the server did not start", process, errors))
            yield RunningServer(process, int(words[2]))
            if process.poll() is not None:
                raise MeasurementError(reason("the server ended", process, errors))
        except MeasurementError as error:
            if last_line(errors) and last_line(errors) not in str(error):
                raise MeasurementError(f"{error} [{reason('server', process, errors)}]") from None
            raise
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
