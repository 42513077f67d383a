"""Future: states, results, exceptions, attributes, repr. Callbacks, awaiting and life have files of their own."""

import asyncio
import gc
import types
import weakref

import impl
import pytest
from impl import Future, beyond_stdlib, shown_callback


@pytest.fixture
def future(loop):
    return Future(loop=loop)


def test_new(loop):
    future = Future(loop=loop)
    assert future.get_loop() is loop
    assert not future.done()
    assert not future.cancelled()
    assert isinstance(future, asyncio.Future)
    assert not isinstance(future, asyncio.Task)
    assert asyncio.isfuture(future)


def test_create_future(loop):
    future = loop.create_future()
    assert type(future) is Future
    assert future.get_loop() is loop


def test_the_running_loop_is_the_default(loop):
    async def main():
        return Future(), Future(loop=None)

    for future in loop.run_until_complete(main()):
        assert future.get_loop() is loop


def test_no_loop_to_be_found():
    asyncio.set_event_loop(None)
    with pytest.raises(RuntimeError):
        Future()


def test_the_loop_is_keyword_only(loop):
    with pytest.raises(TypeError):
        Future(loop)
    with pytest.raises(TypeError):
        Future(loop=loop, more=1)


def test_a_loop_that_is_none_of_a_kind():
    with pytest.raises(AttributeError):
        Future(loop=object())


def test_result(future):
    with pytest.raises(asyncio.InvalidStateError, match="Result is not (ready|set)"):
        future.result()
    with pytest.raises(asyncio.InvalidStateError, match="Exception is not set"):
        future.exception()
    assert future.set_result("result") is None
    assert future.done()
    assert not future.cancelled()
    assert future.result() == "result"
    assert future.result() == "result"
    assert future.exception() is None


def test_set_result_takes_just_the_result(future):
    with pytest.raises(TypeError):
        future.set_result()
    with pytest.raises(TypeError):
        future.set_result(1, 2)
    assert not future.done()


def test_exception(future):
    error = ValueError("set")
    assert future.set_exception(error) is None
    assert future.done()
    assert not future.cancelled()
    assert future.exception() is error
    for _ in range(2):
        with pytest.raises(ValueError, match="set") as caught:
            future.result()
        assert caught.value is error


@beyond_stdlib("the C future of asyncio forgets it after the first result()")
def test_the_traceback_does_not_grow_with_each_result(future):
    try:
        raise ValueError("has a traceback")
    except ValueError as raised:
        error = raised
    future.set_exception(error)
    depths = set()
    for _ in range(5):
        with pytest.raises(ValueError) as caught:
            future.result()
        depths.add(len(caught.traceback))
    assert len(depths) == 1


def test_an_exception_class_is_instantiated(future):
    future.set_exception(LookupError)
    assert type(future.exception()) is LookupError


@pytest.mark.parametrize("bad", [1, None, "x", object, int])
def test_what_is_no_exception_is_refused(future, bad):
    with pytest.raises(TypeError):
        future.set_exception(bad)
    assert not future.done()


def test_an_exception_class_whose_constructor_raises(future):
    class Fails(Exception):
        def __init__(self):
            raise KeyError("in the constructor")

    with pytest.raises(KeyError, match="in the constructor"):
        future.set_exception(Fails)
    assert not future.done()


@pytest.mark.parametrize("given", [StopIteration, StopIteration("x")])
@beyond_stdlib("refused with a TypeError before 3.13, and whoever waited hung", until=(3, 13))
def test_stop_iteration_becomes_runtime_error(future, given):
    future.set_exception(given)
    error = future.exception()
    assert type(error) is RuntimeError
    assert isinstance(error.__cause__, StopIteration)
    assert isinstance(error.__context__, StopIteration)
    assert "StopIteration interacts badly with generators" in str(error)


@beyond_stdlib("refused with a TypeError before 3.13, and whoever waited hung", until=(3, 13))
def test_subclass_of_stop_iteration(future):
    class Stop(StopIteration):
        pass

    future.set_exception(Stop())
    assert type(future.exception()) is RuntimeError


