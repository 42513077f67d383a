"""run(), Runner and new_event_loop()."""

from __future__ import annotations

import asyncio
import asyncio.constants
import contextvars
import inspect
import os
import signal
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable
from types import FrameType, TracebackType
from typing import Any, TypeVar, final

from ._core import EventLoop, gather

_T = TypeVar("_T")


def new_event_loop() -> EventLoop:
    """Return a new corolla event loop.

    What ``asyncio.Runner(loop_factory=...)`` and ``asyncio.run(..., loop_factory=...)`` take.
    """
    return EventLoop()


def get_event_loop() -> asyncio.AbstractEventLoop:
    """Return the running event loop or, when none runs, the one that was set for this thread.

    Raises RuntimeError when there is none. Before CPython 3.14, the main thread is given a new corolla loop the
    first time, with a DeprecationWarning from 3.12 on: as asyncio.get_event_loop(), which specifies this, does.
    """
    loop = asyncio._get_running_loop()
    if loop is not None:
        return loop
    if sys.version_info < (3, 14):
        policy = asyncio.get_event_loop_policy()
        if type(policy) is asyncio.DefaultEventLoopPolicy:
            # The standard library's policy would make a loop of its own.
            local: Any = policy._local  # type: ignore[attr-defined]
            in_main_thread = threading.current_thread() is threading.main_thread()
            if in_main_thread and local._loop is None and not local._set_called:
                if sys.version_info >= (3, 12):
                    warnings.warn("There is no current event loop", DeprecationWarning, stacklevel=2)
                policy.set_event_loop(EventLoop())
    return asyncio.get_event_loop()


class Default:
    """What a Runner that was given no loop_factory makes its loop with. install() changes it."""

    new_loop: Callable[[], asyncio.AbstractEventLoop] = new_event_loop


async def _wait_for(awaitable: Awaitable[_T]) -> _T:
    return await awaitable


