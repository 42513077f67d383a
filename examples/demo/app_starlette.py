"""The Starlette application, and uvicorn to serve it. Nothing here knows which event loop it runs on."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable

import contract
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

counters: Counter[str] = Counter()


def headers(request: Request) -> dict[str, str]:
    return {contract.REQUEST_ID: request.headers.get(contract.REQUEST_ID, "")}


async def json(request: Request) -> Response:
    return JSONResponse(contract.JSON_OBJECT, headers=headers(request))


async def blob(request: Request) -> Response:
    return Response(contract.BLOB, headers=headers(request), media_type=contract.BYTES)


async def echo(request: Request) -> Response:
    return Response(await request.body(), headers=headers(request), media_type=contract.BYTES)


async def upload(request: Request) -> Response:
    digest, length = hashlib.sha256(), 0
    async for part in request.stream():
        digest.update(part)
        length += len(part)
    return JSONResponse(contract.upload_answer(length, digest.hexdigest()), headers=headers(request))


async def stream(request: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        for part in contract.STREAM_PARTS:
            yield part
            await asyncio.sleep(0)

    return StreamingResponse(parts(), headers=headers(request), media_type=contract.BYTES)


async def slow(request: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        counters["started"] += 1
        try:
            yield contract.SLOW_FIRST
            await asyncio.sleep(contract.SLOW_SECONDS)
        except asyncio.CancelledError:
            counters["cancelled"] += 1
            raise

    return StreamingResponse(parts(), headers=headers(request), media_type=contract.BYTES)


async def websocket(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


async def stats(_: Request) -> Response:
    return JSONResponse({"started": counters["started"], "cancelled": counters["cancelled"]})


app = Starlette(
    routes=[
        Route("/json", json),
        Route("/blob", blob),
        Route("/echo", echo, methods=["POST"]),
        Route("/upload", upload, methods=["POST"]),
        Route("/stream", stream),
        Route("/slow", slow),
        WebSocketRoute("/ws", websocket),
        Route("/stats", stats),
    ]
)


async def serve(announce: Callable[[int], None]) -> None:
    """Serves until SIGTERM, which uvicorn sees to itself."""
    # loop="none": the loop is the one that already runs. Its keep-alive pings would come after 20 s of a longer run.
    config = uvicorn.Config(
        app, "127.0.0.1", 0, loop="none", http="httptools", log_level="warning", access_log=False, ws_ping_interval=None
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    if server.started:
        announce(server.servers[0].sockets[0].getsockname()[1])
    await serving
