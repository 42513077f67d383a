"""What the sweep handles: every type there is, as objects in each state they can be in."""

import asyncio
import functools
import itertools
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import certificates
import corolla
import impl

numbers = itertools.count()

STATES = ("normal", "closed", "bare", "skips init")


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


class World:
    """One loop and what hangs on it, for one action; thrown away afterwards."""

    def __init__(self) -> None:
        self.loop = impl.EventLoop()
        self.loop.set_exception_handler(lambda loop, context: None)
        self.kept: list[Any] = []
        self.unlike = impl.Future(loop=self.loop)

    def turn(self, count: int = 1) -> None:
        for _ in range(count):
            impl.EventLoop.stop(self.loop)
            impl.EventLoop.run_forever(self.loop)

    def run(self, coro: Any) -> Any:
        return self.loop.run_until_complete(coro)

    def end(self) -> None:
        """As much of an ordinary end as is possible after what was done to it."""
        for step in (self.turn, lambda: self.turn(2), lambda: impl.EventLoop.close(self.loop)):
            try:
                step()
            except BaseException:
                pass


def subclass(kind: type) -> Any:
    """An instance of a subclass whose __init__ does not call super().__init__()."""
    return type(kind.__name__ + "Skips", (kind,), {"__init__": lambda self, *args, **kwargs: None})


def half_made(kind: type, state: str) -> Any:
    return kind.__new__(kind) if state == "bare" else subclass(kind)()


def future(world: World, state: str) -> Any:
    if state in ("bare", "skips init"):
        return half_made(impl.Future, state)
    made = impl.Future(loop=world.loop)
    if state == "closed":
        made.cancel()
        world.loop.close()
    return made


def task(world: World, state: str) -> Any:
    if state in ("bare", "skips init"):
        return half_made(impl.Task, state)
    made = impl.Task(forever(), loop=world.loop)
    made._log_destroy_pending = False
    world.turn()
    if state == "closed":
        made.cancel()
        world.turn(2)
        world.loop.close()
    return made


def handle(world: World, state: str) -> Any:
    if state in ("bare", "skips init"):
        return half_made(impl.Handle, state)
    made = world.loop.call_soon(print_nothing, 1, 2)
    if state == "closed":
        made.cancel()
        world.loop.close()
    return made


def timer_handle(world: World, state: str) -> Any:
    if state in ("bare", "skips init"):
        return half_made(impl.TimerHandle, state)
    made = world.loop.call_later(1000, print_nothing, *range(7))
    if state == "closed":
        world.loop.close()
    return made


def event_loop(world: World, state: str) -> Any:
    if state in ("bare", "skips init"):
        return half_made(impl.EventLoop, state)
    if state == "closed":
        world.loop.close()
    return world.loop


def server(world: World, state: str) -> Any:
    made = world.run(world.loop.create_server(asyncio.Protocol, "127.0.0.1", 0))
    if state in ("bare", "skips init"):
        made.close()
        return half_made(type(made), state)
    if state == "closed":
        made.close()
    return made


def transport(world: World, state: str) -> Any:
    listening = world.run(world.loop.create_server(asyncio.Protocol, "127.0.0.1", 0))
    port = listening.sockets[0].getsockname()[1]
    made, _protocol = world.run(world.loop.create_connection(asyncio.Protocol, "127.0.0.1", port))
    world.kept.append(listening)
    if state in ("bare", "skips init"):
        made.abort()
        return half_made(type(made), state)
    if state == "closed":
        made.abort()
        world.turn(2)
    return made


def unix_transport(world: World, state: str) -> Any:
    ours, theirs = socket.socketpair()
    world.kept.append(theirs)
    made, _protocol = world.run(world.loop.create_unix_connection(asyncio.Protocol, sock=ours))
    if state in ("bare", "skips init"):
        made.abort()
        return half_made(type(made), state)
    if state == "closed":
        made.abort()
        world.turn(2)
    return made


def unix_server(world: World, state: str) -> Any:
    name = "\0corolla-sweep-" + os.urandom(8).hex()
    made = world.run(world.loop.create_unix_server(asyncio.Protocol, name))
    if state in ("bare", "skips init"):
        made.close()
        return half_made(type(made), state)
    if state == "closed":
        made.close()
    return made


