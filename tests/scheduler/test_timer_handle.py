"""TimerHandle, call_later() and call_at()."""

import asyncio
import gc
import itertools
import math
import operator
import random
import weakref

import impl
import pytest
from impl import TimerHandle, beyond_stdlib, shown_callback


def callback(*args): ...


CALLBACK_LINE = callback.__code__.co_firstlineno


class Kept:
    """Something whose death can be seen."""


def test_is_an_asyncio_timer_handle(loop):
    handle = loop.call_later(100, callback)
    assert isinstance(handle, asyncio.TimerHandle)
    assert isinstance(handle, asyncio.Handle)
    assert isinstance(handle, impl.Handle)


def test_when(loop):
    assert loop.call_at(1234.5, callback).when() == 1234.5
    before = loop.time()
    when = loop.call_later(60, callback).when()
    assert before + 60 <= when <= loop.time() + 60


def test_when_survives_cancel_and_firing(loop, turn):
    handle = loop.call_at(1.25, callback)
    turn()
    assert handle.when() == 1.25
    handle = loop.call_at(loop.time() + 100, callback)
    when = handle.when()
    handle.cancel()
    assert handle.when() == when
    assert handle.cancelled()


def test_integer_and_none(loop):
    assert loop.call_at(3, callback).when() == 3
    with pytest.raises(TypeError):
        loop.call_later(None, callback)
    with pytest.raises(TypeError):
        loop.call_at(None, callback)


@pytest.mark.parametrize("bad", ["1", [], object()])
def test_a_delay_that_is_no_number_is_refused(loop, bad):
    with pytest.raises(TypeError):
        loop.call_later(bad, callback)


@beyond_stdlib("NaN would wreck a heap of deadlines")
def test_nan_is_refused(loop, turn):
    with pytest.raises(ValueError):
        loop.call_later(math.nan, callback)
    with pytest.raises(ValueError):
        loop.call_at(math.nan, callback)
    turn()


@pytest.mark.parametrize("delay", [math.inf, 1e300, 1e18, 2.0**63, 1e9])
def test_a_deadline_that_never_comes(loop, delay):
    calls = []
    later = loop.call_later(delay, calls.append, "later")
    at = loop.call_at(delay, calls.append, "at")
    soon = loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert calls == []
    assert at.when() == delay
    assert not soon.cancelled()
    later.cancel()
    at.cancel()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert calls == []


def test_alone_with_an_infinite_timer_a_thread_still_wakes_the_loop(loop):
    handle = loop.call_later(math.inf if impl.IS_COROLLA else 1e6, callback)
    executed = loop.run_until_complete(loop.run_in_executor(None, lambda: "woken"))
    assert executed == "woken"
    handle.cancel()
    loop.run_until_complete(loop.shutdown_default_executor())


@pytest.mark.parametrize("delay", [0, 0.0, -0.0, -1, -1e300, -math.inf])
def test_a_deadline_long_past_fires_on_the_next_turn(loop, turn, delay):
    calls = []
    loop.call_later(delay, calls.append, 1)
    assert calls == []
    turn()
    assert calls == [1]


def test_in_order_of_deadlines(loop):
    calls = []
    start = loop.time()
    order = list(range(200))
    random.Random(1).shuffle(order)
    for i in order:
        loop.call_at(start + i * 1e-5, calls.append, i)
    loop.call_at(start + 200e-5, loop.stop)
    loop.run_forever()
    assert calls == list(range(200))


@beyond_stdlib("asyncio's heap forgets the order of equal deadlines")
def test_equal_deadlines_in_order_of_creation(loop):
    calls = []
    when = loop.time() + 0.001
    handles = [loop.call_at(when, calls.append, i) for i in range(500)]
    for i in range(0, 500, 7):
        handles[i].cancel()
    loop.call_at(when, loop.stop)
    loop.run_forever()
    assert calls == [i for i in range(500) if i % 7]


def test_overdue_timer_does_not_wait_for_other_things(loop):
    # The deadline passes while a callback runs; no handle is ready and no descriptor watched then.
    order = []

    def busy():
        end = loop.time() + 0.002
        while loop.time() < end:
            pass
        order.append("busy")

    loop.call_at(loop.time() + 0.001, lambda: (order.append("timer"), loop.stop()))
    loop.call_soon(busy)
    loop.run_forever()
    assert order == ["busy", "timer"]


def test_what_timers_make_ready_waits_for_its_turn(loop, turn):
    order = []

    def fire(name):
        order.append(name)
        loop.call_soon(order.append, f"soon, by {name}")
        loop.call_later(0, order.append, f"later, by {name}")

    loop.call_later(0, fire, "a")
    loop.call_later(0, fire, "b")
    turn()
    assert sorted(order) == ["a", "b"]
    turn()
    assert sorted(order[2:]) == ["later, by a", "later, by b", "soon, by a", "soon, by b"]


