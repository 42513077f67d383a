"""What an exception handler is given, and what the default one makes of it."""

import asyncio
import gc


def show(loop, context):
    print({key: type(value).__name__ if key not in ("message",) else value for key, value in sorted(context.items())})


def fails(*args):
    raise ValueError("no")


async def raises():
    raise ValueError("task")


async def waits():
    await asyncio.get_running_loop().create_future()


def reports_from_a_callback(loop):
    loop.call_exception_handler({"message": "from a callback"})


async def main():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(show)
    for debug in (True, False):
        loop.set_debug(debug)
        loop.call_soon(fails)
        await asyncio.sleep(0.001)
        task = asyncio.create_task(raises())
        await asyncio.sleep(0.001)
        del task
        future = loop.create_future()
        future.set_exception(ValueError())
        del future
        task = asyncio.create_task(waits())
        await asyncio.sleep(0)
        del task
        gc.collect()
        reports_from_a_callback(loop)

    loop.set_debug(True)
    loop.set_exception_handler(None)
    loop.call_soon(reports_from_a_callback, loop)
    await asyncio.sleep(0.001)
    loop.call_later(0.001, reports_from_a_callback, loop)
    await asyncio.sleep(0.005)
    reports_from_a_callback(loop)
    future = loop.create_future()
    future.add_done_callback(lambda future: reports_from_a_callback(loop))
    future.set_result(None)
    await asyncio.sleep(0.001)
    loop.call_exception_handler(
        {"message": "everything", "exception": ValueError("x"), "zebra": 1, "asyncgen": "gen", "other": object}
    )

    def handler(loop, context):
        raise ValueError("in the handler")

    loop.set_exception_handler(handler)
    loop.call_exception_handler({"message": "to a handler that fails"})
    loop.set_exception_handler(None)


asyncio.run(main())
