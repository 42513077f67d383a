"""Mangled TLS, a few seconds of it; fuzz_tls.py goes on for as long as it is told."""

import os

import pytest
from tls.fuzz_tls import Case, run_cases

SEED = 20260
# Sanitizers make everything several times as slow.
CASES = 150 if os.environ.get("COROLLA_SANITIZED") else 1000


@pytest.mark.timeout(120)
@pytest.mark.parametrize("part", range(3))
def test_mangled(loop, part):
    counts = loop.run_until_complete(run_cases(SEED, part * CASES, CASES))
    # Or else it would prove nothing: that handshakes are completed, are not, and that all that was said can get through.
    assert counts["made"] > CASES // 3
    assert counts["failed"] > CASES // 20
    assert counts["whole"] > CASES // 20


def test_what_was_not_said_is_seen(loop, monkeypatch):
    """The test of the test: a protocol that gets a byte too many."""

    def end(self, task):
        self.protocol.got += b"!"
        return original(self, task)

    original = Case.end
    monkeypatch.setattr(Case, "end", end)
    with pytest.raises(Exception, match="what the peer has not said"):
        loop.run_until_complete(run_cases(SEED, 0, 40))
