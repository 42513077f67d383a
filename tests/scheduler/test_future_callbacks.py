"""Future: done callbacks and their contexts."""

import asyncio
import contextvars
import functools
import gc
import weakref

import impl
import pytest
from impl import Future, beyond_stdlib

var = contextvars.ContextVar("var", default="outside")


@pytest.fixture
def future(loop):
    return Future(loop=loop)


def complete(future, how):
    {
        "result": lambda: future.set_result(1),
        "exception": lambda: future.set_exception(ValueError()),
        "cancel": future.cancel,
    }[how]()
    if how == "exception":
        future.exception()


@pytest.mark.parametrize("how", ["result", "exception", "cancel"])
@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_called_in_order_on_the_next_turn(future, turn, how, count):
    calls = []
    for i in range(count):
        future.add_done_callback(functools.partial(lambda i, f: calls.append((i, f)), i))
    complete(future, how)
    assert calls == []
    turn()
    assert calls == [(i, future) for i in range(count)]
    turn()
    assert len(calls) == count


def test_added_when_done_already(future, turn):
    calls = []
    future.set_result(1)
    assert future.add_done_callback(calls.append) is None
    assert calls == []
    turn()
    assert calls == [future]


def test_callbacks_take_their_place_in_the_queue(loop, future, turn):
    order = []
    loop.call_soon(order.append, "before")
    future.add_done_callback(lambda f: order.append("callback"))
    future.set_result(1)
    loop.call_soon(order.append, "after")
    turn()
    assert order == ["before", "callback", "after"]


def test_the_same_one_several_times(future, turn):
    calls = []
    for _ in range(3):
        future.add_done_callback(calls.append)
    future.set_result(1)
    turn()
    assert calls == [future] * 3


def test_remove(future, turn):
    calls = []

    def first(f):
        calls.append("first")

    def second(f):
        calls.append("second")

    assert future.remove_done_callback(first) == 0
    for fn in (first, second, first, first, second):
        future.add_done_callback(fn)
    assert future.remove_done_callback(first) == 3
    assert future.remove_done_callback(first) == 0
    future.set_result(1)
    turn()
    assert calls == ["second", "second"]
    assert future.remove_done_callback(second) == 0


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_remove_each_in_turn(loop, turn, count):
    for gone in range(count):
        calls = []
        callbacks = [functools.partial(lambda i, f: calls.append(i), i) for i in range(count)]
        future = Future(loop=loop)
        for fn in callbacks:
            future.add_done_callback(fn)
        assert future.remove_done_callback(callbacks[gone]) == 1
        future.set_result(1)
        turn()
        assert calls == [i for i in range(count) if i != gone]


def test_remove_goes_by_equality(future):
    class Equal:
        def __call__(self, f): ...

        def __eq__(self, other):
            return True

        __hash__ = None

    future.add_done_callback(print)
    future.add_done_callback(len)
    assert future.remove_done_callback(Equal()) == 2
    assert not future._callbacks


def test_bound_methods_are_equal(future):
    calls = []
    future.add_done_callback(calls.append)
    assert future.remove_done_callback(calls.append) == 1


def test_a_callback_that_raises(loop, future, turn, reports):
    def fail(f):
        raise LookupError("from a done callback")

    calls = []
    future.add_done_callback(fail)
    future.add_done_callback(calls.append)
    future.set_result(1)
    turn()
    assert calls == [future]
    report = reports.pop()
    assert isinstance(report["exception"], LookupError)
    assert report["message"].startswith("Exception in callback test_a_callback_that_raises.<locals>.fail(")


def test_a_callback_that_is_not_callable(future, turn, reports):
    future.add_done_callback(5)
    future.set_result(1)
    turn()
    assert isinstance(reports.pop()["exception"], TypeError)


def test_callbacks_added_by_callbacks(loop, future, turn):
    order = []

    def first(f):
        order.append("first")
        f.add_done_callback(lambda f: order.append("third"))

    future.add_done_callback(first)
    future.add_done_callback(lambda f: order.append("second"))
    future.set_result(1)
    turn()
    assert order == ["first", "second"]
    turn()
    assert order == ["first", "second", "third"]


def test_a_callback_cannot_stop_its_neighbours(future, turn):
    calls = []

    def first(f):
        assert f.remove_done_callback(second) == 0

    def second(f):
        calls.append("second")

    future.add_done_callback(first)
    future.add_done_callback(second)
    future.set_result(1)
    turn()
    assert calls == ["second"]


def test_context_of_the_caller(future, turn):
    seen = []
    context = contextvars.copy_context()
    context.run(var.set, "adder")
    context.run(future.add_done_callback, lambda f: seen.append(var.get()))
    context.run(var.set, "changed since")
    var.set("completer")
    future.set_result(1)
    turn()
    assert seen == ["adder"]


def test_context_given(future, turn):
    seen = []

    def look(f):
        seen.append(var.get())
        var.set("changed")

    context = contextvars.copy_context()
    context.run(var.set, "given")
    future.add_done_callback(look, context=context)
    future.add_done_callback(look, context=context)
    future.set_result(1)
    future.add_done_callback(look, context=context)
    turn()
    assert seen == ["given", "changed", "changed"]
    assert context[var] == "changed"


