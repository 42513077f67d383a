"""PostgreSQL with ssl=on: the connection begins in clear text, with a request that the server answers by one letter, and goes on in
TLS. Through asyncpg, which has start_tls() do that, and psycopg, whose libpq does it and has the loop watch its descriptor."""

import asyncio
import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile

import pytest
from tls.programs import ENVIRON, SECONDS, free_port, program
from transports.support import HOST

asyncpg = pytest.importorskip("asyncpg", reason="!!! SKIPPED: asyncpg is not for this Python")
psycopg = pytest.importorskip("psycopg", reason="!!! SKIPPED: psycopg is not for this Python")

CONFIG = """
listen_addresses = '{host}'
port = {port}
unix_socket_directories = '{dir}'
ssl = on
ssl_cert_file = '{dir}/server.crt'
ssl_key_file = '{dir}/server.key'
ssl_ca_file = '{dir}/ca.pem'
fsync = off
shared_buffers = 1MB
max_connections = 20
autovacuum = off
wal_level = minimal
max_wal_senders = 0
"""
ACCESS = """
hostssl all certain {host}/32 cert
hostssl all all {host}/32 trust
hostnossl all all {host}/32 reject
"""


def as_user():
    """(what to put before a command so that it does not run as root, the user)."""
    if os.getuid() != 0:
        return [], None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            groups = ["--regid", str(user.pw_gid), "--clear-groups"]
            return [program("setpriv"), "--reuid", str(user.pw_uid), *groups], user
    pytest.skip("!!! SKIPPED: PostgreSQL does not run as root, and there is no user for it")


def begun(process):
    """Whether it listens; it says so. Not: it has ended."""
    said = b""
    while b"ready to accept connections" not in said:
        line = process.stderr.readline()
        if not line:
            return False, said
        said += line
    return True, said


@pytest.fixture(scope="module")
def database(certs):
    """The port of a database cluster made for these tests."""
    initdb, postgres = program("initdb"), program("postgres")
    before, user = as_user()
    # Not pytest's directory, into which only root may look.
    directory = pathlib.Path(tempfile.mkdtemp(prefix="corolla-postgres-"))
    try:
        for name, source in (("server.crt", "rsa.crt"), ("server.key", "rsa.key"), ("ca.pem", "ca.pem")):
            shutil.copy(certs.file(source), directory / name)
            (directory / name).chmod(0o600)
        if user is not None:
            for file in (directory, *directory.iterdir()):
                os.chown(file, user.pw_uid, user.pw_gid)
        options = ["-A", "trust", "-U", "admin", "--no-sync", "--no-locale", "-E", "UTF8"]
        command = [*before, initdb, "-D", directory / "data", *options]
        done = subprocess.run(command, env=ENVIRON, cwd=directory, capture_output=True, timeout=SECONDS)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        (directory / "data/pg_hba.conf").write_text(ACCESS.format(host=HOST))
        for _ in range(5):
            port = free_port()
            config = CONFIG.format(host=HOST, port=port, dir=directory)
            (directory / "data/postgresql.conf").write_text(config)
            command = [*before, postgres, "-D", directory / "data"]
            process = subprocess.Popen(command, env=ENVIRON, cwd=directory, stderr=subprocess.PIPE)
            ready, said = begun(process)
            if ready:
                break
            process.wait()
            process.stderr.close()
        else:
            pytest.fail(said.decode(errors="replace"))
        try:
            yield port
        finally:
            process.send_signal(signal.SIGINT)  # fast shutdown
            try:
                process.communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(autouse=True)
def first(database, no_descriptor_left_open):
    """The database is there before descriptors are counted: its pipe is no leak."""


def client(certs, version=None, certificate=None):
    return certs.client(certificate, version)


async def connect(port, **kwargs):
    return await asyncpg.connect(host="localhost", port=port, user="admin", database="postgres", **kwargs)


def test_asyncpg(run, certs, database, version):
    async def main():
        connection = await connect(database, ssl=client(certs, version))
        try:
            row = await connection.fetchrow("select ssl, version from pg_stat_ssl where pid = pg_backend_pid()")
            assert tuple(row) == (True, f"TLSv{version}")
            assert await connection.fetchval("select $1::int + 1", 41) == 42
            # Larger than any buffer on the way, in and out.
            text = "x" * 3_000_000
            assert await connection.fetchval("select $1::text || 'y'", text) == text + "y"
            rows = await connection.fetch("select generate_series(1, 50000) as number")
            assert sum(row["number"] for row in rows) == 50000 * 50001 // 2
        finally:
            await connection.close()

    run(main())


@pytest.mark.parametrize("mode", ["require", "prefer", "verify-full"])
def test_asyncpg_modes(run, certs, database, mode, monkeypatch):
    if mode == "verify-full":
        monkeypatch.setenv("PGSSLROOTCERT", certs.ca)

    async def main():
        connection = await connect(database, ssl=mode)
        assert await connection.fetchval("select ssl from pg_stat_ssl where pid = pg_backend_pid()") is True
        await connection.close()

    run(main())


def test_asyncpg_without(run, database):
    """The server refuses clear text: the connection was in TLS before, or this would work."""

    async def main():
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
            await connect(database, ssl="disable")

    run(main())


