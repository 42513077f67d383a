"""What must hold in bulk and over time; figures are printed, and exit status 1 says that something did not hold.

python benchmarks/soak.py --check tasks|connections|datagrams|processes|minute|all [--impl corolla]

tasks        100,000 tasks alive at once, all counted, all woken, all finished
connections  10,000 connections opened at once and echoed through: by the C client, then by the implementation's own
datagrams    a DNS-like server and client at full speed for ten seconds: what is lost the kernel has dropped, and nothing else
processes    10,000 children, 64 at a time, each written to and read from: memory and descriptors stay as they are
minute       a run_forever of a minute with echo, new connections, timers, tasks and threads: memory must stay as it is
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from suite import dns_pair, implementations, programs
from suite.implementations import NAMES, Implementation
from suite.processes import Cores, MeasurementError, python_script, read_line, run_report, server, spawn
from suite.sockets import memory_kib, raise_descriptor_limit

# The growth that is allowed in the minute, after its first third: what an allocator moves by itself.
ALLOWED_GROWTH_KIB = 1024

# Questions on their way at once: more than fit the default queue of a socket, so that some are dropped.
QUESTIONS = 512


class Failed(Exception):
    """Something that must hold did not."""


def expect(holds: bool, what: str) -> None:
    if not holds:
        raise Failed(what)


def say(implementation: str, check: str, figures: str) -> None:
    print(f"{implementation:8} {check}: {figures}", flush=True)


async def all_alive(implementation: Implementation, count: int) -> str:
    loop = asyncio.get_running_loop()
    gate: asyncio.Future[int] = loop.create_future()

    async def wait() -> int:
        return await gate

    before = memory_kib()
    began = time.perf_counter()
    tasks = [loop.create_task(wait()) for _ in range(count)]
    await implementation.sleep(0)
    spawned = time.perf_counter()
    after = memory_kib()
    expect(len(asyncio.all_tasks()) == count + 1, f"all_tasks() has {len(asyncio.all_tasks())} tasks")
    expect(not any(task.done() for task in tasks), "a task finished early")
    listed = time.perf_counter()
    gate.set_result(1)
    total = sum([await task for task in tasks])
    finished = time.perf_counter()
    expect(total == count, f"{total} of {count} tasks were woken")
    expect(len(asyncio.all_tasks()) == 1, "finished tasks are still in all_tasks()")
    return (
        f"{count:,} alive after {spawned - began:.2f} s, {(after - before) * 1024 / count:,.0f} B each; "
        f"all finished {finished - listed:.2f} s after being woken"
    )


def check_tasks(name: str, arguments: argparse.Namespace) -> None:
    implementation = implementations.load(name)
    loop = implementation.new_event_loop()
    gc.collect()
    say(name, "tasks", loop.run_until_complete(all_alive(implementation, arguments.count or 100_000)))
    loop.close()


async def many_children(implementation: Implementation, count: int) -> str:
    numbers = iter(range(count))
    ended = 0
    figures: list[tuple[int, int]] = []  # resident KiB and open descriptors, after a tenth and at the end

    async def one_after_the_other() -> None:
        nonlocal ended
        for number in numbers:
            line = b"child %d\n" % number
            process = await implementation.create_subprocess_exec("cat", stdin=-1, stdout=-1)
            out, _ = await process.communicate(line)
            expect((out, process.returncode) == (line, 0), f"child {number} said {out!r}, ended {process.returncode}")
            ended += 1
            if ended == count // 10:
                gc.collect()
                figures.append((memory_kib(), len(os.listdir("/proc/self/fd"))))

    before = memory_kib(), len(os.listdir("/proc/self/fd"))
    began = time.perf_counter()
    async with implementation.TaskGroup() as group:
        for _ in range(64):
            group.create_task(one_after_the_other())
    took = time.perf_counter() - began
    gc.collect()
    figures.append((memory_kib(), len(os.listdir("/proc/self/fd"))))
    (early, open_early), (late, open_late) = figures
    # Twice as much as elsewhere: a process and its streams are a cycle, and the collector's turns come when they come.
    expect(
        late - early <= 2 * ALLOWED_GROWTH_KIB, f"{early:,} KiB after {count // 10:,} children, {late:,} KiB at the end"
    )
    expect(open_late <= before[1] + 8, f"{before[1]} descriptors before, {open_late} at the end")
    return (
        f"{count:,} in {took:.1f} s; {early:,} KiB and {open_early} descriptors after {count // 10:,}, "
        f"{late:,} KiB and {open_late} at the end"
    )


def check_processes(name: str, arguments: argparse.Namespace) -> None:
    implementation = implementations.load(name)
    loop = implementation.new_event_loop()
    say(name, "processes", loop.run_until_complete(many_children(implementation, arguments.count or 10_000)))
    loop.close()


class EchoOnce(asyncio.Protocol):
    """Sends a line of its own when all are connected, and is done when the line has come back."""

    def __init__(self, number: int, done: asyncio.Future[None]) -> None:
        self.message = b"connection %06d says hello\n" % number
        self.inbound = b""
        self.done = done

    def data_received(self, data: bytes) -> None:
        self.inbound += data
        if self.inbound == self.message:
            self.done.set_result(None)
        elif len(self.inbound) >= len(self.message):
            self.done.set_exception(Failed(f"{self.message!r} came back as {self.inbound!r}"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(Failed(f"{self.message!r}: connection lost: {exc!r}"))


def return_it(protocol: EchoOnce) -> EchoOnce:
    return protocol


async def connect_all(implementation: Implementation, port: int, count: int) -> str:
    loop = asyncio.get_running_loop()
    protocols = [EchoOnce(number, loop.create_future()) for number in range(count)]
    began = time.perf_counter()
    pairs = await implementation.gather(
        *(loop.create_connection(partial(return_it, protocol), "127.0.0.1", port) for protocol in protocols)
    )
    connected = time.perf_counter()
    for transport, protocol in pairs:
        transport.write(protocol.message)
    await implementation.wait_for(implementation.gather(*(protocol.done for protocol in protocols)), 60)
    echoed = time.perf_counter()
    for transport, _ in pairs:
        transport.close()
    await implementation.sleep(0.1)
    return f"{count:,} connected in {connected - began:.2f} s, echoed in {echoed - connected:.2f} s"


def check_connect_all(name: str, arguments: argparse.Namespace) -> None:
    """The client of the connections check, run in a process of its own."""
    raise_descriptor_limit()
    implementation = implementations.load(name)
    loop = implementation.new_event_loop()
    figures = loop.run_until_complete(connect_all(implementation, arguments.port, arguments.count or 10_000))
    loop.close()
    json.dump({"figures": figures}, sys.stdout)


def check_connections(name: str, arguments: argparse.Namespace) -> None:
    count = arguments.count or 10_000
    expect(raise_descriptor_limit() > count + 100, "the limit on descriptors is too low for this check")
    cores = Cores.choose(None, None, 0)
    built = programs.locate(arguments.programs, None)
    client = [str(built.echo_client), "--connections", str(count), "--size", "1024", "--verify-every", "1"]
    with server(python_script("server.py", "protocol", name), cores) as running:
        before = memory_kib(running.process.pid)
        load = [*client, "--port", str(running.port), "--timeout", "60", "--duration", "2"]
        report = run_report(load, cores.client, cores, 120)
        after = memory_kib(running.process.pid)
        say(
            name,
            "connections, C client",
            f"{count:,} open at once, {report['count']:,} messages of 1 KiB in {report['seconds']:.1f} s, all "
            f"came back; server memory {before:,} KiB before, {after:,} KiB after",
        )
    with server(python_script("server.py", "protocol", name), cores) as running:
        own = python_script("soak.py", "--check", "connect-all", "--impl", name, "--port", str(running.port))
        report = run_report([*own, "--count", str(count)], cores.client, cores, 120)
        say(name, f"connections, {name} client", report["figures"])


def watch_memory(pid: int, seconds: float) -> list[int]:
    """Resident memory ten times in all, evenly spaced."""
    samples = []
    began = time.monotonic()
    for step in range(1, 11):
        time.sleep(max(0.0, began + seconds * step / 10 - time.monotonic()))
        samples.append(memory_kib(pid))
    return samples


def check_ask(name: str, arguments: argparse.Namespace) -> None:
    """The client of the datagrams check, run in a process of its own."""
    implementation = implementations.load(name)
    loop = implementation.new_event_loop()
    window = arguments.count or QUESTIONS
    report = loop.run_until_complete(dns_pair.ask_for(implementation, arguments.port, window, arguments.seconds))
    loop.close()
    json.dump(report, sys.stdout)


def check_datagrams(name: str, arguments: argparse.Namespace) -> None:
    seconds = min(arguments.seconds, 10.0)
    cores = Cores.choose(None, None, 0)
    with server(python_script("server.py", "dns", name), cores) as running:
        own = python_script("soak.py", "--check", "ask", "--impl", name, "--port", str(running.port))
        own += ["--seconds", str(seconds), *(["--count", str(arguments.count)] if arguments.count else [])]
        client = spawn(own, cores.client, cores, stdout=subprocess.PIPE)
        try:
            assert client.stdout is not None
            samples = []
            for _ in range(10):
                time.sleep(seconds / 10 * 0.95)
                samples.append((memory_kib(running.process.pid), memory_kib(client.pid)))
            report = json.loads(client.communicate(timeout=60)[0])
        finally:
            client.kill()
            client.wait()
    growth = [max(sample[who] for sample in samples[3:]) - samples[2][who] for who in (0, 1)]
    say(
        name,
        "datagrams",
        f"{seconds:.0f} s: {report['sent']:,} questions sent, {report['server_received']:,} received, "
        f"{report['server_dropped']:,} dropped by the kernel; {report['server_sent']:,} answers sent, "
        f"{report['received']:,} received, {report['client_dropped']:,} dropped; memory of server and client grew by "
        f"{growth[0]} and {growth[1]} KiB",
    )
    expect(report["wrong"] == 0, f"{report['wrong']} answers were wrong")
    expect(report["errors"] == 0, f"error_received() was called {report['errors']} times")
    expect(report["sent"] == report["server_received"] + report["server_dropped"], "questions were lost in the loop")
    expect(report["server_sent"] == report["server_received"], "questions were not answered")
    expect(report["server_sent"] == report["received"] + report["client_dropped"], "answers were lost in the loop")
    expect(max(growth) <= ALLOWED_GROWTH_KIB, f"memory grew by {max(growth)} KiB")


def check_minute(name: str, arguments: argparse.Namespace) -> None:
    seconds = arguments.seconds
    cores = Cores.choose(None, None, 0)
    built = programs.locate(arguments.programs, None)
    with server(python_script("server.py", "soak", name), cores) as running:
        common = ["--port", str(running.port), "--duration", str(seconds + 1), "--warmup", "0", "--timeout", "60"]
        commands = [
            [str(built.echo_client), "--connections", "32", "--size", "1024", *common],
            [str(built.echo_client), "--connections", "4", "--size", "102400", *common],
            [str(built.connect_client), "--connections", "8", *common],
        ]
        clients = [spawn(command, cores.client, cores, stdout=subprocess.PIPE) for command in commands]
        try:
            samples = watch_memory(running.process.pid, seconds)
            reports = []
            for client in clients:
                assert client.stdout is not None
                line = read_line(client.stdout, 90)
                expect(client.wait(60) == 0, "a client lost bytes or a connection; what it said is above")
                reports.append(json.loads(line))
        finally:
            for client in clients:
                client.kill()
                client.wait()
    counts = ", ".join(f"{report['count']:,} {report['unit']}s" for report in reports)
    settled = samples[2]
    growth = max(samples[3:]) - settled
    say(name, "minute", f"{seconds:.0f} s, {counts}; KiB resident: {' '.join(map(str, samples))}; growth {growth} KiB")
    expect(growth <= ALLOWED_GROWTH_KIB, f"memory grew by {growth} KiB")


CHECKS: dict[str, Callable[[str, argparse.Namespace], None]] = {
    "tasks": check_tasks,
    "connections": check_connections,
    "datagrams": check_datagrams,
    "processes": check_processes,
    "minute": check_minute,
}

# What checks run in processes of their own.
CLIENTS: dict[str, Callable[[str, argparse.Namespace], None]] = {"connect-all": check_connect_all, "ask": check_ask}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", choices=[*CHECKS, "all", *CLIENTS], default="all")
    parser.add_argument("--impl", default=",".join(NAMES), help="comma-separated")
    parser.add_argument("--count", type=int, help="of tasks, connections, children or questions on their way")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the minute, and of the datagrams up to ten")
    parser.add_argument("--programs", type=Path, metavar="DIR", help="a build directory with the C programs")
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def in_process(check: str, name: str, arguments: argparse.Namespace) -> bool:
    """Runs a check here. Several are each given a process of their own instead, so that none sees another's memory."""
    run = CLIENTS.get(check) or CHECKS[check]
    try:
        run(name, arguments)
    except (Failed, MeasurementError, ImportError) as error:
        print(f"{name:8} {check}: FAILED: {error}", file=sys.stderr, flush=True)
        return False
    return True


def main() -> int:
    arguments = parse_arguments()
    names = arguments.impl.split(",")
    checks = list(CHECKS) if arguments.check == "all" else [arguments.check]
    if len(names) == 1 and len(checks) == 1:
        return 0 if in_process(checks[0], names[0], arguments) else 1
    passed = True
    for name in names:
        if subprocess.run(python_script("worker.py", "--describe", name), capture_output=True).returncode != 0:
            print(f"skipping {name}: it cannot be imported", flush=True)
            continue
        for check in checks:
            command = python_script("soak.py", "--check", check, "--impl", name, "--seconds", str(arguments.seconds))
            command += ["--count", str(arguments.count)] if arguments.count else []
            command += ["--programs", str(arguments.programs)] if arguments.programs else []
            passed = subprocess.run(command).returncode == 0 and passed
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
