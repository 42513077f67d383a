"""The results as a picture: how many times as fast as asyncio, and how much of raw C."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from suite.implementations import AIOFASTNET
from suite.network_cases import RAW
from suite.results import Results

COLOURS = {
    "asyncio": "#9aa5b1",
    "uvloop": "#e0a030",
    "corolla": "#2a7f62",
    "libcorolla": "#2a7f62",
    "aiofastnet": "#7a5195",
}


def panels(results: Results) -> list[tuple[str, str, list[str], list[str]]]:
    """Title, base, cases, implementations of each panel that has something to show."""
    loops: list[str] = [name for name in ("asyncio", "uvloop", "corolla") if name in results.implementations()]
    others = [name for name in loops if name != "asyncio"]
    tls = [case for group in ("tls", "handshakes", "tls-memory") for case in results.cases(group)]
    tls = [case for case in tls if not case.partition("/")[2].startswith("raw")]
    rest = [case for group in ("connections", "http", "memory") for case in results.cases(group)]
    rest = [case for case in rest if not case.endswith("/raw")]
    wanted: list[tuple[str, str, list[str], list[str]]] = [
        ("Scheduler: times as fast as asyncio", "asyncio", results.cases("scheduler"), others),
        ("What coroutines wait on: times as fast as asyncio", "asyncio", results.cases("primitives"), others),
        ("Echo: messages a second, against raw C", RAW, results.cases("echo"), loops),
        ("TLS: against a C server with OpenSSL", RAW, tls, [*loops, AIOFASTNET]),
        ("Connections, HTTP, memory: against asyncio", "asyncio", rest, others),
        ("libcorolla: messages a second, against raw C", RAW, results.cases("libcorolla"), ["libcorolla"]),
    ]
    return [panel for panel in wanted if panel[2] and panel[3]]


def draw_panel(axes: Any, results: Results, panel: tuple[str, str, list[str], list[str]]) -> None:
    title, base, cases, implementations = panel
    thickness = 0.8 / len(implementations)
    for index, implementation in enumerate(implementations):
        ratios = [results.ratio(case, implementation, base) or 0.0 for case in cases]
        places = [position + (index - (len(implementations) - 1) / 2) * thickness for position in range(len(cases))]
        bars = axes.barh(places, ratios, thickness, label=implementation, color=COLOURS.get(implementation))
        axes.bar_label(bars, labels=[f"{ratio:.2f}" if ratio else "" for ratio in ratios], padding=2, fontsize=7)
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(cases)), [results.titles.get(case, case) for case in cases], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_title(title, fontsize=10, loc="left")
    axes.legend(fontsize=8)


def plot(results: Results, path: Path) -> bool:
    """False when matplotlib is not installed, or there is nothing to draw."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        return False
    shown = panels(results)
    if not shown:
        return False
    heights = [0.6 + len(panel[2]) * 0.42 for panel in shown]
    figure, rows = pyplot.subplots(
        len(shown), 1, figsize=(9, sum(heights) + 1), height_ratios=heights, squeeze=False, layout="constrained"
    )
    for axes, panel in zip(rows[:, 0], shown, strict=True):
        draw_panel(axes, results, panel)
    named = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    figure.suptitle(f"{named}; CPython {results.machine.get('python_version', '?')}", fontsize=9)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return True