def test_ready_callbacks_run_before_timers_that_came_due_with_them(loop, turn):
    order = []
    loop.call_later(-1, order.append, "timer")
    loop.call_soon(order.append, "soon")
    turn()
    assert order == ["soon", "timer"]


def test_one_timer_cancels_another_in_the_same_turn(loop, turn):
    order = []
    now = loop.time()
    loop.call_at(now - 2, lambda: second.cancel())
    second = loop.call_at(now - 1, order.append, "second")
    loop.call_at(now, order.append, "third")
    turn()
    assert order == ["third"]


def test_cancelled_timers_are_freed_at_once(loop, no_gc):
    deaths = []
    for count in (0, 1, 4, 5, 20):
        objects = [Kept() for _ in range(count)]
        deaths += [weakref.ref(obj) for obj in objects]
        handle = loop.call_later(1000, callback, *objects)
        del objects
        handle.cancel()
        assert all(ref() is None for ref in deaths)


@beyond_stdlib("asyncio keeps cancelled timers until they are half of all")
def test_cancelled_timers_need_no_turn_and_no_collector(loop, no_gc):
    deaths = []
    for _ in range(100):
        handle = loop.call_later(1000, callback)
        deaths.append(weakref.ref(handle))
        handle.cancel()
        del handle
    assert [ref() for ref in deaths] == [None] * 100


@beyond_stdlib("asyncio keeps cancelled timers until they are half of all")
def test_100_000_timers_are_freed_by_reference_count(loop, no_gc):
    kept = Kept()
    handles = [loop.call_later(1000 + i % 977, callback, kept) for i in range(100_000)]
    sample = [weakref.ref(handle) for handle in handles[::1000]]
    order = list(range(100_000))
    random.Random(2).shuffle(order)
    for i in order:
        handles[i].cancel()
    handles.clear()
    dead = weakref.ref(kept)
    del kept
    assert dead() is None
    assert all(ref() is None for ref in sample)


def test_fired_timers_are_freed_by_reference_count(loop, turn, no_gc):
    kept = Kept()
    dead = weakref.ref(kept)
    handles = [weakref.ref(loop.call_later(-1, callback, kept)) for _ in range(1000)]
    del kept
    turn()
    assert dead() is None
    assert all(ref() is None for ref in handles)


@pytest.mark.parametrize("seed", range(5))
def test_random_adds_and_cancels_against_a_model(loop, seed):
    rng = random.Random(seed)
    start = loop.time()
    fired, expected, live = [], {}, {}
    counter = itertools.count()
    for _ in range(2000):
        if live and rng.random() < 0.45:
            key = rng.choice(list(live))
            live.pop(key).cancel()
            del expected[key]
        else:
            key = next(counter)
            when = start + rng.randrange(2000) * 1e-6 + key * 1e-10  # no two alike
            live[key] = loop.call_at(when, fired.append, key)
            expected[key] = when
    loop.call_at(start + 0.0025, loop.stop)
    loop.run_forever()
    assert fired == sorted(expected, key=expected.__getitem__)


def test_a_finaliser_that_adds_timers_while_one_is_cancelled(loop):
    class Dying:
        def __del__(self):
            for _ in range(100):
                made.append(loop.call_later(0.0001, calls.append, 1))

    calls, made = [], []
    handles = [loop.call_later(1000, callback, Dying()) for _ in range(50)]
    for handle in handles[::-1]:
        handle.cancel()
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert len(calls) == len(made) == 5000


def test_comparison(loop):
    context = object()
    first = TimerHandle(1, callback, (), loop)
    same = TimerHandle(1, callback, (), loop)
    later = TimerHandle(2, callback, (), loop)
    other_args = TimerHandle(1, callback, (context,), loop)
    assert first == same
    assert not first != same
    assert first < later <= later
    assert later > first >= same
    assert first <= same
    assert first != other_args
    assert not first < other_args
    assert not first > later
    assert not later <= first
    assert not first >= later
    assert hash(first) == hash(same) == hash(1)
    same.cancel()
    assert first != same


@pytest.mark.parametrize("op", [operator.lt, operator.le, operator.gt, operator.ge])
def test_comparison_with_other_things(loop, op):
    handle = TimerHandle(1, callback, (), loop)
    for other in (1, None, loop.call_soon(callback)):
        with pytest.raises(TypeError):
            op(handle, other)
        assert handle != other
        assert not handle == other  # noqa: SIM201
    assert handle.__lt__(1) is NotImplemented
    assert handle.__eq__(1) is NotImplemented


def test_comparison_gives_the_other_side_a_chance(loop):
    class Other:
        def __lt__(self, other):
            return "reflected"

        __gt__ = __le__ = __ge__ = __eq__ = __lt__

    handle = TimerHandle(1, callback, (), loop)
    assert (handle < Other()) == (handle > Other()) == (handle <= Other()) == (handle == Other()) == "reflected"


