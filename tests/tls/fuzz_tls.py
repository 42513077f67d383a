"""TLS that somebody on the way has mangled: flights of a real peer, with bits flipped, records cut, doubled, swapped, dropped,
of wrong lengths and types, and put in between, in segments of any size. After each of them, and in the end, the transport
has to be in an orderly state, and what the protocol got has to be what the peer said, or the beginning of it.

    PYTHONPATH=build/dev/site:tests python tests/tls/fuzz_tls.py [--seed N] [--first N] [--cases N]

Cases are told by a seed and a number, as far as that goes: keys and randoms are OpenSSL's, and new each time.
"""

import argparse
import asyncio
import collections
import contextlib
import gc
import logging
import random
import socket
import ssl
import sys
import weakref

import certificates
import impl

# Turns of the loop: after a segment, and until all must have ended. A turn polls without waiting, as there is always one more.
SEGMENT_TURNS = 3
LAST_TURNS = 200
FLIGHTS = 14
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


def context_of(server_side, version=None):
    context = certificates.server_context() if server_side else certificates.client_context()
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


# Of the end under test, and of the peer, which says which version it will be.
contexts = {side: context_of(side) for side in (True, False)}
peers = {(side, version): context_of(side, version) for side in (True, False) for version in VERSIONS}


class Wrong(Exception):
    """What must hold did not."""


# ---- the one in the middle -------------------------------------------------------------------------------------------


def records(flight):
    """As far as the headers tell."""
    found = []
    while flight:
        size = 5 + int.from_bytes(flight[3:5], "big")
        found.append(flight[:size])
        flight = flight[size:]
    return found


def flip(rng, flight):
    changed = bytearray(flight)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(rng, flight):
    return flight[: rng.randrange(len(flight))]


def behead(rng, flight):
    return flight[rng.randrange(1, len(flight) + 1) :]


def double(rng, flight):
    found = records(flight)
    place = rng.randrange(len(found))
    return b"".join([*found[: place + 1], *found[place:]])


def swap(rng, flight):
    found = records(flight)
    rng.shuffle(found)
    return b"".join(found)


def drop(rng, flight):
    found = records(flight)
    del found[rng.randrange(len(found))]
    return b"".join(found)


def lie_about_length(rng, flight):
    found = records(flight)
    place = rng.randrange(len(found))
    record = bytearray(found[place])
    if len(record) >= 5:
        true = int.from_bytes(record[3:5], "big")
        told = rng.choice((0, 1, max(0, true - 1), min(true + 1, 65535), 16384, 16385, 18433, 65535))
        record[3:5] = told.to_bytes(2, "big")
    found[place] = bytes(record)
    return b"".join(found)


def change_header(rng, flight):
    found = records(flight)
    place = rng.randrange(len(found))
    record = bytearray(found[place])
    record[rng.randrange(min(3, len(record)))] = rng.choice((0, 2, 3, 20, 21, 22, 23, 24, 255))
    found[place] = bytes(record)
    return b"".join(found)


def put_between(rng, flight):
    found = records(flight)
    stranger = rng.choice(
        (
            b"\x14\x03\x03\x00\x01\x01",  # a change of cipher
            b"\x15\x03\x03\x00\x02\x01\x00",  # close_notify in clear text
            b"\x15\x03\x03\x00\x02\x02\x28",  # and handshake_failure
            b"\x16\x03\x03\x00\x04\x00\x00\x00\x00",  # HelloRequest
            b"\x16\x03\x03\x00\x00",
            b"\x17\x03\x03\x00\x00",
            b"\x17\x03\x03\x00\x05hello",
            b"GET / HTTP/1.0\r\n\r\n",
            rng.randbytes(rng.randrange(1, 64)),
        )
    )
    found.insert(rng.randrange(len(found) + 1), stranger)
    return b"".join(found)


MANGLERS = (flip, flip, cut, behead, double, swap, drop, lie_about_length, change_header, put_between)


def segments(rng, flight):
    """The flight in one, in a few, or in many."""
    count = rng.choice((1, 1, 2, 3, 8, 40))
    places = sorted({rng.randrange(len(flight)) for _ in range(count - 1)} - {0})
    return [flight[begin:end] for begin, end in zip([0, *places], [*places, len(flight)], strict=True)]


# ---- the protocols ---------------------------------------------------------------------------------------------------


