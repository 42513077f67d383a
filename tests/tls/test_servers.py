"""TLS with curl and nginx: nginx before us and behind us, in clear text on its other side or in TLS on both."""

import asyncio
import contextlib
import functools
import hashlib
import json
import os
import signal
import socket
import subprocess

import pytest
from tls.programs import ENVIRON, SECONDS, in_thread, output, program
from tls.support import NAME, serving
from transports.support import HOST, Recorder

curl = pytest.fixture(lambda: program("curl"), name="curl")


class Http(Recorder):
    """As much of HTTP/1.1 as curl and nginx ask for: what was asked comes back as JSON; /bytes/N gives N bytes."""

    def connection_made(self, transport):
        super().connection_made(transport)
        self.sockname = transport.get_extra_info("sockname")
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
        self.buffer = bytearray(rest[length:])
        self.answer(*request.split(), headers, bytes(rest[:length]))
        return True

    def answer(self, method, target, version, headers, body):
        if target.startswith("/bytes/"):
            content = bytes(int(target.rpartition("/")[2]))
        else:
            tls = self.transport.get_extra_info("ssl_object")
            content = json.dumps(
                {
                    "method": method,
                    "target": target,
                    "digest": hashlib.sha256(body).hexdigest(),
                    "peercert": tls and tls.getpeercert(),
                    "version": tls and tls.version(),
                }
            ).encode()
        self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(content))
        self.transport.write(content)
        if version == "HTTP/1.0" or headers.get("connection") == "close":
            self.transport.close()


FLAGS = {"1.2": ["--tls-max", "1.2"], "1.3": ["--tlsv1.3"]}


def test_curl(run, curl, certs, version):
    async def main():
        async with serving(certs.server(version=version), Http) as service:
            base = f"https://{NAME}:{service.port}"
            options = ["-sS", "--fail", "--noproxy", "*", "--cacert", certs.ca, *FLAGS[version], "-4"]
            ask = functools.partial(output, curl, *options)
            answer = json.loads(await ask(base + "/x?y=z"))
            assert (answer["method"], answer["target"], answer["version"]) == ("GET", "/x?y=z", f"TLSv{version}")
            assert len(await ask(base + "/bytes/8000000")) == 8_000_000
            # Two requests over one connection.
            before = len(service.protocols)
            assert len(await ask(base + "/bytes/10", base + "/bytes/7")) == 17
            assert len(service.protocols) == before + 1
            assert await service.protocols[-1].lost() is None

    run(main())


def test_curl_uploads(run, curl, certs, version, tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / "upload").write_bytes(data)

    async def main():
        async with serving(certs.server(version=version), Http) as service:
            options = ["-sS", "--fail", "--noproxy", "*", "--cacert", certs.ca, *FLAGS[version], "-4"]
            upload = ["-H", "Expect: 100-continue", "--data-binary", f"@{tmp_path}/upload"]
            answer = json.loads(await output(curl, *options, *upload, f"https://{NAME}:{service.port}/up"))
            assert (answer["method"], answer["digest"]) == ("POST", hashlib.sha256(data).hexdigest())

    run(main())


def test_curl_over_a_unix_socket(run, curl, certs, path):
    async def main():
        async with serving(certs.server(), Http, path=path) as service:
            options = ["-sS", "--fail", "--cacert", certs.ca, "--unix-socket", path]
            assert len(await output(curl, *options, f"https://{NAME}/bytes/100000")) == 100_000
            assert service.protocols[0].sockname == path

    run(main())


@pytest.mark.parametrize("certificate", ["expired", "wronghost", "stranger"])
def test_curl_does_not_trust_us(run, curl, certs, certificate):
    async def main():
        async with serving(certs.server(certificate), Http) as service:
            command = [curl, "-sS", "--noproxy", "*", "--cacert", certs.ca, "-4", f"https://{NAME}:{service.port}/"]
            done = await in_thread(subprocess.run, command, capture_output=True, timeout=SECONDS, env=ENVIRON)
            assert done.returncode == 60  # CURLE_PEER_FAILED_VERIFICATION
            # A TLS 1.3 server is done before the client looks at its certificate.
            assert all(protocol.data == b"" for protocol in service.protocols)

    run(main())


def test_curl_with_a_certificate(run, curl, certs, version):
    async def main():
        async with serving(certs.server(version=version, ask=True), Http) as service:
            options = ["-sS", "--fail", "--noproxy", "*", "--cacert", certs.ca, *FLAGS[version], "-4"]
            options += ["--cert", certs.file("client.pem")]
            answer = json.loads(await output(curl, *options, f"https://{NAME}:{service.port}/"))
            assert ["email", "client@example.com"] in answer["peercert"]["subjectAltName"]

    run(main())


