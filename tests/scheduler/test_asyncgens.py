"""The loop: hooks for asynchronous generators, and shutdown_asyncgens()."""

import asyncio
import gc
import sys

import impl
import pytest


async def numbers(log):
    try:
        for i in range(100):
            yield i
    finally:
        await asyncio.sleep(0)
        log.append("finalised")


async def fails_when_closed():
    try:
        yield 1
    finally:
        raise ZeroDivisionError("while closing")


def test_hooks_are_there_only_while_it_runs(loop):
    before = sys.get_asyncgen_hooks()
    inside = []
    loop.call_soon(lambda: inside.append(sys.get_asyncgen_hooks()))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert inside[0].firstiter is not None
    assert inside[0].finalizer is not None
    assert sys.get_asyncgen_hooks() == before


def test_hooks_of_before_are_restored(loop):
    def firstiter(generator): ...

    def finalizer(generator): ...

    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=firstiter, finalizer=finalizer)
    try:

        def interrupt():
            raise KeyboardInterrupt

        loop.call_soon(interrupt)
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        assert sys.get_asyncgen_hooks() == (firstiter, finalizer)
        loop.run_until_complete(asyncio.sleep(0))
        assert sys.get_asyncgen_hooks() == (firstiter, finalizer)
    finally:
        sys.set_asyncgen_hooks(*before)


def test_a_dropped_generator_is_closed_by_the_loop(loop):
    log = []

    async def main():
        async for i in numbers(log):
            if i == 3:
                break
        gc.collect()
        for _ in range(5):
            await asyncio.sleep(0)
        assert log == ["finalised"]

    loop.run_until_complete(main())


def test_shutdown_closes_what_is_left(loop):
    log = []
    kept = []

    async def main():
        for _ in range(3):
            generator = numbers(log)
            kept.append(generator)
            assert await anext(generator) == 0

    loop.run_until_complete(main())
    assert log == []
    assert loop.run_until_complete(loop.shutdown_asyncgens()) is None
    assert log == ["finalised"] * 3


def test_shutdown_with_nothing_to_do(loop):
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_asyncgens())


def test_an_error_while_closing_is_reported(loop, reports):
    kept = fails_when_closed()

    async def main():
        await anext(kept)

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_asyncgens())
    report = reports.pop()
    assert report["message"] == f"an error occurred during closing of asynchronous generator {kept!r}"
    assert isinstance(report["exception"], ZeroDivisionError)
    assert report["asyncgen"] is kept


def test_a_generator_begun_after_shutdown_is_warned_of(loop):
    loop.run_until_complete(loop.shutdown_asyncgens())

    async def main():
        generator = numbers([])
        await anext(generator)
        await generator.aclose()

    with pytest.warns(ResourceWarning, match=r"was scheduled after loop.shutdown_asyncgens\(\) call"):
        loop.run_until_complete(main())


def test_a_generator_that_outlives_its_loop():
    log = []
    loop = impl.new_event_loop()
    generator = numbers(log)

    async def main():
        await anext(generator)

    loop.run_until_complete(main())
    loop.close()
    del generator
    gc.collect()
    assert log == []


def test_a_generator_dropped_by_another_thread(loop):
    log = []
    generators = []

    async def main():
        generator = numbers(log)
        await anext(generator)
        generators.append(generator)
        del generator
        await loop.run_in_executor(None, generators.clear)
        for _ in range(5):
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())
    assert log == ["finalised"]


def test_finished_generators_are_forgotten(loop):
    async def short():
        yield 1

    async def main():
        return [i for _ in range(100) async for i in short()]

    assert loop.run_until_complete(main()) == [1] * 100
    loop.run_until_complete(loop.shutdown_asyncgens())


def test_asyncio_run_shuts_them_down():
    log = []
    kept = []

    async def main():
        generator = numbers(log)
        kept.append(generator)
        await anext(generator)

    if sys.version_info >= (3, 12):
        asyncio.run(main(), loop_factory=impl.new_event_loop)
    else:
        with asyncio.Runner(loop_factory=impl.new_event_loop) as runner:
            runner.run(main())
    assert log == ["finalised"]
