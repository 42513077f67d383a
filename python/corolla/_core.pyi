"""The extension module. Its types stand in for asyncio's wherever those are asked for, and are typed as their subclasses."""

import asyncio
import ssl as ssl_module
import sys
from asyncio import Timeout as Timeout
from asyncio import as_completed as as_completed
from asyncio import create_subprocess_exec as create_subprocess_exec
from asyncio import create_subprocess_shell as create_subprocess_shell
from asyncio import ensure_future as ensure_future
from asyncio import gather as gather
from asyncio import open_connection as open_connection
from asyncio import open_unix_connection as open_unix_connection
from asyncio import run_coroutine_threadsafe as run_coroutine_threadsafe
from asyncio import shield as shield
from asyncio import start_server as start_server
from asyncio import start_unix_server as start_unix_server
from asyncio import timeout as timeout
from asyncio import timeout_at as timeout_at
from asyncio import to_thread as to_thread
from asyncio import wait as wait
from asyncio import wait_for as wait_for
from asyncio import wrap_future as wrap_future
from asyncio.base_events import Server as _AsyncioServer
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from contextvars import Context
from os import PathLike
from socket import socket
from types import GenericAlias, TracebackType
from typing import IO, Any, Generic, Literal, Protocol, Self, TypeAlias, TypeVar, final, overload

from typing_extensions import Buffer, TypeVarTuple, disjoint_base

from ._streams import StreamMode

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")
_ProtocolT = TypeVar("_ProtocolT", bound=asyncio.BaseProtocol)
_SubprocessProtocolT = TypeVar("_SubprocessProtocolT", bound=asyncio.BaseProtocol)
_SSLContext: TypeAlias = bool | ssl_module.SSLContext | None
if sys.version_info >= (3, 12):
    _CoroutineLike: TypeAlias = Coroutine[Any, Any, _T]
    _AwaitableLike: TypeAlias = Awaitable[_T]
else:
    _CoroutineLike: TypeAlias = Generator[Any, None, _T] | Coroutine[Any, Any, _T]
    _AwaitableLike: TypeAlias = Generator[Any, None, _T] | Awaitable[_T]
# Whatever asyncio's own type for it is, which differs between versions of its stubs.
_TaskFactory: TypeAlias = Any
_ExceptionHandler: TypeAlias = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]

class _HasFileno(Protocol):
    def fileno(self) -> int: ...

_Descriptor: TypeAlias = int | _HasFileno
_Path: TypeAlias = str | bytes | PathLike[str] | PathLike[bytes]

@disjoint_base
class Handle(asyncio.Handle):
    def __init__(
        self,
        callback: Callable[..., object],
        args: Sequence[Any],
        loop: asyncio.AbstractEventLoop,
        context: Context | None = None,
    ) -> None: ...
    # asyncio has it from 3.12 on
    def get_context(self) -> Context: ...

# At runtime asyncio's types are no bases of ours, isinstance() holds without: their layouts do not clash.
@disjoint_base
class TimerHandle(Handle, asyncio.TimerHandle):  # type: ignore[misc]
    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: Sequence[Any],
        loop: asyncio.AbstractEventLoop,
        context: Context | None = None,
    ) -> None: ...
    def __hash__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __lt__(self, other: asyncio.TimerHandle, /) -> bool: ...
    def __le__(self, other: asyncio.TimerHandle, /) -> bool: ...
    def __gt__(self, other: asyncio.TimerHandle, /) -> bool: ...
    def __ge__(self, other: asyncio.TimerHandle, /) -> bool: ...

@disjoint_base
class Future(asyncio.Future[_T]):
    def __init__(self, *, loop: asyncio.AbstractEventLoop | None = None) -> None: ...

@disjoint_base
class Task(asyncio.Task[_T], Future[_T]):  # type: ignore[misc]
    # eager_start: asyncio has it from 3.12 on
    def __init__(
        self,
        coro: _CoroutineLike[_T],
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        name: str | None = None,
        context: Context | None = None,
        eager_start: bool = False,
    ) -> None: ...
    def get_context(self) -> Context: ...

