"""The tests that are left out, and why: reads left_out/*.toml.

A list is a TOML file of reasons. Each names the tests it holds for, by module, class or test, with * for any part of a name,
and with the versions of Python it is limited to, if it is:

    [private-state]
    why = "looks at the private attributes of the standard library's loop"
    tests = [
        "test_events.EPollEventLoopTests.test_internal_fds",
        "test_tasks.*.test_new_thing >=3.12",
        "test_sslproto",
    ]
    except = ["test_sslproto.SelectorStartTLSTests"]
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

COMPARISONS = {
    ">=": lambda a, b: a >= b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    "<": lambda a, b: a < b,
    "==": lambda a, b: a == b,
}


@dataclass(frozen=True)
class Entry:
    pattern: str
    versions: str
    reason: str  # its short name
    why: str
    exception: bool = False  # listed under "except": not left out, whatever other entries say

    def applies(self, version: tuple[int, ...] = sys.version_info[:3]) -> bool:
        return all(holds(condition, version) for condition in self.versions.split(",") if condition)

    @property
    def module(self) -> str:
        return self.pattern.partition(".")[0]

    def matches(self, test: str) -> bool:
        return covers(self.pattern, test)


def covers(pattern: str, test: str) -> bool:
    """Whether the pattern is the test's, its class's or its module's."""
    if "*" not in pattern:
        return f"{test}.".startswith(f"{pattern}.")
    return fnmatchcase(test, pattern) or fnmatchcase(test, f"{pattern}.*")


def holds(condition: str, version: tuple[int, ...]) -> bool:
    """Whether a condition such as ">=3.12" is true of the version; "<=3.12" and "==3.12" hold for all of 3.12."""
    match = re.fullmatch(r"(>=|<=|==|>|<)([\d.]+)", condition.strip())
    if match is None:
        raise ValueError(f"not a condition on the version of Python: {condition!r}")
    wanted = tuple(map(int, match[2].split(".")))
    return bool(COMPARISONS[match[1]](version[: len(wanted)], wanted))


def read(path: Path) -> list[Entry]:
    """The entries of a list that hold for this version of Python."""
    with path.open("rb") as file:
        reasons = tomllib.load(file)
    entries = []
    for reason, table in reasons.items():
        for key in ("tests", "except"):
            for line in table.get(key, []):
                pattern, _, versions = line.partition(" ")
                entries.append(Entry(pattern, versions.replace(" ", ""), reason, table["why"], key == "except"))
    return [entry for entry in entries if entry.applies()]


def entry_for(test: str, entries: Iterable[Entry]) -> Entry | None:
    """The entry by which the test is left out, None if it is not."""
    matching = [entry for entry in entries if entry.matches(test)]
    if not matching or any(entry.exception for entry in matching):
        return None
    return matching[0]


def stale(entries: Iterable[Entry], tests: Iterable[str]) -> list[Entry]:
    """The entries that name none of the tests."""
    tests = list(tests)
    return [entry for entry in entries if not any(entry.matches(test) for test in tests)]
