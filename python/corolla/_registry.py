"""Shows corolla's tasks to asyncio.all_tasks().

asyncio keeps its tasks in a WeakSet, and entering one there costs more than everything else that
making a task of ours does. Ours are on a list in C; the set asyncio looks at is given a class that
reads both.
"""

from __future__ import annotations

import asyncio.tasks
import weakref
from collections.abc import Iterator
from typing import Any

from ._core import _tasks


class TaskRegistry(weakref.WeakSet[Any]):
    """asyncio's set of tasks, and corolla's tasks that are not done."""

    def __iter__(self) -> Iterator[Any]:
        yield from super().__iter__()
        yield from _tasks()

    def __len__(self) -> int:
        return super().__len__() + len(_tasks())

    def __contains__(self, item: object) -> bool:
        return super().__contains__(item) or item in _tasks()


def join_registry() -> None:
    """Give asyncio's set of tasks the class above. Once for each interpreter."""
    # 3.12 renamed it.
    name = "_scheduled_tasks" if hasattr(asyncio.tasks, "_scheduled_tasks") else "_all_tasks"
    registry = getattr(asyncio.tasks, name)
    if type(registry) is weakref.WeakSet:
        registry.__class__ = TaskRegistry
