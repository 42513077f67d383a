"""The test of the test: what a leak check must see."""

import os

import pytest
from refleak.leaks import grown

pytestmark = pytest.mark.timeout(240)


@pytest.mark.parametrize("what", ["object", "block", "descriptor", "bytes"])
def test_leaks_are_seen(what):
    if what in ("block", "bytes") and os.environ.get("COROLLA_SANITIZED"):
        pytest.skip("a sanitizer's allocator counts neither")
    kept = []

    def leak():
        if what == "object":
            kept.append([])
        elif what == "block":
            kept.append(float(len(kept) + 0.5))
        elif what == "descriptor":
            if len(kept) < 300:
                kept.append(os.dup(0))
        else:
            kept.append(bytes(5000))

    rounds = 20 if what == "descriptor" else 1000
    try:
        excess = grown(leak, rounds)
    finally:
        if what == "descriptor":
            for fd in kept:
                os.close(fd)
    expected = {"object": "objects", "block": "blocks", "descriptor": "descriptors", "bytes": "malloc bytes"}[what]
    assert expected in excess
