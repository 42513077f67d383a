"""getaddrinfo and getnameinfo: as the socket module's, off the loop's thread."""

import asyncio
import gc
import itertools
import logging
import os
import socket
import subprocess
import sys
import textwrap
import threading
import weakref

import impl
import pytest
from impl import beyond_stdlib

# Nothing that a server would have to be asked for: the answers are this machine's own.
HOSTS = [
    None,
    "",
    "127.0.0.1",
    b"127.0.0.1",
    "127.1",
    "0x7f.1",
    "::1",
    b"::1",
    "::ffff:1.2.3.4",
    "fe80::1%lo",
    "fe80::1%nosuchinterface",
    "0.0.0.0",
    "::",
    "a..b",
    "a" * 64,
    "127.0.0.1\0x",
]
PORTS = [
    None,
    0,
    80,
    65535,
    65536,
    -1,
    "",
    "80",
    "http",
    b"http",
    "domain",
    b"80",
    "no-such-service",
    True,
    2**40,
    2**70,
]


def outcome(call):
    try:
        return call()
    except BaseException as exc:
        return type(exc), exc.args


async def async_outcome(coro):
    try:
        return await coro
    except BaseException as exc:
        return type(exc), exc.args


@pytest.mark.parametrize("host", HOSTS, ids=repr)
def test_address_product(loop, run, host):
    """Seen in Kludex/zuvloop commits 3789aa6 and 04b2e48: errors came with the library's own numbers and types; empty host,
    no host and no port differed. For a product of them all, results and exceptions equal the socket module's. And in uvloop
    issue 539, python/cpython issue 79726 (bpo-35545), zuvloop commit 816d764: a zone (fe80::1%if) keeps its scope."""
    families = [0, socket.AF_INET, socket.AF_INET6, socket.AF_UNIX]
    kinds = [(0, 0), (socket.SOCK_STREAM, 0), (socket.SOCK_DGRAM, socket.IPPROTO_UDP), (socket.SOCK_STREAM, 17)]
    flags = [
        0,
        socket.AI_PASSIVE,
        socket.AI_NUMERICHOST,
        socket.AI_NUMERICSERV | socket.AI_PASSIVE,
        socket.AI_CANONNAME,
        socket.AI_V4MAPPED | socket.AI_ALL,
        socket.AI_ADDRCONFIG,
    ]
    run(compare(loop, host, itertools.product(PORTS, families, kinds, flags)))


@pytest.mark.parametrize("host", ["localhost", b"localhost"])
def test_address_product_of_a_name(loop, run, host):
    """The same for a name, which a thread looks up."""
    kinds = [(0, 0), (socket.SOCK_STREAM, 0), (socket.SOCK_DGRAM, socket.IPPROTO_UDP)]
    flags = [0, socket.AI_PASSIVE, socket.AI_NUMERICHOST, socket.AI_CANONNAME]
    run(compare(loop, host, itertools.product(PORTS, [socket.AF_INET], kinds, flags)))


async def compare(loop, host, product):
    for port, family, (type_, proto), flag in product:
        args = {"family": family, "type": type_, "proto": proto, "flags": flag}
        expected = outcome(lambda port=port, args=args: socket.getaddrinfo(host, port, **args))
        got = await async_outcome(loop.getaddrinfo(host, port, **args))
        assert got == expected, (host, port, args)
        if isinstance(got, list):
            for mine, theirs in zip(got, expected, strict=True):
                assert [type(item) for item in mine] == [type(item) for item in theirs]


@pytest.mark.parametrize(
    ("args", "more"),
    [
        ((5, 80), {}),
        ((bytearray(b"127.0.0.1"), 80), {}),
        ((object(), 80), {}),
        (("127.0.0.1", 80.0), {}),
        (("127.0.0.1", object()), {}),
        (("127.0.0.1", "\udcff"), {}),
        (("\udcff", 80), {}),
        (("127.0.0.1", 80), {"family": 2**40}),
        (("127.0.0.1", 80), {"family": "x"}),
        (("127.0.0.1", 80), {"type": None}),
        (("127.0.0.1", 80), {"proto": 1.5}),
        (("127.0.0.1", 80), {"flags": -(2**40)}),
        (("127.0.0.1", 80), {"family": 1000}),
        (("127.0.0.1", 80), {"type": 1000}),
        (("127.0.0.1", 80), {"flags": 1 << 30}),
        (("127.0.0.1", 80), {"family": socket.AddressFamily.AF_INET, "type": socket.SocketKind.SOCK_STREAM}),
    ],
    ids=repr,
)
def test_odd_arguments(loop, run, args, more):
    assert run(async_outcome(loop.getaddrinfo(*args, **more))) == outcome(lambda: socket.getaddrinfo(*args, **more))


