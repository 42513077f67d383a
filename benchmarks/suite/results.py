"""What was measured, and the statistics on it: medians, and ratios taken round by round.

The figure of a sample is a cost: seconds an operation, or bytes a connection. A ratio is the base's cost by the
subject's, so 2.0 reads "twice as fast" (or "half the memory"). Rounds are interleaved, so a ratio is taken within each
round, where both saw the machine in the same mood, and the median of those is what is told.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyperf  # type: ignore[import-untyped]


@dataclass(frozen=True)
class Sample:
    case: str  # "group/name"
    implementation: str
    round: int
    cost: float
    unit: str  # pyperf's: "second" or "byte"
    values: list[float]  # what the cost is the median of
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class Results:
    machine: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)  # what a case is called in the table
    floors: dict[str, str] = field(default_factory=dict)  # the case that measures raw C for a case
    samples: list[Sample] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)  # "case implementation" -> reason

    def of(self, case: str, implementation: str) -> list[Sample]:
        return [sample for sample in self.samples if (sample.case, sample.implementation) == (case, implementation)]

    def cases(self, group: str) -> list[str]:
        """In the order in which they were first measured."""
        return list(dict.fromkeys(sample.case for sample in self.samples if sample.case.startswith(group + "/")))

    def implementations(self) -> list[str]:
        return list(dict.fromkeys(sample.implementation for sample in self.samples))

    def cost(self, case: str, implementation: str) -> float | None:
        costs = [sample.cost for sample in self.of(case, implementation)]
        return statistics.median(costs) if costs else None

    def extra(self, case: str, implementation: str, name: str) -> float | None:
        found = [sample.extra[name] for sample in self.of(case, implementation) if name in sample.extra]
        return statistics.median(found) if found else None

    def ratio(self, case: str, subject: str, base: str, cpu: bool = False) -> float | None:
        """How many times as fast as base the subject is; with cpu, by the CPU time an operation took."""
        base_case = self.floors.get(case, case) if base == "raw C" else case
        return paired_ratio(self.of(case, subject), self.of(base_case, base), cpu)

    def geometric_mean(self, cases: Iterable[str], subject: str, base: str, cpu: bool = False) -> float | None:
        ratios = [self.ratio(case, subject, base, cpu) for case in cases]
        known = [ratio for ratio in ratios if ratio is not None]
        return math.exp(statistics.fmean(map(math.log, known))) if known and len(known) == len(ratios) else None

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Results:
        stored = json.loads(path.read_text())
        stored["samples"] = [Sample(**sample) for sample in stored["samples"]]
        return cls(**stored)

    def save_pyperf(self, directory: Path) -> list[Path]:
        """A file for each implementation, for `python -m pyperf compare_to`."""
        paths = []
        for implementation in self.implementations():
            suite = self._pyperf_suite(implementation)
            path = directory / f"{implementation.replace(' ', '-')}.pyperf.json"
            suite.dump(str(path), replace=True)
            paths.append(path)
        return paths

    def _pyperf_suite(self, implementation: str) -> Any:
        benchmarks = []
        mine = [sample for sample in self.samples if sample.implementation == implementation]
        for case in dict.fromkeys(sample.case for sample in mine):
            runs = [
                pyperf.Run(
                    sample.values,
                    metadata={"name": sample.case, "unit": sample.unit, "description": self.titles.get(case, case)},
                    collect_metadata=False,
                )
                for sample in mine
                if sample.case == case and min(sample.values) > 0
            ]
            if runs:
                benchmarks.append(pyperf.Benchmark(runs))
        return pyperf.BenchmarkSuite(benchmarks)


def cpu_cost(sample: Sample) -> float | None:
    """CPU seconds spent on an operation: what is left of a figure when neighbours take the core away."""
    cost: float | None = sample.extra.get("cpu_cost")
    return cost


def paired_ratio(subject: list[Sample], base: list[Sample], cpu: bool = False) -> float | None:
    ratios = []
    for number in sorted({sample.round for sample in subject} & {sample.round for sample in base}):
        mine = [cpu_cost(sample) if cpu else sample.cost for sample in subject if sample.round == number]
        theirs = [cpu_cost(sample) if cpu else sample.cost for sample in base if sample.round == number]
        known, others = [cost for cost in mine if cost], [cost for cost in theirs if cost]
        if known and others:
            ratios.append(statistics.median(others) / statistics.median(known))
    return statistics.median(ratios) if ratios else None


def describe_machine() -> dict[str, Any]:
    metadata: dict[str, Any] = pyperf.Run([1.0], collect_metadata=True).get_metadata()
    wanted = ("cpu_model_name", "cpu_count", "platform", "python_version", "python_implementation", "python_compiler")
    return {name: metadata[name] for name in wanted if name in metadata}