class Watched:
    """Echoes, and notes what it is called with."""

    def __init__(self, rng):
        self.rng = rng
        self.made = 0
        self.lost = []
        self.got = bytearray()
        self.paused = False

    def connection_made(self, transport):
        if self.made or self.lost:
            raise Wrong("connection_made() was called twice")
        self.made += 1
        self.transport = transport

    def take(self, data):
        if not self.made or self.lost:
            raise Wrong("data outside of the connection's life")
        if self.paused:
            raise Wrong("data while reading was paused")
        self.got += data
        if not self.transport.is_closing():
            self.transport.write(data)
        what = self.rng.randrange(30)
        if what == 0:
            self.transport.close()
        elif what == 1:
            self.transport.abort()
        elif what < 5:
            self.transport.pause_reading()
            self.paused = True

    def resume(self):
        if self.paused and not self.transport.is_closing():
            self.paused = False
            self.transport.resume_reading()

    def eof_received(self):
        if not self.made or self.lost:
            raise Wrong("eof_received() outside of the connection's life")

    def connection_lost(self, exc):
        if not self.made or self.lost:
            raise Wrong("connection_lost() was called twice, or without connection_made()")
        self.lost.append(exc)

    def pause_writing(self):
        pass

    def resume_writing(self):
        pass


class Streaming(Watched, asyncio.Protocol):
    def data_received(self, data):
        self.take(data)


class Buffered(Watched, asyncio.BufferedProtocol):
    def get_buffer(self, sizehint):
        self.buffer = bytearray(self.rng.choice((1, 7, 300, 20000)))
        # asyncio reads into a copy of a bytearray (python/cpython issue 156275).
        return self.buffer if impl.IS_COROLLA else memoryview(self.buffer)

    def buffer_updated(self, nbytes):
        self.take(bytes(self.buffer[:nbytes]))


# ---- a case ----------------------------------------------------------------------------------------------------------


