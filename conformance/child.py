"""Run tests of one module of test_asyncio, and tell the parent process which test is running and how each one ended.

Started by supervise.py, and of no use alone. Lines of JSON go both ways. On stdin comes first what to load, then, after the
names of all tests were reported, the names of those to run. Reports go through a pipe of their own, so that nothing the tests
print can get in between; what they print goes to a file the parent looks at when this process dies.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import os
import sys
import time
import traceback
import unittest
from collections.abc import Iterator
from typing import Any

import substitute

PACKAGE = "test.test_asyncio."


class Reporter:
    """Writes events to the pipe, from this process only: a process that a test forks may return into unittest."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._descriptor = descriptor
        self._pid = os.getpid()

    def __call__(self, event: str, **fields: Any) -> None:
        if os.getpid() != self._pid:
            os._exit(70)
        data = json.dumps({"event": event, **fields}).encode() + b"\n"
        while data:
            data = data[os.write(self._descriptor, data) :]


class Result(unittest.TestResult):
    """Reports each test as it starts and as it ends. A test fails once, however many of its parts did."""

    def __init__(self, report: Reporter) -> None:
        super().__init__()
        self._report = report
        self._problems: list[str] = []
        self._skipped: str | None = None
        self._passed = False
        self._running = False
        self._started = 0.0

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        if "test_subprocess" in type(test).__module__:
            # test_popen_error* count every warning, also of what a test before them has left to the collector: a loop
            # closed while a grandchild still held a pipe.
            gc.collect()
        self._problems, self._skipped, self._passed, self._running = [], None, False, True
        self._started = time.monotonic()
        self._report("start", test=name_of(test))

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        if not self._running:
            return
        self._running = False
        if self._problems:
            status, detail = "failed", "\n".join(self._problems)
        elif self._passed:
            status, detail = "ok", ""
        elif self._skipped is not None:
            status, detail = "skipped", self._skipped
        else:
            status, detail = "failed", "unittest did not say how it ended"
        seconds = time.monotonic() - self._started
        self._report("end", test=name_of(test), status=status, detail=detail, seconds=seconds)

    def addSuccess(self, test: unittest.TestCase) -> None:
        self._passed = True

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._passed = True

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self._problems.append("passed, though the suite expects it to fail")

    def addError(self, test: Any, err: Any) -> None:
        self._problem(test, self._exc_info_to_string(err, test))  # type: ignore[attr-defined]

    addFailure = addError

    def addSubTest(self, test: unittest.TestCase, subtest: Any, err: Any) -> None:
        if err is not None:
            text = self._exc_info_to_string(err, test)  # type: ignore[attr-defined]
            self._problem(test, f"{subtest._subDescription()}\n{text}")

    def addSkip(self, test: Any, reason: str) -> None:
        if self._running:
            self._skipped = reason
        elif isinstance(test, unittest.TestCase):  # Some versions do not start a test that is skipped by a decorator.
            self._report("end", test=name_of(test), status="skipped", detail=reason, seconds=0.0)
        else:
            self._report("fixture", fixture=test.id(), status="skipped", detail=reason)

    def _problem(self, test: Any, text: str) -> None:
        # Without a running test it is setUpClass, tearDownClass or a module's that failed.
        if self._running:
            self._problems.append(text)
        else:
            self._report("fixture", fixture=test.id(), status="failed", detail=text)


def name_of(test: unittest.TestCase) -> str:
    return test.id().removeprefix(PACKAGE)


def cases(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from cases(test)
        else:
            yield test


def set_up_interpreter() -> None:
    """As CPython's own runner leaves it: no resource (network and such) granted, nothing written beside the tests."""
    support: Any = importlib.import_module("test.support")
    support.use_resources = []
    support.verbose = False


def main() -> None:
    faulthandler.enable()  # the parent aborts a test that hangs, and shows where it was
    report = Reporter(int(sys.argv[1]))
    request = json.loads(sys.stdin.readline())
    try:
        set_up_interpreter()
        # The package's own modules bind the standard library's names: utils.TestLoop is to stay a stdlib loop.
        importlib.import_module(PACKAGE + "utils")
        substitute.install(request["implementation"], request["module"], whole=request["install"])
        module = importlib.import_module(PACKAGE + request["module"])
    except unittest.SkipTest as exception:
        report("unavailable", status="skipped", detail=str(exception))
        return
    except BaseException:
        report("unavailable", status="failed", detail=traceback.format_exc())
        return

    found = {name_of(test): test for test in cases(unittest.defaultTestLoader.loadTestsFromModule(module))}
    report("collected", tests=list(found))

    chosen = json.loads(sys.stdin.readline())
    suite = unittest.defaultTestLoader.suiteClass([found[name] for name in chosen])
    suite(Result(report))
    report("done")


if __name__ == "__main__":
    main()