def test_idna(loop, run):
    for name in ("bücher.invalid", "xn--bcher-kva.invalid", "ß.invalid", "\u3002.invalid"):
        numeric = {"flags": socket.AI_NUMERICHOST}
        expected = outcome(lambda name=name: socket.getaddrinfo(name, 80, **numeric))
        assert run(async_outcome(loop.getaddrinfo(name, 80, **numeric))) == expected


def test_arguments(loop, run):
    with pytest.raises(TypeError):
        loop.getaddrinfo()
    with pytest.raises(TypeError):
        loop.getaddrinfo("localhost")
    with pytest.raises(TypeError):
        loop.getaddrinfo("localhost", 80, 0)
    with pytest.raises(TypeError):
        loop.getaddrinfo("localhost", 80, nothing=0)
    assert run(loop.getaddrinfo(host="127.0.0.1", port=80, type=socket.SOCK_STREAM))
    for coro in (loop.getaddrinfo("x", 1), loop.getnameinfo(("x", 1))):
        assert asyncio.iscoroutine(coro)
        coro.close()


SOCKADDRS = [
    ("127.0.0.1", 80),
    ("127.0.0.1", 0),
    ("127.0.0.1", 1),
    ("0.0.0.0", 65535),
    ("127.0.0.1", 65536),
    ("127.0.0.1", -1),
    ("127.1", 80),
    ("::1", 80),
    ("::1", 80, 0, 0),
    ("::1", 80, 5, 0),
    ("::1", 80, 0),
    ("::1", 80, 2**20, 0),
    ("::1", 80, -1, 0),
    ("fe80::1", 80, 0, 1),
    ("fe80::1%lo", 80, 0, 0),
    ("fe80::1", 80, 0, 2**40),
    ("127.0.0.1", 80, 0, 0),
    ("127.0.0.1", 80, 0, 0, 0),
    ("127.0.0.1",),
    (),
    "127.0.0.1",
    None,
    ["127.0.0.1", 80],
    (b"127.0.0.1", 80),
    ("127.0.0.1", "80"),
    ("127.0.0.1", None),
    ("", 80),
    ("127.0.0.1\0", 80),
]


@pytest.mark.parametrize("sockaddr", SOCKADDRS, ids=repr)
def test_name_product(loop, run, sockaddr):
    flags = [
        0,
        socket.NI_NUMERICHOST,
        socket.NI_NUMERICSERV,
        socket.NI_NUMERICHOST | socket.NI_NUMERICSERV,
        socket.NI_NUMERICHOST | socket.NI_DGRAM,
        socket.NI_NAMEREQD | socket.NI_NUMERICSERV,
        "x",
        None,
        2**40,
    ]

    async def main():
        for flag in flags:
            expected = outcome(lambda flag=flag: socket.getnameinfo(sockaddr, flag))
            assert await async_outcome(loop.getnameinfo(sockaddr, flag)) == expected, flag
        assert await async_outcome(loop.getnameinfo(sockaddr=sockaddr, flags=3)) == outcome(
            lambda: socket.getnameinfo(sockaddr, 3)
        )

    run(main())


def test_many_at_once(loop, run):
    async def main():
        asked = [loop.getaddrinfo("localhost", port, type=socket.SOCK_STREAM) for port in range(100)]
        for port, found in enumerate(await asyncio.gather(*asked)):
            assert {info[4][1] for info in found} == {port}

    run(main())


# ---- What programs put in its place


def test_a_patched_getaddrinfo_is_called(loop, run, monkeypatch):
    seen = []

    def fake(*args):
        seen.append((args, threading.current_thread() is threading.main_thread()))
        return ["answer"]

    monkeypatch.setattr(socket, "getaddrinfo", fake)
    assert run(loop.getaddrinfo("host", 1, family=2, type=3, proto=4, flags=5)) == ["answer"]
    assert seen == [(("host", 1, 2, 3, 4, 5), False)]


def test_a_patched_getnameinfo_is_called(loop, run, monkeypatch):
    seen = []

    def fake(*args):
        seen.append(args)
        return "answer"

    monkeypatch.setattr(socket, "getnameinfo", fake)
    assert run(loop.getnameinfo(("host", 1), 2)) == "answer"
    assert seen == [(("host", 1), 2)]


