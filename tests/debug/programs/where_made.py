"""In debug mode objects know where they were made, and show it."""

import asyncio


def own_frames(thing):
    made = thing._source_traceback
    if made is None:
        return None
    return [(frame.lineno, frame.name) for frame in made if frame.filename == __file__]


async def waits():
    await asyncio.sleep(10)


def callback(*args):
    pass


def show(name, thing):
    print(name, thing, own_frames(thing))


async def main():
    loop = asyncio.get_running_loop()
    for debug in (True, False):
        print("debug", debug)
        loop.set_debug(debug)
        show("future", loop.create_future())
        show("Future", asyncio.Future())
        future = loop.create_future()
        future.add_done_callback(callback)
        future.set_result("x")
        show("done", future)
        handles = [
            loop.call_soon(callback),
            loop.call_soon(callback, 1, 2),
            loop.call_soon(callback, 1, 2, 3, 4, 5, 6),
            loop.call_soon_threadsafe(callback),
            loop.call_later(10, callback, "x"),
            loop.call_at(loop.time() + 10, callback),
        ]
        for handle in handles:
            show("handle", handle)
            handle.cancel()
            show("cancelled", handle)
        made = asyncio.Handle(callback, (1,), loop), asyncio.TimerHandle(12.5, callback, (), loop)
        for handle in made:
            show("made", handle)
            handle.cancel()
            show("cancelled", handle)
        task = asyncio.create_task(waits(), name="mine")
        show("task", task)
        await asyncio.sleep(0)
        show("task", task)
        task.add_done_callback(callback)
        show("task", task)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass
        show("task", task)
        show("reader", asyncio.StreamReader())
    print(loop)


asyncio.run(main())
