"""How awaiting ends when it is driven by hand: StopIteration, whatever the value."""

import copy
import gc
import pickle
import sys
import weakref

import corolla
import impl
import pytest
from impl import Future

VALUES = [0, "text", (), (1, 2), ((1,),), [3], ValueError("a value"), StopIteration(4)]

pytestmark = pytest.mark.skipif(not impl.IS_COROLLA, reason="corolla's own iterators")


def finished(loop, value):
    future = Future(loop=loop)
    future.set_result(value)
    return future


def by_next(loop, value):
    return finished(loop, value).__await__(), next


def by_send(loop, value):
    return finished(loop, value).__await__(), lambda iterator: iterator.send(None)


def coroutine_by_next(loop, value):
    iterator = corolla.sleep(0, value).__await__()
    assert next(iterator) is None
    return iterator, next


def coroutine_by_send(loop, value):
    coroutine = corolla.sleep(0, value)
    assert coroutine.send(None) is None
    return coroutine, lambda iterator: iterator.send(None)


WAYS = [by_next, by_send, coroutine_by_next, coroutine_by_send]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_it_is_as_python_makes_it(loop, way, value):
    iterator, step = way(loop, value)
    with pytest.raises(StopIteration) as caught:
        step(iterator)
    stop = caught.value
    expected = StopIteration(value)
    assert stop.value is value
    assert stop.args == expected.args
    assert stop.args[0] is value
    assert repr(stop) == repr(expected)
    assert str(stop) == str(expected)
    assert type(stop).__name__ == "StopIteration"
    assert type(stop).__module__ == "builtins"
    assert stop.__context__ is None
    copied = copy.copy(stop)
    assert type(copied) is StopIteration
    assert copied.value is value
    if not isinstance(value, Exception):
        assert pickle.loads(pickle.dumps(stop)).value == value


@pytest.mark.parametrize("way", WAYS)
def test_no_value(loop, way):
    iterator, step = way(loop, None)
    with pytest.raises(StopIteration) as caught:
        step(iterator)
    assert caught.value.value is None
    assert caught.value.args == ()


def test_it_can_be_changed_like_any(loop):
    iterator, _ = by_next(loop, 1)
    with pytest.raises(StopIteration) as caught:
        next(iterator)
    stop = caught.value
    stop.args = ("other", 2)
    assert stop.args == ("other", 2)
    stop.value = "new"
    assert stop.value == "new"
    stop.add_note("a note")
    assert stop.__notes__ == ["a note"]
    with pytest.raises(TypeError):
        del stop.args
    with pytest.raises(TypeError):
        stop.args = 5
    stop.__context__ = ValueError()
    assert type(stop.__context__) is ValueError


def test_its_class_cannot_be_called(loop):
    iterator, _ = by_next(loop, 1)
    with pytest.raises(StopIteration) as caught:
        next(iterator)
    with pytest.raises(TypeError):
        type(caught.value)()


def test_many_at_once(loop):
    """More than are kept for the next."""
    kept = []
    for number in range(1000):
        try:
            next(finished(loop, number).__await__())
        except StopIteration as stop:
            kept.append(stop)
    assert [stop.value for stop in kept] == list(range(1000))


@pytest.mark.usefixtures("no_gc")
def test_the_value_goes_with_it(loop):
    class Value:
        pass

    async def main():
        gone = []
        for _ in range(3):
            value = await corolla.sleep(0, Value())
            gone.append(weakref.ref(value))
            del value
            assert gone[-1]() is None

    loop.run_until_complete(main())


def test_a_cycle_through_it_is_collected(loop):
    class Value:
        pass

    value = Value()
    gone = weakref.ref(value)
    try:
        next(finished(loop, value).__await__())
    except StopIteration as stop:
        value.stop = stop
    del value
    gc.collect()
    assert gone() is None


def test_a_plain_generator_passes_it_on(loop):
    def delegating(iterator):
        return (yield from iterator)

    with pytest.raises(StopIteration) as caught:
        next(delegating(finished(loop, "passed on").__await__()))
    assert caught.value.value == "passed on"


def test_while_tracing(loop):
    """The interpreter shows it to a trace function."""
    seen = []

    def trace(frame, event, argument):
        if event == "exception":
            seen.append(argument[1])
        return trace

    async def main():
        return await corolla.sleep(0, "traced")

    old = sys.gettrace()
    sys.settrace(trace)
    try:
        assert loop.run_until_complete(main()) == "traced"
    finally:
        sys.settrace(old)
    assert all(isinstance(stop, StopIteration) and stop.value == "traced" for stop in seen)


def test_a_cycle_through_it_alone_is_collected(loop):
    """A tuple breaks no cycle: the exception has to."""

    class Mark:
        pass

    def make():
        iterator = finished(loop, 5).__await__()
        with pytest.raises(StopIteration) as caught:
            next(iterator)
        stop = caught.value
        stop.args = (stop, Mark())
        stop.__traceback__ = None

    make()
    gc.collect()
    assert not [found for found in gc.get_objects() if isinstance(found, Mark)]
