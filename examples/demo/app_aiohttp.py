"""The aiohttp application. Nothing here knows which event loop it runs on."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from collections import Counter
from collections.abc import Callable

import contract
from aiohttp import web

counters: Counter[str] = Counter()


def headers(request: web.Request) -> dict[str, str]:
    return {contract.REQUEST_ID: request.headers.get(contract.REQUEST_ID, "")}


async def json(request: web.Request) -> web.Response:
    return web.json_response(contract.JSON_OBJECT, dumps=contract.to_json, headers=headers(request))


async def blob(request: web.Request) -> web.Response:
    return web.Response(body=contract.BLOB, headers=headers(request))


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read(), headers=headers(request))


async def upload(request: web.Request) -> web.Response:
    digest, length = hashlib.sha256(), 0
    async for part in request.content.iter_any():
        digest.update(part)
        length += len(part)
    answer = contract.upload_answer(length, digest.hexdigest())
    return web.json_response(answer, dumps=contract.to_json, headers=headers(request))


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers=headers(request))
    await response.prepare(request)
    for part in contract.STREAM_PARTS:
        await response.write(part)
        await asyncio.sleep(0)
    await response.write_eof()
    return response


async def slow(request: web.Request) -> web.StreamResponse:
    counters["started"] += 1
    response = web.StreamResponse(headers=headers(request))
    try:
        await response.prepare(request)
        await response.write(contract.SLOW_FIRST)
        await asyncio.sleep(contract.SLOW_SECONDS)
    except asyncio.CancelledError:
        counters["cancelled"] += 1
        raise
    return response


async def websocket(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


async def stats(_: web.Request) -> web.Response:
    return web.json_response({"started": counters["started"], "cancelled": counters["cancelled"]})


async def serve(announce: Callable[[int], None]) -> None:
    """Serves until SIGTERM."""
    app = web.Application()
    app.add_routes(
        [
            web.get("/json", json),
            web.get("/blob", blob),
            web.post("/echo", echo),
            web.post("/upload", upload),
            web.get("/stream", stream),
            web.get("/slow", slow),
            web.get("/ws", websocket),
            web.get("/stats", stats),
        ]
    )
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    announce(runner.addresses[0][1])
    try:
        await stop.wait()
    finally:
        await runner.cleanup()
