#!/usr/bin/env python3
"""Run CPython's own asyncio tests, as shipped with this interpreter, on another implementation.

    python conformance/run.py --impl corolla [--install]

Exit code 0 when every test passes that is not left out, 1 when one does not or a left-out list names a test that is not there,
2 when nothing could be run. README.md says the rest.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path

import left_out
import report
import substitute
from supervise import HERE, ModuleResult, ModuleRun, Outcome, Settings

LEFT_OUT = HERE / "left_out" / "test_asyncio.toml"
LEFT_OUT_INSTALLED = HERE / "left_out" / "installed.toml"  # besides, with --install
BASELINE = HERE / "baseline.json"

# Started first, since they take longest: the others fill in beside them.
LONGEST = ("test_events", "test_tasks", "test_streams", "test_sock_lowlevel", "test_base_events")


def main() -> int:
    options = parse_arguments()
    suite = find_suite(options.suite)
    if suite is None:
        version = report.python_version()
        print(f"{'!' * 100}\nNOT RUN: CPython {version} at {sys.executable} has no test.test_asyncio", file=sys.stderr)
        print(
            f"(Debian: package libpython3.{sys.version_info[1]}-testsuite; or --suite DIR)\n{'!' * 100}",
            file=sys.stderr,
        )
        return 2 if options.require_suite else 0
    try:
        implementation = importlib.import_module(options.impl)
    except ImportError as error:
        print(f"cannot import {options.impl}: {error}", file=sys.stderr)
        return 2
    if options.install and not hasattr(implementation, "install"):
        print(f"{options.impl} has no install()", file=sys.stderr)
        return 2

    lists = options.left_out or [LEFT_OUT, *([LEFT_OUT_INSTALLED] if options.install else [])]
    entries = [entry for path in lists for entry in left_out.read(path)]
    modules = sorted(path.stem for path in suite.glob("test_*.py"))
    if options.module:
        unknown = [name for name in options.module if name not in modules]
        if unknown:
            print(f"no such module in {suite}: {', '.join(unknown)}", file=sys.stderr)
            return 2
        modules = [name for name in modules if name in options.module]

    results = run_modules(modules, entries, suite, options)
    if options.list:
        return 0
    return show(results, entries, modules, options)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--impl", default="corolla", metavar="MODULE", help="what to test: corolla (default), asyncio, uvloop, ...")
    add("--install", action="store_true", help="call its install() first: asyncio's own names are the implementation's")
    add("--module", action="append", metavar="NAME", help="only this module of the suite; may be repeated")
    add("--match", metavar="PATTERN", help="only the tests whose name holds this (with *: whose whole name is like it)")
    add("--list", action="store_true", help="list the tests, and what is left out, and run none")
    add("--verbose", action="store_true", help="print each test as it ends, skip reasons, and whole tracebacks")
    add("--json", type=Path, metavar="FILE", help="write every test's outcome to this file")
    add("-j", "--jobs", type=int, default=2, help="modules run at a time (2)")
    add("--timeout", type=float, default=30.0, metavar="SECONDS", help="after which a test has hung (30)")
    add(
        "--suite",
        type=Path,
        metavar="DIR",
        help="a directory of this Python's tests that holds test_asyncio, when it has none",
    )
    add("--require-suite", action="store_true", help="exit with 2 when the interpreter has no suite")
    add("--left-out", type=Path, action="append", metavar="FILE", help="the list of tests left out; may be repeated")
    add("--include-left-out", action="store_true", help="run the left-out tests as well")
    add(
        "--baseline",
        type=Path,
        nargs="?",
        const=BASELINE,
        metavar="FILE",
        help="fail when a test that was ok there is not ok now",
    )
    add(
        "--update-baseline",
        type=Path,
        nargs="?",
        const=BASELINE,
        metavar="FILE",
        help="write what came out to the baseline",
    )
    return parser.parse_args()


def find_suite(directory: Path | None) -> Path | None:
    """Where test_asyncio is."""
    if directory is not None:
        package = directory / "test_asyncio"
        return package if package.is_dir() else None
    try:
        spec = importlib.util.find_spec("test.test_asyncio")
    except ImportError:
        return None
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def run_modules(
    modules: list[str], entries: list[left_out.Entry], suite: Path, options: argparse.Namespace
) -> list[ModuleResult]:
    settings = Settings(
        implementation=options.impl,
        install=options.install,
        test_timeout=options.timeout,
        suite=options.suite.resolve() if options.suite else None,
        on_end=announce if options.verbose else lambda name, outcome: None,
    )

    def choose(tests: list[str]) -> dict[str, Outcome | None]:
        chosen: dict[str, Outcome | None] = {}
        for name in tests:
            if options.match and not like(options.match, name):
                continue
            entry = left_out.entry_for(name, entries)
            if entry is None or options.include_left_out:
                chosen[name] = None
            else:
                chosen[name] = Outcome("left out", entry.why)
        if options.list:
            for name, outcome in chosen.items():
                print(name if outcome is None else f"{name}  # left out: {outcome.detail}")
            return {}
        return chosen

    order = sorted(modules, key=lambda name: LONGEST.index(name) if name in LONGEST else len(LONGEST))
    with ThreadPoolExecutor(1 if options.list else options.jobs) as pool:
        runs = {name: pool.submit(ModuleRun(name, settings, choose).run) for name in order}
        return [runs[name].result() for name in modules]


def name_of_run(options: argparse.Namespace) -> str:
    return substitute.describe(options.impl) + (", installed" if options.install else "")


def like(pattern: str, name: str) -> bool:
    return fnmatchcase(name, pattern) if "*" in pattern else pattern in name


def announce(name: str, outcome: Outcome) -> None:
    print(f"{outcome.status:8} {name} ({outcome.seconds:.2f} s)", flush=True)


def show(
    results: list[ModuleResult], entries: list[left_out.Entry], modules: list[str], options: argparse.Namespace
) -> int:
    bad = False
    shown = [result for result in results if result.outcomes]
    print(f"\ntest_asyncio with {name_of_run(options)}, {time.monotonic() - STARTED:.0f} s\n")
    print(report.table(shown))
    for status in ("left out", "skipped") if options.verbose else ("left out",):
        if text := report.reasons(shown, status):
            print(f"\n{status}:\n{text}")
    if text := report.failures(shown, whole=options.verbose):
        bad = True
        print(f"\n{text}")

    if options.include_left_out:
        passing = [
            f"    {name} ({entry.reason})"
            for result in shown
            for name, outcome in result.outcomes.items()
            if outcome.status == "ok" and (entry := left_out.entry_for(name, entries)) is not None
        ]
        print("\n" + "\n".join(["on the left-out list, and passing:", *passing]))

    # An entry whose module was not asked for cannot be checked. One whose module is gone is stale.
    collected = [name for result in results for name in result.collected]
    checked = [entry for entry in entries if not options.module or entry.module in modules]
    for entry in left_out.stale(checked, collected):
        bad = True
        print(f"\nleft out, but there is no such test: {entry.pattern} ({entry.reason})")

    key = f"{options.impl} installed" if options.install else options.impl
    if options.baseline is not None:
        worse, line = report.worse_than_baseline(options.baseline, key, shown)
        print("\n" + "\n".join([line, *(f"    {name}" for name in worse)]))
        bad = bad or bool(worse)
    if options.update_baseline is not None:
        report.update_baseline(options.update_baseline, key, shown)
    if options.json is not None:
        head = {"implementation": key, "python": report.python_version()}
        report.write_json(options.json, head, shown)
    if all(outcome.status in ("left out", "skipped") for result in shown for outcome in result.outcomes.values()):
        print("\nno test was run")
        bad = True
    print(f"\n{report.summary(shown)}")
    return int(bad)


STARTED = time.monotonic()

if __name__ == "__main__":
    sys.exit(main())