def pipe(world: World, state: str, side: int) -> Any:
    ends = os.pipe()
    files = [open(ends[0], "rb", 0), open(ends[1], "wb", 0)]
    connect = world.loop.connect_write_pipe if side else world.loop.connect_read_pipe
    made, _protocol = world.run(connect(asyncio.Protocol, files[side]))
    world.kept.append(files[1 - side])
    if state in ("bare", "skips init"):
        made.close()
        return half_made(type(made), state)
    if state == "closed":
        made.close()
        world.turn(2)
    return made


def datagram(world: World, state: str) -> Any:
    made, _protocol = world.run(
        world.loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
    )
    if state in ("bare", "skips init"):
        made.abort()
        return half_made(type(made), state)
    if state == "closed":
        made.abort()
        world.turn(2)
    return made


def read_pipe(world: World, state: str) -> Any:
    return pipe(world, state, 0)


def write_pipe(world: World, state: str) -> Any:
    return pipe(world, state, 1)


def process(world: World, state: str) -> Any:
    """A child that reads and writes, and would go on."""
    made, _protocol = world.run(world.loop.subprocess_exec(asyncio.SubprocessProtocol, "cat"))
    if state in ("bare", "skips init"):
        made.close()
        return half_made(type(made), state)
    if state == "closed":
        made.close()
        world.run(made._wait())
        world.turn(2)
    return made


def process_pipe(world: World, state: str) -> Any:
    transport = process(world, "closed" if state == "closed" else "normal")
    made = transport.get_pipe_transport(1).get_protocol() or transport._pipes[1]
    if state in ("bare", "skips init"):
        transport.close()
        return half_made(type(made), state)
    world.kept.append(transport)
    return made


def stream_reader(world: World, state: str) -> Any:
    """With bytes in it and somebody who waits for more; at its end."""
    if state in ("bare", "skips init"):
        return half_made(corolla.StreamReader, state)
    made = corolla.StreamReader(limit=100, loop=world.loop)
    made.feed_data(b"some bytes")
    waiting = impl.Task(made.readline(), loop=world.loop)
    waiting._log_destroy_pending = False
    world.turn()
    if state == "closed":
        made.feed_eof()
        world.turn(2)
    return made


def stream_protocol(world: World, state: str) -> Any:
    if state in ("bare", "skips init"):
        return half_made(corolla.StreamReaderProtocol, state)
    reader = corolla.StreamReader(loop=world.loop)
    made = corolla.StreamReaderProtocol(reader, print_nothing, loop=world.loop)
    made.connection_made(transport(world, "normal"))
    if state == "closed":
        made.connection_lost(LookupError("lost"))
        world.turn(2)
    else:
        made.pause_writing()
        world.kept.append(reader)
    return made


def child(world: World, state: str) -> Any:
    """A process with streams, somebody who waits for it, and somebody who communicates with it."""
    if state in ("bare", "skips init"):
        return half_made(corolla.subprocess.Process, state)
    made = world.run(corolla.create_subprocess_exec("cat", stdin=-1, stdout=-1, stderr=-1))
    for coro in made.wait(), made.communicate(b"x" * 100_000):
        waiting = impl.Task(coro, loop=world.loop)
        waiting._log_destroy_pending = False
        world.kept.append(waiting)
    world.turn()
    if state == "closed":
        made._transport.close()
        world.run(made._transport._wait())
        world.turn(2)
    return made


def child_protocol(world: World, state: str) -> Any:
    if state in ("bare", "skips init"):
        return half_made(corolla.subprocess.SubprocessStreamProtocol, state)
    process = child(world, state)
    world.kept.append(process)
    return process._protocol


def listening_path(world: World) -> str:
    """An abstract Unix socket with a server: a sweep makes more connections than TCP has ports to spare."""
    path = f"\0corolla sweep {os.getpid()} {next(numbers)}"
    world.kept.append(world.run(world.loop.create_unix_server(asyncio.Protocol, path)))
    return path


def stream_writer(world: World, state: str) -> Any:
    if state in ("bare", "skips init"):
        return half_made(corolla.StreamWriter, state)
    reader, made = world.run(corolla.open_unix_connection(listening_path(world)))
    world.kept.append(reader)
    if state == "closed":
        made.transport.abort()
        world.turn(2)
    return made


async def awaited(thing: Any) -> Any:
    return await thing


