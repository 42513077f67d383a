"""What the process holds, and by how much it grew over many rounds of an operation."""

import ctypes
import gc
import os
import sys
from collections.abc import Callable
from typing import Any

WARM_UP = 100
ROUNDS = 1000
ATTEMPTS = 5

# A leak of one object a round shows as 1000. What moves without a leak: a dict or a list that grew once, a cache of the
# interpreter or of re, linecache, warnings that filled, free lists of ours and theirs, one thread more in an executor.
BLOCKS = 100
OBJECTS = 50
REFERENCES = 200
# 40 bytes a round: the smallest struct of ours is larger. Arenas grow in steps, so there is more to forgive.
BYTES = 40 * ROUNDS


class Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


def malloc_bytes() -> int:
    """Bytes handed out by malloc() and not yet freed: the reactor's structures are no Python objects. 0: not known."""
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return 0
    mallinfo2.restype = Mallinfo
    info = mallinfo2()
    return int(info.uordblks + info.hblkhd)


def held() -> dict[str, int]:
    gc.collect()
    gc.collect()
    counts = {
        "blocks": sys.getallocatedblocks(),
        "objects": len(gc.get_objects()),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "malloc bytes": malloc_bytes(),
    }
    if hasattr(sys, "gettotalrefcount"):
        counts["references"] = sys.gettotalrefcount()
    return counts


LIMITS = {"blocks": BLOCKS, "objects": OBJECTS, "descriptors": 0, "malloc bytes": BYTES, "references": REFERENCES}


def grown(operation: Callable[[], Any], rounds: int = ROUNDS) -> dict[str, int]:
    """By how much each count grew beyond its limit over those rounds."""
    for _ in range(WARM_UP):
        operation()
    excess = {}
    # A leak grows each time. What fills a cache or a free list grows less and less: by 93, 285, 3 and 6 blocks, say.
    for _ in range(ATTEMPTS):
        before = held()
        for _ in range(rounds):
            operation()
        after = held()
        excess = {name: after[name] - before[name] for name in before if after[name] - before[name] > LIMITS[name]}
        if not excess:
            break
    return excess
