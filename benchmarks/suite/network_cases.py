"""Network cases: a server on one core, a C client on the other."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from suite.file_servers import SIZE as FILE_SIZE
from suite.file_servers import make_file
from suite.http_servers import COMPACT_BODY, SPACED_BODY
from suite.processes import BENCHMARKS, Cores, MeasurementError, python_script, read_line, run_report, server, spawn
from suite.programs import Programs
from suite.sockets import memory_kib

SIZES = {"100B": 100, "1KiB": 1024, "10KiB": 10_240, "100KiB": 102_400}
CONNECTIONS = (1, 64, 512)
ECHO_SERVERS = ("protocol", "buffered", "streams", "stream", "readline", "sock")
# corolla.Stream is corolla's alone: to be compared with the pair of reader and writer ("streams").
OURS_ALONE = ("stream",)

# Sizes and numbers of connections, for each of the echo servers.
Cells = Mapping[str, Sequence[tuple[str, int]]]

# The cells of the default run; --full has all of them.
DEFAULT_CELLS: Cells = {
    "protocol": (("1KiB", 1), ("100B", 64), ("1KiB", 64), ("10KiB", 64), ("100KiB", 64), ("1KiB", 512)),
    "buffered": (("1KiB", 1), ("1KiB", 64), ("100KiB", 64)),
    "streams": (("1KiB", 1), ("1KiB", 64), ("100KiB", 64)),
    "stream": (("1KiB", 1), ("1KiB", 64), ("100KiB", 64)),
    "readline": (("100B", 64), ("1KiB", 64)),
    "sock": (("1KiB", 1), ("1KiB", 64), ("100KiB", 64)),
}
QUICK_CELLS: Cells = dict.fromkeys(ECHO_SERVERS, (("1KiB", 64),))
# Over a Unix socket, with a Protocol; 1 KiB with 64 connections in a quick run, all three in others.
LOCAL_CELLS = (("1KiB", 64), ("1KiB", 1), ("100KiB", 64))
UDP_CELLS = (("1KiB", 64), ("100B", 64), ("1KiB", 1))
EVERY_CELL = tuple((size, count) for size in SIZES for count in CONNECTIONS)
FULL_CELLS: Cells = dict.fromkeys(ECHO_SERVERS, EVERY_CELL)

# Clients that hold connections idle, and those that load the same server.
IDLE = {"idle": "echo", "tls-idle": "tls"}

# Servers that are C programs stand in the columns of these names.
RAW = "raw C"
LIBCOROLLA = "libcorolla"


@dataclass(frozen=True)
class Timing:
    """How long a client warms up and measures."""

    warmup: float
    duration: float
    idle_connections: int


@dataclass(frozen=True)
class NetworkCase:
    group: str
    name: str
    server: str  # which of server.py's, or "" when only C programs take part
    client: str  # echo, udp, connect, http, sink or idle; tls, tls-full, tls-resumed or tls-idle
    connections: int
    size: int = 0
    expect: str = ""
    floor: str = ""  # the case in which raw C is measured for this one
    without: tuple[str, ...] = ()  # implementations that do not have it
    local: bool = False  # over a Unix socket
    also: tuple[str, ...] = ()  # what takes part beside the implementations that are in every case

    @property
    def key(self) -> str:
        return f"{self.group}/{self.name}"

    @property
    def over_tls(self) -> bool:
        return self.client.startswith("tls")


def floor_name(size: str, connections: int) -> str:
    return f"raw-{size}-{connections}"


def echo_cases(cells: Cells) -> list[NetworkCase]:
    cases = []
    for size, connections in sorted({cell for group in cells.values() for cell in group}, key=cell_order):
        name = floor_name(size, connections)
        cases.append(NetworkCase("raw", name, "", "echo", connections, SIZES[size]))
        for kind in ECHO_SERVERS:
            if (size, connections) in cells[kind]:
                case_name = f"{kind}-{size}-{connections}"
                floor = f"raw/{name}"
                without = ("asyncio", "uvloop") if kind in OURS_ALONE else ()
                cases.append(
                    NetworkCase("echo", case_name, kind, "echo", connections, SIZES[size], floor=floor, without=without)
                )
    for size, connections in LOCAL_CELLS[:1] if cells is QUICK_CELLS else LOCAL_CELLS:
        name = floor_name(f"unix-{size}", connections)
        cases.append(NetworkCase("raw", name, "", "echo", connections, SIZES[size], local=True))
        case_name = f"unix-{size}-{connections}"
        floor = f"raw/{name}"
        cases.append(NetworkCase("echo", case_name, "unix", "echo", connections, SIZES[size], floor=floor, local=True))
    return cases


def cell_order(cell: tuple[str, int]) -> tuple[int, int]:
    size, connections = cell
    return connections, SIZES[size]


def other_cases(idle_connections: int) -> list[NetworkCase]:
    return [
        NetworkCase("connections", "accept-echo-close", "protocol", "connect", 64, floor="connections/raw"),
        NetworkCase("connections", "raw", "", "connect", 64),
        NetworkCase("memory", f"idle-{idle_connections}", "protocol", "idle", idle_connections, 1024),
        NetworkCase("sendfile", "transport-1GiB", "sendfile", "sink", 1, FILE_SIZE, "", "sendfile/raw", ("uvloop",)),
        NetworkCase("sendfile", "sock-1GiB", "sock_sendfile", "sink", 1, FILE_SIZE, "", "sendfile/raw", ("uvloop",)),
        NetworkCase("sendfile", "raw", "", "sink", 1, FILE_SIZE),
        NetworkCase("http", "aiohttp", "aiohttp", "http", 64, expect=SPACED_BODY),
        NetworkCase("http", "uvicorn-asgi", "uvicorn", "http", 64, expect=COMPACT_BODY),
        NetworkCase("http", "uvicorn-starlette", "uvicorn-starlette", "http", 64, expect=COMPACT_BODY),
    ]


def udp_cases() -> list[NetworkCase]:
    cases = []
    for size, peers in UDP_CELLS:
        raw = f"raw-{size}-{peers}"
        cases.append(NetworkCase("udp", raw, "", "udp", peers, SIZES[size]))
        cases.append(NetworkCase("udp", f"{size}-{peers}", "udp", "udp", peers, SIZES[size], floor=f"udp/{raw}"))
    return cases


def floor_cases() -> list[NetworkCase]:
    return [NetworkCase("libcorolla", f"1KiB-{count}", "", "echo", count, SIZES["1KiB"]) for count in (1, 64)]


def server_command(case: NetworkCase, implementation: str, programs: Programs) -> list[str]:
    if implementation == RAW and case.client == "sink":
        return [str(programs.raw_sendfile), str(make_file()), "0"]
    if implementation == RAW and case.client == "udp":
        return [str(programs.raw_udp_echo), "0"]
    if implementation == RAW and case.over_tls:
        return [str(programs.raw_tls_echo), str(BENCHMARKS / "tls.pem")]
    if implementation == RAW:
        return [str(programs.raw_echo), "unix" if case.local else "0"]
    if implementation == LIBCOROLLA:
        return [str(programs.libcorolla_echo), "0"]
    return python_script("server.py", case.server, implementation)


def client_command(case: NetworkCase, programs: Programs, port: int, timing: Timing) -> list[str]:
    clients = {
        "connect": programs.connect_client,
        "http": programs.http_client,
        "udp": programs.udp_client,
        "tls": programs.tls_client,
        "tls-idle": programs.tls_client,
        "tls-full": programs.tls_connect_client,
        "tls-resumed": programs.tls_connect_client,
    }
    program = clients.get(case.client, programs.echo_client)
    if case.client == "sink":
        return [str(programs.sink_client), "--port", str(port), "--size", str(case.size), "--transfers", "3"]
    command = [str(program), "--port", str(port), "--connections", str(case.connections)]
    if case.client in IDLE:
        return [*command, "--size", str(case.size), "--idle", "--timeout", "60"]
    command += ["--warmup", str(timing.warmup), "--duration", str(timing.duration)]
    if case.client == "udp":
        command += ["--size", str(case.size)]
    if case.client == "tls-resumed":
        command += ["--resume"]
    if case.client in ("echo", "tls"):
        # A large message is compared now and then only, so that the client stays cheaper than the server.
        command += ["--unix"] if case.local else []
        command += ["--size", str(case.size), "--verify-every", "8" if case.size <= 10_240 else "64"]
    if case.client == "http":
        command += ["--expect", case.expect]
    return command


def measure(
    case: NetworkCase, implementation: str, programs: Programs, cores: Cores, timing: Timing
) -> tuple[float, dict[str, Any]]:
    """The cost of one operation (seconds; bytes for memory), and what else the client reported."""
    with server(server_command(case, implementation, programs), cores) as running:
        command = client_command(case, programs, running.port, timing)
        if case.client in IDLE:
            warm = NetworkCase(case.group, case.name, case.server, IDLE[case.client], 1, case.size)
            run_report(client_command(warm, programs, running.port, timing), cores.client, cores, 60)
            return measure_memory(case, command, running.process.pid, cores)
        if case.over_tls:
            visit(case, programs, running.port, cores)
        command += ["--server-pid", str(running.process.pid)]
        report = run_report(command, cores.client, cores, timing.warmup + timing.duration + 90)
    if report["count"] == 0:
        raise MeasurementError("nothing came back in the measured time")
    # The server's CPU time an operation: what is left of a figure when neighbours take the core away.
    report["cpu_cost"] = report["server_cpu"] / report["per_second"]
    return 1 / report["per_second"], report


def visit(case: NetworkCase, programs: Programs, port: int, cores: Cores) -> None:
    """First visitors of a TLS server, who come and go before any is measured.

    Loops that read TLS into pieces of 256 KiB have malloc map each of them anew, two to three times the cost of a message,
    until the first of that size has been freed: when the first connection closes, in a server's first seconds.
    """
    first = NetworkCase(case.group, case.name, case.server, "tls", 64, 1024)
    run_report(client_command(first, programs, port, Timing(0, 0.02, 0)), cores.client, cores, 60)


def measure_memory(
    case: NetworkCase, command: list[str], server_pid: int, cores: Cores
) -> tuple[float, dict[str, Any]]:
    """Resident memory for each connection, all open, each having echoed one message."""
    before = memory_kib(server_pid)
    client = spawn(command, cores.client, cores, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert client.stdin is not None
    assert client.stdout is not None
    try:
        if read_line(client.stdout, 90) != "ready":
            raise MeasurementError("the connections could not all be opened")
        after = memory_kib(server_pid)
        client.stdin.close()
        if client.wait(90) != 0:
            raise MeasurementError("a connection was lost while idle")
    finally:
        client.kill()
        client.wait()
        client.stdout.close()
    bytes_each = (after - before) * 1024 / case.connections
    return bytes_each, {"before_kib": before, "after_kib": after}
