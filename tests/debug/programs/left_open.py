"""What is left open says so when it is collected, and where it was made. To be run with -X tracemalloc."""

import asyncio
import gc
import os
import socket
import tracemalloc
import warnings


async def server_and_client():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    client, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
    await asyncio.sleep(0.005)


async def unix():
    loop = asyncio.get_running_loop()
    a, b = socket.socketpair()
    await loop.create_unix_connection(asyncio.Protocol, sock=a)
    await loop.create_unix_connection(asyncio.Protocol, sock=b)


async def datagram():
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))


async def pipes():
    loop = asyncio.get_running_loop()
    r, w = os.pipe()
    await loop.connect_read_pipe(asyncio.Protocol, os.fdopen(r, "rb"))
    await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(w, "wb"))


async def streams():
    a, b = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=a)
    b.close()


async def nothing():
    pass


def leave(main):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()


def loop():
    asyncio.new_event_loop().run_until_complete(nothing())


def reports(act, *args):
    """In order, since the collector has none."""
    said = []

    def report(warning):
        # Now: the source is being freed, and what keeps it alive is where it will have been made.
        made = warning.source and tracemalloc.get_object_traceback(warning.source)
        lines = made and [frame.lineno for frame in made if frame.filename == __file__]
        said.append(f"{warning.category.__name__}: {warning.message} made by {lines}")

    warnings._showwarnmsg = report
    act(*args)
    gc.collect()
    print(*sorted(said), sep="\n")


for main in (server_and_client, unix, datagram, pipes, streams):
    print(f"# {main.__name__}")
    reports(leave, main)
print("# loop")
reports(loop)