def stream(world: World, state: str) -> Any:
    if state in ("bare", "skips init"):
        return half_made(corolla.Stream, state)
    made = world.run(awaited(corolla.connect_unix(listening_path(world))))
    if state == "closed":
        made.abort()
        world.turn(2)
    return made


def connecting(world: World, state: str) -> Any:
    """What connect() gives: fresh, entered, refused."""
    listening = world.run(world.loop.create_server(asyncio.Protocol, "127.0.0.1", 0))
    world.kept.append(listening)
    made = corolla.connect(*listening.sockets[0].getsockname())
    if state in ("bare", "skips init"):
        world.kept.append(world.run(made.__aenter__()))
        return made if state == "skips init" else half_made(type(made), state)
    if state == "closed":
        listening.close()
        world.loop.create_task(awaited(made))
        world.turn()
    return made


def acceptor(world: World, state: str) -> Any:
    """A stream server's protocol factory, with a connection that is being handled."""
    kind = corolla._core.StreamAcceptor
    if state in ("bare", "skips init"):
        return half_made(kind, state)

    async def handler(stream: Any) -> None:
        await stream.read()

    made = kind(handler, world.loop, 100)
    ours, theirs = socket.socketpair()
    world.kept.append(theirs)
    accepted, _protocol = world.run(world.loop.connect_accepted_socket(made, ours))
    world.turn()
    if state == "closed":
        accepted.abort()
        world.turn(3)
    return made


def stream_server_maker(kind: Callable[..., Any]) -> Callable[[World, str], Any]:
    def stream_server(world: World, state: str) -> Any:
        if state in ("bare", "skips init"):
            return half_made(kind, state)
        if kind is corolla.StreamServer:
            made = kind(print_nothing, "127.0.0.1", 0)
        else:
            made = kind(print_nothing, "\0corolla-sweep-" + os.urandom(8).hex())
        world.run(made.start_serving())
        if state == "closed":
            world.run(made.close())
        return made

    return stream_server


client_context = functools.cache(certificates.client_context)
server_context = functools.cache(certificates.server_context)


def tls_transport(world: World, state: str) -> Any:
    """Connected, with bytes on their way in both directions; aborted."""
    ours, theirs = socket.socketpair()
    loop = world.loop
    accepting = loop.create_task(
        loop.connect_accepted_socket(asyncio.Protocol, theirs, ssl=server_context(), ssl_handshake_timeout=5)
    )
    made, _protocol = world.run(
        loop.create_unix_connection(
            asyncio.Protocol,
            sock=ours,
            ssl=client_context(),
            server_hostname=certificates.NAME,
            ssl_handshake_timeout=5,
        )
    )
    peer, _protocol = world.run(accepting)
    world.kept.append(peer)
    if state in ("bare", "skips init"):
        made.abort()
        return half_made(type(made), state)
    peer.write(b"to be read")
    made.write(b"x" * 1000)
    if state == "closed":
        made.abort()
        world.turn(3)
    return made


def tls_protocol(world: World, state: str) -> Any:
    """What the transport below calls, while the handshake is under way; given up."""
    ours, theirs = socket.socketpair()
    world.kept.append(theirs)
    below, protocol = world.run(world.loop.create_unix_connection(asyncio.Protocol, sock=ours))
    starting = world.loop.create_task(
        world.loop.start_tls(below, protocol, client_context(), server_hostname=certificates.NAME)
    )
    starting._log_destroy_pending = False
    world.turn(2)
    made = below.get_protocol()
    if state in ("bare", "skips init"):
        below.abort()
        return half_made(type(made), state)
    world.kept.append(below)
    if state == "closed":
        starting.cancel()
        world.turn(4)
    return made


def tls_writer(world: World, state: str) -> Any:
    if state in ("bare", "skips init"):
        return half_made(corolla.StreamWriter, state)
    ours, theirs = socket.socketpair()
    loop = world.loop
    accepting = loop.create_task(loop.connect_accepted_socket(asyncio.Protocol, theirs, ssl=server_context()))
    reader, made = world.run(
        corolla.open_unix_connection(sock=ours, ssl=client_context(), server_hostname=certificates.NAME)
    )
    world.kept.extend([reader, world.run(accepting)])
    if state == "closed":
        made.transport.abort()
        world.turn(3)
    return made


