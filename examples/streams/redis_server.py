"""A server that speaks Redis's protocol, on readers and writers: the same program on asyncio, uvloop and corolla.

    python redis_server.py --on corolla --port 6379
    redis-cli -p 6379 set name value
    redis-benchmark -p 6379 -t ping,set,get -P 16

Strings only, in memory. What a command costs here is the streams: a line and a number of bytes for each argument, one reply.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

LONGEST = 512 * 1024 * 1024  # bytes of an argument, as Redis has it
MOST = 1024 * 1024  # arguments
OK = b"+OK\r\n"
NONE = b"$-1\r\n"

Arguments = list[bytes]
Store = dict[bytes, bytes]


class ProtocolError(Exception):
    """The client does not speak Redis."""


def bulk(value: bytes | None) -> bytes:
    return NONE if value is None else b"$%d\r\n%b\r\n" % (len(value), value)


def integer(value: int) -> bytes:
    return b":%d\r\n" % value


# ---- Commands ---------------------------------------------------------------------------------------------------------------


def ping(store: Store, args: Arguments) -> bytes:
    return bulk(args[0]) if args else b"+PONG\r\n"


def echo(store: Store, args: Arguments) -> bytes:
    return bulk(args[0])


def get(store: Store, args: Arguments) -> bytes:
    return bulk(store.get(args[0]))


def set_(store: Store, args: Arguments) -> bytes:
    key, value, *options = args
    for option in options:
        if option.upper() not in (b"NX", b"XX"):
            return b"-ERR syntax error\r\n"
        if (key in store) == (option.upper() == b"NX"):
            return NONE
    store[key] = value
    return OK


def delete(store: Store, args: Arguments) -> bytes:
    return integer(sum(store.pop(key, None) is not None for key in args))


def exists(store: Store, args: Arguments) -> bytes:
    return integer(sum(key in store for key in args))


def incr(store: Store, args: Arguments) -> bytes:
    try:
        value = int(store.get(args[0], b"0")) + 1
    except ValueError:
        return b"-ERR value is not an integer or out of range\r\n"
    store[args[0]] = b"%d" % value
    return integer(value)


def dbsize(store: Store, args: Arguments) -> bytes:
    return integer(len(store))


def flushall(store: Store, args: Arguments) -> bytes:
    store.clear()
    return OK


def nothing(store: Store, args: Arguments) -> bytes:
    """What redis-cli and redis-benchmark ask before they begin: COMMAND, CONFIG GET."""
    return b"*0\r\n"


# By name: what it does, and how many arguments it takes at least and at most.
COMMANDS: dict[bytes, tuple[Callable[[Store, Arguments], bytes], int, int]] = {
    b"PING": (ping, 0, 1),
    b"ECHO": (echo, 1, 1),
    b"GET": (get, 1, 1),
    b"SET": (set_, 2, 3),
    b"DEL": (delete, 1, MOST),
    b"EXISTS": (exists, 1, MOST),
    b"INCR": (incr, 1, 1),
    b"DBSIZE": (dbsize, 0, 0),
    b"FLUSHALL": (flushall, 0, 1),
    b"COMMAND": (nothing, 0, MOST),
    b"CONFIG": (nothing, 0, MOST),
}


def answer(store: Store, name: bytes, args: Arguments) -> bytes:
    command = COMMANDS.get(name) or COMMANDS.get(name.upper())
    if command is None:
        return b"-ERR unknown command '%b'\r\n" % name[:64].replace(b"\r", b" ").replace(b"\n", b" ")
    function, least, most = command
    if not least <= len(args) <= most:
        return b"-ERR wrong number of arguments for '%b' command\r\n" % name.lower()
    return function(store, args)


# ---- The protocol ---------------------------------------------------------------------------------------------------------


def number(line: bytes, kind: bytes, most: int) -> int:
    if line[:1] != kind or line[-2:] != b"\r\n" or not line[1:-2].isdigit() or int(line[1:-2]) > most:
        raise ProtocolError(f"expected '{kind.decode()}' and a number")
    return int(line[1:-2])


async def command(reader: Any) -> Arguments | None:
    """The next one; None at the end of the connection. An empty line is an empty command."""
    line = await reader.readline()
    if line[:1] != b"*":
        return line.split() if line else None  # typed by hand
    args = []
    for _ in range(number(line, b"*", MOST)):
        size = number(await reader.readline(), b"$", LONGEST)
        value = await reader.readexactly(size + 2)
        if value[-2:] != b"\r\n":
            raise ProtocolError("an argument is longer than announced")
        args.append(value[:-2])
    return args


class Server:
    """What all connections share."""

    def __init__(self) -> None:
        self.store: Store = {}

    async def serve(self, reader: Any, writer: Any) -> None:
        try:
            while (args := await command(reader)) is not None:
                if not args:
                    continue
                if args[0].upper() == b"QUIT":
                    writer.write(OK)
                    break
                writer.write(answer(self.store, args[0], args[1:]))
                await writer.drain()
        except (ProtocolError, ValueError) as error:  # ValueError: a line longer than the limit
            writer.write(b"-ERR Protocol error: %b\r\n" % str(error).encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # gone in the middle of a command
        finally:
            writer.close()


async def main(api: Any, host: str, port: int) -> None:
    """api: asyncio, or corolla, which has the same names."""
    stopped = asyncio.Event()
    for number_ in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number_, stopped.set)
    server = await api.start_server(Server().serve, host, port)
    print(f"listening on port {server.sockets[0].getsockname()[1]}", flush=True)
    await stopped.wait()
    server.close()


def on(name: str) -> tuple[Any, Callable[[Coroutine[Any, Any, None]], None]]:
    """The module with the streams, and what runs a coroutine."""
    if name == "asyncio":
        return asyncio, asyncio.run
    if name == "uvloop":
        import uvloop

        return asyncio, uvloop.run
    import corolla

    return corolla, corolla.run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A server that speaks Redis's protocol.")
    parser.add_argument("--on", choices=("asyncio", "uvloop", "corolla"), default="corolla")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6379, help="0: any that is free")
    options = parser.parse_args()
    streams, run = on(options.on)
    run(main(streams, options.host, options.port))
