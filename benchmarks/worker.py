"""One scheduler or primitive case on one implementation, in a process of its own: values as JSON on standard output.

python benchmarks/worker.py sleep_zero corolla --values 5 --seconds 0.05
python benchmarks/worker.py --describe corolla
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
from typing import Any

from suite import implementations, primitive_cases, process_cases, scheduler_cases, stream_cases
from suite.implementations import Implementation
from suite.loop_cases import LoopCase, Stopwatch

CASES = scheduler_cases.case | primitive_cases.case | stream_cases.case | process_cases.case


async def calibrate(case: LoopCase, implementation: Implementation, seconds: float) -> int:
    """How many repetitions take about so many seconds. The runs that find it out are the warm-up."""
    repetitions = 1
    while True:
        watch = Stopwatch()
        await case.measure(implementation, repetitions, watch)
        if watch.wall >= seconds / 2:
            return max(1, round(repetitions * seconds / watch.wall))
        repetitions *= 2


async def measure(case: LoopCase, implementation: Implementation, values: int, seconds: float) -> dict[str, Any]:
    repetitions = await calibrate(case, implementation, seconds)
    operations = repetitions * case.unit
    watches = []
    for _ in range(values):
        gc.collect()
        watch = Stopwatch()
        await case.measure(implementation, repetitions, watch)
        watches.append(watch)
    return {
        "values": [watch.wall / operations for watch in watches],
        "cpu_cost": statistics.median(watch.cpu for watch in watches) / operations,
        "operations": operations,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("case", nargs="?", choices=sorted(CASES))
    parser.add_argument("implementation", choices=implementations.EVERY_NAME)
    parser.add_argument("--describe", action="store_true", help="only say whether it can be imported, and its version")
    parser.add_argument("--values", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.05, help="about how long a value takes")
    arguments = parser.parse_args()
    if not arguments.describe and arguments.case is None:
        parser.error("which case?")
    implementation = implementations.load(arguments.implementation)
    if arguments.describe:
        implementation.new_event_loop().close()
        json.dump({"version": implementation.version}, sys.stdout)
        return 0
    loop = implementation.new_event_loop()
    try:
        case = CASES[arguments.case]
        report = loop.run_until_complete(measure(case, implementation, arguments.values, arguments.seconds))
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
    json.dump(report, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
