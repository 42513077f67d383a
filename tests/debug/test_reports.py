"""Every report of debug mode, compared with asyncio's own, line by line.

A program of programs/ is run twice in debug mode, on asyncio and with corolla installed. What they write must be the same
after the rules of reports.py, but for the differences listed here, each with the reason why it is right.
"""

import difflib
import re

import pytest
from debug.reports import NAMES, PROGRAMS, output_of, plain, rewritten

# Of each program: why we differ, what asyncio says (a regular expression), and what we say instead.
RIGHT: dict[str, list[tuple[str, str, str]]] = {
    "bad_callbacks": [
        (
            "names the method that was called: asyncio's call_later() goes through call_at()",
            r"^(call_later: .*)call_at\(\)",
            r"\1call_later()",
        ),
    ],
    "errors_in_callbacks": [
        (
            "names the callback that cancelled its own handle",
            r"^Exception in callback None\(\)\nhandle: (.*)",
            r"Exception in callback \1\nhandle: \1",
        ),
    ],
    "errors_in_protocols": [
        (
            "there is no Handle: the protocol and the connection are named instead",
            r"^Exception in callback Fails\.connection_made.*\nhandle.*\nsource_traceback.*\n(?:  .*\n)+",
            "Exception in callback protocol.connection_made()\nprotocol: <__main__.Fails object at 0x...>\n"
            "transport: <TcpTransport fd=N read=idle write=<idle, bufsize=0>>\n",
        ),
        (
            "the same",
            r"^Exception in callback \w+\._call_connection_lost.*\nhandle.*\nsource_traceback.*\n(?:  .*\n)+",
            "Exception in callback protocol.connection_lost()\nprotocol: <__main__.Fails object at 0x...>\n"
            "transport: <TcpTransport closing fd=N read=idle write=<idle, bufsize=0>>\n",
        ),
        (
            "the same",
            r"^Exception in callback \w+\._read_ready.*\nhandle.*\nsource_traceback.*\n(?:  .*\n)+",
            "Exception in callback protocol.datagram_received()\nprotocol: <__main__.FailsDatagram object at 0x...>\n"
            "transport: <DatagramEndpoint fd=N read=polling write=<idle, bufsize=0>>\n",
        ),
        ("the same: where asyncio's transport began to read is in asyncio", r"^handle_traceback: .*\n(?:  .*\n)+", ""),
        ("reading has ended by then", r"(protocol.eof_received.*\nprotocol.*\n.*)read=polling", r"\1read=idle"),
    ],
    "left_open": [
        (
            "a transport has no socket object of its own that could warn",
            r"^ResourceWarning: unclosed <socket.*(raddr=|family=1).*\n",
            "",
        ),
        (
            "asyncio closes the other end without a word when this one is",
            r"^# unix\n(.*made by ).*\n",
            r"# unix\n\1SOMEBODY\n\1SOMEBODY\n",
        ),
        ("the state they were in", r"(PipeTransport fd=N) idle( bufsize=0)?", r"\1 open"),
        ("those in C know where they were made, on every Python", r"made by None", "made by SOMEBODY"),
    ],
    "log": [
        ("it was raised in C, where there are no frames", r"^Traceback.*\n(?=ConnectionResetError)", ""),
        ("there is no selector", r"^.*Using selector.*\n", ""),
        (
            "what a transport shows of its socket",
            r"(got a new connection .*)<socket\.socket",
            r"\1<asyncio.TransportSocket",
        ),
        ("reading has ended by then", r"read=polling(.* received EOF| .*Fatal read error)", r"read=idle\1"),
        ("the same", r"polling> was closed by peer", "idle> was closed by peer"),
        (
            "a Unix server is one, too",
            r"^# unix server\n",
            "# unix server\nINFO:asyncio:<Server sockets=(<asyncio.TransportSocket fd=N, family=1, type=1, proto=0, "
            "laddr=/tmp/FOLDER/socket>,)> is serving\n",
        ),
        ("it reads from the first moment on", r"(endpoint .* created: .*)read=idle", r"\1read=polling"),
    ],
    "never_awaited": [
        ("names the class itself, not one that it inherits from", r"'_ContextManagerMixin\.", "'Lock."),
    ],
    "slow_protocols": [
        (
            "names the method that was slow and the connection, where asyncio names a method of its own",
            r"<Handle TcpTransport\._read_ready\(\) created at LIBRARY>",
            "Slow.data_received() of <TcpTransport fd=N read=polling write=<idle, bufsize=0>>",
        ),
        (
            "the same",
            r"<Handle cancelled TcpTransport\._read_ready\(\) created at LIBRARY>",
            "Slow.eof_received() of <TcpTransport fd=N read=idle write=<idle, bufsize=0>>",
        ),
        (
            "the same",
            r"<Handle TcpTransport\._call_connection_lost\(None\) created at LIBRARY>",
            "Slow.connection_lost() of <TcpTransport closing fd=N read=idle write=<idle, bufsize=0>>",
        ),
        (
            "the same",
            r"<Handle DatagramEndpoint\._read_ready\(\) created at LIBRARY>",
            "SlowDatagrams.datagram_received() of <DatagramEndpoint fd=N read=polling write=<idle, bufsize=0>>",
        ),
    ],
    "subprocesses": [
        ("reading has ended by then", r"polling> was closed by peer", "idle> was closed by peer"),
        (
            "there is no Handle: the protocol and the process are named instead",
            r"<Handle (Slow\.pipe_data_received\(\)|Slow\.pipe_data_received\(1, b'out'\)) created at LIBRARY>",
            "Slow.pipe_data_received() of <ProcessTransport pid=N running PIPES>",
        ),
        (
            "the same",
            r"<Handle Slow\.process_exited\(\) created at LIBRARY>",
            "Slow.process_exited() of <ProcessTransport pid=N returncode=3 PIPES>",
        ),
        (
            "the same",
            r"Exception in callback Fails\.process_exited.*\nhandle.*\nsource_traceback.*\n(?:  .*\n)+",
            "Exception in callback protocol.process_exited()\nprotocol: <__main__.Fails object at 0x...>\n"
            "transport: <ProcessTransport pid=N returncode=3 PIPES>\n",
        ),
    ],
    "switches": [
        ("get_debug() is a bool", r"^0\n1\n", "False\nTrue\n"),
    ],
    "tls": [
        (
            "names the method that was slow and the connection",
            r"<Handle TcpTransport\._read_ready\(\) created at LIBRARY>",
            "Peer.data_received() of <TlsTransport over <TcpTransport fd=N read=polling write=<idle, bufsize=0>>>",
        ),
        ("there is no Handle", r"^handle_traceback: .*\n(?:  .*\n)+", ""),
        (
            "what stands between the connection and the program's protocol",
            r"<asyncio\.sslproto\.SSLProtocol object",
            "<corolla._core.TlsProtocol object",
        ),
        (
            "says why: asyncio has lost what the other end said",
            r"^(ERROR.*transport creation.*\n)protocol.*\ntransport.*\nTraceback.*\nConnectionResetError\n",
            "\\1protocol: <corolla._core.TlsProtocol object at 0x...>\n"
            "transport: <TcpTransport closing fd=N read=idle write=<idle, bufsize=0>>\nssl.SSLError: [SSL]\n",
        ),
    ],
}


