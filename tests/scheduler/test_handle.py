"""Handle: what call_soon() gives back."""

import asyncio
import contextvars
import functools
import gc
import weakref

import impl
import pytest
from impl import Handle, beyond_stdlib, shown_callback

var = contextvars.ContextVar("var", default="outside")


def callback(*args):
    """A callback whose place in this file repr() must show."""


CALLBACK_LINE = callback.__code__.co_firstlineno


class Kept:
    """Something whose death can be seen."""


def shown(*args, debug=False):
    return shown_callback(callback, args, debug=debug)


def test_is_an_asyncio_handle(loop):
    handle = loop.call_soon(callback)
    assert isinstance(handle, asyncio.Handle)
    assert isinstance(handle, Handle)
    assert not isinstance(handle, asyncio.TimerHandle)


def test_cancel_and_cancelled(loop, turn):
    calls = []
    handle = loop.call_soon(calls.append, 1)
    assert handle.cancelled() is False
    assert handle.cancel() is None
    assert handle.cancelled() is True
    handle.cancel()
    turn()
    assert calls == []


def test_cancel_after_it_ran(loop, turn):
    calls = []
    handle = loop.call_soon(calls.append, 1)
    turn()
    assert handle.cancelled() is False
    handle.cancel()
    assert handle.cancelled() is True
    assert calls == [1]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 20])
def test_arguments_arrive_in_order(loop, turn, count):
    calls = []
    loop.call_soon(lambda *args: calls.append(args), *range(count))
    loop.call_later(0, lambda *args: calls.append(args), *range(count))
    loop.call_soon_threadsafe(lambda *args: calls.append(args), *range(count))
    turn()
    turn()
    assert calls == [tuple(range(count))] * 3


@pytest.mark.parametrize("count", [0, 1, 4, 5, 20])
@pytest.mark.parametrize("timer", [False, True])
def test_cancelling_itself_while_it_runs(loop, turn, no_gc, count, timer):
    seen = []

    def run(*args):
        handle.cancel()
        assert handle.cancelled()
        seen.append([str(arg) for arg in args])

    args = [f"argument {i}" for i in range(count)]
    handle = loop.call_at(loop.time(), run, *args) if timer else loop.call_soon(run, *args)
    args.clear()
    turn()
    turn()
    assert seen == [[f"argument {i}" for i in range(count)]]


@pytest.mark.parametrize("count", [1, 4, 5, 20])
def test_cancel_drops_callback_and_arguments_at_once(loop, no_gc, count):
    class Callback:
        def __call__(self, *args): ...

    objects = [Callback(), *(Kept() for _ in range(count))]
    deaths = [weakref.ref(obj) for obj in objects]
    handle = loop.call_soon(*objects)
    objects.clear()
    assert all(ref() is not None for ref in deaths)
    handle.cancel()
    assert all(ref() is None for ref in deaths)


def test_after_it_ran_nothing_but_the_caller_keeps_it(loop, turn, no_gc):
    kept = Kept()
    dead = weakref.ref(kept)
    loop.call_soon(callback, kept)
    del kept
    turn()
    assert dead() is None


def test_finaliser_of_an_argument_may_use_the_loop(loop, turn):
    class Dying:
        def __del__(self):
            loop.call_soon(order.append, "from the finaliser")
            other.cancel()

    order = []
    handle = loop.call_soon(callback, Dying())
    other = loop.call_soon(order.append, "other")
    handle.cancel()
    turn()
    assert order == ["from the finaliser"]


def test_weak_reference(loop):
    handle = loop.call_soon(callback)
    dead = weakref.ref(handle)
    assert dead() is handle
    handle.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    del handle
    assert dead() is None


def test_equality_is_identity(loop):
    first, second = loop.call_soon(callback), loop.call_soon(callback)
    assert first == first
    assert first != second
    assert len({first, second}) == 2


def test_the_context_is_a_copy_of_the_callers(loop, turn):
    seen = []
    var.set("caller")

    def look():
        seen.append(var.get())
        var.set("inside")

    loop.call_soon(look)
    var.set("changed since")
    loop.call_soon(look)
    turn()
    assert seen == ["caller", "changed since"]
    assert var.get() == "changed since"


def test_the_context_given_is_entered_not_copied(loop, turn):
    context = contextvars.copy_context()
    context.run(var.set, "given")
    seen = []

    def look():
        seen.append(var.get())
        var.set("changed by the callback")

    loop.call_soon(look, context=context)
    turn()
    assert seen == ["given"]
    assert context[var] == "changed by the callback"


@beyond_stdlib("get_context came with 3.12", until=(3, 12))
def test_get_context(loop):
    context = contextvars.copy_context()
    assert loop.call_soon(callback, context=context).get_context() is context
    assert loop.call_later(9, callback, context=context).get_context() is context
    assert type(loop.call_soon(callback).get_context()) is contextvars.Context