class Server(_AsyncioServer):
    # asyncio has them from 3.13 on
    def close_clients(self) -> None: ...
    def abort_clients(self) -> None: ...

@final
class DatagramEndpoint(asyncio.Transport, asyncio.DatagramTransport): ...

@final
class ProcessTransport(asyncio.SubprocessTransport):
    async def _wait(self) -> int: ...

@final
class ReadPipeTransport(asyncio.ReadTransport): ...

@final
class TcpTransport(asyncio.Transport): ...

@final
class UnixTransport(asyncio.Transport): ...

@final
class TlsTransport(asyncio.Transport):
    def set_read_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def get_read_buffer_limits(self) -> tuple[int, int]: ...
    def get_read_buffer_size(self) -> int: ...

@final
class WritePipeTransport(asyncio.WriteTransport): ...

class EventLoop(asyncio.AbstractEventLoop):
    # running
    def run_forever(self) -> None: ...
    def run_until_complete(self, future: _AwaitableLike[_T]) -> _T: ...
    def stop(self) -> None: ...
    def is_running(self) -> bool: ...
    def is_closed(self) -> bool: ...
    def close(self) -> None: ...
    async def shutdown_asyncgens(self) -> None: ...

    # callbacks
    def call_soon(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> Handle: ...
    def call_soon_threadsafe(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> Handle: ...
    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> TimerHandle: ...
    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> TimerHandle: ...
    def time(self) -> float: ...

    # futures and tasks
    def create_future(self) -> Future[Any]: ...
    def create_task(
        self,
        coro: _CoroutineLike[_T],
        *,
        name: str | None = None,
        context: Context | None = None,
        eager_start: bool | None = False,
        **kwargs: Any,
    ) -> Task[_T]: ...
    def set_task_factory(self, factory: _TaskFactory) -> None: ...
    def get_task_factory(self) -> _TaskFactory: ...

    # errors and debugging
    def set_exception_handler(self, handler: _ExceptionHandler | None) -> None: ...
    def get_exception_handler(self) -> _ExceptionHandler | None: ...
    def default_exception_handler(self, context: dict[str, Any]) -> None: ...
    def call_exception_handler(self, context: dict[str, Any]) -> None: ...
    def get_debug(self) -> bool: ...
    def set_debug(self, enabled: bool) -> None: ...

    # threads
    def run_in_executor(self, executor: Any, func: Callable[[*_Ts], _T], *args: *_Ts) -> Future[_T]: ...
    def set_default_executor(self, executor: ThreadPoolExecutor) -> None: ...  # type: ignore[override]
    async def shutdown_default_executor(self, timeout: float | None = None) -> None: ...

    # descriptors and signals
    def add_reader(self, fd: _Descriptor, callback: Callable[[*_Ts], Any], *args: *_Ts) -> None: ...
    def remove_reader(self, fd: _Descriptor) -> bool: ...
    def add_writer(self, fd: _Descriptor, callback: Callable[[*_Ts], Any], *args: *_Ts) -> None: ...
    def remove_writer(self, fd: _Descriptor) -> bool: ...
    def add_signal_handler(self, sig: int, callback: Callable[[*_Ts], object], *args: *_Ts) -> None: ...
    def remove_signal_handler(self, sig: int) -> bool: ...

    # names
    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]: ...
    async def getnameinfo(
        self, sockaddr: tuple[str, int] | tuple[str, int, int] | tuple[str, int, int, int], flags: int = 0
    ) -> tuple[str, str]: ...

    # sockets
    async def sock_recv(self, sock: socket, n: int) -> bytes: ...
    async def sock_recv_into(self, sock: socket, buf: Buffer) -> int: ...
    async def sock_sendall(self, sock: socket, data: Buffer) -> None: ...
    async def sock_connect(self, sock: socket, address: Any) -> None: ...
    async def sock_recvfrom(self, sock: socket, bufsize: int) -> tuple[bytes, Any]: ...
    async def sock_recvfrom_into(self, sock: socket, buf: Buffer, nbytes: int = 0) -> tuple[int, Any]: ...
    async def sock_sendto(self, sock: socket, data: Buffer, address: Any) -> int: ...
    async def sock_accept(self, sock: socket) -> tuple[socket, Any]: ...

    # connections and servers
    async def create_connection(
        self,
        protocol_factory: Callable[[], _ProtocolT],
        host: str | None = None,
        port: int | str | None = None,
        *,
        ssl: _SSLContext = None,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        sock: socket | None = None,
        local_addr: tuple[str, int] | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        happy_eyeballs_delay: float | None = None,
        interleave: int | None = None,
        all_errors: bool = False,
    ) -> tuple[asyncio.Transport, _ProtocolT]: ...
    async def create_server(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | Sequence[str] | None = None,
        port: int | str | None = None,
        *,
        family: int = ...,
        flags: int = ...,
        sock: socket | None = None,
        backlog: int = 100,
        ssl: _SSLContext = None,
        reuse_address: bool | None = None,
        reuse_port: bool | None = None,
        keep_alive: bool | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
    ) -> Server: ...
    async def create_unix_connection(
        self,
        protocol_factory: Callable[[], _ProtocolT],
        path: _Path | None = None,
        *,
        ssl: Any = None,
        sock: socket | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, _ProtocolT]: ...
    async def create_unix_server(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        path: _Path | None = None,
        *,
        sock: socket | None = None,
        backlog: int = 100,
        ssl: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
        cleanup_socket: bool = True,
    ) -> Server: ...
    async def connect_accepted_socket(
        self,
        protocol_factory: Callable[[], _ProtocolT],
        sock: socket,
        *,
        ssl: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, _ProtocolT]: ...
    async def connect_read_pipe(
        self, protocol_factory: Callable[[], _ProtocolT], pipe: Any
    ) -> tuple[ReadPipeTransport, _ProtocolT]: ...
    async def connect_write_pipe(
        self, protocol_factory: Callable[[], _ProtocolT], pipe: Any
    ) -> tuple[WritePipeTransport, _ProtocolT]: ...
    async def sock_sendfile(
        self, sock: socket, file: IO[bytes], offset: int = 0, count: int | None = None, *, fallback: bool | None = True
    ) -> int: ...
    async def sendfile(
        self,
        transport: asyncio.WriteTransport,
        file: IO[bytes],
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool = True,
    ) -> int: ...
    async def create_datagram_endpoint(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], _ProtocolT],
        local_addr: tuple[str, int] | str | None = None,
        remote_addr: tuple[str, int] | str | None = None,
        *,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        reuse_port: bool | None = None,
        allow_broadcast: bool | None = None,
        sock: socket | None = None,
    ) -> tuple[DatagramEndpoint, _ProtocolT]: ...
    async def start_tls(
        self,
        transport: asyncio.BaseTransport,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl_module.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> asyncio.Transport: ...

    # subprocesses
    async def subprocess_exec(
        self,
        protocol_factory: Callable[[], _SubprocessProtocolT],
        program: Any,
        *args: Any,
        stdin: int | IO[Any] | None = -1,
        stdout: int | IO[Any] | None = -1,
        stderr: int | IO[Any] | None = -1,
        universal_newlines: Literal[False] = False,
        shell: Literal[False] = False,
        bufsize: Literal[0] = 0,
        encoding: None = None,
        errors: None = None,
        text: Literal[False] | None = None,
        **kwargs: Any,
    ) -> tuple[asyncio.SubprocessTransport, _SubprocessProtocolT]: ...
    async def subprocess_shell(
        self,
        protocol_factory: Callable[[], _SubprocessProtocolT],
        cmd: bytes | str,
        *,
        stdin: int | IO[Any] | None = -1,
        stdout: int | IO[Any] | None = -1,
        stderr: int | IO[Any] | None = -1,
        universal_newlines: Literal[False] = False,
        shell: Literal[True] = True,
        bufsize: Literal[0] = 0,
        encoding: None = None,
        errors: None = None,
        text: Literal[False] | None = None,
        **kwargs: Any,
    ) -> tuple[asyncio.SubprocessTransport, _SubprocessProtocolT]: ...

@final
class EagerTaskFactory:
    def __call__(
        self,
        loop: asyncio.AbstractEventLoop,
        coro: _CoroutineLike[_T],
        *,
        eager_start: bool | None = True,
        **kwargs: Any,
    ) -> asyncio.Task[_T]: ...

def create_eager_task_factory(custom_task_constructor: Callable[..., asyncio.Task[Any]]) -> EagerTaskFactory: ...

eager_task_factory: EagerTaskFactory

def create_task(
    coro: _CoroutineLike[_T],
    *,
    name: str | None = None,
    context: Context | None = None,
    eager_start: bool | None = False,
    **kwargs: Any,
) -> Task[_T]: ...

@disjoint_base
class Queue(Generic[_T]):
    def __init__(self, maxsize: int = 0) -> None: ...
    @property
    def maxsize(self) -> int: ...
    def qsize(self) -> int: ...
    def empty(self) -> bool: ...
    def full(self) -> bool: ...
    async def put(self, item: _T) -> None: ...
    def put_nowait(self, item: _T) -> None: ...
    async def get(self) -> _T: ...
    def get_nowait(self) -> _T: ...
    def task_done(self) -> None: ...
    async def join(self) -> None: ...
    def shutdown(self, immediate: bool = False) -> None: ...
    def _init(self, maxsize: int) -> None: ...
    def _put(self, item: _T) -> None: ...
    def _get(self) -> _T: ...
    def _format(self) -> str: ...
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...

class PriorityQueue(Queue[_T]): ...
class LifoQueue(Queue[_T]): ...

if sys.version_info >= (3, 13):
    from asyncio import QueueShutDown as QueueShutDown
else:
    class QueueShutDown(Exception): ...

@disjoint_base
class TaskGroup:
    def __init__(self) -> None: ...
    def __aenter__(self) -> Coroutine[Any, Any, Self]: ...
    def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None, /
    ) -> Coroutine[Any, Any, bool]: ...
    def create_task(
        self,
        coro: _CoroutineLike[_T],
        *,
        name: str | None = None,
        context: Context | None = None,
        eager_start: bool = False,
        **kwargs: Any,
    ) -> Task[_T]: ...
    def cancel(self) -> None: ...
    def _abort(self) -> None: ...
    def _on_task_done(self, task: Task[object], /) -> None: ...
    def _is_base_error(self, exc: BaseException, /) -> bool: ...

