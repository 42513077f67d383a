"""Unchanged web applications on asyncio, on corolla's loop and with corolla installed, under the same load, side by side.

Every response is checked, byte by byte. The exit status is 1 when one was wrong or missing, when a client's
disconnect went unnoticed or when a server complained, and 2 when the demo could not run at all.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

import contract
import serve
from client import WARMUP, Client
from report import Column, Totals, app_table, verdict
from server import START_SECONDS, STOP_SECONDS, Failed, Server

BUILD = Path(__file__).resolve().parents[2] / "build" / "demo"
PACKAGES = {"aiohttp": ("aiohttp",), "uvicorn": ("uvicorn", "starlette")}


class Demo:
    def __init__(self, options: argparse.Namespace) -> None:
        cores = sorted(os.sched_getaffinity(0))
        pinned = len(cores) > 1
        self.server_core = cores[0] if pinned else -1
        self.client = Client(BUILD, cores[1] if pinned else -1)
        self.options = options
        self.totals = Totals()

    def measure(self, app: str, implementation: str, mixed: bool, column: Column) -> None:
        """One load on a fresh server. Where it cannot be seen through, the column stays incomplete."""
        routes = contract.routes(app)
        load = list(routes.values()) if mixed else [routes["json"]]
        seconds = self.options.mixed_seconds if mixed else self.options.seconds
        connections = self.options.mixed_connections if mixed else self.options.connections
        name = f"{app} on {implementation}, {'all routes at once' if mixed else 'JSON alone'}"
        print(f"  {name} ... ", end="", flush=True)
        try:
            life = START_SECONDS + seconds + 60 + STOP_SECONDS
            with Server(app, implementation, self.server_core, life) as server:
                before = server.core_seconds()
                report = self.client.run(server.port, load, seconds, connections)
                running, waiting = (b - a for a, b in zip(before, server.core_seconds(), strict=True))
                self.totals.add(name, report, waiting / (running + waiting) if running else 0.0)
                server.await_disconnects(report.disconnects)
                memory = server.peak_memory()
                server.stop()
        except Failed as problem:
            self.totals.problems.append(f"{name}: {problem}")
            print("failed", flush=True)
            return
        print(f"{report.checked:,} responses, {report.errors + report.lost} wrong or lost", flush=True)
        cpu = running * 1e6 / max(report.checked, 1)
        if mixed:
            column.mixed, column.mixed_cpu, column.memory = report.routes, cpu, memory
        else:
            column.alone, column.alone_cpu = report.routes["json"], cpu

    def run_app(self, app: str, implementations: Iterable[str]) -> dict[str, Column]:
        columns = {implementation: Column() for implementation in implementations}
        # One load on each in turn, then the next: what is compared runs close together in time.
        for mixed in (False, True):
            for implementation, column in columns.items():
                self.measure(app, implementation, mixed, column)
        return columns


def names(known: Iterable[str]) -> Callable[[str], list[str]]:
    known = list(known)

    def parse(text: str) -> list[str]:
        chosen = list(dict.fromkeys(text.split(",")))
        if unknown := [name for name in chosen if name not in known]:
            raise argparse.ArgumentTypeError(f"no {', '.join(unknown)} among {', '.join(known)}")
        return chosen

    return parse


def positive(text: str) -> float:
    if not 0.1 <= (value := float(text)) <= 3600:
        raise argparse.ArgumentTypeError("must be from 0.1 to 3600")
    return value


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    loops = ", ".join(serve.IMPLEMENTATIONS)
    add("--impl", type=names(serve.IMPLEMENTATIONS), default=["asyncio", "corolla", "corolla+install"], metavar="A,B,...",
        help=f"the columns, in this order, of {loops} (default: asyncio,corolla,corolla+install)")  # fmt: skip
    add("--app", type=names(serve.APPS), default=list(serve.APPS), metavar="A,B", help="aiohttp, uvicorn or both")
    add("--seconds", type=positive, default=5.0, help="of JSON alone, each application on each loop (default: 5)")
    add("--mixed-seconds", type=positive, default=4.0, help="of all routes at once (default: 4)")
    add("--connections", type=int, default=64, help="for JSON alone (default: 64)")
    add("--mixed-connections", type=int, default=16, help="for all routes, WebSockets and such apart (default: 16)")
    add("--json", type=Path, metavar="FILE", help="write the figures there too")
    return parser.parse_args()


def title(app: str) -> str:
    return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in PACKAGES[app])


def main() -> int:
    options = parse_options()
    # So that servers are stopped on the way out, also when something else has had enough of us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    began = time.monotonic()
    try:
        titles = {app: title(app) for app in options.app}
        demo = Demo(options)
    except importlib.metadata.PackageNotFoundError as missing:
        print(f"{missing.name} is not installed; `make demo` installs requirements/demo.txt", file=sys.stderr)
        return 2
    except Failed as problem:
        print(problem, file=sys.stderr)
        return 2
    runs = len(options.app) * len(options.impl)
    seconds = runs * (options.seconds + options.mixed_seconds + 2 * (WARMUP + 1))
    print(f"CPython {platform.python_version()}, {platform.system()} {platform.release()}, {os.cpu_count()} cores")
    print(f"{2 * runs} runs, about {seconds:.0f} s", flush=True)

    results = {app: demo.run_app(app, options.impl) for app in options.app}
    for app, columns in results.items():
        print()
        print(app_table(titles[app], columns, contract.routes(app).values(), options.connections))
    print()
    print(verdict(demo.totals, time.monotonic() - began))
    if options.json:
        figures = {app: {name: asdict(column) for name, column in columns.items()} for app, columns in results.items()}
        options.json.write_text(json.dumps({"apps": figures, "totals": asdict(demo.totals)}, indent=2) + "\n")
    return 1 if demo.totals.problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
