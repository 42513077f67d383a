"""Sockets that block are refused."""

import asyncio
import socket


async def attempt(name, awaitable):
    try:
        await awaitable
    except Exception as error:
        print(f"{name}: {type(error).__name__}: {error}")
    else:
        print(f"{name}: nothing raised")


async def main():
    loop = asyncio.get_running_loop()
    a, b = socket.socketpair()
    udp = socket.socket(type=socket.SOCK_DGRAM)
    with a, b, udp, open(__file__, "rb") as file:
        for timeout in (None, 1):
            a.settimeout(timeout)
            udp.settimeout(timeout)
            await attempt("sock_recv", loop.sock_recv(a, 1))
            await attempt("sock_recv_into", loop.sock_recv_into(a, bytearray(1)))
            await attempt("sock_sendall", loop.sock_sendall(a, b"x"))
            await attempt("sock_connect", loop.sock_connect(a, ("127.0.0.1", 1)))
            await attempt("sock_accept", loop.sock_accept(a))
            await attempt("sock_sendfile", loop.sock_sendfile(a, file))
            await attempt("sock_recvfrom", loop.sock_recvfrom(udp, 1))
            await attempt("sock_recvfrom_into", loop.sock_recvfrom_into(udp, bytearray(1)))
            await attempt("sock_sendto", loop.sock_sendto(udp, b"x", ("127.0.0.1", 1)))


asyncio.run(main())
