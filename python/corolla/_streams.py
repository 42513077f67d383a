"""StreamServer and UnixStreamServer: servers whose connections are Streams. What runs for each connection is in C."""

from __future__ import annotations

import asyncio
import enum
import os
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Self

from ._core import Stream, StreamAcceptor

_LIMIT = 65536


class StreamMode(enum.Flag):
    """The directions of a Stream."""

    READ = 1
    WRITE = 2
    READWRITE = READ | WRITE


class _Server:
    """What the two have in common: everything but how they listen."""

    def __init__(
        self, handler: Callable[[Stream], Awaitable[None]], *, limit: int, shutdown_timeout: float | None
    ) -> None:
        if not callable(handler):
            raise TypeError(f"a coroutine function is required, got {handler!r}")
        if limit <= 0:
            raise ValueError("Limit cannot be <= 0")
        if shutdown_timeout is not None and shutdown_timeout < 0:
            raise ValueError("shutdown_timeout cannot be negative")
        self._handler = handler
        self._limit = limit
        self._shutdown_timeout = shutdown_timeout
        self._acceptor: StreamAcceptor | None = None
        self._server: asyncio.AbstractServer | None = None
        self._closed = False
        self._forever = False
        self._starting = asyncio.Lock()
        self._closers: set[asyncio.Task[Any] | None] = set()  # handlers that are in close() themselves

    async def _listen(self, loop: asyncio.AbstractEventLoop, factory: Callable[[], Any]) -> asyncio.AbstractServer:
        raise NotImplementedError

    @property
    def sockets(self) -> tuple[Any, ...]:
        """The listening sockets, as asyncio.Server.sockets; empty before start_serving() and after close()."""
        return () if self._server is None else tuple(getattr(self._server, "sockets", ()))

    def is_serving(self) -> bool:
        """Return True while connections are accepted."""
        return self._server is not None and self._server.is_serving()

    async def start_serving(self) -> None:
        """Listen and accept connections; no effect if it does already.

        Raises OSError if an address cannot be bound, and RuntimeError once it is closed.
        """
        async with self._starting:
            if self._closed:
                raise RuntimeError(f"{type(self).__name__} is closed")
            if self._server is not None:
                return
            loop = asyncio.get_running_loop()
            self._acceptor = StreamAcceptor(self._handler, loop, self._limit)
            server = await self._listen(loop, self._acceptor)
            if self._closed:  # meanwhile, by another task
                server.close()
                raise RuntimeError(f"{type(self).__name__} is closed")
            self._server = server

    async def serve_forever(self) -> None:
        """Accept connections until cancelled, then close, as close() does, and raise CancelledError.

        Ends with CancelledError, too, when another task calls close(). Raises RuntimeError when it runs already.
        """
        if self._forever:
            raise RuntimeError("serve_forever() is already being called")
        self._forever = True
        try:
            await self.start_serving()
            assert self._server is not None
            await self._server.serve_forever()
        finally:
            self._forever = False
            await self.close()

    async def close(self, timeout: float | None = None) -> None:
        """Stop listening, let the handlers finish, then cancel those that have not.

        timeout: seconds that the handlers have; by default the server's shutdown_timeout, where None is no limit.
        Returns once every handler has ended and its connection is closing. Harmless twice.
        """
        self._closed = True
        if self._server is not None:
            self._server.close()
        if self._acceptor is None:
            return
        self._acceptor.closed = True
        own = asyncio.current_task()
        # A handler that closes the server does not wait for itself, nor for another one that does.
        is_handler = own in self._acceptor.tasks
        if is_handler:
            self._closers.add(own)
        try:
            limit = self._shutdown_timeout if timeout is None else timeout
            tasks = self._acceptor.tasks - (self._closers if is_handler else set())
            if tasks:
                try:
                    await asyncio.wait(tasks, timeout=limit)
                finally:
                    for task in tasks:
                        task.cancel()
                await asyncio.wait(tasks)
        finally:
            self._closers.discard(own)

    async def abort(self) -> None:
        """Stop listening and cancel every handler at once: close(timeout=0)."""
        await self.close(0)

    async def __aenter__(self) -> Self:
        await self.start_serving()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close(None if error is None else 0)


class StreamServer(_Server):
    """A TCP server: each connection runs ``handler(stream)``, a coroutine function, in a task of its own.

    When the handler returns, what it wrote is sent and the connection closed; when it raises, that is reported to the
    loop's exception handler and only its own connection is aborted. ``async with StreamServer(...) as server`` listens
    from the beginning and closes at the end.

    host, port and the keyword arguments: as for loop.create_server(). limit: bytes, the longest line of a Stream.
    shutdown_timeout: seconds that close() gives the handlers before it cancels them; None is no limit. Raises TypeError
    for a handler that cannot be called and ValueError for a limit <= 0 or a negative timeout. See docs/streams.md.
    """

    def __init__(
        self,
        handler: Callable[[Stream], Awaitable[None]],
        host: str | Iterable[str] | None = None,
        port: int | str | None = None,
        *,
        limit: int = _LIMIT,
        shutdown_timeout: float | None = 60.0,
        **options: Any,
    ) -> None:
        super().__init__(handler, limit=limit, shutdown_timeout=shutdown_timeout)
        self._host, self._port, self._options = host, port, options

    async def _listen(self, loop: asyncio.AbstractEventLoop, factory: Callable[[], Any]) -> asyncio.AbstractServer:
        return await loop.create_server(factory, self._host, self._port, **self._options)  # type: ignore[arg-type]


class UnixStreamServer(_Server):
    """As StreamServer, on a Unix socket.

    path and the keyword arguments: as for loop.create_unix_server().
    """

    def __init__(
        self,
        handler: Callable[[Stream], Awaitable[None]],
        path: str | os.PathLike[str] | None = None,
        *,
        limit: int = _LIMIT,
        shutdown_timeout: float | None = 60.0,
        **options: Any,
    ) -> None:
        super().__init__(handler, limit=limit, shutdown_timeout=shutdown_timeout)
        self._path, self._options = path, options

    async def _listen(self, loop: asyncio.AbstractEventLoop, factory: Callable[[], Any]) -> asyncio.AbstractServer:
        return await loop.create_unix_server(factory, self._path, **self._options)
