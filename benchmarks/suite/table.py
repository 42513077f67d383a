"""The tables that are printed."""

from __future__ import annotations

from collections.abc import Sequence

from suite.goals import verdicts
from suite.implementations import EVERY_NAME, NAMES
from suite.loop_cases import LOOP_GROUPS
from suite.network_cases import LIBCOROLLA, RAW
from suite.results import Results

GROUPS = {
    "scheduler": "Scheduler: time for one operation",
    "primitives": "What coroutines wait on: time for one operation",
    "streams": "Streams: time for one operation",
    "echo": "Echo: messages a second",
    "udp": "UDP echo: datagrams a second",
    "connections": "Connections accepted, echoed on and closed: a second",
    "tls": "TLS echo: messages a second",
    "handshakes": "TLS handshakes, each with a line echoed, and closed: a second",
    "http": "HTTP: requests a second",
    "memory": "Idle connections: resident memory of each",
    "tls-memory": "Idle TLS connections: resident memory of each",
    "libcorolla": "libcorolla: echo on reactor.h alone, messages a second",
}
MEMORY = ("memory", "tls-memory")
# Under this, either the client or a neighbour on the machine had a part in the figure.
SATURATED = 0.9


def render(header: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """Columns of figures are aligned on the right, those named in left are not."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = []
    for row in [header, ["-" * width for width in widths], *rows]:
        cells = [
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def ratio_text(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"


def time_text(seconds: float) -> str:
    nanoseconds = seconds * 1e9
    return f"{nanoseconds:,.0f} ns" if nanoseconds < 100_000 else f"{nanoseconds / 1000:,.0f} us"


def figure(results: Results, case: str, implementation: str) -> str:
    if implementation == RAW:
        case = results.floors.get(case, case)
    cost = results.cost(case, implementation)
    if cost is None:
        return "failed" if f"{case} {implementation}" in results.errors else "-"
    if case.partition("/")[0] in MEMORY:
        return f"{cost:,.0f} B"
    cpu_cost = results.extra(case, implementation, "cpu_cost")
    # A single connection waits for its client by its nature.
    alone = results.extra(case, implementation, "connections") == 1
    mark = "*" if cpu_cost is not None and not alone and cpu_cost < SATURATED * cost else " "
    return (time_text(cost) if case.partition("/")[0] in LOOP_GROUPS else f"{1 / cost:,.0f}") + mark


def has(results: Results, case: str, name: str) -> bool:
    """Whether that case exists there, be it that it failed."""
    floor = results.floors.get(case, case) if name == RAW else case
    return bool(results.of(floor, name)) or f"{floor} {name}" in results.errors


def group_table(results: Results, group: str, columns: Sequence[str], subject: str) -> str:
    cases = [case for case in results.cases(group) if not case.partition("/")[2].startswith("raw")]
    failed = {key.split(" ")[0] for key in results.errors if key.startswith(group + "/")}
    cases += sorted(failed - set(cases))
    floor = [RAW] if any(results.floors.get(case) for case in cases) or group == "libcorolla" else []
    shown = [LIBCOROLLA] if group == "libcorolla" else list(columns)
    shown = [name for name in shown if name in NAMES or any(has(results, case, name) for case in cases)]
    who = LIBCOROLLA if group == "libcorolla" else subject
    bases = [name for name in [*reversed(shown), *floor] if name != who]
    by_cpu = group not in MEMORY
    header = ["case", *shown, *floor, *(f"{who}/{base}" for base in bases)]
    header += [f"by CPU/{base}" for base in bases] if by_cpu else []
    rows = []
    for case in cases:
        row = [results.titles.get(case, case.partition("/")[2])]
        row += [figure(results, case, name) for name in [*shown, *floor]]
        row += [ratio_text(results.ratio(case, who, base)) for base in bases]
        row += [ratio_text(results.ratio(case, who, base, cpu=True)) for base in bases] if by_cpu else []
        rows.append(row)
    shared = [case for case in cases if all(has(results, case, base) for base in bases)]
    if len(shared) > 1:
        mean = [ratio_text(results.geometric_mean(shared, who, base)) for base in bases]
        mean += [ratio_text(results.geometric_mean(shared, who, base, cpu=True)) for base in bases] if by_cpu else []
        rows.append(["geometric mean", *[""] * (len(shown) + len(floor)), *mean])
    return f"{GROUPS[group]}\n{render(header, rows)}"


def goals_table(results: Results) -> str:
    rows = []
    for verdict in verdicts(results):
        goal = verdict.goal
        rows.append([goal.text, f"{goal.least:.2f}", ratio_text(verdict.ratio), verdict.word, verdict.remark])
    return f"Goals (times as fast)\n{render(['goal', 'at least', 'ratio', '', ''], rows, left=(0, 3, 4))}"


def choose_subject(results: Results) -> str:
    known = results.implementations()
    return next(name for name in ("corolla", "uvloop", "asyncio", LIBCOROLLA, RAW) if name in known)


def report(results: Results) -> str:
    subject = choose_subject(results)
    columns = [name for name in EVERY_NAME if name in results.implementations()]
    named = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    machine = results.machine
    parts = [f"{named}; CPython {machine.get('python_version', '?')}; {machine.get('cpu_model_name', 'unknown CPU')}"]
    for group in GROUPS:
        if results.cases(group) or any(key.startswith(group + "/") for key in results.errors):
            parts.append(group_table(results, group, columns, subject))
    notes = ["Ratios: times as fast, the median over the rounds. By CPU: from the CPU time of the loop's process."]
    if any("*" in part for part in parts[1:]):
        notes.append(
            f"* the loop used less than {SATURATED:.0%} of its core: the client or a neighbour had a part in it."
        )
    parts.append("\n".join(notes))
    if results.errors:
        parts.append("Failed:\n" + "\n".join(f"  {key}: {reason}" for key, reason in results.errors.items()))
    if any(verdict.ratio is not None for verdict in verdicts(results)):
        parts.append(goals_table(results))
    return "\n\n".join(parts)
