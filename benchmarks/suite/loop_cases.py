"""What a case on a loop is: a coroutine function that runs its operation `repetitions` times `unit`, with the stopwatch
running only while it does, so that setting up is not counted. scheduler_cases.py, primitive_cases.py, stream_cases.py and
process_cases.py hold them.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from suite.implementations import Implementation


@dataclass
class Stopwatch:
    """Wall time and CPU time spent within `with stopwatch:`, added up. With neighbours on the machine they differ."""

    wall: float = 0.0
    cpu: float = 0.0
    _began: tuple[float, float] = field(default=(0.0, 0.0), repr=False)

    def __enter__(self) -> None:
        self._began = (time.process_time(), time.perf_counter())

    def __exit__(self, *exception: object) -> None:
        cpu, wall = self._began
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu


Measure = Callable[[Implementation, int, Stopwatch], Awaitable[None]]


@dataclass(frozen=True)
class LoopCase:
    group: str  # one of LOOP_GROUPS
    name: str  # its function's; no two groups share one
    title: str
    unit: int  # operations in one repetition
    measure: Measure

    @property
    def key(self) -> str:
        return f"{self.group}/{self.name}"


LOOP_GROUPS = ("scheduler", "primitives", "streams", "processes")


class Cases(dict[str, LoopCase]):
    """The cases of a group, by name; called, a decorator that adds one."""

    def __init__(self, group: str) -> None:
        super().__init__()
        self.group = group

    def __call__(self, title: str, unit: int = 1) -> Callable[[Measure], Measure]:
        def register(measure: Measure) -> Measure:
            name = getattr(measure, "__name__")  # noqa: B009 (a Callable has no __name__ for mypy)
            self[name] = LoopCase(self.group, name, title, unit, measure)
            return measure

        return register


async def nothing() -> None:
    pass
