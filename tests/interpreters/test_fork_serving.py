"""Out of debug mode a process may fork in the middle of a run: parent and child then serve at once, and whatever the child
does with what it has inherited, the parent's poller, wakeup and connections are as they were."""

import pytest
from impl import beyond_stdlib
from interpreters.forking import program

pytestmark = [
    pytest.mark.timeout(120),
    # 3.12 and later warn when a process with threads forks.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
]

SERVING = """
import pathlib, tempfile, time
warnings.simplefilter("ignore")

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        if data == b"quit":
            asyncio.get_running_loop().stop()
        self.transport.write(data)

async def ask(sock, data):
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, data)
    got = b""
    while len(got) < len(data):
        piece = await loop.sock_recv(sock, 100)
        assert piece, "closed"
        got += piece
    assert got == data, got

async def connect(port):
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return sock

async def ask_anew(port, data):
    with await connect(port) as sock:
        await ask(sock, data)

def shared():
    '''What the epoll sets of this process hold, which it shares with its children.'''
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == "anon_inode:[eventpoll]":
                lines = pathlib.Path(f"/proc/self/fdinfo/{name}").read_text().splitlines()
                found[name] = sorted(line for line in lines if line.startswith("tfd:"))
        except FileNotFoundError:
            pass
    return found

def serve(pipe):
    '''The child's own server, until it is told to quit.'''
    loop = impl.new_event_loop()
    server = loop.run_until_complete(loop.create_server(Echo, "127.0.0.1", 0))
    os.write(pipe, str(server.sockets[0].getsockname()[1]).encode())
    loop.run_forever()
    server.close()
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
"""

PARENT = """
async def main():
    global loop, server, unix, transport, datagram, streams, lookup, pending, generator, executed, process
    loop = asyncio.get_running_loop()
    path = os.path.join(directory, "socket")
    signals = []
    loop.add_signal_handler(signal.SIGUSR1, signals.append, 1)
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    unix = await loop.create_unix_server(Echo, path)
    transport, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", port)
    datagram, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
    streams = await asyncio.open_connection("127.0.0.1", port)
    old = await connect(port)
    for _ in range(3):
        await ask(old, b"a watch that is kept, and used again")
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    accepting = asyncio.ensure_future(loop.sock_accept(listening))
    executed = await asyncio.gather(*(loop.run_in_executor(None, int) for _ in range(3)))
    pending = [asyncio.ensure_future(asyncio.sleep(100)) for _ in range(3)]
    PIPE = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    lookup = asyncio.ensure_future(loop.getaddrinfo("localhost", 80))
    async def generate():
        yield 1
        yield 2
    generator = generate()
    await generator.__anext__()
    await asyncio.sleep(0)

    reading, writing = os.pipe()
    before = shared()
    pid = os.fork()
    if pid == 0:
        await in_child(writing)
        raise AssertionError("went on")
    os.close(writing)
    theirs = int(await loop.run_in_executor(None, os.read, reading, 100))
    os.close(reading)
    told = asyncio.Event()
    for i in range(20):
        data = b"round %d" % i
        await asyncio.gather(ask(old, data), ask_anew(port, data), ask_anew(theirs, data))
        await loop.run_in_executor(None, loop.call_soon_threadsafe, told.set)
        await told.wait()
        told.clear()
    await ask_anew(theirs, b"quit")
    status = os.waitstatus_to_exitcode((await loop.run_in_executor(None, os.waitpid, pid, 0))[1])
    assert status == expected, status
    # What the child had is gone, and nothing of it can be told.
    assert shared() == before, (shared(), before)
    assert os.path.exists(path)
    for i in range(5):
        await asyncio.gather(ask(old, b"again"), ask_anew(port, b"again"))
        os.kill(os.getpid(), signal.SIGUSR1)
        while len(signals) <= i:
            await asyncio.sleep(0)
    streams[1].write(b"by streams\\n")
    assert await streams[0].readline() == b"by streams\\n"
    process.stdin.write(b"to its own child\\n")
    assert await process.stdout.readline() == b"to its own child\\n"
    process.stdin.close()
    assert await process.wait() == 0
    with socket.create_connection(listening.getsockname()):
        (await accepting)[0].close()
    used = os.times()
    await asyncio.sleep(0.1)
    assert sum(os.times()[:2]) - sum(used[:2]) < 0.05, "spins"
    await lookup
    for task in pending:
        task.cancel()
    await generator.aclose()
    for sock in (old, listening):
        sock.close()
    for closing in (transport, datagram, streams[1], server, unix):
        closing.close()
    loop.remove_signal_handler(signal.SIGUSR1)
    await asyncio.sleep(0.01)

directory = tempfile.mkdtemp()
api.run(main())
os.rmdir(directory)
print("served")
"""

ACTS = {
    "nothing": "pass",
    "close": "loop.close(); loop.close()",
    "everything at once": "transport.close(); datagram.close(); streams[1].close(); server.close(); unix.close(); loop.close()",
    "transports": "transport.abort(); datagram.abort(); streams[1].transport.abort()",
    "close transports": "transport.close(); datagram.close(); streams[1].close()",
    "subprocess": "process._transport.close()",
    "servers": "server.close(); unix.close()",
    "collect": "del process, transport, datagram, streams, server, unix, pending, lookup, generator; gc.collect()",
    "pause": "transport.pause_reading()",
    "tasks": "lookup.cancel(); [task.cancel() for task in pending]",
}

NAMES = "global loop, server, unix, transport, datagram, streams, lookup, pending, generator, process"


def child(act, end):
    return f"""
async def in_child(pipe):
    {NAMES}
    {act}
    gc.collect()
    serve(pipe)
    {end}
"""


def serving(act, end, expected=0):
    own = "import corolla; api = corolla if impl.IS_COROLLA else asyncio\n"
    return own + SERVING + child(act, end) + f"\nexpected = {expected}\n" + PARENT


@beyond_stdlib("a child of asyncio's shares the parent's poller, and takes its descriptors out of it")
@pytest.mark.parametrize("act", ACTS)
def test_both_serve(python, act):
    assert python(program(serving(ACTS[act], "os._exit(0)"))) == "served\n"


@beyond_stdlib("its Runner runs the parent's tasks again in the child")
@pytest.mark.parametrize("act", ["nothing", "close", "collect"])
def test_the_child_exits(python, act):
    """Through Runner.close() and the end of the interpreter, where all that was inherited is let go of."""
    assert python(program(serving(ACTS[act], "sys.exit(7)", 7))) == "served\n"
