"""What programs that fork have in front."""

import textwrap

FORKED = """
def forked(child):
    '''Runs child() in a forked process; its exit status.'''
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            child()
            status = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

async def returns(value=None):
    await asyncio.sleep(0)
    return value

def run(coro, debug=None):
    with asyncio.Runner(loop_factory=impl.new_event_loop, debug=debug) as runner:
        return runner.run(coro)
"""


def program(body: str) -> str:
    return FORKED + textwrap.dedent(body)
