"""What cannot be called back is refused where it is given."""

import asyncio


async def function():
    pass


def attempt(name, call, *args):
    try:
        call(*args)
    except Exception as error:
        print(f"{name}: {type(error).__name__}: {error}")
    else:
        print(f"{name}: nothing raised")


async def main():
    loop = asyncio.get_running_loop()
    for debug in (True, False):
        loop.set_debug(debug)
        print("debug", debug)
        coro = function()
        for bad in (function, coro, None, 5) if debug else (function,):
            attempt("call_soon", loop.call_soon, bad)
            attempt("call_soon_threadsafe", loop.call_soon_threadsafe, bad)
            attempt("call_later", loop.call_later, 0.001, bad)
            attempt("call_at", loop.call_at, loop.time(), bad)
            attempt("run_in_executor", loop.run_in_executor, None, bad)
        for bad in (function, coro, None) if debug else ():
            attempt("add_signal_handler", loop.add_signal_handler, 10, bad)
        coro.close()


asyncio.run(main())
