"""The load client: compiled from load/, started, its report read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from contract import Route
from server import Failed

SOURCES = Path(__file__).parent / "load"
WARMUP = 0.5


@dataclass(frozen=True)
class Measured:
    rate: float  # responses a second
    p50: float  # milliseconds
    p99: float


@dataclass(frozen=True)
class Report:
    routes: dict[str, Measured]
    checked: int
    errors: int
    lost: int
    disconnects: int
    busy: float  # the part of its core that the client used
    complaints: str


class Client:
    def __init__(self, build: Path, core: int) -> None:
        self._program = build / "load"
        self._core = core
        build.mkdir(parents=True, exist_ok=True)
        self._compile()

    def _compile(self) -> None:
        compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
        if not compiler:
            raise Failed("no C compiler: cc or gcc is needed for the load client")
        sources = [str(path) for path in sorted(SOURCES.glob("*.c"))]
        with tempfile.TemporaryDirectory(dir=self._program.parent) as folder:
            fresh = Path(folder) / "load"
            command = [*compiler.split(), "-std=c11", "-O2", "-Wall", "-Wextra", "-o", str(fresh), *sources]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            if done.returncode:
                raise Failed(f"the load client does not compile:\n{done.stderr}")
            # In one step: another demo may be running the old one.
            fresh.replace(self._program)

    def run(self, port: int, routes: Iterable[Route], seconds: float, connections: int) -> Report:
        with tempfile.TemporaryDirectory(dir=self._program.parent) as folder:
            command = [str(self._program), f"--port={port}", f"--seconds={seconds}", f"--warmup={WARMUP}"]
            command += [f"--connections={connections}"]
            command += [f"--core={self._core}"] if self._core >= 0 else []
            for route in routes:
                command += self._route_options(route, Path(folder))
            try:
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds + 40)
            except subprocess.TimeoutExpired:
                raise Failed("the load client does not end") from None
        if done.returncode not in (0, 1):
            raise Failed(f"the load client failed, status {done.returncode}:\n{done.stderr.strip()}")
        return self._read_report(done.stdout, done.stderr.strip())

    @staticmethod
    def _route_options(route: Route, folder: Path) -> list[str]:
        (folder / f"{route.name}.expect").write_bytes(route.expect)
        options = [f"--route={route.name}", f"--path={route.path}", f"--method={route.method}", f"--type={route.type}"]
        options += [f"--kind={route.kind}", f"--expect={route.name}.expect"]
        options += [f"--weight={route.share}" if route.kind == "http" else f"--own={route.share}"]
        if route.chunked:
            options.append("--chunked")
        if route.body:
            (folder / f"{route.name}.body").write_bytes(route.body)
            options.append(f"--body={route.name}.body")
        return options

    @staticmethod
    def _read_report(text: str, complaints: str) -> Report:
        report = json.loads(text)
        routes = report["routes"]
        return Report(
            routes={r["name"]: Measured(r["rate"], r["p50_us"] / 1000, r["p99_us"] / 1000) for r in routes},
            checked=sum(r["checked"] for r in routes),
            errors=sum(r["errors"] for r in routes),
            lost=sum(r["lost"] for r in routes),
            disconnects=report["disconnects"],
            busy=report["busy"],
            complaints=complaints,
        )
