"""An HTTP/1.1 file server on corolla.Stream: what it sends of a file never enters the process (stream.sendfile).

    python file_server.py --port 8000 DIRECTORY
    curl http://127.0.0.1:8000/some/file

GET and HEAD, persistent connections and pipelining, ranges (curl -C -), and nothing outside the directory.
"""

from __future__ import annotations

import argparse
import asyncio
import mimetypes
import os
import re
import signal
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote, urlsplit

import corolla

IDLE = 60.0  # seconds that a client may take for a request
LONGEST_HEAD = 16 * 1024  # bytes

RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Refused(Exception):
    """The request is answered with an error."""

    def __init__(self, status: HTTPStatus, **headers: str) -> None:
        super().__init__(status)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@dataclass
class Request:
    method: str
    target: str
    headers: dict[str, str]  # names in lower case
    keep: bool  # the connection is to stay


def parse(head: bytes) -> Request:
    request, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    try:
        method, target, version = request.split(" ")
        pairs = (line.split(":", 1) for line in lines)
        headers = {name.lower(): value.strip() for name, value in pairs}
    except ValueError:
        raise Refused(HTTPStatus.BAD_REQUEST) from None
    if version not in ("HTTP/1.0", "HTTP/1.1"):
        raise Refused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    connection = headers.get("connection", "").lower()
    keep = connection == "keep-alive" if version == "HTTP/1.0" else connection != "close"
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        keep = False  # a body that nobody reads
    return Request(method, target, headers, keep)


def part_wanted(header: str | None, size: int) -> tuple[int, int] | None:
    """The first byte and how many, if a part is asked for that can be had."""
    match = RANGE.fullmatch(header or "")
    if match is None or match[0] == "bytes=-":
        return None  # all of it: so says RFC 9110 of what one does not understand
    if match[1]:
        first = int(match[1])
        last = min(int(match[2]), size - 1) if match[2] else size - 1
    else:
        first, last = max(size - int(match[2]), 0), size - 1
    if first > last:
        raise Refused(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, Content_Range=f"bytes */{size}")
    return first, last - first + 1


def head_of(status: HTTPStatus, headers: dict[str, str], keep: bool) -> bytes:
    lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += ["Date: " + formatdate(usegmt=True), "Connection: " + ("keep-alive" if keep else "close")]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class FileServer:
    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()

    def find(self, target: str) -> Path:
        path = unquote(urlsplit(target).path).lstrip("/")
        if "\0" in path:
            raise Refused(HTTPStatus.BAD_REQUEST)
        found = (self.directory / path).resolve()
        if found.is_dir():
            found /= "index.html"
        if not found.is_relative_to(self.directory):
            raise Refused(HTTPStatus.NOT_FOUND)
        return found

    async def send(self, stream: corolla.Stream, request: Request) -> None:
        if request.method not in ("GET", "HEAD"):
            raise Refused(HTTPStatus.NOT_IMPLEMENTED, Allow="GET, HEAD")
        path = self.find(request.target)
        if not path.is_file():  # a FIFO would keep us waiting
            raise Refused(HTTPStatus.NOT_FOUND)
        try:
            file = path.open("rb")
        except PermissionError:
            raise Refused(HTTPStatus.FORBIDDEN) from None
        except OSError:
            raise Refused(HTTPStatus.NOT_FOUND) from None
        with file:
            found = os.fstat(file.fileno())
            size = found.st_size
            part = part_wanted(request.headers.get("range"), size)
            first, count = part or (0, size)
            headers = {
                "Content-Type": mimetypes.guess_type(path)[0] or "application/octet-stream",
                "Content-Length": str(count),
                "Last-Modified": formatdate(found.st_mtime, usegmt=True),
                "Accept-Ranges": "bytes",
            }
            if part is not None:
                headers["Content-Range"] = f"bytes {first}-{first + count - 1}/{size}"
            code = HTTPStatus.OK if part is None else HTTPStatus.PARTIAL_CONTENT
            await stream.write(head_of(code, headers, request.keep))
            if request.method == "GET" and count and await stream.sendfile(file, first, count) < count:
                stream.abort()  # the file has become shorter: the client is not to take it for whole

    async def refuse(self, stream: corolla.Stream, refused: Refused, request: Request | None) -> bool:
        """Whether the connection may go on."""
        keep = request is not None and request.keep
        body = f"{refused.status.value} {refused.status.phrase}\n".encode()
        headers = {"Content-Type": "text/plain", "Content-Length": str(len(body)), **refused.headers}
        head = head_of(refused.status, headers, keep)
        await stream.write(head if request is not None and request.method == "HEAD" else head + body)
        return keep

    async def serve(self, stream: corolla.Stream) -> None:
        """One connection."""
        keep = True
        try:
            while keep:
                request = None
                try:
                    async with asyncio.timeout(IDLE):
                        head = await stream.readuntil(b"\r\n\r\n")
                    request = parse(head)
                    await self.send(stream, request)
                    keep = request.keep
                except asyncio.LimitOverrunError:
                    keep = await self.refuse(stream, Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE), None)
                except Refused as refused:
                    keep = await self.refuse(stream, refused, request)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            pass  # the client has what it wanted, or gave up


async def main(directory: Path, host: str, port: int) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    handler = FileServer(directory).serve
    async with corolla.StreamServer(handler, host, port, limit=LONGEST_HEAD, shutdown_timeout=5) as server:
        print(f"listening on port {server.sockets[0].getsockname()[1]}", flush=True)
        await stopped.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve the files of a directory over HTTP/1.1.")
    parser.add_argument("directory", type=Path, nargs="?", default=Path())
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0: any that is free")
    options = parser.parse_args()
    corolla.run(main(options.directory, options.host, options.port))
