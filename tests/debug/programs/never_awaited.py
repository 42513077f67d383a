"""Coroutines that nobody awaits say so, and where they were made."""

import asyncio
import gc
import socket


async def own():
    pass


class Holder:
    async def method(self):
        pass


async def makes_them():
    loop = asyncio.get_running_loop()
    own()
    Holder().method()
    asyncio.sleep(1)
    asyncio.sleep(0)
    asyncio.wait_for(None, 1)
    asyncio.wait([])
    asyncio.to_thread(print)
    asyncio.Queue().get()
    asyncio.Queue().put(1)
    asyncio.Lock().acquire()
    asyncio.Event().wait()
    asyncio.Semaphore().acquire()
    asyncio.open_connection("127.0.0.1", 1)
    loop.create_connection(asyncio.Protocol, "127.0.0.1", 1)
    loop.create_server(asyncio.Protocol, "127.0.0.1", 1)
    loop.getaddrinfo("127.0.0.1", 1)
    a, b = socket.socketpair()
    with a, b:
        a.setblocking(False)
        loop.sock_recv(a, 1)
        loop.sock_sendall(a, b"")
    loop.shutdown_asyncgens()
    gc.collect()


def deeper():
    return asyncio.Event().wait()


async def main():
    await makes_them()
    deeper()
    coro = deeper()
    print([entry[1:] for entry in coro.cr_origin if entry[0] == __file__])
    del coro
    kept = asyncio.Event().wait()
    kept.close()
    asyncio.get_running_loop().set_debug(False)
    await asyncio.sleep(0.001)  # asyncio does so with a callback
    coro = own()
    print(coro.cr_origin)
    del coro
    coro = asyncio.Event().wait()
    print(coro.cr_origin)
    del coro


asyncio.run(main())
own()
asyncio.Event().wait()