@overload
def sleep(delay: float) -> Coroutine[Any, Any, None]: ...
@overload
def sleep(delay: float, result: _T) -> Coroutine[Any, Any, _T]: ...
def _tasks() -> list[Task[Any]]: ...

# Made in C, and no subclasses of asyncio's at runtime but for the protocol; they can be used where those are asked for.
@disjoint_base
class StreamReader(asyncio.StreamReader):
    def __init__(self, limit: int = 65536, loop: asyncio.AbstractEventLoop | None = None) -> None: ...
    async def readuntil(self, separator: Buffer | tuple[Buffer, ...] = b"\n") -> bytes: ...

@disjoint_base
class StreamReaderProtocol(asyncio.StreamReaderProtocol):
    def __init__(
        self,
        stream_reader: asyncio.StreamReader,
        client_connected_cb: Callable[[StreamReader, StreamWriter], Awaitable[None] | None] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None: ...

@disjoint_base
class StreamWriter(asyncio.StreamWriter):
    def __init__(
        self,
        transport: asyncio.WriteTransport,
        protocol: asyncio.BaseProtocol,
        reader: asyncio.StreamReader | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None: ...
    async def start_tls(
        self,
        sslcontext: ssl_module.SSLContext,
        *,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> None: ...

@disjoint_base
class SubprocessStreamProtocol(asyncio.subprocess.SubprocessStreamProtocol):
    def __init__(self, limit: int, loop: asyncio.AbstractEventLoop) -> None: ...

@disjoint_base
class Process(asyncio.subprocess.Process):
    def __init__(
        self,
        transport: asyncio.BaseTransport,
        protocol: asyncio.BaseProtocol,
        loop: asyncio.AbstractEventLoop,
    ) -> None: ...

@disjoint_base
class Lock(asyncio.Lock):
    def __init__(self) -> None: ...
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None, /
    ) -> None: ...

@disjoint_base
class Event(asyncio.Event):
    def __init__(self) -> None: ...

@disjoint_base
class Semaphore(asyncio.Semaphore):
    def __init__(self, value: int = 1) -> None: ...
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None, /
    ) -> None: ...

class BoundedSemaphore(Semaphore, asyncio.BoundedSemaphore):
    def __init__(self, value: int = 1) -> None: ...

@disjoint_base
class Condition(asyncio.Condition):
    def __init__(self, lock: asyncio.Lock | None = None) -> None: ...
    # The lock's own methods, as they are in asyncio.
    acquire: Callable[[], Coroutine[Any, Any, Literal[True]]]
    release: Callable[[], None]
    locked: Callable[[], bool]
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None, /
    ) -> None: ...

