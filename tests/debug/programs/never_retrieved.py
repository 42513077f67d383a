"""Exceptions that nobody looks at, and tasks that go before their end, say where they were made."""

import asyncio
import gc


async def fails():
    raise ValueError("nobody looks")


async def waits():
    await asyncio.get_running_loop().create_future()


async def waits_for(future):
    await future


def makes_a_future(loop):
    future = loop.create_future()
    future.set_exception(LookupError("future"))


async def main():
    loop = asyncio.get_running_loop()
    makes_a_future(loop)
    gc.collect()
    future = asyncio.Future()
    future.set_exception(LookupError("by its class"))
    del future
    gc.collect()
    task = asyncio.create_task(fails(), name="task")
    await asyncio.sleep(0)
    del task
    await asyncio.sleep(0.001)
    gc.collect()
    loop.create_task(fails(), name="by the loop")
    await asyncio.sleep(0.001)
    gc.collect()
    asyncio.ensure_future(fails()).set_name("ensured")
    await asyncio.sleep(0.001)
    gc.collect()
    group = asyncio.gather(fails(), return_exceptions=False)
    await asyncio.sleep(0.001)
    del group
    gc.collect()

    task = asyncio.create_task(waits(), name="destroyed")
    await asyncio.sleep(0)
    del task
    gc.collect()
    loop.set_debug(False)
    task = asyncio.create_task(waits(), name="destroyed without debug")
    await asyncio.sleep(0)
    del task
    gc.collect()
    makes_a_future(loop)
    gc.collect()


asyncio.run(main())