def test_a_patched_getaddrinfo_that_raises(loop, run, monkeypatch):
    def fake(*args):
        raise ZeroDivisionError

    monkeypatch.setattr(socket, "getaddrinfo", fake)
    with pytest.raises(ZeroDivisionError):
        run(loop.getaddrinfo("host", 1))


def test_audit_events():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                """
                import impl, socket, sys
                sys.addaudithook(lambda name, args: print(name, args) if name.startswith("socket.get") else None)
                loop = impl.new_event_loop()
                loop.run_until_complete(loop.getaddrinfo("127.0.0.1", 80, type=1))
                loop.run_until_complete(loop.getnameinfo(("127.0.0.1", 80), 3))
                loop.close()
                """
            ),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*filter(None, sys.path), os.path.dirname(impl.__file__)])},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "socket.getaddrinfo ('127.0.0.1', 80, 0, 1, 0)",
        "socket.getnameinfo (('127.0.0.1', 80),)",
    ]


# ---- Cancelling and closing


async def begin(coro):
    task = asyncio.ensure_future(coro)
    await asyncio.sleep(0)
    return task


def test_cancel(loop, run):
    """Seen in Kludex/zuvloop commit 4e5d4ed: cancelling with look-ups in flight frees the futures, and the late answer is
    dropped."""

    async def main():
        for host in ("127.0.0.1", "localhost"):
            for turns in range(4):
                task = await begin(loop.getaddrinfo(host, 80))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
        assert await loop.getaddrinfo("localhost", 80)

    run(main())


def test_timeout(loop, run):
    async def main():
        for _ in range(10):
            try:
                await asyncio.wait_for(loop.getaddrinfo("localhost", 80), 0)
            except asyncio.TimeoutError:
                pass
        assert await loop.getnameinfo(("127.0.0.1", 80), 3) == ("127.0.0.1", "80")

    run(main())


@beyond_stdlib("asyncio's executor keeps them until the answer comes")
def test_close_with_a_lookup_in_flight(loop, run):
    """Seen in Kludex/zuvloop commits 4e5d4ed and cb36845: pending look-ups at close kept loop and futures alive, and the
    collector walked requests that a thread owned."""
    tasks = [loop.create_task(loop.getaddrinfo("localhost", port)) for port in range(20)]
    tasks.append(loop.create_task(loop.getnameinfo(("127.0.0.1", 80))))
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    gone = [weakref.ref(task) for task in tasks]
    for task in tasks:
        task._log_destroy_pending = False
    del tasks, task
    gc.collect()
    assert [ref() for ref in gone if ref() is not None and not ref().done()] == []


def test_the_loop_keeps_who_waits_alive(loop, run):
    found = []

    async def look():
        found.append(await loop.getaddrinfo("localhost", 80))

    async def main():
        asyncio.ensure_future(look())
        await asyncio.sleep(0)
        gc.collect()
        while not found:
            await asyncio.sleep(0)
            gc.collect()

    run(main())
    assert found[0]


def test_closed_loop(loop):
    loop.close()
    other = impl.new_event_loop()
    try:
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            other.run_until_complete(loop.getaddrinfo("localhost", 80))
    finally:
        other.close()


# ---- Debug mode


def test_debug_log(loop, run, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 1000
    with caplog.at_level(logging.DEBUG, logger="asyncio"):
        found = run(loop.getaddrinfo("127.0.0.1", "80", type=socket.SOCK_STREAM, flags=4))
    begin, end = (record for record in caplog.records if "address info" in record.getMessage())
    asked = f"127.0.0.1:'80', type={socket.SOCK_STREAM!r}, flags=4"
    assert begin.getMessage() == f"Get address info {asked}"
    assert begin.levelno == end.levelno == logging.DEBUG
    assert end.getMessage().startswith(f"Getting address info {asked} took ")
    assert end.getMessage().endswith(f"ms: {found!r}")


def test_debug_log_of_a_slow_one(loop, run, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 0
    with caplog.at_level(logging.INFO, logger="asyncio"):
        run(loop.getaddrinfo("127.0.0.1", None))
    (record,) = (record for record in caplog.records if "address info" in record.getMessage())
    assert record.levelno == logging.INFO
    assert record.getMessage().startswith("Getting address info 127.0.0.1:None took ")
