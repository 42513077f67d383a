"""examples/streams, each as a process of its own, with other people's clients at the other end. `make test` installs those where
it may (tools/need clients); a test whose client is missing is skipped."""

import contextlib
import hashlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples" / "streams"
SECONDS = 50
# Clients are not what a sanitizer is to look at, and not all of them could bear it.
CLIENT_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}

pytestmark = pytest.mark.timeout(120)


def program(name):
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"!!! SKIPPED: {name} is missing and could not be installed: tools/need clients")
    return found


@contextlib.contextmanager
def running(example, *arguments):
    """The port it listens on. Told to stop, it ends by itself and has complained of nothing."""
    command = [sys.executable, str(EXAMPLES / example), "--port", "0", *map(str, arguments)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline()
        assert line.startswith("listening on port "), line + server.stderr.read()
        yield int(line.split()[-1])
        server.send_signal(signal.SIGTERM)
        output, complaints = server.communicate(timeout=SECONDS)
        assert (server.returncode, output, complaints) == (0, "", "")
    finally:
        server.kill()
        server.communicate()


def output(*command, **kwargs):
    done = subprocess.run(
        list(map(str, command)), capture_output=True, timeout=SECONDS, check=False, env=CLIENT_ENVIRONMENT, **kwargs
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ---- redis_server.py ------------------------------------------------------------------------------------------------------

both = pytest.mark.parametrize("on", ["corolla", "asyncio"])


@both
def test_redis_cli(on):
    cli = program("redis-cli")
    with running("redis_server.py", "--on", on) as port:

        def ask(*words, **kwargs):
            return output(cli, "-p", port, *words, **kwargs)

        assert ask("ping") == b"PONG\n"
        assert ask("set", "name", "a value\r\nof two lines") == b"OK\n"
        assert ask("get", "name") == b"a value\r\nof two lines\n"
        assert ask("get", "no such") == b"\n"
        assert ask("set", "name", "other", "NX") == b"\n"
        large = os.urandom(3_000_000).hex()
        assert ask("-x", "set", "large", input=large.encode()) == b"OK\n"
        assert hashlib.sha256(ask("get", "large").rstrip(b"\n")).digest() == hashlib.sha256(large.encode()).digest()
        assert ask("exists", "name", "large", "no such") == b"2\n"
        assert ask("del", "large", "no such") == b"1\n"
        assert ask("-r", "3", "incr", "counter") == b"1\n2\n3\n"
        assert ask("incr", "name").startswith(b"ERR value is not an integer")
        assert ask("nonsense", "1").startswith(b"ERR unknown command 'nonsense'")
        assert ask("get").startswith(b"ERR wrong number of arguments for 'get'")
        # Many commands on one connection, and --pipe: a thousand of them before the first reply is read.
        assert ask(input=b"set a 1\nget a\ndel a\ndbsize\n") == b"OK\n1\n1\n2\n"
        commands = b"".join(
            b"*3\r\n$3\r\nSET\r\n$%d\r\nkey:%d\r\n$1\r\nx\r\n" % (len(f"key:{i}"), i) for i in range(1000)
        )
        assert b"errors: 0, replies: 1000" in ask("--pipe", input=commands)
        assert ask("dbsize") == b"1002\n"


@both
def test_redis_benchmark(on):
    benchmark = program("redis-benchmark")
    with running("redis_server.py", "--on", on) as port:
        for pipelined in (1, 16):
            command = (
                benchmark,
                "-p",
                port,
                "-t",
                "ping,set,get",
                "-n",
                2000,
                "-c",
                20,
                "-P",
                pipelined,
                "-r",
                100,
                "--csv",
            )
            rows = output(*command).decode().splitlines()
            tests = {row.split(",")[0].strip('"') for row in rows if not row.startswith('"test"')}
            assert tests == {"PING_INLINE", "PING_MBULK", "SET", "GET"}, rows


@both
@pytest.mark.parametrize(
    "sent", [b"*1\r\n$x\r\n", b"*1\r\n$-5\r\n", b"*9999999999\r\n", b"*1\r\n$1\r\nxyz\r\n", b"*1\n", b"x" * 100_000]
)
def test_redis_server_refuses_what_is_not_redis(on, sent):
    with running("redis_server.py", "--on", on) as port, socket.create_connection(("127.0.0.1", port)) as sock:
        sock.settimeout(SECONDS)
        sock.sendall(b"PING\r\n" + sent)
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while part := sock.recv(65536):
                got += part
        assert re.fullmatch(rb"\+PONG\r\n-ERR Protocol error: .*\r\n", got)


# ---- file_server.py -------------------------------------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path):
    served = tmp_path / "served"
    (served / "sub").mkdir(parents=True)
    (served / "large.bin").write_bytes(os.urandom(5_000_000))
    (served / "empty").write_bytes(b"")
    (served / "sub" / "index.html").write_text("<p>index")
    (served / "a file.txt").write_text("of text")
    (tmp_path / "secret").write_text("not for you")
    (served / "out").symlink_to(tmp_path / "secret")
    os.mkfifo(served / "fifo")
    return served


def test_file_server(directory, tmp_path):
    curl = program("curl")
    with running("file_server.py", directory) as port:
        url = f"http://127.0.0.1:{port}"

        def fetch(path, *options, **kwargs):
            return output(curl, "-sS", "--path-as-is", *options, url + path, **kwargs)

        large = (directory / "large.bin").read_bytes()
        assert fetch("/large.bin") == large
        assert fetch("/empty") == b""
        assert fetch("/a%20file.txt?query#fragment", "-w", "|%{content_type}") == b"of text|text/plain"
        assert fetch("/sub/", "-w", "|%{http_version}") == b"<p>index|1.1"
        assert b"Content-Length: 5000000" in fetch("/large.bin", "-I")
        status = ("-o", "/dev/null", "-w", "%{http_code}")
        for path in ("/none", "/../secret", "/%2e%2e/secret", "/out", "/fifo", "/sub/none", "/"):
            assert fetch(path, *status) == b"404", path
        assert fetch("/empty", *status, "-X", "DELETE") == b"501"
        assert fetch("/empty", *status, "-H", "X: " + "x" * 100_000) == b"431"
        assert fetch("/a%00b", *status) == b"400"
        # Parts of it, as curl -C - asks for when it goes on where it was interrupted.
        assert fetch("/large.bin", "-r", "100-199") == large[100:200]
        assert fetch("/large.bin", "-r", "-10") == large[-10:]
        assert fetch("/large.bin", *status, "-r", "5000000-") == b"416"
        (tmp_path / "got").write_bytes(large[:1_000_000])
        fetch("/large.bin", "-C", "-", "-o", tmp_path / "got")
        assert (tmp_path / "got").read_bytes() == large
        # One connection for several, and curl's own pipelining of two transfers at a time.
        urls = [url + "/a%20file.txt", url + "/none", url + "/large.bin"]
        done = output(
            curl, "-sS", *urls, "-w", "%{num_connects}\n", "-o", "/dev/null", "-o", "/dev/null", "-o", "/dev/null"
        )
        assert done == b"1\n0\n0\n"


def test_file_server_answers_pipelined_requests_in_order(directory):
    with running("file_server.py", directory) as port, socket.create_connection(("127.0.0.1", port)) as sock:
        sock.settimeout(SECONDS)
        sock.sendall(
            b"GET /a%20file.txt HTTP/1.1\r\nHost: x\r\n\r\n"
            b"HEAD /large.bin HTTP/1.1\r\nHost: x\r\n\r\n"
            b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n"
            b"GET /sub/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        got = b""
        while part := sock.recv(65536):
            got += part
        assert re.findall(rb"HTTP/1.1 (\d+)", got) == [b"200", b"200", b"404", b"200"]
        assert b"of text" in got
        assert got.endswith(b"<p>index")


# ---- chat.py ----------------------------------------------------------------------------------------------------------------


class Talker:
    """nc with somebody at the keyboard."""

    def __init__(self, port, name):
        command = [program("nc"), "127.0.0.1", str(port)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=CLIENT_ENVIRONMENT
        )
        assert self.hear() == "name?"
        self.say(name)

    def say(self, line):
        self.process.stdin.write(line + "\n")

    def hear(self):
        return self.process.stdout.readline().rstrip("\n")

    def end(self):
        rest, _ = self.process.communicate(timeout=SECONDS)
        return rest


def test_chat():
    with running("chat.py") as port:
        anna = Talker(port, "anna")
        assert anna.hear() == "* anna is here"
        bert = Talker(port, "anna")
        assert bert.hear() == "another one, please"
        bert.say("bert")
        assert bert.hear() == anna.hear() == "* bert is here"
        anna.say("hello")
        anna.say("/who")
        assert bert.hear() == "anna: hello"
        assert anna.hear() == "* anna bert"
        bert.say("x" * 5000)
        assert bert.end() == "* that line is too long\n"
        assert anna.hear() == "* bert has left"
        anna.say("/quit")
        assert anna.end() == ""


def test_one_who_does_not_read_holds_nobody_up():
    with running("chat.py") as port, socket.create_connection(("127.0.0.1", port)) as speaker:
        speaker.settimeout(SECONDS)
        speaker.sendall(b"speaker\n")
        heard = speaker.makefile("rb")
        assert [heard.readline(), heard.readline()] == [b"name?\n", b"* speaker is here\n"]
        with socket.create_connection(("127.0.0.1", port)) as deaf:
            deaf.sendall(b"deaf\n")
            assert heard.readline() == b"* deaf is here\n"
            for _ in range(20_000):
                speaker.sendall(b"x" * 900 + b"\n")
            assert heard.readline() == b"* deaf has left\n"
