"""Other people's programs at the other end: curl, OpenBSD's nc, nginx. `make test` installs them where it may (tools/need
clients); a test whose program is missing is skipped."""

import asyncio
import contextlib
import functools
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess

import pytest
from transports.support import HOST, Recorder, settled
from transports.unix_support import abstract, exists

# nginx is installed where only root's PATH looks.
PATH = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin"
# Without what a run under sanitizers preloads: these are not the programs under test.
ENVIRON = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
SECONDS = 50


def program(name):
    found = shutil.which(name, path=PATH)
    if found is None:
        pytest.skip(f"!!! SKIPPED: {name} is missing and could not be installed: tools/need clients")
    return found


curl = pytest.fixture(lambda: program("curl"), name="curl")
nc = pytest.fixture(lambda: program("nc"), name="nc")


async def in_thread(call, *args, **kwargs):
    return await asyncio.get_running_loop().run_in_executor(None, functools.partial(call, *args, **kwargs))


async def output(*command, **kwargs):
    done = await in_thread(subprocess.run, command, capture_output=True, timeout=SECONDS, env=ENVIRON, **kwargs)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


class Http(asyncio.Protocol):
    """As much of HTTP/1.1 as curl and nginx ask for: what was asked comes back as JSON; /bytes/N gives N bytes."""

    connections = 0

    def connection_made(self, transport):
        type(self).connections += 1
        self.transport = transport
        self.buffer = bytearray()

    def data_received(self, data):
        self.buffer += data
        while self.answer_one():
            pass

    def answer_one(self):
        head, separator, rest = self.buffer.partition(b"\r\n\r\n")
        if not separator:
            return False
        request, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            if headers.pop("expect", None):
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                self.buffer[: len(head)] = "\r\n".join([request, f"content-length: {length}"]).encode()
            return False
        self.buffer = rest[length:]
        self.answer(*request.split(), headers, bytes(rest[:length]))
        return True

    def answer(self, method, target, version, headers, body):
        if target.startswith("/bytes/"):
            content = bytes(int(target.rpartition("/")[2]))
        else:
            digest = hashlib.sha256(body).hexdigest()
            content = json.dumps({"method": method, "target": target, "size": len(body), "digest": digest}).encode()
        self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(content))
        self.transport.write(content)
        if version == "HTTP/1.0" or headers.get("connection") == "close":
            self.transport.close()


@contextlib.asynccontextmanager
async def http(path=None):
    """(protocol class, port or None): a server on a Unix socket, or on TCP."""
    protocol = type("Http", (Http,), {})
    loop = asyncio.get_running_loop()
    if path is None:
        server = await loop.create_server(protocol, HOST, 0)
    else:
        server = await loop.create_unix_server(protocol, path)
    try:
        yield protocol, path is None and server.sockets[0].getsockname()[1]
    finally:
        server.close()
        server.close_clients()
        await server.wait_closed()
        await settled()


# ---- curl --------------------------------------------------------------------------------------


def place_options(place, path, port):
    if place == "tcp":
        return [f"http://{HOST}:{port}"]
    if place == "unix":
        return ["--unix-socket", path, "http://host"]
    return ["--abstract-unix-socket", path[1:], "http://host"]


@pytest.mark.parametrize("place", ["tcp", "unix", "abstract"])
def test_curl(run, curl, path, place):
    where = {"tcp": None, "unix": path, "abstract": abstract()}[place]

    async def main():
        async with http(where) as (protocol, port):
            *options, base = place_options(place, where, port)

            async def ask(*arguments):
                return await output(curl, "-sS", "--noproxy", "*", *options, *arguments)

            answer = json.loads(await ask(base + "/x?y=z"))
            assert (answer["method"], answer["target"]) == ("GET", "/x?y=z")
            assert len(await ask(base + "/bytes/5000000")) == 5_000_000
            assert protocol.connections == 2
            # Two requests over one connection.
            assert len(await ask(base + "/bytes/10", base + "/bytes/7")) == 17
            assert protocol.connections == 3 or place == "abstract"  # some curls do not keep those

    run(main())


@pytest.mark.parametrize("place", ["tcp", "unix"])
def test_curl_uploads(run, curl, path, place, tmp_path):
    """With Expect: 100-continue, as curl does for a body of that size."""
    data = os.urandom(3_000_000)
    (tmp_path / "upload").write_bytes(data)
    where = path if place == "unix" else None

    async def main():
        async with http(where) as (_, port):
            *options, base = place_options(place, where, port)
            upload = ["--noproxy", "*", "-H", "Expect: 100-continue", "--data-binary", f"@{tmp_path}/upload"]
            answer = json.loads(await output(curl, "-sS", *options, *upload, base + "/up"))
            assert answer["size"] == len(data)
            assert answer["digest"] == hashlib.sha256(data).hexdigest()

    run(main())


def test_many_curls_at_once(run, curl, path):
    """How many connections one curl makes is its own affair: several, with several requests at a time each."""

    async def main():
        async with http(path) as (protocol, _):
            options = ["-sS", "--unix-socket", path, "--parallel", "--parallel-immediate", "--parallel-max", "10"]
            urls = [f"http://host/bytes/{size}" for size in range(1000, 1030)]
            answers = await asyncio.gather(*(output(curl, *options, *urls) for _ in range(6)))
            assert [len(answer) for answer in answers] == [sum(range(1000, 1030))] * 6
            assert protocol.connections >= 6

    run(main())


# ---- nc ----------------------------------------------------------------------------------------


