"""OpenBSD's `nc -u` at the other end of a datagram endpoint. `make test` installs it where it may (tools/need clients);
without it these tests are skipped."""

import asyncio
import shutil
import subprocess

import pytest
from transports.datagrams import DatagramRecorder, endpoint, udp_socket
from transports.support import HOST


@pytest.fixture
def nc():
    found = shutil.which("nc")
    if found is None:
        pytest.skip("!!! SKIPPED: nc is missing and could not be installed: tools/need clients")
    return found


async def in_thread(call, *args):
    return await asyncio.get_running_loop().run_in_executor(None, call, *args)


class Process:
    """A program that is written to and read from, and ended at the end."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self):
        return self.process

    def __exit__(self, *exc):
        self.process.kill()
        self.process.communicate()


def test_nc_asks(run, nc):
    class Echo(DatagramRecorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            self.transport.sendto(data.upper(), addr)

    async def main():
        async with endpoint(Echo) as (transport, protocol):
            port = transport.get_extra_info("sockname")[1]
            with Process(nc, "-u", HOST, str(port)) as client:
                for line in (b"hello\n", b"from nc\n"):
                    client.stdin.write(line)
                    client.stdin.flush()
                    await protocol.until(lambda line=line: line in protocol.received)
                    assert await in_thread(client.stdout.readline) == line.upper()
            assert protocol.received == [b"hello\n", b"from nc\n"]
            assert len(set(protocol.senders)) == 1

    run(main())


def test_nc_answers(run, nc):
    async def main():
        with udp_socket() as free:
            address = free.getsockname()
        async with endpoint(remote_addr=address) as (transport, protocol):
            with Process(nc, "-u", "-l", HOST, str(address[1])) as server:
                line = asyncio.ensure_future(in_thread(server.stdout.readline))
                while not line.done():
                    transport.sendto(b"anybody?\n")  # refused, and told so, until nc has its socket
                    await asyncio.wait([line], timeout=0.02)
                assert line.result() == b"anybody?\n"
                server.stdin.write(b"yes\n")
                server.stdin.flush()
                assert await protocol.receive(1) == [b"yes\n"]
                assert protocol.senders == [address]
                assert all(isinstance(exc, ConnectionRefusedError) for exc in protocol.errors)

    run(main())
