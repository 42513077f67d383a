"""How debug mode is switched on and off."""

import asyncio
import sys


async def answers():
    loop = asyncio.get_running_loop()
    return loop.get_debug(), sys.get_coroutine_origin_tracking_depth()


async def switches():
    loop = asyncio.get_running_loop()
    seen = []
    for debug in (True, False, True):
        loop.set_debug(debug)
        await asyncio.sleep(0.001)
        seen.append((loop.get_debug(), sys.get_coroutine_origin_tracking_depth()))
    return seen


print("run()", asyncio.run(answers()))
print("run(debug=None)", asyncio.run(answers(), debug=None))
print("run(debug=True)", asyncio.run(answers(), debug=True))
print("run(debug=False)", asyncio.run(answers(), debug=False))
with asyncio.Runner(debug=True) as runner:
    print("Runner(debug=True)", runner.run(answers()), runner.get_loop().get_debug())
with asyncio.Runner(debug=False) as runner:
    print("Runner(debug=False)", runner.run(answers()), runner.get_loop().get_debug())
loop = asyncio.new_event_loop()
print("new_event_loop()", loop.get_debug(), loop)
print(sys.get_coroutine_origin_tracking_depth())
sys.set_coroutine_origin_tracking_depth(3)
print(loop.run_until_complete(switches()))
print(loop.get_debug(), sys.get_coroutine_origin_tracking_depth())
loop.set_debug(0)
print(loop.get_debug())
loop.set_debug(1)
print(loop.get_debug())
loop.close()
