"""For the programs, before their first line: stacks in full, and with COROLLA_DEBUG_TEST=corolla, corolla.install()."""

import asyncio.constants
import os

# All frames: of ten, asyncio's own take six.
asyncio.constants.DEBUG_STACK_DEPTH = 100

if os.environ.get("COROLLA_DEBUG_TEST") == "corolla":
    import corolla

    corolla.install()