class Case:
    def __init__(self, seed, number):
        self.rng = rng = random.Random(f"{seed} {number}")
        self.server_side = rng.random() < 0.5
        self.version = rng.choice(VERSIONS)
        # How often a flight is mangled; in some cases never, and then all has to come through.
        self.often = rng.choice((0.0, 0.15, 0.4))
        self.mangled = False
        self.protocol = rng.choice((Streaming, Buffered))(rng)
        self.said = bytearray()
        self.reports = []

    def open_peer(self):
        context = peers[not self.server_side, self.version]
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = certificates.NAME if self.server_side else None
        self.peer = context.wrap_bio(self.incoming, self.outgoing, not self.server_side, name)
        self.shaken = self.broken = False

    def peer_turn(self):
        """The peer reads what it can and says something."""
        with contextlib.suppress(ssl.SSLWantReadError):
            try:
                if not self.shaken:
                    self.peer.do_handshake()
                    self.shaken = True
                with contextlib.suppress(ssl.SSLWantReadError):
                    while self.peer.read(65536):
                        pass
                if self.rng.random() < 0.6:
                    data = self.rng.randbytes(self.rng.choice((1, 30, 1000, 16384, 40000)))
                    while data:
                        count = self.peer.write(data)
                        self.said += data[:count]
                        data = data[count:]
            except ssl.SSLWantReadError:
                raise
            except OSError:  # SSLError, or of whatever error number was left over (from 3.13 on)
                self.broken = True  # what was mangled, or its answer, came to the peer

    def mangle(self, flight):
        if self.rng.random() >= self.often:
            return flight
        self.mangled = True
        for _ in range(self.rng.choice((1, 1, 2))):
            if flight:
                flight = self.rng.choice(MANGLERS)(self.rng, flight)
        return flight

    async def settle(self, turns=SEGMENT_TURNS):
        for _ in range(turns):
            await asyncio.sleep(0)
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while data := self.wire.recv(262144):
                self.incoming.write(data)

    async def send(self, flight):
        for segment in segments(self.rng, flight):
            try:
                while segment:
                    segment = segment[self.wire.send(segment) :]
            except BlockingIOError:
                self.mangled = True  # the rest is cut off
            except ConnectionError:
                return
            await self.settle()

    async def opening(self, ours):
        loop = asyncio.get_running_loop()
        context = contexts[self.server_side]
        if self.server_side:
            return await loop.connect_accepted_socket(lambda: self.protocol, ours, ssl=context)
        return await loop.create_connection(
            lambda: self.protocol, sock=ours, ssl=context, server_hostname=certificates.NAME
        )

    async def run(self):
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: self.reports.append(context))
        ours, self.wire = socket.socketpair()
        self.wire.setblocking(False)
        self.open_peer()
        task = loop.create_task(self.opening(ours))
        try:
            for _ in range(FLIGHTS):
                self.peer_turn()
                flight = self.outgoing.read()
                flight = self.mangle(flight) if flight else b""
                if flight:
                    await self.send(flight)
                await self.settle()
                if self.rng.random() < 0.5:
                    self.protocol.resume()
                if self.rng.random() < 0.02:
                    task.cancel()
                    self.mangled = True
            await self.end(task)
        finally:
            self.wire.close()
            task.cancel()
            ours.close() if not task.done() else None
            await asyncio.wait([task])
            # The loop has a reference to this case by its handler, and the traceback to all of its frames.
            loop.set_exception_handler(None)
        self.judge(task)

    async def end(self, task):
        how = self.rng.randrange(4)
        if how == 0 and self.shaken and not self.broken:
            with contextlib.suppress(OSError):
                self.peer.unwrap()
            await self.send(self.outgoing.read() or b"\x00")
        elif how == 1:
            with contextlib.suppress(OSError):
                self.wire.shutdown(socket.SHUT_WR)
        elif how == 2 and self.protocol.made and not self.protocol.lost:
            self.protocol.transport.close()
        await self.settle()
        self.protocol.resume()
        await self.settle()
        self.wire.close()
        for _ in range(LAST_TURNS):
            if task.done() and (self.protocol.lost or not self.protocol.made):
                break
            self.protocol.resume()
            await asyncio.sleep(0)
        else:
            raise Wrong(f"it has not ended: {task}, made {self.protocol.made}, lost {self.protocol.lost}")

    def judge(self, task):
        got = bytes(self.protocol.got)
        if got != bytes(self.said[: len(got)]):
            raise Wrong("the protocol got what the peer has not said")
        error = None if task.cancelled() else task.exception()
        for exc in [error, *self.protocol.lost, *(report.get("exception") for report in self.reports)]:
            if exc is not None and not isinstance(exc, OSError):
                raise Wrong(f"{exc!r}") from exc
        if error is None and not task.cancelled() and not self.protocol.made:
            raise Wrong("a connection without connection_made()")
        if error is not None and self.protocol.made and not self.protocol.lost:
            raise Wrong("connection_made() for a connection that failed")
        if not self.mangled and error is not None:
            raise Wrong(f"nothing was mangled, but {error!r}") from error


async def run_case(seed, number, counts):
    case = Case(seed, number)
    try:
        await asyncio.wait_for(case.run(), 30)
    except Exception as error:
        what = f"{'server' if case.server_side else 'client'}, {case.version.name}, {type(case.protocol).__name__}"
        raise Wrong(f"seed {seed}, case {number} ({what}): {error}") from error
    counts["made" if case.protocol.made else "failed"] += 1
    counts["whole"] += bool(case.said) and case.protocol.got == case.said
    return weakref.ref(case.protocol)


async def run_cases(seed, first, count):
    """How many connections were made, failed to be, and got all that was said."""
    counts = collections.Counter()
    left = [await run_case(seed, number, counts) for number in range(first, first + count)]
    await asyncio.sleep(0)
    gc.collect()
    stay = [first + index for index, protocol in enumerate(left) if protocol() is not None]
    if stay:
        raise Wrong(f"seed {seed}: the protocols of {len(stay)} cases are still there: {stay[:20]}")
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--cases", type=int, default=10_000)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # write() warns of connections that are lost
    counts = collections.Counter()
    loop = impl.new_event_loop()
    asyncio.set_event_loop(loop)
    for first in range(arguments.first, arguments.first + arguments.cases, 500):
        count = min(500, arguments.first + arguments.cases - first)
        counts += loop.run_until_complete(run_cases(arguments.seed, first, count))
        print(f"{first + count}", end="\r", flush=True)
    loop.close()
    print(f"{arguments.cases} cases, all in order: {dict(counts)}")


if __name__ == "__main__":
    sys.exit(main())