@pytest.mark.parametrize("bad", [1, "x", {}, object()])
@beyond_stdlib("a context that is no Context is refused at once (3.15)")
def test_a_context_that_is_none_is_refused(loop, bad):
    for call in (loop.call_soon, loop.call_soon_threadsafe, functools.partial(loop.call_later, 1)):
        with pytest.raises(TypeError):
            call(callback, context=bad)


def test_context_none_means_the_current_one(loop, turn):
    var.set("current")
    seen = []
    loop.call_soon(lambda: seen.append(var.get()), context=None)
    turn()
    assert seen == ["current"]


def test_repr(loop):
    handle = loop.call_soon(callback, "argument")
    assert shown("argument").endswith(f" at {__file__}:{CALLBACK_LINE}")
    assert repr(handle) == f"<Handle {shown('argument')}>"
    handle.cancel()
    assert repr(handle) == "<Handle cancelled>"


def test_repr_of_callables(loop):
    class Callable:
        def __call__(self): ...

        def __repr__(self):
            return "<a callable>"

    assert repr(loop.call_soon(len)) == "<Handle len()>"
    assert repr(loop.call_soon([].append)) == "<Handle list.append()>"
    assert repr(loop.call_soon(Callable())) == "<Handle <a callable>()>"
    partial = functools.partial(callback, 1)
    assert repr(loop.call_soon(partial, 2)) == f"<Handle {shown_callback(partial, (2,))}>"


def test_repr_in_debug_mode(loop):
    loop.set_debug(True)
    handle = loop.call_soon(callback, "argument")
    line = test_repr_in_debug_mode.__code__.co_firstlineno + 2
    told = f"callback('argument') at {__file__}:{CALLBACK_LINE} created at {__file__}:{line}"
    assert repr(handle) == f"<Handle {told}>"
    handle.cancel()
    assert repr(handle) == f"<Handle cancelled {told}>"
    assert handle._callback is None


def test_repr_of_a_subclass_and_of_arguments_that_lead_back(loop):
    class Named(Handle):
        pass

    assert repr(Named(callback, (), loop)) == f"<Named callback() at {__file__}:{CALLBACK_LINE}>"
    loop.set_debug(True)
    circle = []
    handle = loop.call_soon(callback, circle)
    circle.append(handle)
    assert len(repr(handle)) < 10_000
    circle.clear()


def test_source_traceback(loop):
    assert loop.call_soon(callback)._source_traceback is None
    loop.set_debug(True)
    for handle in (
        loop.call_soon(callback),
        loop.call_soon_threadsafe(callback),
        loop.call_later(1, callback),
        loop.call_at(1, callback),
    ):
        assert handle._source_traceback[-1].name == "test_source_traceback"
        handle.cancel()


def test_the_underscored(loop):
    handle = loop.call_soon(callback, 1, 2)
    assert handle._callback is callback
    assert handle._args == (1, 2)
    assert handle._cancelled is False
    assert handle._loop is loop
    assert handle._source_traceback is None
    handle.cancel()
    assert handle._callback is None
    assert handle._args is None
    assert handle._cancelled is True
    assert loop.call_soon(callback)._args == ()
    assert loop.call_soon(callback, *range(9))._args == tuple(range(9))


def test_run(loop, reports):
    calls = []
    Handle(calls.append, (7,), loop)._run()
    assert calls == [7]

    def fail():
        raise LookupError("from the callback")

    handle = Handle(fail, (), loop)
    handle._run()
    report = reports.pop()
    assert report["message"] == (
        f"Exception in callback test_run.<locals>.fail() at {__file__}:{fail.__code__.co_firstlineno}"
    )
    assert isinstance(report["exception"], LookupError)
    assert report["handle"] is handle
    assert "source_traceback" not in report

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Handle(interrupt, (), loop)._run()


def test_made_by_hand(loop):
    context = contextvars.copy_context()
    handle = Handle(callback, (1,), loop, context)
    assert handle._loop is loop
    assert handle._args == (1,)
    assert not handle.cancelled()
    Handle(callback, (1,), loop, context=None)
    with pytest.raises(TypeError):
        Handle()
    with pytest.raises(TypeError):
        Handle(callback)


def test_made_by_hand_on_a_foreign_loop():
    foreign = asyncio.SelectorEventLoop()
    try:
        calls = []
        handle = Handle(calls.append, (1,), foreign)
        foreign.call_soon(handle._run)
        foreign.run_until_complete(asyncio.sleep(0))
        assert calls == [1]
        assert repr(handle).startswith("<Handle ")
        handle.cancel()
    finally:
        foreign.close()


def test_a_cycle_through_a_handle_is_collected(loop, turn):
    kept = Kept()
    kept.handle = loop.call_soon(callback, kept)
    dead = weakref.ref(kept)
    turn()
    del kept
    gc.collect()
    assert dead() is None


def test_pending_handles_are_dropped_by_close():
    loop = impl.new_event_loop()
    kept = Kept()
    dead = weakref.ref(kept)
    loop.call_soon(callback, kept)
    loop.call_later(100, callback, kept)
    loop.call_soon_threadsafe(callback, kept)
    del kept
    loop.close()
    gc.collect()
    assert dead() is None