def test_many_curls_at_once(run, curl, certs):
    async def main():
        async with serving(certs.server(), Http) as service:
            options = ["-sS", "--fail", "--noproxy", "*", "--cacert", certs.ca, "-4", "--http1.1"]
            options += ["--parallel", "--parallel-immediate", "--parallel-max", "10"]
            urls = [f"https://{NAME}:{service.port}/bytes/{size}" for size in range(10000, 10020)]
            answers = await asyncio.gather(*(output(curl, *options, *urls) for _ in range(4)))
            assert [len(answer) for answer in answers] == [sum(range(10000, 10020))] * 4

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
    ssl_protocols TLSv{version};
    ssl_certificate {pem};
    ssl_certificate_key {pem};
    ssl_session_cache shared:s:1m;
    proxy_ssl_protocols TLSv{version};
    proxy_ssl_trusted_certificate {ca};
    proxy_ssl_verify on;
    proxy_ssl_name {name};
    proxy_ssl_server_name on;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    upstream clear {{ server {host}:{clear}; keepalive 8; }}
    upstream sealed {{ server {host}:{sealed}; keepalive 8; }}
    server {{
        listen {host}:{port} ssl;
        location /clear/ {{ proxy_pass http://clear/; }}
        location /sealed/ {{ proxy_pass https://sealed/; }}
        location /unkept/ {{ proxy_set_header Connection close; proxy_pass https://{host}:{sealed}/; }}
        location /own {{ return 200 "of its own\n"; }}
        location /file/ {{ alias {dir}/; }}
    }}
}}
"""


@contextlib.contextmanager
def nginx(directory, certs, version, clear, sealed):
    """The port of an nginx that speaks TLS. Its listening socket is made here and inherited, as from an nginx that is being
    replaced: nobody can take the port first, and connections wait in it until nginx is there."""
    with socket.create_server((HOST, 0), backlog=200) as listening:
        port = listening.getsockname()[1]
        user = "user root;" if os.getuid() == 0 else ""  # whom the socket's directory lets in
        values = {"dir": directory, "user": user, "version": version, "host": HOST, "port": port, "name": NAME}
        config = NGINX.format(**values, clear=clear, sealed=sealed, ca=certs.ca, pem=certs.file("server.pem"))
        (directory / "nginx.conf").write_text(config)
        fd = listening.fileno()
        process = subprocess.Popen(
            [program("nginx"), "-p", directory, "-c", directory / "nginx.conf", "-e", "stderr"],
            pass_fds=[fd],
            env={"NGINX": f"{fd};", "PATH": ENVIRON["PATH"]},
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


@pytest.mark.parametrize("place", ["clear", "sealed", "unkept"])
def test_nginx_before_us(run, curl, certs, version, place, tmp_path):
    """A TLS front of servers of ours: in clear text behind it, or in TLS, on connections that are kept or not."""
    program("nginx")
    data = os.urandom(2_000_000)
    (tmp_path / "upload").write_bytes(data)

    async def main():
        async with serving(None, Http) as clear, serving(certs.server(version=version), Http) as sealed:
            with nginx(tmp_path, certs, version, clear.port, sealed.port) as port:
                base = f"https://{NAME}:{port}/{place}"
                ask = functools.partial(output, curl, "-sS", "--fail", "--noproxy", "*", "--cacert", certs.ca, "-4")
                answer = json.loads(await ask(base + "/x?y"))
                assert answer["target"] == "/x?y"
                assert answer["version"] == (None if place == "clear" else f"TLSv{version}")
                assert len(await ask(base + "/bytes/8000000")) == 8_000_000
                answer = json.loads(await ask("--data-binary", f"@{tmp_path}/upload", base + "/up"))
                assert (answer["method"], answer["digest"]) == ("POST", hashlib.sha256(data).hexdigest())

    run(main())


def test_nginx_behind_us(run, certs, version, tmp_path):
    """Clients of ours: a small answer, a file of several megabytes that nginx sends in full records, both kept alive."""
    program("nginx")
    data = os.urandom(5_000_000)
    (tmp_path / "data").write_bytes(data)

    async def main():
        loop = asyncio.get_running_loop()
        with nginx(tmp_path, certs, version, 1, 1) as port:
            context = certs.client(version=version)
            context.set_alpn_protocols(["http/1.1"])

            async def one():
                transport, protocol = await loop.create_connection(
                    Recorder, HOST, port, ssl=context, server_hostname=NAME
                )
                assert transport.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
                transport.write(b"GET /own HTTP/1.1\r\nHost: localhost\r\n\r\n")
                await protocol.until(lambda: protocol.data.endswith(b"of its own\n"))
                transport.write(b"GET /file/data HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                await protocol.lost()
                assert protocol.data.endswith(data)
                assert "eof_received" in protocol.names()

            await asyncio.gather(*(one() for _ in range(4)))

    run(main())


def test_through_nginx_from_ours_to_ours(run, certs, version, tmp_path):
    """Both ends ours, nginx in TLS with each of them."""
    program("nginx")

    async def main():
        loop = asyncio.get_running_loop()
        async with serving(certs.server(version=version), Http) as sealed:
            with nginx(tmp_path, certs, version, 1, sealed.port) as port:
                transport, protocol = await loop.create_connection(
                    Recorder, HOST, port, ssl=certs.client(version=version), server_hostname=NAME
                )
                for _ in range(20):
                    transport.write(b"GET /sealed/bytes/100000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
                await protocol.until(lambda: protocol.data.count(b"200 OK") == 20 and len(protocol.data) > 2_000_000)
                transport.close()
                assert await protocol.lost() is None

    run(main())
