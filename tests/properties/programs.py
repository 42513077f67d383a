"""Random programs of tasks that lock, queue, wait, cancel and time out, and an interpreter that says what each did when.

A program is data: for each task, a list of operations. trace() runs it with the classes of one library on the loop of another
and gives the events in their order, each with the turn of the loop it happened in. Nothing depends on the clock: who sleeps
does so for a number of turns, and what times out is cancelled after a number of turns.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import strategies as st

TURNS = 60  # a program that has not ended by then is stuck; its tasks are cancelled


class Program(NamedTuple):
    semaphore: int  # places
    parties: int
    maxsize: int  # of the queue
    tasks: list[tuple[bool, list[Any]]]  # whether it goes on after a cancellation, and what it does


# ---- Making programs ---------------------------------------------------------------------------------------------------

LOCKS = ["lock", "other lock", "semaphore", "bounded", "condition"]


def programs(
    *,
    locks: list[str] = LOCKS,
    kinds: tuple[str, ...] = ("event", "condition", "barrier", "queue"),
    cancel: bool = True,
) -> st.SearchStrategy[Program]:
    """Programs that use those kinds of objects, and cancel tasks or not."""
    lock = st.sampled_from(locks)
    turns = st.integers(1, 3)
    simple = [
        st.tuples(st.just("sleep"), turns),
        st.tuples(st.just("acquire"), lock),
        st.tuples(st.just("release"), lock),
    ]
    if "event" in kinds:
        simple += [st.tuples(st.sampled_from(["event wait", "event set", "event clear"]))]
    if "condition" in kinds:
        simple += [
            st.tuples(st.sampled_from(["condition wait", "condition wait for"])),
            st.tuples(st.just("notify"), st.integers(0, 3)),
            st.tuples(st.just("notify all")),
        ]
    if "barrier" in kinds:
        simple += [st.tuples(st.sampled_from(["barrier wait", "barrier wait", "barrier reset", "barrier abort"]))]
    if "queue" in kinds:
        simple += [
            st.tuples(st.just("put"), st.integers(0, 3)),
            st.tuples(st.sampled_from(["get", "get now", "put now", "task done", "queue join"])),
        ]
    if "shutdown" in kinds:
        simple += [st.tuples(st.just("shutdown"), st.booleans())]
    if cancel:
        simple += [st.tuples(st.just("cancel"), st.integers(0, 4))]

    def compound(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        several = st.lists(inner, min_size=1, max_size=3)
        choices = [st.tuples(st.just("with"), lock, several), st.tuples(st.just("gather"), several)]
        if cancel:
            choices += [
                st.tuples(st.just("within"), st.integers(0, 4), inner),
                st.tuples(st.just("first of"), several),
            ]
        return st.one_of(*choices)

    operation = st.recursive(st.one_of(*simple), compound, max_leaves=4)
    task = st.tuples(st.booleans(), st.lists(operation, min_size=1, max_size=6))
    return st.builds(
        Program, st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.lists(task, min_size=1, max_size=5)
    )


# ---- Running them ------------------------------------------------------------------------------------------------------


def shown(error: BaseException) -> str:
    """What an exception says, whoever's object it speaks of."""
    return f"{type(error).__name__}: {re.sub('<.*>', '<object>', str(error))}"


