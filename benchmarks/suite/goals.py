"""The thresholds corolla is held to. Told, never enforced: a benchmark is not a test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from suite.network_cases import LIBCOROLLA, RAW
from suite.results import Results

NETWORK_GROUPS = ("echo", "udp", "connections", "tls", "handshakes", "http")

SUBJECT = "corolla"

# The ratio, if it was measured, and a remark.
Find = Callable[[Results], tuple[float | None, str]]


@dataclass(frozen=True)
class Goal:
    text: str
    least: float
    find: Find


@dataclass(frozen=True)
class Verdict:
    goal: Goal
    ratio: float | None
    remark: str

    @property
    def word(self) -> str:
        if self.ratio is None:
            return "not measured"
        return "met" if self.ratio >= self.goal.least else "NOT met"


def against(case: str, base: str) -> Find:
    def find(results: Results) -> tuple[float | None, str]:
        who = LIBCOROLLA if case.startswith("libcorolla/") else SUBJECT
        by_cpu = results.ratio(case, who, base, cpu=True)
        return results.ratio(case, who, base), f"by CPU {by_cpu:.2f}" if by_cpu else ""

    return find


def of_two_cases(case: str, other: str) -> Find:
    """How many times as fast one case is as the other, both on corolla."""

    def find(results: Results) -> tuple[float | None, str]:
        cost, base = results.cost(case, SUBJECT), results.cost(other, SUBJECT)
        by_cpu = [results.extra(key, SUBJECT, "cpu_cost") for key in (other, case)]
        remark = f"by CPU {by_cpu[0] / by_cpu[1]:.2f}" if by_cpu[0] and by_cpu[1] else ""
        return (base / cost if cost and base else None), remark

    return find


def mean_of(*groups: str) -> Find:
    def find(results: Results) -> tuple[float | None, str]:
        if not all(results.cases(group) for group in groups):
            return None, ""
        cases = [case for group in groups for case in results.cases(group)]
        by_cpu = results.geometric_mean(cases, SUBJECT, "uvloop", cpu=True)
        remark = f"by CPU {by_cpu:.2f}, {len(cases)} cases" if by_cpu else ""
        return results.geometric_mean(cases, SUBJECT, "uvloop"), remark

    return find


def slowest_network_case(results: Results) -> tuple[float | None, str]:
    ratios = {}
    by_cpu = {}
    for case in [case for group in NETWORK_GROUPS for case in results.cases(group)]:
        ratio, cpu_ratio = (results.ratio(case, SUBJECT, "uvloop", cpu) for cpu in (False, True))
        if ratio is not None:
            ratios[case] = ratio
        if cpu_ratio is not None:
            by_cpu[case] = cpu_ratio
    if not ratios or not by_cpu:
        return None, ""
    slower = sum(ratio < 1 for ratio in ratios.values())
    worst = min(ratios, key=lambda case: ratios[case])
    worst_by_cpu = min(by_cpu, key=lambda case: by_cpu[case])
    remark = f"{worst}; {slower} of {len(ratios)} below 1; by CPU {by_cpu[worst_by_cpu]:.2f}, {worst_by_cpu}"
    return ratios[worst], remark


def idle_memory(group: str) -> Find:
    def find(results: Results) -> tuple[float | None, str]:
        for case in results.cases(group):
            if not case.partition("/")[2].startswith("raw"):
                return results.ratio(case, SUBJECT, "uvloop"), case
        return None, ""

    return find


GOALS = (
    Goal("sleep(0), against uvloop", 6.0, against("scheduler/sleep_zero", "uvloop")),
    Goal("create_task and await, against uvloop", 4.0, against("scheduler/create_task_await", "uvloop")),
    Goal("call_soon chain, against uvloop", 2.5, against("scheduler/call_soon_chain", "uvloop")),
    Goal("future set/await, against uvloop", 4.0, against("scheduler/future_set_await", "uvloop")),
    Goal("call_later and cancel, against uvloop", 2.5, against("scheduler/call_later_cancel", "uvloop")),
    Goal("geometric mean of the scheduler cases, against uvloop", 4.0, mean_of("scheduler")),
    Goal("queue put/get, unbounded, against uvloop", 6.0, against("primitives/queue_unbounded", "uvloop")),
    Goal("queue put/get, bounded, against uvloop", 6.0, against("primitives/queue_bounded", "uvloop")),
    Goal("queue put/get, waited for, against uvloop", 6.0, against("primitives/queue_ping_pong", "uvloop")),
    Goal("uncontended lock, against uvloop", 3.0, against("primitives/lock_uncontended", "uvloop")),
    Goal("contended lock, against uvloop", 6.0, against("primitives/lock_contended", "uvloop")),
    Goal("contended semaphore, against uvloop", 6.0, against("primitives/semaphore_contended", "uvloop")),
    Goal("event ping-pong, against uvloop", 6.0, against("primitives/event_ping_pong", "uvloop")),
    Goal("gather, against uvloop", 4.0, against("scheduler/gather", "uvloop")),
    Goal("TaskGroup, against uvloop", 4.0, against("primitives/task_group", "uvloop")),
    Goal("timeout context, against uvloop", 5.0, against("primitives/timeout_context", "uvloop")),
    Goal("wait_for a coroutine, against uvloop", 6.0, against("primitives/wait_for_coroutine", "uvloop")),
    Goal("wait_for a done future, against uvloop", 6.0, against("primitives/wait_for_done", "uvloop")),
    Goal("shield, against uvloop", 5.0, against("primitives/shield", "uvloop")),
    Goal("sleep timers, against uvloop", 3.0, against("primitives/sleep_timers", "uvloop")),
    Goal("geometric mean of scheduler and primitive cases, against uvloop", 5.0, mean_of("scheduler", "primitives")),
    Goal("Protocol echo, 1 KiB, 64 connections, against raw C", 0.95, against("echo/protocol-1KiB-64", RAW)),
    Goal("sendfile of 1 GiB, against a C loop on sendfile(2)", 0.95, against("sendfile/transport-1GiB", RAW)),
    Goal("sock_sendfile of 1 GiB, against a C loop on sendfile(2)", 0.95, against("sendfile/sock-1GiB", RAW)),
    Goal("streams echo, 1 KiB, 64 connections, against raw C", 0.90, against("echo/streams-1KiB-64", RAW)),
    Goal("streams echo, 1 KiB, 64 connections, against uvloop", 1.4, against("echo/streams-1KiB-64", "uvloop")),
    Goal("readline echo, 1 KiB, 64 connections, against raw C", 0.85, against("echo/readline-1KiB-64", RAW)),
    Goal("readline echo, 1 KiB, 64 connections, against uvloop", 1.5, against("echo/readline-1KiB-64", "uvloop")),
    Goal("streams echo, 100 KiB, 64 connections, against uvloop", 1.2, against("echo/streams-100KiB-64", "uvloop")),
    Goal("short lines from one peer, against asyncio", 4.0, against("streams/lines_from_peer", "asyncio")),
    Goal(
        "Stream echo, 1 KiB, 64 connections, against the reader and writer",
        1.0,
        of_two_cases("echo/stream-1KiB-64", "echo/streams-1KiB-64"),
    ),
    Goal(
        "Protocol echo over a Unix socket, 64 connections, against uvloop", 1.0, against("echo/unix-1KiB-64", "uvloop")
    ),
    Goal("sock_* echo, 1 KiB, 64 connections, against uvloop", 2.5, against("echo/sock-1KiB-64", "uvloop")),
    Goal("sock_* echo, 1 KiB, 64 connections, against raw C", 0.85, against("echo/sock-1KiB-64", RAW)),
    Goal("UDP echo, 1 KiB, 64 peers, against uvloop", 1.3, against("udp/1KiB-64", "uvloop")),
    Goal("TLS echo, 1 KiB, 64 connections, against uvloop", 1.2, against("tls/protocol-1KiB-64", "uvloop")),
    Goal("TLS echo by streams, 1 KiB, 64 connections, against uvloop", 1.2, against("tls/streams-1KiB-64", "uvloop")),
    Goal("TLS echo, 64 KiB, 64 connections, against uvloop", 1.1, against("tls/protocol-64KiB-64", "uvloop")),
    Goal("TLS echo by streams, 64 KiB, 64 connections, against uvloop", 1.1, against("tls/streams-64KiB-64", "uvloop")),
    Goal("TLS handshakes, against uvloop", 1.0, against("handshakes/full", "uvloop")),
    Goal("TLS handshakes that resume a session, against uvloop", 1.0, against("handshakes/resumed", "uvloop")),
    Goal("memory of an idle TLS connection, against uvloop", 1.0, idle_memory("tls-memory")),
    Goal("start /bin/true and wait, against uvloop", 1.3, against("processes/spawn_and_wait", "uvloop")),
    Goal("start /bin/true and wait, against asyncio", 2.0, against("processes/spawn_and_wait", "asyncio")),
    Goal("bytes through cat's stdin and stdout, against uvloop", 1.0, against("processes/through_cat", "uvloop")),
    Goal("slowest network case, against uvloop", 1.0, slowest_network_case),
    Goal("memory of an idle connection, against uvloop", 1.0, idle_memory("memory")),
    Goal("libcorolla echo, 1 KiB, 1 connection, against raw C", 0.98, against("libcorolla/1KiB-1", RAW)),
    Goal("libcorolla echo, 1 KiB, 64 connections, against raw C", 0.98, against("libcorolla/1KiB-64", RAW)),
)


def verdicts(results: Results) -> list[Verdict]:
    return [Verdict(goal, *goal.find(results)) for goal in GOALS]
