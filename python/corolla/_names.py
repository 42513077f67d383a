"""Which names of asyncio are ours, and asyncio's submodules as `import corolla as asyncio` shows them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any, NamedTuple

from . import _core

# Names that CPythons later than this one may have, and the submodule of asyncio they live in there.
_HOMES = {
    "EventLoop": "unix_events",
    "QueueShutDown": "queues",
    "create_eager_task_factory": "tasks",
    "eager_task_factory": "tasks",
}

# Names that are ours, and that only a submodule has.
_INNER = {"subprocess": ("Process", "SubprocessStreamProtocol")}

# Stands for what the asyncio of this Python does not have.
ABSENT: Any = object()


class Replacement(NamedTuple):
    """A name of asyncio that is ours here."""

    name: str
    theirs: Any  # or ABSENT
    ours: Any

    def is_bound(self, name: str, value: object) -> bool:
        """Whether a global of a module of asyncio is what this one replaces, under whatever name."""
        # asyncio.EventLoop is SelectorEventLoop by another name: who asks for a selector's loop is to get one.
        return value is self.theirs and (self.name != "EventLoop" or name == "EventLoop")

    def home(self) -> ModuleType | None:
        """The module that a name this Python lacks is to be added to."""
        return getattr(asyncio, _HOMES[self.name], None) if self.theirs is ABSENT else None


replacements: list[Replacement] = []


def fill(namespace: dict[str, Any]) -> None:
    """Make the package's globals a whole asyncio: called once, at the end of its __init__.py."""
    exported: list[str] = namespace["__all__"]
    for name in asyncio.__all__:
        if name not in namespace:  # a Python newer than this text
            namespace[name] = getattr(asyncio, name)
            exported.append(name)
    for name in exported:
        theirs = vars(asyncio).get(name, ABSENT)
        if theirs is not namespace[name] and (theirs is not ABSENT or name in _HOMES):
            replacements.append(Replacement(name, theirs, namespace[name]))
    for home, names in _INNER.items():
        for name in names:
            replacements.append(Replacement(name, getattr(vars(asyncio)[home], name), getattr(_core, name)))
    for name, module in list(vars(asyncio).items()):
        if isinstance(module, ModuleType) and module.__name__ == f"asyncio.{name}":
            namespace[name] = _view(module)
            sys.modules[f"{namespace['__name__']}.{name}"] = namespace[name]


def bindings(module: ModuleType, wanted: Iterable[Replacement]) -> dict[str, Replacement]:
    """The globals of a module of asyncio that are among those to be replaced, and those to be added to it."""
    found = {name: r for name, value in vars(module).items() for r in wanted if r.is_bound(name, value)}
    found.update({r.name: r for r in wanted if r.theirs is ABSENT and module in (asyncio, r.home())})
    return found


def _view(module: ModuleType) -> ModuleType:
    """The module with our names in it, so that `asyncio.queues.Queue` is ours, too; itself where none is.

    asyncio's own submodules are left as they are: the standard library's code goes on using what it did.
    """
    ours = {name: r.ours for name, r in bindings(module, replacements).items()}
    if not ours:
        return module

    def lookup(name: str) -> Any:
        return getattr(module, name)

    def names() -> list[str]:
        return sorted({*dir(module), *ours})

    view = ModuleType(module.__name__.replace("asyncio", "corolla", 1), module.__doc__)
    vars(view).update(ours, __getattr__=lookup, __dir__=names, __all__=tuple({**dict.fromkeys(module.__all__), **ours}))
    return view
