"""Subprocesses that end, are killed, cancelled or refused leave blocks, objects, descriptors and malloc'ed bytes alone."""

import asyncio
import os

import pytest

pytestmark = pytest.mark.timeout(240)


class Child(asyncio.SubprocessProtocol):
    def __init__(self):
        self.received = b""
        self.lost = asyncio.get_running_loop().create_future()

    def pipe_data_received(self, fd, data):
        self.received += data

    def connection_lost(self, exc):
        self.lost.set_result(exc)


NO_PIPES = {"stdin": None, "stdout": None, "stderr": None}


def test_processes(loop, leaks_nothing):
    async def operation():
        transport, protocol = await loop.subprocess_exec(Child, "cat", stderr=None)
        stdin = transport.get_pipe_transport(0)
        stdin.write(b"hello")
        stdin.write_eof()
        repr(transport)
        assert await transport._wait() == 0
        await protocol.lost
        assert protocol.received == b"hello"
        transport.close()

    leaks_nothing(operation)


def test_processes_with_a_popen(loop, leaks_nothing):
    async def operation():
        transport, protocol = await loop.subprocess_exec(Child, "sleep", "1000")
        assert transport.get_extra_info("subprocess").poll() is None
        transport.get_pipe_transport(1).get_protocol()
        transport.close()
        await protocol.lost
        transport, protocol = await loop.subprocess_exec(Child, "true", env=dict(os.environ))
        await protocol.lost
        transport.close()

    leaks_nothing(operation)


def test_processes_that_fail(loop, leaks_nothing):
    async def operation():
        for options in ({}, {"cwd": "/no/such/place"}, {"text": True}):
            try:
                await loop.subprocess_exec(Child, "true" if options else "/no/such/program", **options)
            except (FileNotFoundError, ValueError):
                pass
        task = loop.create_task(loop.subprocess_shell(Child, "sleep 1000"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        transport, _ = await loop.subprocess_exec(Child, "sleep", "1000", **NO_PIPES)
        transport.terminate()
        waiting = [loop.create_task(transport._wait()) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.wait(waiting)
        transport.close()

    leaks_nothing(operation)
