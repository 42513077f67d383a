"""Put another implementation of asyncio where CPython's suite reaches for the standard library's.

An implementation is a module with `EventLoop` (or `Loop`), `new_event_loop` and `EventLoopPolicy`, and perhaps `Future`, `Task`,
`Handle` and `TimerHandle`; what it lacks stays the standard library's. corolla and uvloop both fit. Nothing here knows corolla:
whatever is in this file, any other loop can be measured with too.

Everything is done before the first test module is imported, since the modules bind many of these names while they are
imported. It happens in the child process that runs the tests, and is never undone.
"""

from __future__ import annotations

import asyncio
import asyncio.base_events
import asyncio.futures
import asyncio.log
import asyncio.tasks
import importlib
import sys
import unittest
from types import ModuleType
from typing import Any

# Modules whose tests call asyncio.BaseEventLoop() and give the instance a mocked selector, for want of a way to make a loop
# that needs no I/O. They are about callbacks and coroutines, and mean as much on a loop that is whole.
MAKES_BASE_EVENT_LOOP = frozenset({"test_base_events", "test_runners", "test_pep492"})


def install(name: str, test_module: str, *, whole: bool = False) -> None:
    """Substitute the implementation called `name` for the run of `test_module`.

    whole: call its install(), which is to put all it has in asyncio's place.
    """
    if name == "asyncio":
        return
    implementation = importlib.import_module(name)
    if whole:
        implementation.install()
    _substitute_loops(implementation, test_module)
    _substitute_classes(implementation)
    _close_loops_in_public()
    _log_where_the_suite_looks()
    if test_module == "test_unix_events":
        _fork_out_of_debug_mode()


def describe(name: str) -> str:
    """What was run, for the head of the report."""
    python = "CPython " + ".".join(map(str, sys.version_info[:3]))
    if name == "asyncio":
        return f"asyncio of {python}"
    version = getattr(importlib.import_module(name), "__version__", "")
    return f"{name} {version}".strip() + f" on {python}"


def replace(module: ModuleType, name: str, value: Any) -> None:
    """Bind a name that is there: where a later version of Python has it no more, the suite gets at the object otherwise."""
    getattr(module, name)
    setattr(module, name, value)


def _substitute_loops(implementation: ModuleType, test_module: str) -> None:
    loop_class = getattr(implementation, "EventLoop", None) or implementation.Loop
    stand_in = _loop_stand_in(loop_class)
    replace(asyncio, "SelectorEventLoop", stand_in)
    if sys.version_info >= (3, 13):
        replace(asyncio, "EventLoop", stand_in)
    if test_module in MAKES_BASE_EVENT_LOOP:
        replace(asyncio, "BaseEventLoop", loop_class)
        replace(asyncio.base_events, "BaseEventLoop", loop_class)
        _run_turns_in_public(loop_class)

    # asyncio.new_event_loop, asyncio.run, asyncio.Runner and unittest.IsolatedAsyncioTestCase all ask the policy, and the suite
    # puts the default one back after every module (set_event_loop_policy(None)), so it is the default one that has to change.
    for policy_name in ("DefaultEventLoopPolicy", "_DefaultEventLoopPolicy"):  # the second is 3.14's
        default = vars(asyncio).get(policy_name)
        if default is not None and hasattr(implementation, "EventLoopPolicy"):
            replace(asyncio, policy_name, _policy(implementation.EventLoopPolicy, default))


def _loop_stand_in(loop_class: type) -> type:
    """A class to be called and asked with isinstance() like asyncio.SelectorEventLoop, that makes `loop_class`."""

    class Meta(type):
        def __call__(cls, selector: Any = None) -> Any:
            # The suite passes the poller to be used. Other loops bring their own: this one is not wanted.
            if selector is not None:
                selector.close()
            return loop_class()

        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, loop_class)

        def __subclasscheck__(cls, subclass: type) -> bool:
            return issubclass(subclass, loop_class)

    return Meta("SelectorEventLoop", (), {})


def _run_turns_in_public(loop_class: type) -> None:
    """These tests have the loop take one turn by a private method: give it one that does so through the public ones."""

    def run_once(loop: Any) -> None:
        loop.stop()
        loop.run_forever()

    if not hasattr(loop_class, "_run_once"):
        loop_class._run_once = run_once  # type: ignore[attr-defined]


def _policy(policy_class: type, default: type) -> type:
    """The implementation's policy, with the child watchers that the suite sets up before every test of test_events.

    Watchers left asyncio in 3.14 and are no part of what is tested: until then the standard library's serve any loop.
    """
    return type(policy_class.__name__, (policy_class, default), {"_watcher": None})


def _substitute_classes(implementation: ModuleType) -> None:
    # The suite tests the C classes through these private names. asyncio.Future and asyncio.Task stay the standard library's, so
    # that its own tasks and futures are also run on the other loop, and awaited from the other tasks.
    #
    # tasks._c_current_task, _c_register_task, _c_enter_task and the like stay, too: they are how the standard library keeps
    # account of tasks, and an implementation's tasks have to show up in them.
    if hasattr(implementation, "Future"):
        replace(asyncio.futures, "_CFuture", implementation.Future)
    if hasattr(implementation, "Task"):
        replace(asyncio.tasks, "_CTask", implementation.Task)
    # Handles are made by the tests of handles alone: the loop makes its own.
    for name in ("Handle", "TimerHandle"):
        if hasattr(implementation, name):
            replace(asyncio, name, getattr(implementation, name))


def _close_loops_in_public() -> None:
    """The suite's clean-up asks a loop for its _default_executor. Where there is no such attribute, do what it goes on to do."""
    TestCase = importlib.import_module("test.test_asyncio.utils").TestCase
    close_stdlib_loop = TestCase.close_loop

    def close_loop(loop: Any) -> None:
        if hasattr(loop, "_default_executor"):
            close_stdlib_loop(loop)
            return
        if not loop.is_closed():
            loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    TestCase.close_loop = staticmethod(close_loop)


def _fork_out_of_debug_mode() -> None:
    """IsolatedAsyncioTestCase has every test in debug mode, in which a loop may refuse os.fork() (bugs.python.org issue 21998).

    The tests of what a forked child finds mean to fork, and are about the other mode. No other test of their module is affected.
    """

    async def set_up(self: unittest.IsolatedAsyncioTestCase) -> None:
        asyncio.get_running_loop().set_debug(False)

    unittest.IsolatedAsyncioTestCase.asyncSetUp = set_up  # type: ignore[method-assign]


def _log_where_the_suite_looks() -> None:
    """The suite replaces the logger as the standard library's loop knows it, asyncio.base_events.logger, to see what is logged.

    Other loops log to asyncio.log.logger, the same object by its proper name. While the suite has a mock in the one place,
    pass on to it what is logged in the other.
    """
    logger = asyncio.log.logger
    for level in ("debug", "info", "warning", "error", "exception", "critical", "log"):
        method = getattr(logger, level)

        def log(*args: Any, _level: str = level, _method: Any = method, **kwargs: Any) -> None:
            seen = vars(asyncio.base_events)["logger"]
            (_method if seen is logger else getattr(seen, _level))(*args, **kwargs)

        setattr(logger, level, log)