def test_asyncpg_does_not_trust_it(run, certs, database):
    async def main():
        context = ssl.create_default_context()
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(database, ssl=context)

    run(main())


def sockets():
    """How many of them are open."""
    count = 0
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # listdir's own
            count += os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
    return count


def test_asyncpg_with_a_certificate(run, certs, database):
    """Who it is stands in the certificate: it is refused for another."""

    async def main():
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
            await asyncpg.connect(
                host="localhost", port=database, user="certain", database="postgres", ssl=client(certs, None, "client")
            )
        while sockets() > before:  # asyncpg does not wait for the connection to be closed
            await asyncio.sleep(0)

    before = sockets()
    run(main())


def test_asyncpg_pool_and_cancellation(run, certs, database):
    async def main():
        pool = await asyncpg.create_pool(
            host="localhost",
            port=database,
            user="admin",
            database="postgres",
            ssl=client(certs),
            min_size=4,
            max_size=4,
        )

        async def one(number):
            async with pool.acquire() as connection:
                return await connection.fetchval("select $1::int * 2", number)

        assert await asyncio.gather(*map(one, range(100))) == [2 * number for number in range(100)]
        with pytest.raises(asyncio.TimeoutError):
            async with pool.acquire() as connection:
                await connection.fetchval("select pg_sleep(60)", timeout=0.05)
        assert await one(4) == 8
        await pool.close()

    run(main())


def test_asyncpg_notifications_and_copy(run, certs, database):
    async def main():
        first, second = await connect(database, ssl=client(certs)), await connect(database, ssl=client(certs))
        heard = asyncio.get_running_loop().create_future()
        await first.add_listener("news", lambda *args: heard.done() or heard.set_result(args[-1]))
        await second.execute("notify news, 'hello'")
        assert await heard == "hello"
        await second.execute("create temp table numbers (number int)")
        records = [(number,) for number in range(100_000)]
        await second.copy_records_to_table("numbers", records=records)
        assert await second.fetchval("select sum(number) from numbers") == sum(range(100_000))
        await first.close()
        await second.close()

    run(main())


def test_the_server_ends_a_connection(run, certs, database):
    async def main():
        first, second = await connect(database, ssl=client(certs)), await connect(database, ssl=client(certs))
        pid = await first.fetchval("select pg_backend_pid()")
        waiting = asyncio.ensure_future(first.fetchval("select pg_sleep(60)"))
        while not await second.fetchval("select wait_event = 'PgSleep' from pg_stat_activity where pid = $1", pid):
            pass
        await second.execute("select pg_terminate_backend($1)", pid)
        with pytest.raises((asyncpg.PostgresError, ConnectionError, asyncpg.InterfaceError)):
            await waiting
        await first.close()
        await second.close()

    run(main())


def test_answer_in_the_segment_of_the_server_s_letter(run, certs):
    """CVE-2021-23222 and its like: bytes that come in clear text behind the letter that begins TLS must not be read as if they had
    come within. Here they spoil the handshake."""

    async def main():
        loop = asyncio.get_running_loop()
        with socket.create_server((HOST, 0)) as listening:
            listening.setblocking(False)

            async def serve():
                sock, _ = await loop.sock_accept(listening)
                with sock:
                    assert len(await loop.sock_recv(sock, 8)) == 8
                    await loop.sock_sendall(sock, b"S" + b"R\0\0\0\x08\0\0\0\0" * 3)
                    with contextlib.suppress(OSError):
                        while await loop.sock_recv(sock, 65536):
                            pass

            serving = asyncio.ensure_future(serve())
            with pytest.raises((OSError, asyncpg.InterfaceError, asyncpg.PostgresError)):
                await connect(listening.getsockname()[1], ssl=client(certs), timeout=5)
            await serving

    run(main())


def test_psycopg(run, certs, database, version):
    """sslmode=verify-full: TLS is libpq's, the waiting ours."""

    async def main():
        options = f"sslmode=verify-full sslrootcert={certs.ca} ssl_min_protocol_version=TLSv{version}"
        options += f" ssl_max_protocol_version=TLSv{version}"
        where = f"host=localhost port={database} user=admin dbname=postgres {options}"
        async with await psycopg.AsyncConnection.connect(where) as connection:
            async with connection.cursor() as cursor:
                await cursor.execute("select ssl, version from pg_stat_ssl where pid = pg_backend_pid()")
                assert await cursor.fetchone() == (True, f"TLSv{version}")
                text = "x" * 3_000_000
                await cursor.execute("select %s::text || 'y'", (text,))
                assert await cursor.fetchone() == (text + "y",)
                await cursor.execute("select generate_series(1, 50000)")
                assert len(await cursor.fetchall()) == 50000

    run(main())


def test_psycopg_many_at_once(run, database):
    async def one(number):
        where = f"host=localhost port={database} user=admin dbname=postgres sslmode=require"
        async with await psycopg.AsyncConnection.connect(where) as connection:
            async with connection.cursor() as cursor:
                await cursor.execute("select %s::int * 2", (number,))
                return (await cursor.fetchone())[0]

    async def main():
        assert await asyncio.gather(*map(one, range(10))) == [2 * number for number in range(10)]

    run(main())
