"""Runs a program of programs/ in debug mode and makes what it says comparable."""

import os
import re
import subprocess
import sys
from pathlib import Path

import corolla

FOLDER = Path(__file__).parent
PROGRAMS = FOLDER / "programs"
SITE = FOLDER / "site"
OURS = Path(corolla.__file__).parent

LIBRARY_FILE = rf"(?:\S*/asyncio|{re.escape(str(OURS))})/\w+\.py"

# What says nothing, since it differs from run to run or is about the inside of a library. Nothing else is taken out.
RULES: list[tuple[str, str]] = [
    # Where the program is.
    (re.escape(str(PROGRAMS)) + "/", ""),
    # A library's own frame in a stack: its line, and the source and marks under it, which are indented deeper.
    (rf'^( *)File "{LIBRARY_FILE}", line \d+.*\n(?:\1 +(?!File ").*\n)*', ""),
    # Where in a library something was made, or a function is: ours are in C and have no lines.
    (rf" created at {LIBRARY_FILE}:\d+", " created at LIBRARY"),
    (r"\.\.\.(?:events|tasks)\.py:\d+>", "...LIBRARY>"),
    (r"\.\.\./tasks\.py:\d+>", "...LIBRARY>"),
    (rf" at {LIBRARY_FILE}:\d+", ""),
    # Addresses.
    (r"0x[0-9a-f]+", "0x..."),
    # How long something took, and when it is due.
    (r"took \d+\.\d+ ?(m?s)", r"took N \1"),
    (r"\bwhen=\d+(\.\d+)?", "when=N"),
    # Descriptors, ports and pids that the kernel chose, and temporary folders.
    (r"\bfd=\d+", "fd=N"),
    (r"(Read|Write) pipe \d+", r"\1 pipe N"),
    (r"'127\.0\.0\.1', \d{5}\b", "'127.0.0.1', PORT"),
    (r"\b127\.0\.0\.1:\d{5}\b", "127.0.0.1:PORT"),
    (r"/tmp/tmp\w+", "/tmp/FOLDER"),
    (r"\bpid[ =]\d+", "pid=N"),
    # OpenSSL's own words.
    (r"\[SSL: \w+\] [\w /]+ \(_ssl\.c:\d+\)", "[SSL]"),
    # How far the pipes of a process are, which is chance.
    (r"(pid=N (?:running|returncode=-?\d+))( std\w+=<\w+ [^>]*>)+", r"\1 PIPES"),
    # Where a warning was given, with that line: the one that happened to drop the last reference.
    (r"^\S+\.py:\d+: (?=\w+Warning: )", ""),
    (r"(^\w+Warning: .*\n(?:Coroutine created at .*\n(?:  File .*\n|    .*\n)*)?)  (?! |File ).*\n", r"\1"),
]

# What asyncio calls its classes, and we ours.
NAMES: list[tuple[str, str]] = [
    (r"\b_UnixSelectorEventLoop\b", "EventLoop"),
    (r"\bBase(Selector)?EventLoop\.", "EventLoop."),
    (r"\b_SelectorSocketTransport\b", "TcpTransport"),
    (r"\b_SelectorDatagramTransport\b", "DatagramEndpoint"),
    (r"\b_UnixSubprocessTransport\b", "ProcessTransport"),
    (r"\b_UnixReadPipeTransport\b", "ReadPipeTransport"),
    (r"\b_UnixWritePipeTransport\b", "WritePipeTransport"),
    (r"\basyncio\.streams\.StreamReaderProtocol\b", "corolla.StreamReaderProtocol"),
]


def rewritten(output: str, rules: list[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        output = re.sub(pattern, replacement, output, flags=re.MULTILINE)
    return output


def plain(output: str) -> str:
    return rewritten(output, RULES)


def output_of(program: str, implementation: str, *options: str, **variables: str) -> str:
    """What it writes to stdout and stderr, in debug mode unless options say otherwise."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(SITE), str(OURS.parent)]),
        "PYTHONUNBUFFERED": "1",
        "COROLLA_DEBUG_TEST": implementation,
        **variables,
    }
    done = subprocess.run(
        [sys.executable, *(options or ("-X", "dev")), str(PROGRAMS / f"{program}.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
