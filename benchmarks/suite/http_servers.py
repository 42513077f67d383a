"""aiohttp and uvicorn, started from a running loop as their documentation has it. Each answers GET / with JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from suite.hosting import Host, Start
from suite.sockets import BACKLOG

MESSAGE = "Hello, world!"
# What the client expects: aiohttp's json.dumps puts a space there, Starlette's does not.
SPACED_BODY = '{"message": "Hello, world!"}'
COMPACT_BODY = '{"message":"Hello, world!"}'


async def start_aiohttp(host: Host) -> object:
    from aiohttp import web

    async def hello(request: web.Request) -> web.Response:
        return web.json_response({"message": MESSAGE})

    application = web.Application()
    application.router.add_get("/", hello)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.SockSite(runner, host.listener, backlog=BACKLOG).start()
    return runner


async def asgi_hello(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    assert scope["type"] == "http"
    body = COMPACT_BODY.encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def start_uvicorn(host: Host, application: Any) -> object:
    import uvicorn

    config = uvicorn.Config(application, log_level="warning", access_log=False, lifespan="off", backlog=BACKLOG)
    server = uvicorn.Server(config)
    task = host.loop.create_task(server.serve(sockets=[host.listener]))
    while not server.started and not task.done():
        await asyncio.sleep(0.01)
    if task.done():
        task.result()
    return task


async def start_uvicorn_asgi(host: Host) -> object:
    return await start_uvicorn(host, asgi_hello)


async def start_uvicorn_starlette(host: Host) -> object:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def hello(request: Request) -> JSONResponse:
        return JSONResponse({"message": MESSAGE})

    return await start_uvicorn(host, Starlette(routes=[Route("/", hello)]))


SERVERS: dict[str, Start] = {
    "aiohttp": start_aiohttp,
    "uvicorn": start_uvicorn_asgi,
    "uvicorn-starlette": start_uvicorn_starlette,
}
