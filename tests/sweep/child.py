"""The process in which the sweep of one type runs: `python child.py SUBJECT STATE FIRST LOG`.

Before each action its number and name go to LOG, so that whoever started us knows what a crash or a hang is to be charged to,
and can start another one behind it. Actions that end in SystemError (C code that broke the interpreter's rules) are noted too.
"""

import asyncio
import gc
import inspect
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from subjects import SUBJECTS, Odd, World, calls

HANG = 10 * float(os.environ.get("COROLLA_TEST_TIMEOUT_FACTOR", "1"))

# What other libraries read, whether dir() names it or not.
UNDERSCORED = (
    "_asyncio_future_blocking _loop _state _callbacks _log_traceback _log_destroy_pending _must_cancel _fut_waiter _coro "
    "_source_traceback _result _exception _cancel_message _cancelled _callback _args _when _scheduled _run _make_cancelled_error"
).split()
# These end, replace or print the process itself, or are the interpreter's own business.
LEFT_OUT = {"__class__", "__getattribute__", "__subclasshook__", "__init_subclass__", "__dir__", "__doc__"}

Action = tuple[str, Callable[[World, Any, dict[str, Any]], Any]]


def actions(world: World, subject: Any) -> Iterator[Action]:
    """Everything that is done to an object of that kind, by name."""
    values = Odd(world, subject).values
    arguments = list(calls(values))
    kind = type(subject)

    for args, kwargs in arguments:
        text = shown(args, kwargs)
        yield f"type{text}", lambda world, subject, odd, a=args, k=kwargs: call(type(subject), a, k, odd)
    names = sorted((set(dir(subject)) | set(UNDERSCORED)) - LEFT_OUT)
    for name in names:
        yield f"read {name}", lambda world, subject, odd, n=name: getattr(subject, n)
        for odd in values:
            yield (
                f"set {name} = {odd}",
                lambda world, subject, values, n=name, o=odd: setattr(subject, n, values[o]),
            )
        yield f"delete {name}", lambda world, subject, odd, n=name: delattr(subject, n)
        if not callable(getattr(kind, name, None)):
            continue
        for args, kwargs in arguments:
            yield (
                f"{name}{shown(args, kwargs)}",
                lambda world, subject, odd, n=name, a=args, k=kwargs: call(getattr(subject, n), a, k, odd),
            )
        for odd in values:  # as somebody else's method
            yield (
                f"unbound {name}({odd})",
                lambda world, subject, values, n=name, o=odd: getattr(type(subject), n)(values[o]),
            )
    for function in (repr, str, hash, len, iter, next, bool, int, float, bytes, abs, dir, vars, list, memoryview, type):
        yield f"{function.__name__}()", lambda world, subject, odd, f=function: f(subject)
    for name in ("copy", "deepcopy"):
        yield name, lambda world, subject, odd, n=name: getattr(__import__("copy"), n)(subject)
    yield "pickle", lambda world, subject, odd: __import__("pickle").dumps(subject)
    yield "subclass", lambda world, subject, odd: type("Sub", (type(subject),), {})
    yield "isfuture", lambda world, subject, odd: asyncio.isfuture(subject)
    yield "await", lambda world, subject, odd: awaiting(subject)
    yield "ensure_future", lambda world, subject, odd: asyncio.ensure_future(subject, loop=world.loop)
    yield "run_until_complete", lambda world, subject, odd: world.loop.run_until_complete(subject)
    yield "with", lambda world, subject, odd: subject.__enter__()
    yield "getreferents", lambda world, subject, odd: gc.get_referents(subject)
    for name in ("__eq__", "__lt__", "__add__", "__contains__", "__getitem__"):
        for odd in values:
            yield (
                f"{name} {odd}",
                lambda world, subject, v, n=name, o=odd: getattr(__import__("operator"), n)(subject, v[o]),
            )


async def awaiting(thing: Any) -> Any:
    return await thing


def shown(args: tuple[str, ...], kwargs: dict[str, str]) -> str:
    return f"({', '.join([*args, *(f'{key}={value}' for key, value in kwargs.items())])})"


def call(function: Any, args: tuple[str, ...], kwargs: dict[str, str], odd: dict[str, Any]) -> Any:
    return function(*(odd[name] for name in args), **{key: odd[name] for key, name in kwargs.items()})


def follow(world: World, value: Any) -> None:
    """Takes what came back a little further: awaits what can be awaited, cancels what can be cancelled."""
    if inspect.isawaitable(value) and not world.loop.is_closed():
        task = world.loop.create_task(awaiting(value))
        world.turn(3)
        task.cancel()
        world.turn(3)
        if task.done() and not task.cancelled():
            task.exception()
    elif hasattr(value, "cancel"):
        value.cancel()
    if asyncio.iscoroutine(value):
        value.close()
    repr(value)


def do(make: Callable[[World, str], Any], state: str, action: Action) -> BaseException | None:
    """One action on a fresh object. The exception it ended in."""
    world = World()
    problem: BaseException | None = None
    try:
        subject = make(world, state)
        odd = Odd(world, subject).values
        if not world.loop.is_closed():
            world.loop.call_soon(world.loop.stop)  # for run_forever() and its kin
        try:
            follow(world, action[1](world, subject, odd))
        except SystemError as error:
            problem = error
        except BaseException:
            pass
        try:
            repr(subject)
        except SystemError as error:
            problem = error
        except BaseException:
            pass
        if action[0].startswith("__del__"):
            return problem
    finally:
        world.end()
    return problem


def main() -> None:
    name, state, first, log_path = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    warnings.simplefilter("ignore")
    logging.disable()
    sys.unraisablehook = lambda unraisable: None
    sys.stdout = sys.stderr = open(os.devnull, "w")
    log = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    make = SUBJECTS[name]
    world = World()
    try:
        subject = make(world, state)
    except TypeError:
        os.write(log, b"cannot be made\n")
        world.end()
        return
    everything = list(actions(world, subject))
    del subject
    world.end()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    for number in range(first, len(everything)):
        action = everything[number]
        os.write(log, f"{number} {action[0]}\n".encode())
        signal.setitimer(signal.ITIMER_REAL, HANG)
        problem = do(make, state, action)
        if problem is not None:
            os.write(log, f"! {action[0]}: {problem!r}\n".encode())
        if number % 200 == 0:
            os.write(log, f"{number} collecting after {action[0]}\n".encode())
            gc.collect()
    os.write(log, f"{len(everything)} collecting at the end\n".encode())
    gc.collect()
    signal.setitimer(signal.ITIMER_REAL, HANG)
    os.write(log, f"{len(everything)} exit\n".encode())


if __name__ == "__main__":
    main()
