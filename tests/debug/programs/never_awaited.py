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
        loop.sock_recv_into(a, bytearray(1))
        loop.sock_recvfrom(a, 1)
        loop.sock_recvfrom_into(a, bytearray(1))
        loop.sock_sendto(a, b"", "")
        loop.sock_connect(a, "")
        loop.sock_accept(a)
        loop.sock_sendfile(a, None)
        loop.connect_read_pipe(asyncio.Protocol, a)
        loop.connect_write_pipe(asyncio.Protocol, a)
        loop.connect_accepted_socket(asyncio.Protocol, a)
        loop.create_unix_connection(asyncio.Protocol, sock=a)
        loop.create_unix_server(asyncio.Protocol, sock=a)
        loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=a)
    loop.getnameinfo(("127.0.0.1", 1))
    loop.sendfile(None, None)
    loop.start_tls(None, None, None)
    loop.subprocess_exec(asyncio.SubprocessProtocol, "x")
    loop.subprocess_shell(asyncio.SubprocessProtocol, "x")
    loop.shutdown_asyncgens()
    loop.shutdown_default_executor()
    gc.collect()


async def makes_more():
    asyncio.Queue().join()
    condition = asyncio.Condition()
    condition.wait()
    condition.wait_for(print)
    asyncio.Barrier(2).wait()
    asyncio.Lock().__aenter__()
    asyncio.Lock().__aexit__(None, None, None)
    asyncio.TaskGroup().__aenter__()
    asyncio.timeout(1).__aenter__()
    reader = asyncio.StreamReader()
    reader.read()
    reader.readline()
    reader.readexactly(1)
    reader.readuntil()
    asyncio.start_server(print)
    asyncio.open_unix_connection("x")
    asyncio.start_unix_server(print, "x")
    asyncio.create_subprocess_exec("x")
    asyncio.create_subprocess_shell("x")
    gc.collect()


def deeper():
    return asyncio.Event().wait()


async def main():
    await makes_them()
    await makes_more()
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