class Run:
    def __init__(self, program: Program, library: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.program, self.library, self.loop = program, library, loop
        self.events: list[Any] = []
        self.turn = 0
        self.tasks: list[asyncio.Task[None]] = []
        self.everyone: list[asyncio.Task[Any]] = []
        self.objects = {
            "lock": library.Lock(),
            "other lock": library.Lock(),
            "semaphore": library.Semaphore(program.semaphore),
            "bounded": library.BoundedSemaphore(program.semaphore),
            "condition": library.Condition(),
        }
        self.event = library.Event()
        self.barrier = library.Barrier(program.parties)
        self.queue = library.Queue(program.maxsize)

    def log(self, *what: Any) -> None:
        self.events.append((self.turn, *what))

    async def pause(self, turns: int) -> None:
        for _ in range(turns):
            await self.library.sleep(0)

    async def count_turns(self) -> None:
        while True:
            self.turn += 1
            await self.library.sleep(0)

    def task(self, coro: Any) -> "asyncio.Task[Any]":
        task = self.loop.create_task(coro)
        self.everyone.append(task)
        return task

    # Each operation: a method of this name, its result an event.

    async def do(self, name: str, operation: Any) -> Any:
        kind, *args = operation
        self.log(name, "begins", kind)
        try:
            result = await getattr(self, kind.replace(" ", "_"))(name, *args)
        except asyncio.CancelledError as error:
            self.log(name, kind, shown(error))
            raise
        except Exception as error:
            self.log(name, kind, shown(error))
        else:
            self.log(name, kind, result)

    async def sleep(self, name: str, turns: int) -> None:
        await self.pause(turns)

    async def acquire(self, name: str, lock: str) -> Any:
        return await self.objects[lock].acquire()

    async def release(self, name: str, lock: str) -> Any:
        return self.objects[lock].release()

    async def with_(self, name: str, lock: str, operations: list[Any]) -> None:
        async with self.objects[lock]:
            for operation in operations:
                await self.do(name, operation)

    async def event_wait(self, name: str) -> Any:
        return await self.event.wait()

    async def event_set(self, name: str) -> Any:
        return self.event.set()

    async def event_clear(self, name: str) -> Any:
        return self.event.clear()

    async def condition_wait(self, name: str) -> Any:
        return await self.objects["condition"].wait()

    async def condition_wait_for(self, name: str) -> Any:
        return await self.objects["condition"].wait_for(self.event.is_set)

    async def notify(self, name: str, count: int) -> Any:
        return self.objects["condition"].notify(count)

    async def notify_all(self, name: str) -> Any:
        return self.objects["condition"].notify_all()

    async def barrier_wait(self, name: str) -> Any:
        return await self.barrier.wait()

    async def barrier_reset(self, name: str) -> Any:
        return await self.barrier.reset()

    async def barrier_abort(self, name: str) -> Any:
        return await self.barrier.abort()

    async def put(self, name: str, item: int) -> Any:
        return await self.queue.put(item)

    async def get(self, name: str) -> Any:
        return await self.queue.get()

    async def get_now(self, name: str) -> Any:
        return self.queue.get_nowait()

    async def put_now(self, name: str) -> Any:
        return self.queue.put_nowait(name)

    async def task_done(self, name: str) -> Any:
        return self.queue.task_done()

    async def queue_join(self, name: str) -> Any:
        return await self.queue.join()

    async def shutdown(self, name: str, immediate: bool) -> Any:
        return self.queue.shutdown(immediate)

    async def cancel(self, name: str, which: int) -> Any:
        return self.tasks[which % len(self.tasks)].cancel(f"by {name}")

    async def within(self, name: str, turns: int, operation: Any) -> str:
        """A timeout, by the loop's turns."""
        inner = self.task(self.do(f"{name}'", operation))

        async def expire() -> None:
            await self.pause(turns)
            inner.cancel("too late")

        clock = self.task(expire())
        try:
            await inner
        except asyncio.CancelledError:
            if not inner.cancelled():
                raise
            return "timed out"
        finally:
            clock.cancel()
        return "in time"

    async def gather(self, name: str, operations: list[Any]) -> Any:
        tasks = [self.task(self.do(f"{name}.{number}", operation)) for number, operation in enumerate(operations)]
        results = await self.library.gather(*tasks, return_exceptions=True)
        return [shown(result) if isinstance(result, BaseException) else result for result in results]

    async def first_of(self, name: str, operations: list[Any]) -> Any:
        tasks = [self.task(self.do(f"{name}.{number}", operation)) for number, operation in enumerate(operations)]
        done, pending = await self.library.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel("not the first")
        return [task in done for task in tasks], len(pending)

    async def perform(self, name: str, stubborn: bool, operations: list[Any]) -> None:
        for operation in operations:
            try:
                await self.do(name, operation)
            except asyncio.CancelledError:
                if not stubborn:
                    raise

    async def main(self) -> None:
        counting = self.loop.create_task(self.count_turns())
        for number, (stubborn, operations) in enumerate(self.program.tasks):
            self.tasks.append(self.task(self.perform(str(number), stubborn, operations)))
        while not all(task.done() for task in self.tasks) and self.turn < TURNS:
            await self.pause(1)
        self.log("end", [task.done() for task in self.tasks])
        self.log_state()
        # As often as it takes to end the stubborn ones, and what they make on the way. Who waits for a condition does not
        # end before it has the lock back, which somebody may have kept.
        while pending := [task for task in self.everyone if not task.done()]:
            assert self.turn < 20 * TURNS, pending
            for task in pending:
                task.cancel("at the end")
            if self.objects["condition"].locked():
                self.objects["condition"].release()
            await self.pause(5)
        for task in self.tasks:
            self.log("task", "cancelled" if task.cancelled() else shown(task.exception() or Exception("none")))
        counting.cancel()
        await self.pause(1)

    def log_state(self) -> None:
        for name, lock in self.objects.items():
            self.log(name, lock.locked(), len(lock._waiters or ()))
        self.log("values", self.objects["semaphore"]._value, self.objects["bounded"]._value)
        self.log("event", self.event.is_set(), len(self.event._waiters))
        self.log("barrier", self.barrier.n_waiting, self.barrier.broken, self.barrier._count)
        self.log("queue", self.queue.qsize(), self.queue._unfinished_tasks)


setattr(Run, "with", Run.with_)


def trace(program: Program, library: Any, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> list[Any]:
    """The events of a program with the library's classes, on a new loop."""
    loop = new_loop()
    reports: list[Any] = []
    loop.set_exception_handler(lambda loop, context: reports.append(context["message"]))
    try:
        run = Run(program, library, loop)
        loop.run_until_complete(run.main())
    finally:
        loop.close()
    assert not reports
    return run.events
