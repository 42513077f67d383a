"""Several interpreters in one process: each imports corolla and runs loops of its own."""

import sys
import textwrap

import impl
import pytest

pytestmark = [
    pytest.mark.skipif(not impl.IS_COROLLA, reason="about corolla's module state"),
    pytest.mark.timeout(120),
]

# The interpreters module has had three names, and two ways to say which configuration is meant.
MACHINERY = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

def create(isolated):
    if sys.version_info >= (3, 13):
        return interpreters.create("isolated" if isolated else "legacy")
    return interpreters.create(isolated=isolated)

def run_in(interpreter, source):
    failure = interpreters.run_string(interpreter, source)
    if failure is not None:
        print(getattr(failure, "errdisplay", failure), file=sys.stderr)
        raise SystemExit(1)

def finish():
    print("all done", flush=True)
    if sys.version_info < (3, 13):
        # 3.12 aborts at its exit once an isolated interpreter has imported _asyncio, with no module of ours.
        os._exit(0)

WORK = '''
import sys
sys.path[:] = {path!r}
import asyncio, corolla

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(data)
        self.transport.close()

async def child(i):
    await corolla.sleep(0)
    return i

async def main():
    loop = asyncio.get_running_loop()
    assert type(loop) is corolla.EventLoop
    assert type(asyncio.current_task()) is corolla.Task
    if sys.version_info >= (3, 12):  # before, the set of tasks is one of _asyncio's statics, and another interpreter's
        assert asyncio.all_tasks() == {{asyncio.current_task()}}
    assert await asyncio.gather(*(child(i) for i in range(50))) == list(range(50))
    await asyncio.sleep(0.0001)
    try:
        await asyncio.wait_for(loop.create_future(), 0.0001)
    except TimeoutError:
        pass
    future = loop.create_future()
    loop.call_soon_threadsafe(future.set_result, 5)
    assert await future == 5
    await loop.getaddrinfo("127.0.0.1", 80)
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"hello")
    assert await reader.read() == b"hello"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    return "done"

for _ in range({rounds}):
    assert corolla.run(main()) == "done"
'''.format(path=sys.path, rounds=3)
"""

SUBCLASS = """
corolla.Mark = 1
class Sub(corolla.Future): pass
"""

LEFT_OPEN = """
import logging, warnings
warnings.simplefilter("ignore")
logging.disable()
loop = corolla.new_event_loop()
async def forever():
    await loop.create_future()
task = loop.create_task(forever())
handle = loop.call_later(1000, print)
loop.run_until_complete(corolla.sleep(0))
future = corolla.Future(loop=loop)
future.add_done_callback(print)
coro = corolla.sleep(1)
iterator = iter(future)
next(iterator)
keep = [loop, task, handle, future, coro, iterator]
keep.append(keep)
coro.close()
"""

SIGNALS = """
import signal
async def try_signals():
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(signal.SIGUSR1, print)
    except (RuntimeError, ValueError):
        return "refused"
    loop.remove_signal_handler(signal.SIGUSR1)
    return "accepted"
assert corolla.run(try_signals()) == "refused"
"""

ISOLATED = pytest.param(
    True, marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="a lock for each interpreter came with 3.12")
)


@pytest.mark.parametrize("isolated", [False, ISOLATED])
@pytest.mark.parametrize("main_first", [False, True])
def test_a_second_import(python, isolated, main_first):
    source = f"""
    before = {main_first}
    if before:
        exec(WORK)
    interpreter = create({isolated})
    run_in(interpreter, WORK)
    run_in(interpreter, WORK)
    interpreters.destroy(interpreter)
    exec(WORK)
    finish()
    """
    assert python(MACHINERY + textwrap.dedent(source)) == "all done\n"


@pytest.mark.parametrize("isolated", [False, ISOLATED])
def test_one_after_the_other(python, isolated):
    source = f"""
    for _ in range(8):
        interpreter = create({isolated})
        run_in(interpreter, WORK)
        interpreters.destroy(interpreter)
    finish()
    """
    assert python(MACHINERY + textwrap.dedent(source)) == "all done\n"


@pytest.mark.skipif(
    sys.version_info < (3, 12),
    reason="_asyncio remembers the running loop in a static there, by a number that two interpreters' threads share",
)
@pytest.mark.parametrize("isolated", [False, ISOLATED])
def test_side_by_side_in_threads(python, isolated):
    """Seen in python/cpython issues 84474, 96336 and 91375: statics shared between interpreters were freed by one and used by
    another, and a second one was told that a loop was running."""
    source = f"""
    failures = []

    def thread():
        try:
            interpreter = create({isolated})
            run_in(interpreter, WORK)
            interpreters.destroy(interpreter)
        except BaseException as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=thread) for _ in range(4)]
    for one in threads:
        one.start()
    exec(WORK)
    for one in threads:
        one.join()
    assert failures == [], failures
    finish()
    """
    assert python(MACHINERY + textwrap.dedent(source)) == "all done\n"


@pytest.mark.parametrize("isolated", [False, ISOLATED])
def test_types_are_not_shared(python, isolated):
    source = f"""
    import corolla
    interpreter = create({isolated})
    run_in(interpreter, WORK + {SUBCLASS!r})
    assert not hasattr(corolla, "Mark")
    assert "Sub" not in [kind.__name__ for kind in corolla.Future.__subclasses__()]
    interpreters.destroy(interpreter)
    gc.collect()
    corolla.run(corolla.sleep(0))
    finish()
    """
    assert python(MACHINERY + textwrap.dedent(source)) == "all done\n"


@pytest.mark.parametrize("isolated", [False, ISOLATED])
def test_destroyed_with_loops_left_open(python, isolated):
    source = f"""
    interpreter = create({isolated})
    run_in(interpreter, WORK + {LEFT_OPEN!r})
    interpreters.destroy(interpreter)
    exec(WORK)
    finish()
    """
    assert python(MACHINERY + textwrap.dedent(source), "-W", "ignore") == "all done\n"


def test_signals_degrade_outside_the_main_interpreter(python):
    source = f"""
    interpreter = create(False)
    run_in(interpreter, WORK + {SIGNALS!r})
    interpreters.destroy(interpreter)
    finish()
    """
    assert python(MACHINERY + textwrap.dedent(source)) == "all done\n"


def test_reloading_the_module(python):
    # Removed from sys.modules and imported anew: a second module object with types of its own.
    source = """
    import corolla
    first = corolla.Future
    for name in [name for name in sys.modules if name.startswith("corolla")]:
        del sys.modules[name]
    del corolla
    import corolla
    corolla.run(corolla.sleep(0))
    loop = corolla.new_event_loop()
    if corolla.Future is not first:
        future = first(loop=loop)   # a foreign future to this module: awaited by the protocol
        loop.call_soon(future.set_result, 5)
        async def main():
            return await future
        assert loop.run_until_complete(main()) == 5
    loop.close()
    print("all done")
    """
    assert python(source) == "all done\n"
