"""asyncio, uvloop and corolla in one run: interleaved rounds, medians, ratios. See README.md beside this file.

python benchmarks/run.py [--quick | --full | --goals] [--only PATTERN] [--impl asyncio,uvloop,corolla] [--rounds N]
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from suite import (
    network_cases,
    plot,
    primitive_cases,
    process_cases,
    programs,
    scheduler_cases,
    stream_cases,
    table,
    tls_cases,
)
from suite.implementations import EVERY_NAME, NAMES
from suite.loop_cases import LoopCase
from suite.network_cases import IDLE, LIBCOROLLA, RAW, Cells, NetworkCase, Timing
from suite.processes import BENCHMARKS, Cores, MeasurementError, python_script, run_report
from suite.results import Results, Sample, describe_machine


@dataclass(frozen=True)
class Settings:
    """How much is measured."""

    rounds: int
    values: int  # of a case on a loop, in each process
    value_seconds: float
    timing: Timing
    cells: Cells
    floor_repeats: int  # raw C and libcorolla alternate so often in each round


DEFAULT = Settings(5, 11, 0.02, Timing(0.1, 0.5, 5000), network_cases.DEFAULT_CELLS, 3)
QUICK = Settings(1, 5, 0.01, Timing(0.1, 0.25, 1000), network_cases.QUICK_CELLS, 1)
FULL = Settings(5, 11, 0.02, Timing(0.2, 1.0, 5000), network_cases.FULL_CELLS, 3)

Step = tuple[str, str, LoopCase | NetworkCase]  # case, implementation, what to do


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Benchmarks of asyncio, uvloop and corolla.")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="one short round of the main cases, under a minute or so")
    size.add_argument("--full", action="store_true", help="every echo server, size and number of connections")
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN", help="cases: 'scheduler/*', 'sleep'")
    parser.add_argument("--impl", default=",".join(EVERY_NAME), help="comma-separated, in the order of a round")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--goals", action="store_true", help="print the goals table alone")
    parser.add_argument("--report", type=Path, metavar="JSON", help="print the tables of stored results")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument("--programs", type=Path, metavar="DIR", help="a build directory with the C programs")
    parser.add_argument("--echo-server", type=Path, metavar="PROGRAM", help="libcorolla's echo server")
    parser.add_argument("--output", type=Path, default=BENCHMARKS / "results", metavar="DIR")
    parser.add_argument("--server-cpu", type=int)
    parser.add_argument("--client-cpu", type=int)
    parser.add_argument("--nice", type=int, default=0, help="for all processes measured; below 0 needs privileges")
    return parser.parse_args()


def wanted(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatch.fnmatch(name, pattern) or pattern in name for pattern in patterns)


def available(names: Sequence[str]) -> dict[str, str]:
    """Version of each implementation that works here; of the others, a line that says why not."""
    versions = {}
    for name in names:
        command = python_script("worker.py", "--describe", name)
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            versions[name] = json.loads(done.stdout)["version"]
        else:
            lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
            print(f"skipping {name}: {lines[-1]}", flush=True)
    return versions


def loop_cases() -> list[LoopCase]:
    groups = scheduler_cases, primitive_cases, stream_cases, process_cases
    return [case for group in groups for case in group.case.values()]


def served_cases(settings: Settings) -> list[NetworkCase]:
    cases = network_cases.echo_cases(settings.cells) + network_cases.other_cases(settings.timing.idle_connections)
    return cases + network_cases.udp_cases() + tls_cases.cases(settings is QUICK, settings.cells is FULL.cells)


def plan(settings: Settings, names: Sequence[str], patterns: Sequence[str], libcorolla: bool) -> list[Step]:
    """The steps of one round. The implementations of a case follow on each other, as close in time as can be."""
    steps: list[Step] = []
    for loop_case in loop_cases():
        if wanted(loop_case.key, patterns):
            steps += [(loop_case.key, name, loop_case) for name in names if name in NAMES]
    cases = served_cases(settings)
    floors = {case.floor for case in cases if case.server and wanted(case.key, patterns)}
    for case in cases:
        if case.server and wanted(case.key, patterns):
            taking_part = (name for name in names if (name in NAMES or name in case.also) and name not in case.without)
            steps += [(case.key, name, case) for name in taking_part]
        elif not case.server and case.key in floors:
            steps.append((case.key, RAW, case))
    for case in network_cases.floor_cases():
        if libcorolla and wanted(case.key, patterns):
            steps += [(case.key, name, case) for name in (RAW, LIBCOROLLA)] * settings.floor_repeats
    return steps


def take_sample(step: Step, number: int, settings: Settings, cores: Cores, built: programs.Programs | None) -> Sample:
    key, name, case = step
    if isinstance(case, LoopCase):
        options = ["--values", str(settings.values), "--seconds", str(settings.value_seconds)]
        command = python_script("worker.py", case.name, name, *options)
        report = run_report(command, cores.server, cores, timeout=120)
        values = report["values"]
        return Sample(key, name, number, statistics.median(values), "second", values, {"cpu_cost": report["cpu_cost"]})
    assert built is not None
    cost, extra = network_cases.measure(case, name, built, cores, settings.timing)
    return Sample(key, name, number, cost, "byte" if case.client in IDLE else "second", [cost], extra)


def run_rounds(
    results: Results, steps: list[Step], settings: Settings, cores: Cores, built: programs.Programs | None
) -> None:
    began = time.monotonic()
    for number in range(settings.rounds):
        for index, step in enumerate(steps):
            key, name, _ = step
            if f"{key} {name}" in results.errors:
                continue
            progress = f"round {number + 1}/{settings.rounds}, {index + 1}/{len(steps)}: {key} {name}"
            if sys.stderr.isatty():
                print(f"\r{progress:<78}", end="", file=sys.stderr, flush=True)
            try:
                results.samples.append(take_sample(step, number, settings, cores, built))
            except MeasurementError as error:
                results.errors[f"{key} {name}"] = str(error)
                print(f"\n{key} on {name} failed: {error}", flush=True)
        print(f"\nround {number + 1} of {settings.rounds} after {time.monotonic() - began:.0f} s", flush=True)


def collect(arguments: argparse.Namespace) -> Results:
    settings = QUICK if arguments.quick else FULL if arguments.full else DEFAULT
    if arguments.rounds:
        settings = Settings(**{**settings.__dict__, "rounds": arguments.rounds})
    cores = Cores.choose(arguments.server_cpu, arguments.client_cpu, arguments.nice)
    if cores.server == cores.client:
        print("one core for server and client: network figures mean little", flush=True)
    versions = available(arguments.impl.split(","))
    steps = plan(settings, list(versions), arguments.only, libcorolla=True)
    built = None
    if any(isinstance(case, NetworkCase) for _, _, case in steps):
        built = programs.locate(arguments.programs, arguments.echo_server)
        if built.libcorolla_echo is None:
            print("skipping libcorolla: its echo server is not built (--echo-server PROGRAM)", flush=True)
            steps = plan(settings, list(versions), arguments.only, libcorolla=False)
        if built.tls_client is None:
            print(f"!!! SKIPPED: {programs.TLS_MISSING}", flush=True)
            steps = [step for step in steps if not (isinstance(step[2], NetworkCase) and step[2].over_tls)]
    if not steps:
        raise SystemExit("no case has such a name: --list prints them")
    results = Results(machine=describe_machine(), versions=versions)
    results.options = {name: str(value) for name, value in vars(arguments).items() if name in ("quick", "full", "only")}
    for key, _, case in steps:
        results.titles[key] = case.title if isinstance(case, LoopCase) else case.name
        if isinstance(case, NetworkCase) and case.floor:
            results.floors[key] = case.floor
    run_rounds(results, steps, settings, cores, built)
    return results


def save(results: Results, output: Path) -> None:
    version = ".".join(str(results.machine.get("python_version", "?")).split(".")[:2])
    directory = output / f"{time.strftime('%Y%m%d-%H%M%S')}-py{version}"
    directory.mkdir(parents=True, exist_ok=True)
    results.save(directory / "results.json")
    results.save_pyperf(directory)
    (directory / "tables.txt").write_text(table.report(results) + "\n")
    if not plot.plot(results, directory / "plot.png"):
        print("no plot: matplotlib is not installed, or there is nothing to draw")
    print(f"\nsaved in {directory}")


def main() -> int:
    arguments = parse_arguments()
    if arguments.list:
        cases = served_cases(FULL if arguments.full else DEFAULT) + network_cases.floor_cases()
        keys = [case.key for case in cases if case.server or case.key.startswith("libcorolla/")]
        print("\n".join([*(case.key for case in loop_cases()), *keys]))
        return 0
    results = Results.load(arguments.report) if arguments.report else collect(arguments)
    if not results.samples:
        print("nothing was measured")
        return 1
    print()
    if arguments.goals:
        print(table.goals_table(results))
    else:
        print(table.report(results))
    if not arguments.report:
        save(results, arguments.output)
    return 1 if results.errors else 0


if __name__ == "__main__":
    sys.exit(main())
