"""Unix servers and connections for tests."""

import asyncio
import contextlib
import os
import pathlib
import socket

from transports.support import Recorder, Service, settled


class UnixService(Service):
    async def start(self, path, **kwargs):
        self.server = await asyncio.get_running_loop().create_unix_server(self.factory, path, **kwargs)
        return self.server

    def connect(self):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(30)
        sock.connect(self.server.sockets[0].getsockname())
        return sock


@contextlib.asynccontextmanager
async def serving(path, base=Recorder, **kwargs):
    service = UnixService(base)
    server = await service.start(path, **kwargs)
    try:
        yield service, server
    finally:
        server.close()
        server.abort_clients()
        await server.wait_closed()
    await settled()


def abstract():
    return "\0corolla-test-" + os.urandom(8).hex()


async def connect(*args, **kwargs):
    return await asyncio.get_running_loop().create_unix_connection(Recorder, *args, **kwargs)


async def close(transport, protocol):
    transport.close()
    await protocol.lost()
    await settled()


def bound(path, listen=True):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    if listen:
        sock.listen()
    return sock


# Of files, with no loop's time to waste: all of it is in memory.


def exists(path):
    return os.path.exists(path)


def touch(path, text=""):
    pathlib.Path(path).write_text(text)


def reap(pid):
    return os.waitpid(pid, 0)[1]
