"""The end of the interpreter: objects made, shown and freed in atexit hooks, in __del__ and after the modules are gone."""

import pytest
from impl import beyond_stdlib
from interpreters.conftest import run

pytestmark = pytest.mark.timeout(120)

OBJECTS = """
import atexit, logging
logging.disable()
warnings.simplefilter("ignore")

async def forever():
    await asyncio.get_running_loop().create_future()

async def returns():
    return 1

def make(loop):
    '''One of everything.'''
    future = impl.Future(loop=loop)
    future.add_done_callback(print)
    failed = impl.Future(loop=loop)
    failed.set_exception(ValueError())
    task = impl.Task(forever(), loop=loop)
    handle = loop.call_soon(print)
    timer = loop.call_later(1000, print, *range(7))
    iterator = iter(impl.Future(loop=loop))
    coro = impl.sleep(0)
    return [future, failed, task, handle, timer, iterator, coro, loop]

def show(things):
    for thing in things:
        repr(thing)
        hasattr(thing, "done") and thing.done()
"""

PROGRAMS = {
    "globals left as they are": """
        things = make(impl.new_event_loop())
    """,
    "a loop that was run": """
        loop = impl.new_event_loop()
        things = make(loop)
        loop.call_soon(loop.stop)
        loop.run_forever()
    """,
    "cycles": """
        things = make(impl.new_event_loop())
        things.append(things)
        for thing in things:
            try:
                thing.things = things
            except AttributeError:
                pass
    """,
    "a closed loop": """
        loop = impl.new_event_loop()
        things = make(loop)
        loop.close()
    """,
    "made in atexit": """
        def hook():
            loop = impl.new_event_loop()
            global things
            things = make(loop)
            show(things)
            loop.run_until_complete(returns())
            things[2].cancel()
            loop.call_soon(loop.stop)
            loop.run_forever()
        atexit.register(hook)
    """,
    "run in atexit": """
        def hook():
            async def main():
                return await asyncio.gather(*(returns() for _ in range(10)))
            loop = impl.new_event_loop()
            assert loop.run_until_complete(main()) == [1] * 10
            loop.close()
        atexit.register(hook)
    """,
    "made in __del__": """
        class Dying:
            def __init__(self, loop):
                self.loop, self.make, self.show = loop, make, show
            def __del__(self):
                try:
                    self.things = self.make(self.loop)
                    self.show(self.things)
                except Exception:
                    pass
        dying = Dying(impl.new_event_loop())
    """,
    "shown in __del__": """
        class Dying:
            def __init__(self, things):
                self.things = things
            def __del__(self):
                for thing in self.things:
                    try:
                        repr(thing)
                        thing.cancel()
                        thing.done()
                        thing.result()
                    except BaseException:
                        pass
        dying = Dying(make(impl.new_event_loop()))
        sys.modules["keeps it to the very end"] = dying
    """,
    "kept by the sys module": """
        sys.kept = make(impl.new_event_loop())
    """,
    "kept by a builtin": """
        import builtins
        builtins.kept = make(impl.new_event_loop())
        builtins.kept.append(builtins.kept)
    """,
    "kept by a class of a thread": """
        local = threading.local()
        local.things = make(impl.new_event_loop())
    """,
    "modules removed by hand": """
        things = make(impl.new_event_loop())
        for name in list(sys.modules):
            if name.startswith(("corolla", "asyncio", "_asyncio", "impl")):
                del sys.modules[name]
        del impl, asyncio
        gc.collect()
        show(things)
    """,
    "exit in the middle of a run": """
        async def main():
            keep.extend(make(asyncio.get_running_loop()))
            sys.exit(0)
        keep = []
        loop = impl.new_event_loop()
        loop.run_until_complete(main())
    """,
    "a thread that runs a loop to the end": """
        started = threading.Event()
        def thread():
            loop = impl.new_event_loop()
            loop.call_soon(started.set)
            loop.run_forever()
        threading.Thread(target=thread, daemon=True).start()
        started.wait()
    """,
    "a thread that is busy in its loop": """
        started = threading.Event()
        def thread():
            loop = impl.new_event_loop()
            def again():
                started.set()
                loop.call_soon(again)
            loop.call_soon(again)
            loop.run_forever()
        threading.Thread(target=thread, daemon=True).start()
        started.wait()
    """,
    "threads that call into a loop": """
        loop = impl.new_event_loop()
        started = threading.Event()
        def thread():
            while True:
                loop.call_soon_threadsafe(int)
                started.set()
        threading.Thread(target=thread, daemon=True).start()
        started.wait()
    """,
    "executor jobs under way": """
        loop = impl.new_event_loop()
        go_on = threading.Event()
        future = loop.run_in_executor(None, go_on.wait)
        loop.call_soon(loop.stop)
        loop.run_forever()
        go_on.set()
    """,
    "look-ups under way": """
        loop = impl.new_event_loop()
        tasks = [loop.create_task(loop.getaddrinfo("localhost", 80)) for _ in range(10)]
        loop.call_soon(loop.stop)
        loop.run_forever()
    """,
    "connections open": """
        loop = impl.new_event_loop()
        async def main():
            server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            return server, [await loop.create_connection(asyncio.Protocol, "127.0.0.1", port) for _ in range(5)]
        kept = loop.run_until_complete(main())
    """,
    "asynchronous generators open": """
        async def numbers():
            try:
                yield 1
            finally:
                await asyncio.sleep(0)
        async def main():
            generator = numbers()
            await anext(generator)
            return generator
        loop = impl.new_event_loop()
        generator = loop.run_until_complete(main())
    """,
}


@beyond_stdlib("asyncio's C code crashes in some of these, on some versions")
@pytest.mark.parametrize("name", PROGRAMS)
def test_exit(name):
    import textwrap

    done = run(OBJECTS + textwrap.dedent(PROGRAMS[name]), "-W", "ignore")
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stderr}"
    assert "Fatal" not in done.stderr
    assert "SystemError" not in done.stderr


def test_the_test_sees_a_crash():
    # The default action: a sanitizer has a handler of its own.
    done = run("signal.signal(signal.SIGSEGV, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGSEGV)")
    assert done.returncode == -11


def test_nothing_is_said_at_a_clean_exit(python):
    source = """
    async def main():
        await asyncio.gather(*(asyncio.sleep(0) for _ in range(10)))
        print("done")

    with asyncio.Runner(loop_factory=impl.new_event_loop) as runner:
        runner.run(main())
    """
    assert python(source, "-X", "dev", "-W", "error") == "done\n"