def test_comparison_with_a_hostile_callback(loop):
    class Hostile:
        def __call__(self): ...

        def __eq__(self, other):
            first.cancel()
            second.cancel()
            gc.collect()
            return False

        __hash__ = None

    first = TimerHandle(1, Hostile(), (Kept(),), loop)
    second = TimerHandle(1, Hostile(), (Kept(),), loop)
    assert first != second


def test_repr(loop):
    handle = loop.call_at(12.5, callback, 1)
    assert repr(handle) == f"<TimerHandle when=12.5 {shown_callback(callback, (1,))}>"
    handle.cancel()
    assert repr(handle) == "<TimerHandle cancelled when=12.5>"


def test_repr_in_debug_mode(loop):
    loop.set_debug(True)
    line = test_repr_in_debug_mode.__code__.co_firstlineno + 3
    handle = loop.call_at(12.5, callback, 1)
    shown = f"when=12.5 callback(1) at {__file__}:{CALLBACK_LINE} created at {__file__}:{line}"
    assert repr(handle) == f"<TimerHandle {shown}>"
    handle.cancel()
    assert repr(handle) == f"<TimerHandle cancelled {shown}>"


def test_repr_of_integer_deadlines(loop):
    assert "when=3 " in repr(loop.call_at(3, callback)) or "when=3.0 " in repr(loop.call_at(3, callback))


def test_the_underscored(loop, turn):
    handle = loop.call_at(1.5, callback)
    assert handle._when == 1.5
    assert handle._scheduled is True
    assert handle._args == ()
    turn()
    assert handle._scheduled is False
    by_hand = TimerHandle(2.5, callback, (3,), loop, None)
    assert by_hand._scheduled is False
    assert by_hand.when() == 2.5
    assert by_hand._args == (3,)
    by_hand.cancel()


def test_call_at_after_close():
    loop = impl.new_event_loop()
    handle = loop.call_later(100, callback)
    loop.close()
    handle.cancel()
    assert handle.cancelled()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.call_later(1, callback)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.call_at(1, callback)


def test_time_is_monotonic_time(loop):
    import time

    for _ in range(100):
        before = time.monotonic()
        now = loop.time()
        assert before <= now <= time.monotonic()
        assert type(now) is float


def test_time_keeps_up_inside_a_callback(loop):
    seen = []

    def busy():
        first = loop.time()
        while loop.time() == first:
            pass
        seen.append(loop.time() > first)
        loop.stop()

    loop.call_soon(busy)
    loop.run_forever()
    assert seen == [True]


def test_never_early(loop):
    early = []

    def fired(handle_index):
        if loop.time() < handles[handle_index].when() - 1e-9:
            early.append(handle_index)

    start = loop.time()
    handles = [loop.call_at(start + i * 17e-6, fired, i) for i in range(100)]
    loop.call_at(start + 2e-3, loop.stop)
    loop.run_forever()
    assert early == []


# ---- On asyncio's own loop, which says with _scheduled that a timer is in its heap ---------------------------------------


class ForeignLoop:
    def __init__(self, error=None):
        self.told = []
        self.error = error

    def get_debug(self):
        return False

    def _timer_handle_cancelled(self, handle):
        self.told.append((handle, handle._scheduled))
        if self.error is not None:
            raise self.error


def test_a_foreign_loop_hears_of_cancelled_timers():
    loop = ForeignLoop()
    timer = impl.TimerHandle(1.0, callback, (), loop)
    timer._scheduled = True
    assert timer._scheduled
    timer.cancel()
    timer.cancel()
    assert loop.told == [(timer, True)]
    assert timer.cancelled()
    assert timer._callback is None
    timer._scheduled = False
    assert not timer._scheduled


@impl.beyond_stdlib("asyncio lets it through, and then cannot cancel the timer any more")
def test_a_foreign_loop_that_fails_to_hear(monkeypatch):
    reported = []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: reported.append(unraisable.exc_value))
    loop = ForeignLoop(LookupError("count lost"))
    timer = impl.TimerHandle(1.0, callback, (), loop)
    timer._scheduled = True
    timer.cancel()
    assert timer.cancelled()
    assert [str(error) for error in reported] == ["count lost"]


@impl.beyond_stdlib("an implementation detail of ours")
def test_our_own_loop_keeps_account_itself(loop):
    timer = loop.call_later(1000, callback)
    assert timer._scheduled
    with pytest.raises(AttributeError):
        timer._scheduled = False
    with pytest.raises(AttributeError):
        del timer._scheduled
    timer.cancel()
    assert not timer._scheduled
    half = impl.TimerHandle.__new__(impl.TimerHandle)
    with pytest.raises(AttributeError):
        half._scheduled = True
