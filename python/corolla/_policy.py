"""corolla's loop as asyncio's default: the policy, on Pythons that have policies."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from ._core import EventLoop

if TYPE_CHECKING or sys.version_info < (3, 14):
    # The whole of it, child watchers included: a program may set one, though our loop needs none.
    _Base = asyncio.DefaultEventLoopPolicy
else:
    # The public name warns; the class behind it goes with 3.16.
    _Base = getattr(asyncio.events, "_BaseDefaultEventLoopPolicy", object)


class EventLoopPolicy(_Base):
    """Makes asyncio.new_event_loop() and asyncio.run() use corolla's loop.

    ``asyncio.set_event_loop_policy(corolla.EventLoopPolicy())``. Specified by
    asyncio.DefaultEventLoopPolicy; deprecated with all policies from CPython 3.14 on, where
    ``loop_factory=corolla.new_event_loop`` is the way.
    """

    _loop_factory = EventLoop
