"""What was measured, and how it is printed: a column for each implementation, and its ratio to the first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from client import Measured, Report
from contract import Route

LABEL, FIGURE, RATIO = 36, 15, 8
TOLERATED = 0.05  # of its time a server may wait for its core, before the figures are said to be doubtful


@dataclass
class Column:
    """What one application showed on one implementation."""

    alone: Measured | None = None  # JSON and nothing else
    mixed: dict[str, Measured] = field(default_factory=dict)  # all routes at once
    alone_cpu: float = 0.0  # microseconds of the server's core for a response
    mixed_cpu: float = 0.0
    memory: float = 0.0  # MiB

    @property
    def complete(self) -> bool:
        return self.alone is not None and bool(self.mixed)


@dataclass
class Totals:
    """Over all runs: what must be right whatever the speed."""

    checked: int = 0
    errors: int = 0
    lost: int = 0
    disconnects: int = 0
    busy: float = 0.0  # of its core, the load client in the run that used it most
    waited: float = 0.0  # of its time, the server that had to wait most for its core
    problems: list[str] = field(default_factory=list)

    def add(self, name: str, report: Report, waited: float) -> None:
        self.checked += report.checked
        self.errors += report.errors
        self.lost += report.lost
        self.disconnects += report.disconnects
        self.busy = max(self.busy, report.busy)
        self.waited = max(self.waited, waited)
        if report.errors or report.lost:
            self.problems.append(f"{name}: {report.errors} errors, {report.lost} lost\n{report.complaints}")
        elif idle := [route for route, measured in report.routes.items() if not measured.rate]:
            self.problems.append(f"{name}: not one response from {', '.join(idle)} while the clock ran")


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _heading(title: str, names: list[str]) -> str:
    line = f"{title:<{LABEL}}{names[0]:>{FIGURE}}"
    line += "".join(f"  {name:>{FIGURE}}{'ratio':>{RATIO}}" for name in names[1:])
    return f"{line}\n{'-' * len(line)}"


def _row(label: str, figures: Iterable[float]) -> str:
    first, *others = figures
    line = f"  {label:<{LABEL - 2}}{_number(first):>{FIGURE}}"
    for figure in others:
        ratio = f"{figure / first:.2f}" if first else "-"
        line += f"  {_number(figure):>{FIGURE}}{ratio:>{RATIO}}"
    return line


def app_table(title: str, columns: Mapping[str, Column], routes: Iterable[Route], connections: int) -> str:
    shown = [column for column in columns.values() if column.complete]
    names = [name for name, column in columns.items() if column.complete]
    if not shown:
        return f"{title}: nothing to show"
    routes = list(routes)
    alone, mixed = f"JSON alone, {connections} connections", "all routes at once"
    lines = [_heading(title, names)]

    def rows(of: Callable[[Measured], float], total: bool) -> None:
        lines.append(_row(alone, (of(column.alone) for column in shown if column.alone)))
        in_all = (sum(map(of, column.mixed.values())) for column in shown)
        lines.append(_row(mixed, in_all) if total else f"  {mixed}")
        lines.extend(_row(f"  {r.label}", (of(column.mixed[r.name]) for column in shown)) for r in routes)

    lines.append("responses a second")
    rows(lambda measured: measured.rate, total=True)
    lines.append("latency p50, ms")
    rows(lambda measured: measured.p50, total=False)
    lines.append("latency p99, ms")
    rows(lambda measured: measured.p99, total=False)
    lines.append("server's CPU time for a response, microseconds")
    lines.append(_row(alone, (column.alone_cpu for column in shown)))
    lines.append(_row(mixed, (column.mixed_cpu for column in shown)))
    lines.append("server's peak memory, MiB")
    lines.append(_row(mixed, (column.memory for column in shown)))
    return "\n".join(lines)


def _doubts(totals: Totals) -> list[str]:
    doubts = []
    if totals.busy > 0.8:
        doubts.append("The load client was near its limit: the servers may be faster than shown.")
    if totals.waited > TOLERATED:
        doubts.append(
            f"Something else ran on this machine: a server waited up to {totals.waited:.0%} of its time for its core,"
            "\nso compare the CPU times rather than responses a second and latencies."
        )
    return doubts


def verdict(totals: Totals, seconds: float) -> str:
    lines = [
        "ratio: to the first column; more is better for responses a second, less for all the rest.",
        f"The load client was busy {totals.busy:.0%} of the time at most; {seconds:.0f} s in all.",
        *_doubts(totals),
        *(f"\nPROBLEM: {problem.rstrip()}" for problem in totals.problems),
        "",
    ]
    counts = f"{totals.checked:,} responses checked, {totals.errors:,} errors, {totals.lost:,} lost"
    if totals.problems:
        lines.append(f"FAILED: {counts}; problems as above: {len(totals.problems)}.")
    else:
        lines.append(f"OK: {counts}; each of {totals.disconnects:,} disconnects seen by the application.")
    return "\n".join(lines)