def test_context_is_keyword_only(future):
    with pytest.raises(TypeError):
        future.add_done_callback(print, contextvars.copy_context())
    with pytest.raises(TypeError):
        future.add_done_callback()
    with pytest.raises(TypeError):
        future.add_done_callback(print, unknown=1)


@beyond_stdlib("a context that is no Context is refused at once (3.15)")
@pytest.mark.parametrize("done", [False, True])
def test_a_context_that_is_none_is_refused(loop, done):
    future = Future(loop=loop)
    if done:
        future.set_result(1)
    with pytest.raises(TypeError):
        future.add_done_callback(print, context=5)


def test_callbacks_are_dropped_once_called(future, turn, no_gc):
    class Callback:
        def __call__(self, f): ...

    callbacks = [Callback() for _ in range(4)]
    deaths = [weakref.ref(fn) for fn in callbacks]
    for fn in callbacks:
        future.add_done_callback(fn)
    del fn
    callbacks.clear()
    future.set_result(1)
    turn()
    assert [ref() for ref in deaths] == [None] * 4


# ---- hostile __eq__: python/cpython 97592, 125966, 126405 -----------------------------------------------------------


class Hostile:
    """Compares by doing something to the future."""

    def __init__(self, act, equal=False):
        self.act = act
        self.equal = equal

    def __call__(self, f): ...

    def __eq__(self, other):
        act, self.act = self.act, lambda: None
        act()
        gc.collect()
        return self.equal

    __hash__ = None


def noise(f): ...


ACTS = {
    "removes all": lambda future: [future.remove_done_callback(fn) for fn, _ in list(future._callbacks or [])],
    "adds one": lambda future: future.add_done_callback(noise),
    "adds many": lambda future: [future.add_done_callback(noise) for _ in range(100)],
    "completes": lambda future: future.done() or future.set_result(1),
    "cancels": lambda future: future.cancel(),
    "removes noise": lambda future: future.remove_done_callback(noise),
}


@pytest.mark.parametrize("equal", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("act", ACTS)
@beyond_stdlib("early asyncios crash here")
def test_removing_with_a_hostile_eq(loop, turn, act, count, equal):
    future = Future(loop=loop)
    for i in range(count):
        future.add_done_callback(noise if i % 2 else Hostile(lambda: ACTS[act](future), equal))
    removed = future.remove_done_callback(Hostile(lambda: ACTS[act](future), equal))
    assert removed >= 0
    if not future.done():
        future.set_result(1)
    turn()
    assert not future._callbacks


@beyond_stdlib("early asyncios crash here")
def test_an_eq_that_raises(loop):
    class Raises:
        def __call__(self, f): ...

        def __eq__(self, other):
            raise LookupError("in __eq__")

        __hash__ = None

    for before in (0, 1, 2, 5):
        future = Future(loop=loop)
        for _ in range(before):
            future.add_done_callback(noise)
        future.add_done_callback(Raises())
        future.add_done_callback(noise)
        with pytest.raises(LookupError):
            future.remove_done_callback(print)
        assert sum(fn is noise for fn, _ in future._callbacks) == before + 1


@beyond_stdlib("early asyncios crash here")
@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_loop_that_removes_callbacks_while_they_are_queued(count):
    class Loop(impl.EventLoop):
        def call_soon(self, *args, **kwargs):
            future.remove_done_callback(noise)
            gc.collect()
            return super().call_soon(*args, **kwargs)

        def __getattribute__(self, name):
            if name == "call_soon":
                future.remove_done_callback(noise)
            return super().__getattribute__(name)

    loop = Loop()
    try:
        future = Future(loop=loop)
        for _ in range(count):
            future.add_done_callback(noise)
        future.set_result(1)
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        loop.close()


def test_a_loop_whose_call_soon_fails_leaves_a_done_future():
    class Loop(impl.EventLoop):
        fail = False

        def call_soon(self, *args, **kwargs):
            if self.fail:
                raise LookupError("in call_soon")
            return super().call_soon(*args, **kwargs)

    loop = Loop()
    try:
        future = Future(loop=loop)
        future.add_done_callback(noise)
        future.add_done_callback(noise)
        loop.fail = True
        with pytest.raises(LookupError):
            future.set_result(1)
        assert future.result() == 1
        with pytest.raises(LookupError):
            future.add_done_callback(noise)
    finally:
        loop.close()


def test_completing_after_the_loop_was_closed():
    loop = impl.new_event_loop()
    future = Future(loop=loop)
    future.add_done_callback(noise)
    bare = Future(loop=loop)
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        future.set_result(1)
    bare.set_result(2)
    assert bare.result() == 2
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        bare.add_done_callback(noise)


def test_callbacks_added_while_they_are_listed(loop):
    """Making the list may start a collection, and so run a finalizer that adds some."""

    class Adds:
        def __init__(self, future):
            self.future, self.myself = future, self

        def __del__(self):
            for _ in range(40):
                self.future.add_done_callback(noise)

    old = gc.get_threshold()
    try:
        for threshold in range(1, 60):
            future = Future(loop=loop)
            future.add_done_callback(noise)
            Adds(future)
            lists = [[] for _ in range(200)]  # none is left in the interpreter's free list
            gc.set_threshold(threshold)
            listed = len(future._callbacks)
            gc.set_threshold(*old)
            del lists
            assert listed in (1, 41)
            assert future.remove_done_callback(noise) >= listed
            gc.collect()
    finally:
        gc.set_threshold(*old)
