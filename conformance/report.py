"""What came out: the table, the failures, the JSON file, and the comparison with what was so before."""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from left_out import covers
from supervise import ModuleResult

STATUSES = ("ok", "failed", "skipped", "left out")
TRACEBACK_LINES = 14


def table(results: Sequence[ModuleResult]) -> str:
    rows: list[tuple[str, ...]] = [("module", *STATUSES, "seconds")]
    total: Counter[str] = Counter()
    for result in results:
        counts = count(result)
        total += counts
        rows.append((result.module, *(str(counts[status] or "-") for status in STATUSES), f"{result.seconds:.1f}"))
    rows.append(("in all", *(str(total[status]) for status in STATUSES), ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        row[0].ljust(widths[0])
        + "  "
        + "  ".join(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
    return "\n".join([*lines[:-1], "", lines[-1]])


def summary(results: Iterable[ModuleResult]) -> str:
    total: Counter[str] = Counter()
    for result in results:
        total += count(result)
    return ", ".join(f"{total[status]} {status}" for status in STATUSES)


def reasons(results: Iterable[ModuleResult], status: str) -> str:
    counts = Counter(
        outcome.detail for result in results for outcome in result.outcomes.values() if outcome.status == status
    )
    return "\n".join(f"{number:5}  {reason}" for reason, number in counts.most_common())


def failures(results: Iterable[ModuleResult], *, whole: bool) -> str:
    """The tests that failed, with a traceback: one for all that seem to have failed for the same cause."""
    groups: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for result in results:
        for name, outcome in result.outcomes.items():
            if outcome.status == "failed":
                key = name if whole else likeness(name, outcome.detail)
                groups[key].append((name, outcome.detail))
    blocks = []
    for group in groups.values():
        lines = group[0][1].rstrip().splitlines()
        if not whole:
            lines = lines[:1] + lines[1:][-TRACEBACK_LINES:]
        blocks.append("\n".join([*(f"failed: {name}" for name, _ in group), *(f"    {line}" for line in lines)]))
    return "\n\n".join(blocks)


def likeness(name: str, detail: str) -> str:
    """What failures for one and the same cause have in common."""
    if detail.startswith(("crashed:", "hung:")):
        return name
    last_line = detail.rstrip().rpartition("\n")[2]
    # Many an assertion has the same message. In the variants of one test it has the same cause, too.
    return last_line + name.rpartition(".")[2] if "AssertionError" in detail else last_line


def count(result: ModuleResult) -> Counter[str]:
    return Counter(outcome.status for outcome in result.outcomes.values())


def write_json(path: Path, head: dict[str, Any], results: Iterable[ModuleResult]) -> None:
    modules = {
        result.module: {
            "seconds": round(result.seconds, 3),
            "tests": {name: outcome._asdict() for name, outcome in result.outcomes.items()},
        }
        for result in results
    }
    path.write_text(json.dumps({**head, "modules": modules}, indent=1) + "\n")


# The baseline holds, for an implementation and an exact version of Python (and so an exact suite), how many tests of each module
# were ok, and the names of those that were not: a class or a module of which none was stands for all its tests.

Baseline = dict[str, dict[str, dict[str, Any]]]  # implementation, version of Python, module


def python_version() -> str:
    return ".".join(map(str, sys.version_info[:3]))


def update_baseline(path: Path, implementation: str, results: Iterable[ModuleResult]) -> None:
    baseline: Baseline = json.loads(path.read_text()) if path.exists() else {}
    modules = baseline.setdefault(implementation, {}).setdefault(python_version(), {})
    for result in results:
        modules[result.module] = {"ok": count(result)["ok"], "not ok": folded(result)}
    path.write_text(json.dumps(baseline, indent=1, sort_keys=True) + "\n")


def worse_than_baseline(path: Path, implementation: str, results: Iterable[ModuleResult]) -> tuple[list[str], str]:
    """The tests that are not ok and were, and a line that says what was compared."""
    baseline: Baseline = json.loads(path.read_text())
    modules = baseline.get(implementation, {}).get(python_version())
    if modules is None:
        return [], f"baseline: none for {implementation} on CPython {python_version()}: nothing compared"
    worse = []
    now = then = 0
    for result in results:
        if result.module not in modules:
            continue
        before = modules[result.module]
        now += count(result)["ok"]
        then += before["ok"]
        worse += [
            f"{name} ({outcome.status} now)"
            for name, outcome in result.outcomes.items()
            if outcome.status != "ok" and not any(covers(pattern, name) for pattern in before["not ok"])
        ]
    return worse, f"baseline: {then} were ok, {now} are; {len(worse)} got worse"


def folded(result: ModuleResult) -> list[str]:
    """The names of the tests that are not ok, with a class or the module in place of all its tests."""
    tests = {name: outcome.status == "ok" for name, outcome in result.outcomes.items()}
    if not any(tests.values()):
        return [result.module]
    classes: defaultdict[str, dict[str, bool]] = defaultdict(dict)
    for name, ok in tests.items():
        classes[name.rpartition(".")[0]][name] = ok
    names = []
    for class_name, members in classes.items():
        if not any(members.values()):
            names.append(class_name)
        else:
            names += [name for name, ok in members.items() if not ok]
    return sorted(names)
