"""What is left of a TLS connection once it is over: nothing, and by reference counts alone."""

import asyncio
import contextlib
import gc
import ssl
import sys
import weakref

import impl
import pytest
from tls.support import Peer, begun, opening, other, socket_pair
from transports.support import Recorder, settled

ENDS = [
    "close",
    "peer closes",
    "cut",
    "abort",
    "garbage",
    "cut in the handshake",
    "garbage in the handshake",
    "cancelled",
]
ENDS += ["timeout", "raises in data_received", "paused, aborted", "backlog, aborted", "unanswered close"]


async def ended(certs, side, end, factory, context):
    """A connection that ends that way; its weak references."""
    early = "handshake" in end or end in ("cancelled", "timeout")
    kwargs = {"ssl_handshake_timeout": 0.02} if end == "timeout" else {}
    if end == "unanswered close":
        kwargs["ssl_shutdown_timeout"] = 0.02
    async with begun(certs, side, factory, ours=context, small="backlog" in end, **kwargs) as (task, peer):
        if early:
            await settled()
            if end == "cancelled":
                task.cancel()
            elif end.startswith("garbage"):
                await peer.raw(bytes(100))
            elif end.startswith("cut"):
                peer.sock.shutdown(1)
            await asyncio.gather(task, return_exceptions=True)
            return []
        await peer.handshake()
        transport, protocol = await task
        found = [weakref.ref(transport), weakref.ref(protocol), weakref.ref(transport.get_extra_info("ssl_object"))]
        transport.get_extra_info("peercert")
        await peer.send(b"hello")
        if "raises" not in end:
            await protocol.until(lambda: protocol.data == b"hello")
        if end == "close":
            transport.close()
            with contextlib.suppress(ssl.SSLError):
                await peer.read()
        elif end == "unanswered close":
            transport.close()
        elif end == "peer closes":
            await peer.raw(peer.notify())
        elif end == "cut":
            peer.sock.shutdown(1)
        elif end == "garbage":
            await peer.raw(bytes(100))
        elif end == "paused, aborted":
            transport.pause_reading()
            await peer.send(b"unread")
            transport.abort()
        elif end == "backlog, aborted":
            transport.write(bytes(2_000_000))
            transport.abort()
        elif end == "abort":
            transport.abort()
        if end == "close":
            peer.close()
        await protocol.lost()
        protocol.events.clear()  # an exception there holds the frame it was raised in, which holds the protocol
    return found


class Raising(Recorder):
    def data_received(self, data):
        raise ValueError("on purpose")


@impl.beyond_stdlib("its parts hold each other until the collector comes")
@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_left(run, certs, side, end, reports):
    """PITFALLS, TLS: uncancelled timers and cycles kept TLS objects alive; failed handshakes leaked the memory of the protocol
    object (python/cpython issues 78926, 109534; uvloop issue 220). Without the collector: no transport, no protocol, no SSL
    object, no context is left."""

    async def main():
        gc.collect()
        gc.disable()
        try:
            contexts, left = [], []
            for _ in range(3):
                protocols = []

                def factory():
                    made = Raising() if "raises" in end else Recorder()
                    protocols.append(weakref.ref(made))
                    return made

                context = certs.context(side)
                contexts.append(weakref.ref(context))
                left += await ended(certs, side, end, factory, context)
                del context
                await settled()
                left += protocols
            left += contexts
            reports.clear()  # an exception holds where it was raised
            # A transport that gave its end to the loop has it run by then.
            for _ in range(5):
                await asyncio.sleep(0)
            return [ref() for ref in left if ref() is not None]
        finally:
            gc.enable()

    assert run(main()) == []


def test_many_failed_handshakes_take_no_memory(run, certs, side):
    """The same in numbers: what the allocator has handed out."""

    async def fail():
        mine, its = socket_pair()
        its.close()
        with pytest.raises(OSError):
            await opening(mine, context, side)

    async def main():
        for _ in range(50):
            await fail()
        gc.collect()
        before = sys.getallocatedblocks()
        for _ in range(200):
            await fail()
        gc.collect()
        return sys.getallocatedblocks() - before

    context = certs.context(side)
    assert run(main()) < 400


def test_loop_closed_meanwhile(certs, side, recwarn):
    """A connection that outlives its loop: no crash, whatever is called of it."""

    async def main():
        mine, its = socket_pair()
        task = asyncio.ensure_future(opening(mine, certs.context(side), side))
        peer = Peer(its, certs.context(other(side)), other(side))
        await peer.handshake()
        transport, protocol = await task
        return transport, protocol, peer

    if not impl.IS_COROLLA:
        pytest.skip("asyncio's raise whatever they come upon")
    loop = impl.new_event_loop()
    transport, protocol, peer = loop.run_until_complete(main())
    loop.close()
    for name in ("close", "abort", "is_closing", "pause_reading", "resume_reading", "get_write_buffer_size"):
        with contextlib.suppress(Exception):
            getattr(transport, name)()
    with contextlib.suppress(Exception):
        transport.write(b"x")
    transport.get_extra_info("cipher")
    repr(transport)
    peer.close()
    del transport, protocol
    gc.collect()
