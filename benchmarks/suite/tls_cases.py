"""TLS cases: echo, handshakes and idle connections, with aiofastnet on asyncio in a column of its own.

Those with one connection are aiofastnet's own benchmark, in our client's terms: a round trip of 256 B, 8 KiB, 32 KiB and
100,000 B to a BufferedProtocol, of 256 B and 16 KiB to a Protocol, and messages sent in pieces.
"""

from __future__ import annotations

from suite.implementations import AIOFASTNET
from suite.network_cases import NetworkCase

SIZES = {
    "256B": 256,
    "1KiB": 1024,
    "8KiB": 8192,
    "16KiB": 16_384,
    "32KiB": 32_768,
    "64KiB": 65_536,
    "100KB": 100_000,
}

# What is echoed in a quick run, in the default run besides, and in a full run besides.
QUICK = (("protocol", "1KiB", 64), ("streams", "1KiB", 64))
DEFAULT = (
    ("protocol", "64KiB", 64),
    ("streams", "64KiB", 64),
    ("protocol", "256B", 1),
    ("buffered", "256B", 1),
    ("buffered", "8KiB", 1),
    ("buffered", "100KB", 1),
    ("pieces", "8KiB", 1),
)
FULL = (
    ("buffered", "1KiB", 64),
    ("buffered", "64KiB", 64),
    ("pieces", "1KiB", 64),
    ("protocol", "16KiB", 1),
    ("buffered", "32KiB", 1),
    ("pieces", "100KB", 1),
    ("protocol", "1KiB", 512),
)

ALSO = (AIOFASTNET,)


def cases(quick: bool, full: bool) -> list[NetworkCase]:
    chosen = QUICK if quick else (*QUICK, *DEFAULT, *FULL) if full else (*QUICK, *DEFAULT)
    made = []
    for size, connections in dict.fromkeys((size, connections) for _, size, connections in chosen):
        raw = f"raw-{size}-{connections}"
        made.append(NetworkCase("tls", raw, "", "tls", connections, SIZES[size]))
        made += [
            NetworkCase(
                "tls",
                f"{kind}-{size}-{connections}",
                f"tls-{kind}",
                "tls",
                connections,
                SIZES[size],
                floor=f"tls/{raw}",
                also=ALSO,
            )
            for kind, its_size, its_connections in chosen
            if (its_size, its_connections) == (size, connections)
        ]
    for kind in ("full", "resumed"):
        made.append(NetworkCase("handshakes", f"raw-{kind}", "", f"tls-{kind}", 64))
        floor = f"handshakes/raw-{kind}"
        made.append(NetworkCase("handshakes", kind, "tls-protocol", f"tls-{kind}", 64, floor=floor, also=ALSO))
    idle = 500 if quick else 2000
    made.append(NetworkCase("tls-memory", f"raw-idle-{idle}", "", "tls-idle", idle, 1024))
    floor = f"tls-memory/raw-idle-{idle}"
    made.append(
        NetworkCase("tls-memory", f"idle-{idle}", "tls-protocol", "tls-idle", idle, 1024, floor=floor, also=ALSO)
    )
    return made
