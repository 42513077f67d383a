"""install() and uninstall(): corolla for programs that import asyncio."""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType
from typing import Any

from . import _run
from ._names import ABSENT, Replacement, bindings, replacements
from ._policy import EventLoopPolicy

_HAS_POLICIES = hasattr(asyncio.events, "_event_loop_policy")

# Not replaced, though ours differ. The loops of the standard library make a Server of their own type; ours is an
# instance of it. The rest asks the policy, which is ours.
_KEPT = {"Server", "get_event_loop", "new_event_loop"} if _HAS_POLICIES else {"Server"}


class _Change:
    """A global that was set, and what it was before."""

    def __init__(self, module: ModuleType, name: str, value: Any) -> None:
        self._module, self._name, self._value = module, name, value
        self._before = vars(module).get(name, ABSENT)
        setattr(module, name, value)

    def undo(self) -> None:
        # Who has put something else there since, has it stay.
        if vars(self._module).get(self._name) is self._value:
            _set(self._module, self._name, self._before)


_changes: list[_Change] = []


def install() -> None:
    """Make asyncio's classes and functions corolla's, for the whole program, until uninstall().

    Every module of asyncio gets ours in place of its own; what was imported from them before stays what it was, and
    works on corolla's loop. The event loop policy becomes corolla's, so that asyncio.run(), asyncio.Runner,
    asyncio.new_event_loop() and unittest.IsolatedAsyncioTestCase make corolla's loop. Names that later versions of
    CPython have (QueueShutDown, eager_task_factory ...) are added. Call it before the first event loop is made, best
    before anything imports names from asyncio. Calling it again has no effect.
    """
    if _changes:
        return
    wanted = _wanted()
    for module in _modules():
        for name, replacement in bindings(module, wanted).items():
            _changes.append(_Change(module, name, replacement.ours))
    if _HAS_POLICIES:
        _changes.append(_Change(asyncio.events, "_event_loop_policy", EventLoopPolicy()))
        _run.Default.new_loop = asyncio.new_event_loop


def uninstall() -> None:
    """Undo install(): every name of asyncio, and the event loop policy, is again what it was before.

    A name that something else has replaced since is left alone. Loops that run stay corolla's. No effect when
    corolla is not installed.
    """
    if not _changes:
        return
    while _changes:
        _changes.pop().undo()
    # Modules of asyncio that were imported in the meantime have taken ours from the others.
    back = {id(r.ours): r for r in _wanted()}
    for module in _modules():
        for name, value in list(vars(module).items()):
            if (replacement := back.get(id(value))) is not None:
                _set(module, name, replacement.theirs)
    _run.Default.new_loop = _run.new_event_loop


def _wanted() -> list[Replacement]:
    return [r for r in replacements if r.name not in _KEPT]


def _modules() -> list[ModuleType]:
    return [
        module
        for name, module in list(sys.modules.items())
        if (name == "asyncio" or name.startswith("asyncio.")) and isinstance(module, ModuleType)
    ]


def _set(module: ModuleType, name: str, value: Any) -> None:
    if value is ABSENT:
        delattr(module, name)
    else:
        setattr(module, name, value)
