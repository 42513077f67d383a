"""https: aiohttp's client and server, and uvicorn, on the loop under test."""

import asyncio
import contextlib
import os

import impl
import pytest
from tls.support import NAME, connected
from transports.support import HOST, settled

aiohttp = pytest.importorskip("aiohttp", reason="!!! SKIPPED: aiohttp is not for this Python")
uvicorn = pytest.importorskip("uvicorn", reason="!!! SKIPPED: uvicorn is not for this Python")
web = pytest.importorskip("aiohttp.web")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@contextlib.asynccontextmanager
async def application(context, *routes):
    app = web.Application(client_max_size=1 << 26)
    app.add_routes(routes)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0, ssl_context=context)
    await site.start()
    try:
        yield site._server.sockets[0].getsockname()[1]
    finally:
        await runner.cleanup()
        await settled()


async def echo(request):
    return web.Response(body=await request.read())


async def stream(request):
    response = web.StreamResponse()
    await response.prepare(request)
    for number in range(1000):
        await response.write(b"%d," % number * 100)
    return response


async def websocket(request):
    response = web.WebSocketResponse()
    await response.prepare(request)
    async for message in response:
        await response.send_bytes(message.data)
    return response


@contextlib.asynccontextmanager
async def session(context, **kwargs):
    connector = aiohttp.TCPConnector(ssl=context, **kwargs)
    async with aiohttp.ClientSession(connector=connector) as made:
        yield made
    # Connections are closed by then, not lost yet.
    for _ in range(20):
        await asyncio.sleep(0)


def test_aiohttp(run, certs, version):
    data = os.urandom(900_000)

    async def main():
        routes = [web.post("/echo", echo), web.get("/stream", stream)]
        async with application(certs.server(version=version), *routes) as port:
            async with session(certs.client(version=version)) as client:
                base = f"https://{NAME}:{port}"
                for body in (b"", b"small", data):
                    async with client.post(base + "/echo", data=body) as response:
                        assert await response.read() == body
                async with client.get(base + "/stream") as response:
                    assert await response.read() == b"".join(b"%d," % number * 100 for number in range(1000))

                async def one(number):
                    async with client.post(base + "/echo", data=b"%d" % number) as response:
                        return int(await response.read())

                assert await asyncio.gather(*map(one, range(50))) == list(range(50))

    run(main())


def test_aiohttp_websocket(run, certs, version):
    async def main():
        async with application(certs.server(version=version), web.get("/ws", websocket)) as port:
            async with session(certs.client(version=version)) as client:
                async with client.ws_connect(f"wss://{NAME}:{port}/ws") as ws:
                    for size in (0, 1, 100, 70_000, 1_000_000):
                        await ws.send_bytes(bytes(size))
                        assert await ws.receive_bytes() == bytes(size)

    run(main())


def test_aiohttp_does_not_trust(run, certs):
    async def main():
        async with application(certs.server("expired"), web.post("/echo", echo)) as port:
            async with session(certs.client()) as client:
                with pytest.raises(aiohttp.ClientConnectorCertificateError):
                    await client.post(f"https://{NAME}:{port}/echo")

    run(main())


@pytest.mark.parametrize("proxy", ["http", "https"])
def test_aiohttp_through_a_proxy(run, certs, proxy):
    """CONNECT, then start_tls(); through an https proxy that is TLS within TLS."""

    async def main():
        connections = []

        async def passing(reader, writer):
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

        async def serve(reader, writer):
            head = await reader.readuntil(b"\r\n\r\n")
            method, target = head.split()[:2]
            assert method == b"CONNECT"
            port = int(target.rpartition(b":")[2])
            behind_reader, behind_writer = await asyncio.open_connection(HOST, port)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            connections.append(target)
            await asyncio.gather(passing(reader, behind_writer), passing(behind_reader, writer))

        context = certs.server() if proxy == "https" else None
        server = await asyncio.start_server(serve, HOST, 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        data = os.urandom(900_000)
        async with application(certs.server(), web.post("/echo", echo)) as behind:
            async with session(certs.client()) as client:
                url = f"https://{NAME}:{behind}/echo"
                async with client.post(url, data=data, proxy=f"{proxy}://{NAME}:{port}") as response:
                    assert await response.read() == data
        assert len(connections) == 1
        server.close()
        await server.wait_closed()
        await settled()

    run(main())


class Server(uvicorn.Server):
    """Stopped by the test: signals are its own."""

    @contextlib.contextmanager
    def capture_signals(self):
        yield


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_uvicorn(run, certs, http):
    if http == "httptools":
        pytest.importorskip("httptools")
    data = os.urandom(900_000)

    async def app(scope, receive, send):
        assert scope["scheme"] == "https"
        body = b""
        while True:
            event = await receive()
            body += event["body"]
            if not event["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async def main():
        options = {"lifespan": "off", "log_config": None, "access_log": False, "http": http, "ws": "none"}
        options |= {"ssl_certfile": certs.file("server.crt"), "ssl_keyfile": certs.file("server.key")}
        server = Server(uvicorn.Config(app, host=HOST, port=0, **options))
        task = asyncio.ensure_future(server.serve())
        while not server.started:
            await asyncio.sleep(0)
        port = server.servers[0].sockets[0].getsockname()[1]
        async with session(certs.client()) as client:
            for body in (b"small", data):
                async with client.post(f"https://{NAME}:{port}/", data=body) as response:
                    assert await response.read() == body
        server.should_exit = True
        await task
        await settled()

    run(main())


def test_what_libraries_look_at(run, certs, side):
    """aiohttp warns of transports that it takes for unable to start TLS within TLS."""

    async def main():
        async with connected(certs, side) as (transport, protocol, peer):
            assert transport._start_tls_compatible is True
            assert isinstance(transport, asyncio.Transport)
            if impl.IS_COROLLA:
                assert transport.get_extra_info("socket") is not None

    run(main())