def test_base_exceptions_can_be_set(future):
    future.set_exception(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        future.result()


def test_a_stop_iteration_as_result(future, loop):
    stop = StopIteration(5)
    future.set_result(stop)

    async def main():
        return await future

    assert loop.run_until_complete(main()) is stop


@pytest.mark.parametrize("result", [(), (1, 2), (ValueError, "x"), ValueError("a value"), None, StopIteration])
def test_results_that_could_be_mistaken_for_arguments(loop, result):
    async def main():
        future = loop.create_future()
        loop.call_soon(future.set_result, result)
        return await future

    assert loop.run_until_complete(main()) is result


def test_once_done_it_stays_so(loop):
    finished = Future(loop=loop)
    finished.set_result(1)
    failed = Future(loop=loop)
    failed.set_exception(ValueError())
    failed.exception()
    cancelled = Future(loop=loop)
    cancelled.cancel()
    for future, state in ((finished, "FINISHED"), (failed, "FINISHED"), (cancelled, "CANCELLED")):
        with pytest.raises(asyncio.InvalidStateError) as caught:
            future.set_result(2)
        assert type(caught.value) is asyncio.InvalidStateError
        with pytest.raises(asyncio.InvalidStateError):
            future.set_exception(KeyError())
        assert future.cancel() is False
        assert future._state == state
    assert finished.result() == 1
    assert not failed.cancelled()


@beyond_stdlib("the C future of asyncio says 'invalid state'")
def test_the_message_of_invalid_state_says_which(future):
    future.set_result(1)
    with pytest.raises(asyncio.InvalidStateError, match="(?i)finished|invalid state"):
        future.set_result(2)


def test_cancel(future):
    assert future.cancel() is True
    assert future.cancelled()
    assert future.done()
    assert future.cancel() is False
    for method in (future.result, future.exception):
        with pytest.raises(asyncio.CancelledError) as caught:
            method()
        assert caught.value.args == ()


@pytest.mark.parametrize("message", ["message", 5, ("a", "tuple"), ""])
def test_cancel_message(loop, message):
    for method in ("result", "exception"):
        for by_keyword in (False, True):
            future = Future(loop=loop)
            future.cancel(msg=message) if by_keyword else future.cancel(message)
            assert future._cancel_message == message
            with pytest.raises(asyncio.CancelledError) as caught:
                getattr(future, method)()
            assert caught.value.args == (message,)


def test_cancel_message_none_is_no_message(future):
    future.cancel(msg=None)
    with pytest.raises(asyncio.CancelledError) as caught:
        future.result()
    assert caught.value.args == ()


def test_cancel_message_can_be_set(future):
    assert future._cancel_message is None
    future._cancel_message = "set from outside"
    assert future._cancel_message == "set from outside"


def test_make_cancelled_error(future):
    future.cancel("message")
    error = future._make_cancelled_error()
    assert type(error) is asyncio.CancelledError
    assert error.args == ("message",)
    assert future._make_cancelled_error() is not error


def test_log_traceback(future):
    assert future._log_traceback is False
    future.set_exception(ValueError())
    assert future._log_traceback is True
    with pytest.raises(ValueError, match="_log_traceback can only be set to False"):
        future._log_traceback = True
    future._log_traceback = False
    assert future._log_traceback is False


@pytest.mark.parametrize("ask", ["exception", "result", "cancel"])
def test_log_traceback_goes_when_the_exception_is_asked_for(future, ask):
    future.set_exception(ValueError())
    try:
        getattr(future, ask)()
    except ValueError:
        pass
    assert future._log_traceback is False


def test_the_underscored(loop, future):
    assert future._state == "PENDING"
    assert future._loop is loop
    assert future._asyncio_future_blocking is False
    assert not future._callbacks
    assert future._result is None
    assert future._exception is None
    assert future._source_traceback is None
    assert future._cancel_message is None
    future.set_result(3)
    assert future._state == "FINISHED"
    assert future._result == 3
    other = Future(loop=loop)
    other.set_exception(error := ValueError())
    assert other._state == "FINISHED"
    assert other._exception is error
    other.exception()
    other = Future(loop=loop)
    other.cancel()
    assert other._state == "CANCELLED"


def test_callbacks_attribute(loop, future):
    def first(f): ...

    def second(f): ...

    future.add_done_callback(first)
    assert [fn for fn, context in future._callbacks] == [first]
    future.add_done_callback(second)
    future.add_done_callback(first)
    assert [fn for fn, context in future._callbacks] == [first, second, first]
    future.set_result(None)
    assert not future._callbacks
    loop.run_until_complete(asyncio.sleep(0))


def test_blocking_flag_can_be_set(future):
    assert hasattr(Future, "_asyncio_future_blocking")
    future._asyncio_future_blocking = True
    assert future._asyncio_future_blocking is True
    future._asyncio_future_blocking = False
    assert future._asyncio_future_blocking is False


@pytest.mark.parametrize("name", ["_state", "_result", "_exception", "_callbacks", "_source_traceback", "_loop"])
def test_state_is_read_only(future, name):
    with pytest.raises(AttributeError):
        setattr(future, name, None)


@pytest.mark.parametrize("name", ["_log_traceback", "_asyncio_future_blocking"])
def test_flags_cannot_be_deleted(future, name):
    with pytest.raises((AttributeError, TypeError)):
        delattr(future, name)


def test_source_traceback_in_debug_mode(loop):
    loop.set_debug(True)
    for future in (Future(loop=loop), loop.create_future()):
        names = [frame.name for frame in future._source_traceback]
        assert "test_source_traceback_in_debug_mode" in names[-2:]


def test_attributes_of_its_own(future):
    future.mine = 1
    assert future.mine == 1
    del future.mine
    assert not hasattr(future, "mine")


def test_weak_reference(loop):
    future = Future(loop=loop)
    dead = weakref.ref(future)
    assert dead() is future
    del future
    assert dead() is None


def test_subscript():
    assert Future[int] == types.GenericAlias(Future, int)
    assert Future[int].__origin__ is Future


def test_isfuture_knows_the_duck(future):
    class Duck:
        _asyncio_future_blocking = False

    class No(Future):
        _asyncio_future_blocking = None

    assert asyncio.isfuture(Duck())
    assert not asyncio.isfuture(Future)
    assert not asyncio.isfuture(No(loop=future.get_loop()))


def test_hash_and_equality_are_identity(loop):
    first, second = Future(loop=loop), Future(loop=loop)
    assert first == first
    assert first != second
    assert len({first, second}) == 2


def test_a_second_init_is_refused(loop):
    future = Future(loop=loop)
    future.set_result(1)
    if impl.IS_COROLLA:
        with pytest.raises(RuntimeError):
            future.__init__(loop=loop)
        assert future.result() == 1


def test_subclass(loop):
    class Named(Future):
        def __init__(self, name, **kwargs):
            super().__init__(**kwargs)
            self.name = name

        def result(self):
            return f"{self.name}: {super().result()}"

    future = Named("mine", loop=loop)
    loop.call_soon(future.set_result, 1)
    assert loop.run_until_complete(future) == "mine: 1"
    assert repr(future).startswith("<Named finished result=1")


def test_a_subclass_overrides_what_a_waiting_task_is_told(loop):
    class Masked(Future):
        def result(self):
            return ("masked", super().result())

        def add_done_callback(self, fn, **kwargs):
            added.append(fn)
            super().add_done_callback(fn, **kwargs)

    added = []
    future = Masked(loop=loop)

    async def main():
        return await future

    loop.call_soon(future.set_result, 1)
    task = loop.create_task(main())
    # The iterator of the C future asks its own fields, as asyncio's does, or result(): both are seen in the wild.
    assert loop.run_until_complete(task) in (1, ("masked", 1))
    assert len(added) <= 1


# ---- repr -------------------------------------------------------------------------------------------------------------


def test_repr_of_states(loop):
    future = Future(loop=loop)
    assert repr(future) == "<Future pending>"
    future.set_result(10)
    assert repr(future) == "<Future finished result=10>"
    future = Future(loop=loop)
    future.cancel()
    assert repr(future) == "<Future cancelled>"
    future = Future(loop=loop)
    future.set_exception(ValueError("x"))
    assert repr(future) == "<Future finished exception=ValueError('x')>"
    future.exception()


def test_repr_shortens_results(future):
    future.set_result("x" * 10_000)
    assert len(repr(future)) < 100


def test_repr_of_callbacks(loop, future):
    def one(f): ...

    def two(f): ...

    def three(f): ...

    shown = [shown_callback(fn) for fn in (one, two, three)]
    future.add_done_callback(one)
    assert repr(future) == f"<Future pending cb=[{shown[0]}]>"
    future.add_done_callback(two)
    assert repr(future) == f"<Future pending cb=[{shown[0]}, {shown[1]}]>"
    future.add_done_callback(three)
    assert repr(future) == f"<Future pending cb=[{shown[0]}, <1 more>, {shown[2]}]>"
    future.add_done_callback(three)
    assert repr(future) == f"<Future pending cb=[{shown[0]}, <2 more>, {shown[2]}]>"
    future.cancel()
    assert repr(future) == "<Future cancelled>"
    loop.run_until_complete(asyncio.sleep(0))


def test_repr_in_debug_mode(loop):
    loop.set_debug(True)
    future = Future(loop=loop)
    line = test_repr_in_debug_mode.__code__.co_firstlineno + 2
    assert repr(future) == f"<Future pending created at {__file__}:{line}>"


def test_repr_of_a_waited_for_future_names_the_waiter(loop, turn):
    future = Future(loop=loop)

    async def main():
        await future

    task = loop.create_task(main())
    turn()
    told = repr(future)
    assert told.startswith("<Future pending cb=[")
    assert "wakeup" in told
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)


def test_repr_of_a_future_that_holds_itself(loop):
    future = Future(loop=loop)
    future.set_result(future)
    assert repr(future) == "<Future finished result=<Future finis...ult=...>>" or len(repr(future)) < 200
    future = Future(loop=loop)
    future.set_result([future] * 3)
    assert len(repr(future)) < 500

    class Callback:
        def __init__(self, future):
            self.future = future

        def __call__(self, future): ...

        def __repr__(self):
            return f"Callback({self.future!r})"

    future = Future(loop=loop)
    future.add_done_callback(Callback(future))
    assert len(repr(future)) < 500
    gc.collect()


def test_repr_of_a_result_whose_repr_raises(loop):
    class Bad:
        def __repr__(self):
            raise LookupError("in repr")

    future = Future(loop=loop)
    future.set_result(Bad())
    try:
        told = repr(future)
    except LookupError:
        pass
    else:
        assert told.startswith("<Future finished")


def test_repr_of_a_loops_life(loop):
    assert "running=False closed=False debug=False" in repr(loop)
    assert repr(loop).startswith("<")
    assert type(loop).__name__ in repr(loop)
