"""The subprocess.Popen of a process that was started without one, for who asks for it."""

import subprocess
from typing import Any


class _Started(subprocess.Popen[bytes]):
    """Initialised as ever, but for the start itself."""

    def __init__(self, args: Any, pid: int) -> None:
        self._started = pid
        super().__init__(args, bufsize=0)

    def _execute_child(self, *args: Any) -> None:
        self.pid = self._started
        self._child_created = True


_Started.__name__ = _Started.__qualname__ = "Popen"


def started(args: Any, pid: int) -> "subprocess.Popen[bytes]":
    return _Started(args, pid)
