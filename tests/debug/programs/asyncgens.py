"""Asynchronous generators that are left, and what they raise when they are closed."""

import asyncio
import gc


async def generator():
    try:
        yield 1
        yield 2
    finally:
        print("closed")


async def fails():
    try:
        yield 1
    finally:
        raise ValueError("while closing")


async def main():
    loop = asyncio.get_running_loop()
    async for item in generator():
        print(item)
        break
    gc.collect()
    await asyncio.sleep(0.001)
    left = fails()
    print(await anext(left))
    await loop.shutdown_asyncgens()
    del left
    late = generator()
    print(await anext(late))
    await late.aclose()


asyncio.run(main())
