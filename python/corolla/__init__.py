"""corolla: asyncio, whole, in C.

    import corolla
    corolla.run(main())

There are three doors to the same engine. ``corolla.run()``, or ``loop_factory=corolla.new_event_loop`` with the
standard library's own runner (CPython 3.12 and later), gives a program the loop with its futures, tasks and
transports. ``import corolla as asyncio`` gives it everything: every name of asyncio, of the newest CPython, is here;
ours where corolla has it, else the standard library's. ``corolla.install()``, or ``python -m corolla app.py``, gives
the same to programs that never heard of corolla.

What is here follows asyncio's documentation: https://docs.python.org/3/library/asyncio.html.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    AbstractEventLoop,
    AbstractServer,
    BaseEventLoop,
    BaseProtocol,
    BaseTransport,
    BrokenBarrierError,
    BufferedProtocol,
    CancelledError,
    DatagramProtocol,
    DatagramTransport,
    IncompleteReadError,
    InvalidStateError,
    LimitOverrunError,
    Protocol,
    QueueEmpty,
    QueueFull,
    ReadTransport,
    SelectorEventLoop,
    SendfileNotAvailableError,
    SubprocessProtocol,
    SubprocessTransport,
    TimeoutError,
    Transport,
    WriteTransport,
    _enter_task,
    _get_running_loop,
    _leave_task,
    _register_task,
    _set_running_loop,
    _unregister_task,
    all_tasks,
    current_task,
    get_running_loop,
    iscoroutine,
    isfuture,
    set_event_loop,
)
from typing import TYPE_CHECKING

from ._core import (
    Barrier,
    BoundedSemaphore,
    Condition,
    DatagramEndpoint,
    EagerTaskFactory,
    Event,
    EventLoop,
    Future,
    Handle,
    LifoQueue,
    Lock,
    PriorityQueue,
    ProcessTransport,
    Queue,
    QueueShutDown,
    ReadPipeTransport,
    Semaphore,
    Server,
    Stream,
    StreamReader,
    StreamReaderProtocol,
    StreamWriter,
    Task,
    TaskGroup,
    TcpTransport,
    Timeout,
    TimerHandle,
    TlsTransport,
    UnixTransport,
    WritePipeTransport,
    as_completed,
    connect,
    connect_read_pipe,
    connect_unix,
    connect_write_pipe,
    create_eager_task_factory,
    create_subprocess_exec,
    create_subprocess_shell,
    create_task,
    eager_task_factory,
    ensure_future,
    gather,
    open_connection,
    open_unix_connection,
    run_coroutine_threadsafe,
    shield,
    sleep,
    start_server,
    start_unix_server,
    timeout,
    timeout_at,
    to_thread,
    wait,
    wait_for,
    wrap_future,
)
from ._install import install, uninstall
from ._names import fill
from ._policy import EventLoopPolicy
from ._registry import join_registry
from ._run import Runner, get_event_loop, new_event_loop, run
from ._streams import StreamMode, StreamServer, UnixStreamServer

if sys.version_info >= (3, 14):
    from asyncio import (
        FrameCallGraphEntry,
        FutureCallGraph,
        capture_call_graph,
        format_call_graph,
        future_add_to_awaited_by,
        future_discard_from_awaited_by,
        print_call_graph,
    )
else:
    from asyncio import (
        AbstractChildWatcher,
        AbstractEventLoopPolicy,
        DefaultEventLoopPolicy,
        FastChildWatcher,
        MultiLoopChildWatcher,
        PidfdChildWatcher,
        SafeChildWatcher,
        ThreadedChildWatcher,
        get_child_watcher,
        set_child_watcher,
    )
if sys.version_info < (3, 16):
    from asyncio import get_event_loop_policy, iscoroutinefunction, set_event_loop_policy

if TYPE_CHECKING:
    # At runtime these are views with our names in them (_names.py).
    from asyncio import (
        base_events as base_events,
    )
    from asyncio import (
        base_futures as base_futures,
    )
    from asyncio import (
        base_subprocess as base_subprocess,
    )
    from asyncio import (
        base_tasks as base_tasks,
    )
    from asyncio import (
        constants as constants,
    )
    from asyncio import (
        coroutines as coroutines,
    )
    from asyncio import (
        events as events,
    )
    from asyncio import (
        exceptions as exceptions,
    )
    from asyncio import (
        format_helpers as format_helpers,
    )
    from asyncio import (
        futures as futures,
    )
    from asyncio import (
        locks as locks,
    )
    from asyncio import (
        log as log,
    )
    from asyncio import (
        mixins as mixins,
    )
    from asyncio import (
        protocols as protocols,
    )
    from asyncio import (
        queues as queues,
    )
    from asyncio import (
        runners as runners,
    )
    from asyncio import (
        selector_events as selector_events,
    )
    from asyncio import (
        sslproto as sslproto,
    )
    from asyncio import (
        staggered as staggered,
    )
    from asyncio import (
        streams as streams,
    )
    from asyncio import (
        subprocess as subprocess,
    )
    from asyncio import (
        taskgroups as taskgroups,
    )
    from asyncio import (
        tasks as tasks,
    )
    from asyncio import (
        threads as threads,
    )
    from asyncio import (
        timeouts as timeouts,
    )
    from asyncio import (
        transports as transports,
    )
    from asyncio import (
        trsock as trsock,
    )
    from asyncio import (
        unix_events as unix_events,
    )

__all__ = [
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "AbstractEventLoop",
    "AbstractServer",
    "Barrier",
    "BaseEventLoop",
    "BaseProtocol",
    "BaseTransport",
    "BoundedSemaphore",
    "BrokenBarrierError",
    "BufferedProtocol",
    "CancelledError",
    "Condition",
    "DatagramEndpoint",
    "DatagramProtocol",
    "DatagramTransport",
    "EagerTaskFactory",
    "Event",
    "EventLoop",
    "EventLoopPolicy",
    "Future",
    "Handle",
    "IncompleteReadError",
    "InvalidStateError",
    "LifoQueue",
    "LimitOverrunError",
    "Lock",
    "PriorityQueue",
    "ProcessTransport",
    "Protocol",
    "Queue",
    "QueueEmpty",
    "QueueFull",
    "QueueShutDown",
    "ReadPipeTransport",
    "ReadTransport",
    "Runner",
    "SelectorEventLoop",
    "Semaphore",
    "SendfileNotAvailableError",
    "Server",
    "Stream",
    "StreamMode",
    "StreamReader",
    "StreamReaderProtocol",
    "StreamServer",
    "StreamWriter",
    "SubprocessProtocol",
    "SubprocessTransport",
    "Task",
    "TaskGroup",
    "TcpTransport",
    "Timeout",
    "TimeoutError",
    "TimerHandle",
    "TlsTransport",
    "Transport",
    "UnixStreamServer",
    "UnixTransport",
    "WritePipeTransport",
    "WriteTransport",
    "_enter_task",
    "_get_running_loop",
    "_leave_task",
    "_register_task",
    "_set_running_loop",
    "_unregister_task",
    "all_tasks",
    "as_completed",
    "connect",
    "connect_read_pipe",
    "connect_unix",
    "connect_write_pipe",
    "create_eager_task_factory",
    "create_subprocess_exec",
    "create_subprocess_shell",
    "create_task",
    "current_task",
    "eager_task_factory",
    "ensure_future",
    "gather",
    "get_event_loop",
    "get_running_loop",
    "install",
    "iscoroutine",
    "isfuture",
    "new_event_loop",
    "open_connection",
    "open_unix_connection",
    "run",
    "run_coroutine_threadsafe",
    "set_event_loop",
    "shield",
    "sleep",
    "start_server",
    "start_unix_server",
    "timeout",
    "timeout_at",
    "to_thread",
    "uninstall",
    "wait",
    "wait_for",
    "wrap_future",
]
if sys.version_info >= (3, 14):
    __all__ += [
        "FrameCallGraphEntry",
        "FutureCallGraph",
        "capture_call_graph",
        "format_call_graph",
        "future_add_to_awaited_by",
        "future_discard_from_awaited_by",
        "print_call_graph",
    ]
else:
    __all__ += [
        "AbstractChildWatcher",
        "AbstractEventLoopPolicy",
        "DefaultEventLoopPolicy",
        "FastChildWatcher",
        "MultiLoopChildWatcher",
        "PidfdChildWatcher",
        "SafeChildWatcher",
        "ThreadedChildWatcher",
        "get_child_watcher",
        "set_child_watcher",
    ]
if sys.version_info < (3, 16):
    __all__ += [
        "get_event_loop_policy",
        "iscoroutinefunction",
        "set_event_loop_policy",
    ]
__version__ = "0.1.0"

join_registry()
fill(globals())

if not TYPE_CHECKING:

    def __getattr__(name):
        # What asyncio has without listing it, such as the names it has deprecated.
        if not name.startswith("__"):
            try:
                return getattr(asyncio, name)
            except AttributeError:
                pass
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
