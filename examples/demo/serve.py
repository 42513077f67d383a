"""One application on one event loop in this process: `serve.py APP IMPLEMENTATION CORE SECONDS`.

The only file of the demo that names a loop. Says on stdout, in one line of JSON, what runs and on which port.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

Run = Callable[[Coroutine[Any, Any, None]], None]


def with_asyncio() -> Run:
    return asyncio.run


def with_uvloop() -> Run:
    import uvloop

    return uvloop.run


def with_corolla() -> Run:
    import corolla

    return corolla.run


def with_corolla_installed() -> Run:
    import corolla

    corolla.install()
    return asyncio.run


# Each is called before the application is imported. What stands before a "+" is the package of the loop.
IMPLEMENTATIONS: dict[str, Callable[[], Run]] = {
    "asyncio": with_asyncio,
    "uvloop": with_uvloop,
    "corolla": with_corolla,
    "corolla+install": with_corolla_installed,
}
APPS = {"aiohttp": "app_aiohttp", "uvicorn": "app_starlette"}


def announce(port: int) -> None:
    loop = type(asyncio.get_running_loop())
    print(json.dumps({"port": port, "loop": f"{loop.__module__}.{loop.__qualname__}"}), flush=True)


def main() -> None:
    app, implementation, core, seconds = sys.argv[1:]
    # Nobody has to outlive the demo to make sure that this process does not.
    signal.alarm(int(seconds))
    if int(core) >= 0:
        os.sched_setaffinity(0, {int(core)})
    run = IMPLEMENTATIONS[implementation]()
    run(importlib.import_module(APPS[app]).serve(announce))


if __name__ == "__main__":
    main()