@final
class Runner:
    """Runs coroutines, one after the other, on one event loop; a context manager.

    debug: switches the loop's debug mode, unless None. loop_factory: makes the loop; a corolla event loop, which is
    then also set as this thread's, if None. The loop is made on entry or by the first call, and closed on exit, after
    its tasks were cancelled and its asynchronous generators and default executor shut down. Specified by
    asyncio.Runner of CPython 3.14.
    """

    def __init__(
        self, *, debug: bool | None = None, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    ) -> None:
        self._debug = debug
        self._loop_factory = loop_factory
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context: contextvars.Context | None = None
        self._closed = False
        self._is_set = False  # as this thread's event loop
        self._pid = 0  # of the process that made the loop
        self._interrupts = 0

    def __enter__(self) -> Runner:
        try:
            self._ready()
        except BaseException:
            self.close()  # an interrupt: no `with` will
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.close()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop. Raises RuntimeError when the runner is closed."""
        return self._ready()

    def run(self, coro: Awaitable[_T], *, context: contextvars.Context | None = None) -> _T:
        """Run a coroutine, or wait for any other awaitable, and return its result.

        context: what it runs in, by default the runner's own, a copy of the one it was entered in. TypeError for
        what cannot be awaited; RuntimeError when called from a running event loop or after close().

        In the main thread, unless the program has its own handler for SIGINT: Ctrl-C cancels the coroutine, and
        KeyboardInterrupt is raised when it has ended so; a second Ctrl-C raises KeyboardInterrupt at once.
        """
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("Runner.run() cannot be called from a running event loop")
        loop = self._ready()
        if not asyncio.iscoroutine(coro):
            if not inspect.isawaitable(coro):
                raise TypeError("An asyncio.Future, a coroutine or an awaitable is required")
            coro = _wait_for(coro)
        # asyncio too has no other name for the context in loops that take none.
        task: asyncio.Task[_T] = loop.create_task(coro, context=self._context if context is None else context)

        self._interrupts = 0
        handler = self._handle_interrupts(task)
        try:
            return loop.run_until_complete(task)
        except asyncio.CancelledError:
            if self._interrupts > 0:
                uncancel = getattr(task, "uncancel", None)  # a task factory may make other tasks than ours
                if uncancel is not None and uncancel() == 0:
                    raise KeyboardInterrupt()  # noqa: B904, the context tells where it was
            raise
        finally:
            if handler is not None and signal.getsignal(signal.SIGINT) is handler:
                signal.signal(signal.SIGINT, signal.default_int_handler)

    def close(self) -> None:
        """Cancel all tasks, shut down the asynchronous generators and the default executor, close the loop.

        The executor is given five minutes. No effect on a runner that is closed or was never used. In a forked child the
        tasks and all the rest are the parent's: there the loop is only closed.
        """
        loop = self._loop
        if loop is None or self._closed:
            return
        try:
            inherited = self._pid != os.getpid() and isinstance(loop, EventLoop)
            if not inherited and not loop.is_closed():  # as a close() that was interrupted leaves it
                _cancel_all_tasks(loop)
                loop.run_until_complete(loop.shutdown_asyncgens())
                loop.run_until_complete(_shutdown_executor(loop))
        finally:
            # Ctrl-C may come between any two lines.
            try:
                if self._is_set:
                    asyncio.set_event_loop(None)
            finally:
                loop.close()
                self._loop = None
                self._closed = True

    def _ready(self) -> asyncio.AbstractEventLoop:
        if self._closed:
            raise RuntimeError("Runner is closed")
        if self._loop is not None:
            return self._loop
        if self._context is None:
            self._context = contextvars.copy_context()
        self._pid = os.getpid()
        loop = self._loop_factory() if self._loop_factory is not None else Default.new_loop()
        try:
            if self._loop_factory is None and not self._is_set:
                self._is_set = True
                asyncio.set_event_loop(loop)
            if self._debug is not None:
                loop.set_debug(self._debug)
            self._loop = loop
        finally:
            if self._loop is None:
                if self._is_set:
                    self._is_set = False
                    asyncio.set_event_loop(None)
                loop.close()
        return loop

    def _handle_interrupts(self, task: asyncio.Task[Any]) -> Callable[[int, FrameType | None], None] | None:
        """Let SIGINT cancel the task. The handler, or None where that is not ours to do."""
        if (
            threading.current_thread() is not threading.main_thread()
            or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        ):
            return None

        def on_interrupt(number: int, frame: FrameType | None) -> None:
            self._interrupts += 1
            if self._interrupts == 1 and not task.done() and self._pid == os.getpid():
                task.cancel()
                # The loop may be asleep.
                task.get_loop().call_soon_threadsafe(lambda: None)
                return
            if signal.getsignal(signal.SIGINT) is on_interrupt:
                # Here, for run() may be past the try whose end would do it.
                signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt

        try:
            signal.signal(signal.SIGINT, on_interrupt)
        except ValueError:
            # The main thread of an interpreter that may have no handlers.
            return None
        return on_interrupt


def run(
    main: Awaitable[_T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    context: contextvars.Context | None = None,
) -> _T:
    """Run a coroutine, or wait for any other awaitable, on a new event loop and return its result.

    debug: switches the loop's debug mode, unless None. loop_factory: makes the loop, a corolla event loop if None.
    context: the contextvars.Context that main runs in, a copy of the current one if None. TypeError for a main that
    cannot be awaited; RuntimeError when called from a running event loop. The rest is as for Runner. Specified by
    asyncio.run() of CPython 3.14, which has no context.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("asyncio.run() cannot be called from a running event loop")
    with Runner(debug=debug, loop_factory=loop_factory) as runner:
        return runner.run(main, context=context)


def _shutdown_executor(loop: asyncio.AbstractEventLoop) -> Any:
    shutdown: Callable[..., Any] = loop.shutdown_default_executor
    if sys.version_info >= (3, 12) or isinstance(loop, EventLoop):
        return shutdown(getattr(asyncio.constants, "THREAD_JOIN_TIMEOUT", 300))
    return shutdown()  # the loops of 3.11 take no timeout


def _cancel_all_tasks(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    if not tasks:
        return
    for task in tasks:
        task.cancel()
    loop.run_until_complete(gather(*tasks, return_exceptions=True))
    for task in tasks:
        if not task.cancelled() and (exc := task.exception()) is not None:
            loop.call_exception_handler(
                {
                    "message": "unhandled exception during asyncio.run() shutdown",
                    "exception": exc,
                    "task": task,
                }
            )