def coroutine(world: World, state: str) -> Any:
    made = impl.sleep(0, "result")
    if state == "closed":
        made.close()
    elif state == "bare":
        world.loop.create_task(made)
        world.turn()  # begun, and waiting
    elif state == "skips init":
        made.close()
        return half_made(type(made), state)
    return made


def iterator(world: World, state: str) -> Any:
    awaited = impl.Future(loop=world.loop)
    made = iter(awaited)
    if state == "closed":
        made.close()
    elif state == "bare":
        next(made)
    elif state == "skips init":
        return half_made(type(made), state)
    return made


def timeout(world: World, state: str) -> Any:
    """As made, being run, expired; half made."""
    if state in ("bare", "skips init"):
        return corolla.Timeout.__new__(corolla.Timeout)
    made = corolla.timeout_at(0 if state == "closed" else 10**9)

    async def enter() -> None:
        try:
            async with made:
                await forever()
        except TimeoutError:
            pass

    running = impl.Task(enter(), loop=world.loop)
    running._log_destroy_pending = False
    world.turn(3)
    return made


def as_completed(world: World, state: str) -> Any:
    """With one done and one to come, one that somebody waits on; all handed out."""

    async def make() -> Any:
        done, left = impl.Future(loop=world.loop), impl.Future(loop=world.loop)
        done.set_result("done")
        made = corolla.as_completed([done, left], timeout=1000)
        world.kept.append(left)
        if state == "closed":
            await next(made)
            next(made).close()
        elif state == "bare":
            world.kept += [impl.Task(coro, loop=world.loop) for coro in made]
            for waiting in world.kept[-2:]:
                waiting._log_destroy_pending = False
        return made

    return world.run(make())


def wakeup(world: World, state: str) -> Any:
    """What stands in a future's _callbacks for a task that waits."""
    awaited = impl.Future(loop=world.loop)

    async def wait() -> None:
        await awaited

    waiting = impl.Task(wait(), loop=world.loop)
    waiting._log_destroy_pending = False
    world.turn()
    made = awaited._callbacks[0][0]
    if state == "closed":
        awaited.set_result(None)
        world.turn(2)
    elif state in ("bare", "skips init"):
        waiting.cancel()
        world.turn(2)
        return half_made(type(made), state)
    return made


def policy(world: World, state: str) -> Any:
    if state in ("bare", "skips init"):
        return half_made(impl.EventLoopPolicy, state)
    made = impl.EventLoopPolicy()
    if state == "closed":
        made.set_event_loop(None)
    return made


def factory(world: World, state: str) -> Any:
    made = impl.api.create_eager_task_factory(impl.Task)
    if state in ("bare", "skips init"):
        return half_made(type(made), state)
    world.loop.set_task_factory(made)
    return made


def runner(world: World, state: str) -> Any:
    if state in ("bare", "skips init"):
        return half_made(impl.api.Runner, state)
    made = impl.api.Runner()
    if state == "closed":
        made.get_loop()
        made.close()
    world.kept.append(made)
    return made


def sync_maker(kind: type, *args: Any) -> Callable[[World, str], Any]:
    """Locks and the like; "closed" is taken, with somebody who waits."""

    def sync(world: World, state: str) -> Any:
        if state in ("bare", "skips init"):
            return half_made(kind, state)
        made = kind(*args)
        if state == "closed":
            for coro in [getattr(made, "acquire", None) or made.wait] * 2:
                waiting = impl.Task(coro(), loop=world.loop)
                waiting._log_destroy_pending = False
                world.kept.append(waiting)
            world.turn(2)
        return made

    return sync


def queue_maker(kind: type) -> Callable[[World, str], Any]:
    def queue(world: World, state: str) -> Any:
        if state in ("bare", "skips init"):
            return half_made(kind, state)
        made = kind(2)
        made.put_nowait(1)
        made.put_nowait(2)
        for waiting in (made.put(3), made.join()):
            world.loop.create_task(waiting)._log_destroy_pending = False
        world.turn()
        if state == "closed":
            made.shutdown()
            world.turn()
        return made

    return queue


def task_group(world: World, state: str) -> Any:
    if state in ("bare", "skips init"):
        return half_made(impl.TaskGroup, state)
    made = impl.TaskGroup()

    async def body() -> None:
        async with made:
            for _ in range(2):
                made.create_task(forever())._log_destroy_pending = False
            await forever()

    parent = world.loop.create_task(body())
    parent._log_destroy_pending = False
    world.turn()
    if state == "closed":
        parent.cancel()
        world.turn(4)
    return made


