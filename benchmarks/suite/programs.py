"""Where the C programs are, building them when nobody else has."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from suite.processes import BENCHMARKS

ROOT = BENCHMARKS.parent
BUILD = ROOT / "build" / "bench"
NAMES = (
    "raw_echo",
    "raw_sendfile",
    "echo_client",
    "connect_client",
    "http_client",
    "sink_client",
    "udp_client",
    "raw_udp_echo",
)
# Those that need OpenSSL's headers: without them, no TLS case can be measured.
TLS_NAMES = ("raw_tls_echo", "tls_client", "tls_connect_client")
TLS_MISSING = "the TLS cases need OpenSSL's headers (Debian: apt-get install libssl-dev)"
# What the echo server on reactor.h may be called in examples/c.
LIBCOROLLA_ECHO = ("corolla_echo", "echo_server")


@dataclass(frozen=True)
class Programs:
    raw_echo: Path
    raw_sendfile: Path
    echo_client: Path
    connect_client: Path
    http_client: Path
    sink_client: Path
    udp_client: Path
    raw_udp_echo: Path
    raw_tls_echo: Path | None
    tls_client: Path | None
    tls_connect_client: Path | None
    libcorolla_echo: Path | None


def find_meson() -> str | None:
    beside = ROOT / ".venv" / "tools" / "bin" / "meson"
    return str(beside) if beside.exists() else shutil.which("meson")


def build_with_meson() -> Path | None:
    """Release builds of the programs and of libcorolla's examples; None where that cannot be done."""
    meson = find_meson()
    directory = BUILD / "meson"
    if meson is None:
        return None
    options = ["-Dextension=false", "-Dbenchmarks=true", "-Dexamples=true", "-Dbuildtype=release", "-Db_lto=true"]
    environment = {**os.environ, "PATH": f"{Path(meson).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    setup = [] if (directory / "build.ninja").exists() else [[meson, "setup", str(directory), str(ROOT), *options]]
    for command in [*setup, [meson, "compile", "-C", str(directory)]]:
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            lines = [line for line in done.stdout.splitlines() if "error" in line.lower()] or [""]
            print(f"meson cannot build the C programs ({lines[0].strip()}); trying cc", flush=True)
            return None
    return directory


def build_with_cc() -> Path:
    BUILD.mkdir(parents=True, exist_ok=True)
    newest_header = max((BENCHMARKS / header).stat().st_mtime for header in ("load.h", "tls.h"))
    for name in (*NAMES, *TLS_NAMES):
        source, program = BENCHMARKS / f"{name}.c", BUILD / name
        newest = max(source.stat().st_mtime, newest_header)
        if program.exists() and program.stat().st_mtime > newest:
            continue
        command = [*os.environ.get("CC", "cc").split(), "-O2", "-std=gnu11", "-D_GNU_SOURCE=1", str(source)]
        command += ["-o", str(program)]
        if name in TLS_NAMES:
            # Whether it can be built is told by locate().
            subprocess.run([*command, "-lssl", "-lcrypto"], capture_output=True)
        else:
            subprocess.run(command, check=True)
    return BUILD


def locate(directory: Path | None, libcorolla_echo: Path | None) -> Programs:
    """The programs of a build directory that was given, or of one that is made now."""
    if directory is None:
        directory = build_with_meson() or build_with_cc()
    paths: dict[str, Path | None] = {}
    for name in (*NAMES, *TLS_NAMES):
        candidates = [directory / name, directory / "benchmarks" / name]
        paths[name] = next((path for path in candidates if path.is_file()), None)
        if paths[name] is None and name in NAMES:
            raise SystemExit(f"no {name} in {directory}: build with meson's -Dbenchmarks=true")
    if libcorolla_echo is None:
        examples = [directory / "examples" / "c" / name for name in LIBCOROLLA_ECHO]
        libcorolla_echo = next((path for path in examples if path.is_file()), None)
    elif not libcorolla_echo.is_file():
        raise SystemExit(f"{libcorolla_echo}: no such program")
    return Programs(**paths, libcorolla_echo=libcorolla_echo)  # type: ignore[arg-type]