@disjoint_base
class Barrier(asyncio.Barrier):
    def __init__(self, parties: int) -> None: ...

@final
class Stream:
    @property
    def mode(self) -> StreamMode: ...
    @property
    def limit(self) -> int: ...
    @property
    def transport(self) -> asyncio.Transport: ...
    def abort(self) -> None: ...
    def at_eof(self) -> bool: ...
    def is_closing(self) -> bool: ...
    def is_server_side(self) -> bool: ...
    def can_write_eof(self) -> bool: ...
    def get_extra_info(self, name: str, default: Any = None) -> Any: ...
    async def start_tls(
        self,
        sslcontext: ssl_module.SSLContext,
        *,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> None: ...
    async def read(self, n: int = -1) -> bytes: ...
    async def readexactly(self, n: int) -> bytes: ...
    async def readuntil(self, separator: Buffer | tuple[Buffer, ...] = b"\n") -> bytes: ...
    async def readline(self) -> bytes: ...
    async def readinto(self, buffer: Buffer) -> int: ...
    async def peek(self, n: int = -1) -> bytes: ...
    async def write(self, data: Buffer) -> None: ...
    async def writelines(self, data: Iterable[Buffer]) -> None: ...
    async def write_eof(self) -> None: ...
    async def sendfile(
        self, file: IO[bytes], offset: int = 0, count: int | None = None, *, fallback: bool = True
    ) -> int: ...
    async def close(self) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *args: object) -> None: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def __anext__(self) -> bytes: ...

class _Connecting(Awaitable[Stream], AbstractAsyncContextManager[Stream, None]):
    def __await__(self) -> Generator[Any, Any, Stream]: ...
    async def __aexit__(self, *args: object) -> None: ...

def connect(
    host: str | None = None, port: int | str | None = None, *, limit: int = 65536, **kwds: Any
) -> _Connecting: ...
def connect_unix(path: str | PathLike[str] | None = None, *, limit: int = 65536, **kwds: Any) -> _Connecting: ...
def connect_read_pipe(pipe: Any, *, limit: int = 65536) -> _Connecting: ...
def connect_write_pipe(pipe: Any, *, limit: int = 65536) -> _Connecting: ...

@final
class StreamAcceptor:
    closed: bool
    tasks: set[asyncio.Task[None]]
    def __init__(
        self, handler: Callable[[Stream], Awaitable[None]], loop: asyncio.AbstractEventLoop, limit: int
    ) -> None: ...
    def __call__(self, *args: Any, **kwargs: Any) -> StreamReaderProtocol: ...