OPTIONS = {"left_open": ("-X", "dev", "-X", "tracemalloc=40")}


# A busy machine makes anything slow: only these are about it.
SLOW = {"slow_callbacks", "slow_protocols", "subprocesses", "tls"}


def said(program: str, implementation: str) -> str:
    output = plain(output_of(program, implementation, *OPTIONS.get(program, ())))
    return (
        output if program in SLOW else rewritten(output, [(r"^(WARNING:asyncio:)?Executing .* took N seconds\n", "")])
    )


def allowed(program: str, theirs: str) -> str:
    return rewritten(rewritten(theirs, NAMES), [(pattern, ours) for _, pattern, ours in RIGHT.get(program, [])])


def same(theirs: str, ours: str) -> bool:
    """Where asyncio says that an object was made by a line of asyncio's own, we name the program's line that had it made."""
    pattern = re.escape(theirs).replace("LIBRARY", r"(?:LIBRARY|\S*\w\.py:\d+)")
    pattern = pattern.replace("SOMEBODY", r"(?:None|\[[\d, ]+\])")
    return re.fullmatch(pattern, ours) is not None


def differences(theirs: str, ours: str) -> list[str]:
    a, b = theirs.splitlines(), ours.splitlines()
    if len(a) == len(b):
        a = [ours if same(theirs, ours) else theirs for theirs, ours in zip(a, b, strict=True)]
    return list(difflib.unified_diff(a, b, "asyncio", "corolla", lineterm=""))


@pytest.mark.parametrize("program", sorted(path.stem for path in PROGRAMS.glob("*.py")))
def test_says_what_asyncio_says(program):
    theirs, ours = (said(program, implementation) for implementation in ("asyncio", "corolla"))
    assert not differences(allowed(program, theirs), ours.replace("UnixTransport", "TcpTransport"))


MODES = {
    "nothing": (("-W", "default"), {}),
    "-X dev": (("-X", "dev"), {}),
    "PYTHONASYNCIODEBUG=1": (("-W", "default"), {"PYTHONASYNCIODEBUG": "1"}),
    "PYTHONASYNCIODEBUG=": (("-W", "default"), {"PYTHONASYNCIODEBUG": ""}),
}


@pytest.mark.parametrize(("options", "variables"), MODES.values(), ids=MODES)
def test_debug_mode_is_on_where_it_is_in_asyncio(options, variables):
    theirs, ours = (plain(output_of("switches", name, *options, **variables)) for name in ("asyncio", "corolla"))
    assert not differences(allowed("switches", theirs), ours)
    assert ours.startswith(f"run() ({'-X' in options or variables.get('PYTHONASYNCIODEBUG') == '1'}, ")


@pytest.mark.parametrize("program", ["errors_in_callbacks", "never_retrieved", "asyncgens", "exception_context"])
def test_says_the_same_out_of_debug_mode(program):
    """What is said anyway, with as much less as asyncio says less."""
    theirs, ours = (plain(output_of(program, name, "-W", "default")) for name in ("asyncio", "corolla"))
    assert not differences(allowed(program, theirs), ours)


@pytest.mark.parametrize("program", sorted(RIGHT))
def test_no_difference_is_listed_that_is_none(program):
    theirs = rewritten(said(program, "asyncio"), NAMES)
    for why, pattern, ours in RIGHT[program]:
        changed = rewritten(theirs, [(pattern, ours)])
        assert changed != theirs, why
        theirs = changed
