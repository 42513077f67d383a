"""Whatever a program of tasks does with locks, events, conditions, semaphores, barriers and queues, it does the same, in the same
order and in the same turns of the loop, with ours on our loop as with asyncio's on asyncio's."""

import asyncio
import sys
import types
from typing import Any

import corolla
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from properties.programs import Program, programs, trace

# The same examples each time: a test passes every time or is a bug.
bounded = settings(
    derandomize=True, database=None, deadline=None, max_examples=150, suppress_health_check=list(HealthCheck)
)

# What asyncio does is what ours does everywhere only from 3.13 on. Before, its semaphore loses or duplicates wakeups when a
# waiter is cancelled (python/cpython issues 90155, 111693) and its condition loses notifications (112202), and barriers are
# made of conditions. What is left there has the same rules in all versions.
MODEL_IS_NEWEST = sys.version_info >= (3, 13)
PLAIN_LOCKS = ["lock", "other lock"]

needs_newest = pytest.mark.skipif(not MODEL_IS_NEWEST, reason="the model's own bugs: see above")


def check(program: Program, library: Any = corolla) -> None:
    model = trace(program, asyncio, asyncio.SelectorEventLoop)
    assert trace(program, library, corolla.EventLoop) == model
    # Each half by itself: our loop under asyncio's classes, and our classes on a loop that is not ours.
    assert trace(program, asyncio, corolla.EventLoop) == model
    assert trace(program, library, asyncio.SelectorEventLoop) == model


@bounded
@given(programs(locks=PLAIN_LOCKS, kinds=("event", "queue")))
def test_locks_events_and_queues(program):
    check(program)


@bounded
@given(programs(locks=["lock", "semaphore", "bounded", "condition"], cancel=False))
def test_everything_with_nobody_cancelled(program):
    if not MODEL_IS_NEWEST and any(task_resets(operations) for _, operations in program.tasks):
        return  # what a broken barrier raises goes through its condition
    check(program)


def task_resets(operations: list[Any]) -> bool:
    return "barrier" in repr(operations)


@needs_newest
@bounded
@given(programs(locks=["semaphore", "bounded", "lock"], kinds=()))
def test_semaphores(program):
    check(program)


@needs_newest
@bounded
@given(programs(locks=["condition"], kinds=("condition", "event")))
def test_conditions(program):
    check(program)


@needs_newest
@bounded
@given(programs(locks=["lock"], kinds=("barrier",)))
def test_barriers(program):
    check(program)


@needs_newest
@bounded
@given(programs(locks=["lock"], kinds=("queue", "shutdown")))
def test_queues(program):
    check(program)


@needs_newest
@bounded
@given(programs(kinds=("event", "condition", "barrier", "queue", "shutdown")))
def test_everything(program):
    check(program)


# ---- the test of the test ----------------------------------------------------------------------------------------------


class Unfair(corolla.Lock):  # type: ignore[misc]
    """The last to come is served first."""

    def release(self) -> None:
        self._waiters.rotate(1)
        super().release()


def test_an_unfair_lock_is_seen():
    library = types.SimpleNamespace(**{**vars(corolla), "Lock": Unfair})

    @settings(bounded, phases=[Phase.generate])  # nobody wants the smallest program
    @given(programs(locks=PLAIN_LOCKS, kinds=()))
    def fair(program):
        check(program, library)

    with pytest.raises(AssertionError):
        fair()