def print_nothing(*args: Any) -> None:
    """A callback."""


SUBJECTS: dict[str, Callable[[World, str], Any]] = {
    "Future": future,
    "Task": task,
    "Handle": handle,
    "TimerHandle": timer_handle,
    "EventLoop": event_loop,
    "Server": server,
    "TcpTransport": transport,
    "UnixTransport": unix_transport,
    "Unix server": unix_server,
    "TlsTransport": tls_transport,
    "TLS protocol": tls_protocol,
    "StreamWriter over TLS": tls_writer,
    "DatagramEndpoint": datagram,
    "ReadPipeTransport": read_pipe,
    "WritePipeTransport": write_pipe,
    "ProcessTransport": process,
    "subprocess pipe": process_pipe,
    "Process": child,
    "SubprocessStreamProtocol": child_protocol,
    "StreamReader": stream_reader,
    "StreamReaderProtocol": stream_protocol,
    "StreamWriter": stream_writer,
    "Stream": stream,
    "StreamServer": stream_server_maker(corolla.StreamServer),
    "UnixStreamServer": stream_server_maker(corolla.UnixStreamServer),
    "StreamMode": lambda world, state: corolla.StreamMode.READ,
    "connect": connecting,
    "StreamAcceptor": acceptor,
    "coroutine": coroutine,
    "future iterator": iterator,
    "task wakeup": wakeup,
    "Timeout": timeout,
    "as_completed": as_completed,
    "EventLoopPolicy": policy,
    "Lock": sync_maker(impl.api.Lock),
    "Event": sync_maker(impl.api.Event),
    "Condition": sync_maker(impl.api.Condition),
    "Barrier": sync_maker(impl.api.Barrier, 3),
    "Semaphore": sync_maker(impl.api.Semaphore, 1),
    "BoundedSemaphore": sync_maker(impl.api.BoundedSemaphore, 1),
    "Queue": queue_maker(impl.Queue),
    "PriorityQueue": queue_maker(impl.PriorityQueue),
    "LifoQueue": queue_maker(impl.LifoQueue),
    "TaskGroup": task_group,
    "EagerTaskFactory": factory,
    "Runner": runner,
}


class Odd:
    """Objects that no signature hopes for: made anew for each action, by name so that they can be reported."""

    def __init__(self, world: World, subject: Any) -> None:
        self.values: dict[str, Any] = {
            "None": None,
            "0": 0,
            "1": 1,
            "-1": -1,
            "2**64": 2**64,
            "1.5": 1.5,
            "nan": float("nan"),
            "inf": float("inf"),
            "''": "",
            "'127.0.0.1'": "127.0.0.1",
            "b'x'": b"x",
            "bytearray": bytearray(100),
            "[]": [],
            "(1, 2)": (1, 2),
            "{}": {},
            "object()": object(),
            "callable": print_nothing,
            "class": asyncio.Protocol,
            "error class": LookupError,
            "error": LookupError("odd"),
            "itself": subject,
            "loop": world.loop,
            "future": world.unlike,
            "raises": Raises(),
        }


class Raises:
    """Raises from whatever it is asked."""

    def _fail(self, *args: Any) -> Any:
        raise LookupError("from a hostile argument")

    __bool__ = __index__ = __float__ = __int__ = __str__ = __repr__ = __eq__ = __lt__ = __call__ = _fail
    __iter__ = __len__ = __getitem__ = __await__ = __fspath__ = __hash__ = fileno = _fail  # type: ignore[assignment]


def calls(values: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], dict[str, str]]]:
    """The arguments and keywords that everything callable is called with, by the names of Odd's values."""
    yield (), {}
    for name in values:
        yield (name,), {}
    for name in ("None", "1", "-1", "2**64", "''", "callable", "object()", "itself", "raises"):
        yield ("callable", name), {}
        yield (name, name), {}
        yield ("1", name), {}
        yield ("None", name, name), {}
        yield (name,) * 7, {}
    for keyword in ("loop", "context", "msg", "name", "limit", "nonsense", "host", "timeout", "eager_start"):
        for name in ("None", "1", "object()", "raises"):
            yield (), {keyword: name}
            yield ("callable",), {keyword: name}
            yield ("1", "callable"), {keyword: name}