class Echo(Recorder):
    """Sends everything back, and the end too."""

    def data_received(self, data):
        super().data_received(data)
        self.transport.write(data)


def test_nc_as_client(run, nc, path):
    """nc half-closes at the end of its input (-N) and reads on until the server closes."""
    data = os.urandom(1_000_000)

    async def main():
        protocols = []

        def factory():
            protocols.append(Echo())
            return protocols[-1]

        async with await asyncio.get_running_loop().create_unix_server(factory, path):
            assert await output(nc, "-N", "-U", path, input=data) == data
            assert protocols[0].data == data
            assert protocols[0].names()[-2:] == ["eof_received", "connection_lost"]
        assert not exists(path)

    run(main())


def test_nc_as_server(run, nc, path):
    """It says when it listens."""

    async def main():
        with subprocess.Popen(
            [nc, "-v", "-N", "-l", "-U", path],
            env=ENVIRON,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            line = b""
            while b"Listening" not in line:
                line = await in_thread(process.stderr.readline)
                assert line
            transport, protocol = await asyncio.get_running_loop().create_unix_connection(Recorder, path)
            process.stdin.write(b"from nc")
            process.stdin.close()
            await protocol.until(lambda: protocol.data == b"from nc")
            transport.write(b"to nc")
            transport.close()
            await protocol.lost()
            assert await in_thread(process.stdout.read) == b"to nc"
            assert await in_thread(process.wait) == 0

    run(main())


# ---- nginx -------------------------------------------------------------------------------------

NGINX = """
daemon off;
worker_processes 1;
{user}
pid {dir}/nginx.pid;
error_log stderr error;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_max_body_size 100m;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    upstream unix_kept {{ server unix:{path}; keepalive 8; }}
    upstream tcp_kept {{ server {host}:{upstream}; keepalive 8; }}
    server {{
        listen {host}:{port};
        location /unix/ {{ proxy_pass http://unix:{path}:/; }}
        location /tcp/ {{ proxy_pass http://{host}:{upstream}/; }}
        location /unix-kept/ {{
            proxy_pass http://unix_kept/; proxy_http_version 1.1; proxy_set_header Connection "";
        }}
        location /tcp-kept/ {{
            proxy_pass http://tcp_kept/; proxy_http_version 1.1; proxy_set_header Connection "";
        }}
    }}
}}
"""


@contextlib.contextmanager
def nginx_before(path, upstream, directory):
    """The port of an nginx that passes requests on. Its listening socket is made here and inherited, as from an nginx that
    is being replaced: nobody can take the port first, and connections wait in it until nginx is there."""
    with socket.create_server((HOST, 0), backlog=200) as listening:
        port = listening.getsockname()[1]
        user = "user root;" if os.getuid() == 0 else ""  # whom the socket's directory lets in
        config = NGINX.format(dir=directory, user=user, path=path, upstream=upstream, host=HOST, port=port)
        (directory / "nginx.conf").write_text(config)
        fd = listening.fileno()
        process = subprocess.Popen(
            [program("nginx"), "-p", directory, "-c", directory / "nginx.conf", "-e", "stderr"],
            pass_fds=[fd],
            env={"NGINX": f"{fd};", "PATH": PATH},
            stderr=subprocess.PIPE,
        )
    try:
        yield port
    finally:
        process.send_signal(signal.SIGQUIT)
        try:
            _, errors = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            _, errors = process.communicate()
    wrong = [line for line in errors.decode().splitlines() if "using inherited sockets" not in line]
    assert process.returncode == 0
    assert not wrong, wrong


@pytest.mark.parametrize("place", ["unix", "tcp", "unix-kept", "tcp-kept"])
def test_behind_nginx(run, curl, path, place, tmp_path):
    program("nginx")
    data = os.urandom(2_000_000)
    (tmp_path / "upload").write_bytes(data)

    async def main():
        async with http() as (over_tcp, upstream), http(path) as (over_unix, _):
            protocol = over_unix if place.startswith("unix") else over_tcp
            with nginx_before(path, upstream, tmp_path) as port:
                base = f"http://{HOST}:{port}/{place}"
                ask = functools.partial(output, curl, "-sS", "--fail", "--noproxy", "*")
                assert json.loads(await ask(base + "/x?y"))["target"] == "/x?y"
                assert len(await ask(base + "/bytes/8000000")) == 8_000_000
                answer = json.loads(await ask("--data-binary", f"@{tmp_path}/upload", base + "/up"))
                assert (answer["method"], answer["digest"]) == ("POST", hashlib.sha256(data).hexdigest())
                before = protocol.connections
                urls = [f"{base}/bytes/{size}" for size in range(500, 600)]
                options = ["--parallel", "--parallel-immediate", "--parallel-max", "25"]
                assert len(await ask(*options, *urls)) == sum(range(500, 600))
                made = protocol.connections - before
                assert made < 100 if place.endswith("kept") else made == 100

    run(main())


def test_nginx_when_the_server_goes_and_comes_back(run, curl, path, tmp_path):
    """A path that was removed is 502 to nginx; with a new server on it all is well again."""
    program("nginx")

    async def main():
        with socket.create_server((HOST, 0)) as unused, nginx_before(path, unused.getsockname()[1], tmp_path) as port:
            status = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "--noproxy", "*"]
            ask = functools.partial(output, curl, *status, f"http://{HOST}:{port}/unix/")
            for _ in range(2):
                async with http(path):
                    assert await ask() == b"200"
                assert not exists(path)

    run(main())
