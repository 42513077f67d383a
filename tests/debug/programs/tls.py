"""What is said of TLS: who is slow, who fails, whom the other end refuses."""

import asyncio
import logging
import os
import ssl
import subprocess
import tempfile
import time

logging.basicConfig(level=logging.DEBUG, format="%(levelname)s:%(name)s:%(message)s")


def make_contexts():
    with tempfile.TemporaryDirectory() as folder:
        key, cert = os.path.join(folder, "key"), os.path.join(folder, "cert")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-keyout", key, "-out", cert, "-subj", "/CN=localhost", "-days", "2"],
            check=True,
            capture_output=True,
        )  # fmt: skip
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(cert, key)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    return server, client


class Peer(asyncio.Protocol):
    def __init__(self):
        self.happened = asyncio.Queue()

    def connection_made(self, transport):
        self.transport = transport
        self.happened.put_nowait("made")

    def data_received(self, data):
        if data == b"slow":
            time.sleep(0.2)
        self.happened.put_nowait("data")
        if data == b"fail":
            raise ValueError("in data_received()")

    def connection_lost(self, exc):
        self.happened.put_nowait("lost")

    async def until(self, what):
        while await self.happened.get() != what:
            pass


def say(what):
    print(f"# {what}")


async def connected(server, client, served):
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: served, "127.0.0.1", 0, ssl=server)
    _, peer = await loop.create_connection(Peer, *listening.sockets[0].getsockname(), ssl=client)
    await served.until("made")
    return listening, peer


async def main():
    loop = asyncio.get_running_loop()
    server, client = make_contexts()

    say("slow")
    served = Peer()
    listening, peer = await connected(server, client, served)
    loop.slow_callback_duration = 0.15
    peer.transport.write(b"slow")
    await served.until("data")
    await asyncio.sleep(0)
    loop.slow_callback_duration = 60
    say("fails")
    peer.transport.write(b"fail")
    await served.until("lost")
    await peer.until("lost")
    listening.close()

    say("refused")
    strict = ssl.create_default_context()
    listening = await loop.create_server(Peer, "127.0.0.1", 0, ssl=server)
    try:
        await loop.create_connection(Peer, *listening.sockets[0].getsockname(), ssl=strict, server_hostname="localhost")
    except ssl.SSLError as error:
        say(error.reason)
    await asyncio.sleep(0.05)
    listening.close()


logging.disable(logging.DEBUG)  # the order of two ends' lines is chance
asyncio.run(main())
