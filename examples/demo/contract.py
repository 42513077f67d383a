"""What both applications serve and the load client expects: the routes, and every byte of every answer."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass

_random = random.Random(3156)

JSON_OBJECT = {"message": "Hello, World!", "languages": ["C", "Python"], "answer": 42, "nested": {"pi": 3.14159}}
BLOB = _random.randbytes(1 << 20)
ECHO_BODY = _random.randbytes(16 << 10)
UPLOAD_BODY = _random.randbytes(256 << 10)
# Sizes from a few bytes up to more than one write to a socket takes at once.
STREAM_PARTS = [_random.randbytes(size) for size in (1, 10, 100, 1000, 10000, 100000, 16384, 4096) * 2]
# What the slow handler sends before it goes to sleep: the client hangs up when it has that, so that no
# disconnect can come before its handler runs.
SLOW_FIRST = b"working on it\n"
SLOW_SECONDS = 60.0

REQUEST_ID = "X-Request-Id"  # goes back with each response: it is the answer to this request, not to another
BYTES = "application/octet-stream"
# The same function call, and each framework's own idea of the header.
JSON_TYPE = {"aiohttp": "application/json; charset=utf-8", "uvicorn": "application/json"}


def to_json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def upload_answer(length: int, sha256: str) -> dict[str, object]:
    return {"length": length, "sha256": sha256}


@dataclass(frozen=True)
class Route:
    name: str
    label: str
    path: str
    expect: bytes = b""
    method: str = "GET"
    type: str = BYTES
    body: bytes = b""
    chunked: bool = False
    kind: str = "http"  # as load's --kind: http, websocket, disconnect
    share: int = 1  # http: its weight among the requests; else: connections of its own


def routes(app: str) -> dict[str, Route]:
    uploaded = upload_answer(len(UPLOAD_BODY), hashlib.sha256(UPLOAD_BODY).hexdigest())
    in_json = JSON_TYPE[app]
    all_routes = [
        Route("json", "JSON", "/json", to_json(JSON_OBJECT).encode(), type=in_json, share=8),
        Route("blob", "1 MiB download", "/blob", BLOB),
        Route("echo", "16 KiB POST, echoed", "/echo", ECHO_BODY, "POST", body=ECHO_BODY, share=3),
        Route("upload", "256 KiB POST, hashed", "/upload", to_json(uploaded).encode(), "POST", in_json, UPLOAD_BODY),
        Route("stream", "chunked stream", "/stream", b"".join(STREAM_PARTS), chunked=True),
        Route("ws", "WebSocket message", "/ws", kind="websocket", share=4),
        Route("slow", "slow, hung up on", "/slow", SLOW_FIRST, chunked=True, kind="disconnect", share=4),
    ]
    return {route.name: route for route in all_routes}
