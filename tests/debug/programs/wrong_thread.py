"""What is not safe to call from another thread raises."""

import asyncio
import threading


def from_another_thread(act, *args):
    def run():
        try:
            result = act(*args)
        except BaseException as error:
            print(f"{act.__qualname__}: {type(error).__name__}: {error}")
        else:
            print(f"{act.__qualname__}: nothing raised")
            if isinstance(result, asyncio.Handle):
                result.cancel()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


async def waits(future=None):
    await (future or asyncio.get_running_loop().create_future())


def nothing(future):
    pass


def add_callback(future):
    future.add_done_callback(lambda _: None)


def add_task(future):
    return asyncio.create_task(waits(future))


async def main():
    loop = asyncio.get_running_loop()

    def call_soon():
        loop.call_soon(print)

    def call_later():
        loop.call_later(1, print)

    def call_at():
        loop.call_at(loop.time() + 1, print)

    def call_soon_threadsafe():
        return loop.call_soon_threadsafe(int)

    def set_result(future):
        future.set_result(1)

    def set_exception(future):
        future.set_exception(ValueError())

    def cancel(future):
        future.cancel()

    def add_done_callback(future):
        future.add_done_callback(print)

    def create_task():
        coro = waits()
        try:
            loop.create_task(coro)
        except RuntimeError as error:
            raise error.with_traceback(None) from None  # the frames of asyncio's would keep the task
        finally:
            coro.close()

    def event_set(event):
        event.set()

    def put_nowait(queue):
        queue.put_nowait(1)

    def run_in_executor():
        return loop.run_in_executor(None, int)

    def create_future():
        loop.create_future()

    def handle_cancel(handle):
        handle.cancel()

    def run_coroutine_threadsafe():
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop)

    for act in (call_soon, call_later, call_at, call_soon_threadsafe, create_task, create_future, run_in_executor):
        from_another_thread(act)
    from_another_thread(run_coroutine_threadsafe)
    for act in (set_result, set_exception, cancel):
        for prepare in (nothing, add_callback, add_task):
            future = loop.create_future()
            waiting = prepare(future)
            await asyncio.sleep(0)
            print(prepare.__name__, end=" ")
            from_another_thread(act, future)
            print("done:", future.done())
            if future.done() and not future.cancelled():
                future.exception()
            # asyncio too leaves it asleep for good: the future is done, and its task was not told.
            if waiting is not None:
                waiting._log_destroy_pending = False

    future = loop.create_future()
    from_another_thread(add_done_callback, future)
    future.remove_done_callback(print)
    future.set_result(None)
    from_another_thread(add_done_callback, future)

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    from_another_thread(cancel, task)
    task._log_destroy_pending = False

    event = asyncio.Event()
    task = asyncio.create_task(event.wait())
    await asyncio.sleep(0)
    from_another_thread(event_set, event)
    task._log_destroy_pending = False

    queue = asyncio.Queue()
    task = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    from_another_thread(put_nowait, queue)
    task._log_destroy_pending = False

    from_another_thread(handle_cancel, loop.call_soon(print))
    from_another_thread(handle_cancel, loop.call_later(1, print))


# Not asyncio.run(): it would wait for the tasks that nobody told.
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
loop.run_until_complete(loop.shutdown_default_executor())
loop.close()
