"""loop.sendfile() over TLS: the kernel cannot encrypt it, so blocks are read and written."""

import asyncio
import os
import socket

import pytest
from certificates import NAME, client_context, server_context
from impl import beyond_stdlib
from transports.support import Recorder, settled

DATA = os.urandom(300_001)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with open(path, "rb") as file:
        yield file


async def ends():
    """(transport, protocol) of a client and of its server."""
    loop = asyncio.get_running_loop()
    one, other = socket.socketpair()
    accepting = asyncio.ensure_future(loop.connect_accepted_socket(Recorder, other, ssl=server_context()))
    client = await loop.create_unix_connection(Recorder, sock=one, ssl=client_context(), server_hostname=NAME)
    return client, await accepting


async def end(*pairs):
    for transport, _ in pairs:
        transport.close()
    for _, protocol in pairs:
        await protocol.lost()
    await settled()
    await asyncio.get_running_loop().shutdown_default_executor()


@pytest.mark.parametrize(("offset", "count"), [(0, None), (1000, None), (0, 70000), (299_000, 5000)])
def test_sent(run, file, offset, count):
    """Behind what was written before, before what is written after."""

    async def main():
        client, server = await ends()
        transport = client[0]
        transport.write(b"before")
        sent = await asyncio.get_running_loop().sendfile(transport, file, offset, count)
        part = DATA[offset:] if count is None else DATA[offset : offset + count]
        assert sent == len(part)
        assert file.tell() == offset + len(part)
        transport.write(b"after")
        expected = b"before" + part + b"after"
        await server[1].until(lambda: len(server[1].data) >= len(expected))
        assert server[1].data == expected
        # The protocol is the transport's own again.
        assert transport.get_protocol() is client[1]
        server[0].write(b"thanks")
        await client[1].until(lambda: client[1].data == b"thanks")
        await end(client, server)

    run(main())


def test_what_comes_meanwhile(run, file):
    """Is kept, and delivered in order afterwards."""

    async def main():
        client, server = await ends()
        sending = asyncio.ensure_future(asyncio.get_running_loop().sendfile(client[0], file))
        await settled()
        server[0].write(b"meanwhile")
        assert await sending == len(DATA)
        await client[1].until(lambda: client[1].data == b"meanwhile")
        await server[1].until(lambda: len(server[1].data) == len(DATA))
        await end(client, server)

    run(main())


def test_without_fallback(run, file):
    async def main():
        client, server = await ends()
        with pytest.raises(RuntimeError, match="^fallback is disabled and native sendfile is not supported for transp"):
            await asyncio.get_running_loop().sendfile(client[0], file, fallback=False)
        await end(client, server)

    run(main())


@beyond_stdlib("it raises a plain RuntimeError")
def test_without_fallback_is_not_available(run, file):
    async def main():
        client, server = await ends()
        with pytest.raises(asyncio.SendfileNotAvailableError):
            await asyncio.get_running_loop().sendfile(client[0], file, fallback=False)
        await end(client, server)

    run(main())


def test_closing(run, file):
    async def main():
        client, server = await ends()
        client[0].close()
        with pytest.raises(RuntimeError, match="^Transport is closing$"):
            await asyncio.get_running_loop().sendfile(client[0], file)
        await end(client, server)

    run(main())


def test_peer_that_goes(run, tmp_path):
    """The sender is told, and does not wait for ever."""

    async def main():
        client, server = await ends()
        path = tmp_path / "large"
        with open(path, "wb") as made:
            made.truncate(64 * 1024 * 1024)
        with open(path, "rb") as large:
            server[0].pause_reading()
            sending = asyncio.ensure_future(asyncio.get_running_loop().sendfile(client[0], large))
            while client[0].get_write_buffer_size() == 0:
                await asyncio.sleep(0)
            server[0].abort()
            with pytest.raises(ConnectionError):
                await sending
            assert large.tell() < 64 * 1024 * 1024
        await end(client, server)

    run(main())
