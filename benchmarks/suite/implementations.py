"""The event loops under comparison, and which names a program would use with each."""

from __future__ import annotations

import asyncio
import importlib
import platform
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

# The order of a round, and of the columns.
NAMES = ("asyncio", "uvloop", "corolla")
# The package that aiohttp takes its TLS from, on asyncio's loop: in the TLS cases alone.
AIOFASTNET = "aiofastnet"
EVERY_NAME = (*NAMES, AIOFASTNET)


@dataclass(frozen=True)
class Implementation:
    name: str
    version: str
    new_event_loop: Callable[[], asyncio.AbstractEventLoop]
    module: ModuleType

    def __getattr__(self, name: str) -> Any:
        """The name as this implementation offers it: its own where it has one, else the standard library's."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.module, name, None) or getattr(asyncio, name)


def load(name: str) -> Implementation:
    """Raises ImportError (or whatever the import raises) when the implementation is not there."""
    if name not in EVERY_NAME:
        raise ImportError(f"no implementation is named {name}")
    if name == "asyncio":
        return Implementation(name, platform.python_version(), asyncio.new_event_loop, asyncio)
    module = importlib.import_module(name)
    version = str(getattr(module, "__version__", "unknown"))
    if name == AIOFASTNET:
        return Implementation(name, version, module.loop_factory(asyncio.new_event_loop), asyncio)
    # uvloop's namespace is not asyncio's: the rest of the program goes on using asyncio with it.
    names = module if name == "corolla" else asyncio
    return Implementation(name, version, module.new_event_loop, names)
