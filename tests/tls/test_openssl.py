"""OpenSSL's own client and server, each a process, at the other end."""

import asyncio
import contextlib
import os
import re
import ssl

import pytest
from tls.programs import free_port, program, talk
from tls.support import NAME, Echo, serving
from transports.support import HOST, Recorder

openssl = pytest.fixture(lambda: program("openssl"), name="openssl")
ALLOW_CLIENT_RENEGOTIATION = 1 << 8  # OpenSSL's; Python has no name for it
FLAGS = {"1.2": "-tls1_2", "1.3": "-tls1_3"}


def s_client(openssl, certs, port, version, *options):
    where = ["-connect", f"{HOST}:{port}", "-CAfile", certs.ca, "-verify_return_error", "-verify_hostname", NAME]
    return talk(openssl, "s_client", FLAGS[version], "-servername", NAME, *where, *options)


@contextlib.asynccontextmanager
async def s_server(openssl, certs, version, *options, certificate="server"):
    """(what is said to it, port), when it listens."""
    for _ in range(5):
        port = free_port()
        pem = certs.file(f"{certificate}.pem")
        command = [openssl, "s_server", FLAGS[version], "-accept", f"{HOST}:{port}", "-cert", pem, "-key", pem]
        # Of what it says a part goes through a buffer that it empties when it ends.
        async with talk(program("stdbuf"), "-o0", *command, *options) as server:
            said = await server.until("ACCEPT", "error", "in use")
            if b"ACCEPT" not in said:
                continue
            yield server, port
            return
    pytest.fail("no port for openssl s_server")


async def connect(port, context, factory=Recorder, **kwargs):
    loop = asyncio.get_running_loop()
    return await loop.create_connection(factory, HOST, port, ssl=context, server_hostname=NAME, **kwargs)


# ---- its client --------------------------------------------------------------------------------


def test_client(run, openssl, certs, version):
    """It ends, at the end of its input, by a close_notify that it does not wait for an answer to."""

    async def main():
        async with serving(certs.server(version=version), Echo) as service:
            async with s_client(openssl, certs, service.port, version) as client:
                said = await client.until("Verify return code: 0 (ok)")
                assert f"TLSv{version}".encode() in said
                await client.say(b"across\n")
                await client.until("across\n")
                await client.say(b"Q\n")
                assert await client.ended() == 0
            protocol = await service.made()
            assert await protocol.lost() is None
            assert protocol.data == b"across\n"
            assert protocol.names()[-2:] == ["eof_received", "connection_lost"]

    run(main())


def test_client_is_killed(run, openssl, certs, version):
    """No close_notify."""

    async def main():
        async with serving(certs.server(version=version), Echo) as service:
            async with s_client(openssl, certs, service.port, version) as client:
                await client.until("Verify return code: 0 (ok)")
                await client.say(b"across\n")
                await client.until("across\n")
                client.process.kill()
            protocol = await service.made()
            await protocol.lost()
            assert protocol.data == b"across\n"

    run(main())


def test_we_close_on_the_client(run, openssl, certs, version):
    async def main():
        async with serving(certs.server(version=version), Echo) as service:
            async with s_client(openssl, certs, service.port, version) as client:
                await client.until("Verify return code: 0 (ok)")
                protocol = await service.made()
                protocol.transport.write(b"good bye\n")
                protocol.transport.close()
                said = await client.rest()
                assert b"good bye\n" in said
                assert b"closed" in said
                assert await client.ended() == 0
            assert await protocol.lost() is None

    run(main())


def test_renegotiation(run, openssl, certs):
    """TLS 1.2, asked for by the client ('R'), in the middle of things. Python's contexts refuse it, unless they are told."""

    async def main():
        context = certs.server(version="1.2")
        context.options &= ~ssl.OP_NO_RENEGOTIATION
        context.options |= ALLOW_CLIENT_RENEGOTIATION
        async with serving(context, Echo) as service:
            async with s_client(openssl, certs, service.port, "1.2") as client:
                await client.until("Verify return code: 0 (ok)")
                protocol = await service.made()
                for turn in range(3):
                    await client.say(b"before %d\n" % turn)
                    await client.until(f"before {turn}\n")
                    await client.say(b"R\n")
                    await client.until("RENEGOTIATING")
                await client.say(b"after\n")
                await client.until("after\n")
                assert protocol.data == b"before 0\nbefore 1\nbefore 2\nafter\n"

    run(main())


def test_renegotiation_refused(run, openssl, certs):
    """The client is told (no_renegotiation) and gives up; nothing of it reaches the application."""

    async def main():
        context = certs.server(version="1.2")
        context.options |= ssl.OP_NO_RENEGOTIATION
        async with serving(context, Echo) as service:
            async with s_client(openssl, certs, service.port, "1.2") as client:
                await client.until("Verify return code: 0 (ok)")
                protocol = await service.made()
                await client.say(b"before\n")
                await client.until("before\n")
                await client.say(b"R\n")
                await client.rest()
                await client.ended()
            await protocol.lost()
            assert protocol.data == b"before\n"

    run(main())


@pytest.mark.parametrize("command", ["k", "K"])
def test_key_update(run, openssl, certs, command):
    """TLS 1.3: the client changes its keys (k), and has the server change its own (K)."""

    async def main():
        async with serving(certs.server(version="1.3"), Echo) as service:
            async with s_client(openssl, certs, service.port, "1.3") as client:
                await client.until("Verify return code: 0 (ok)")
                for turn in range(5):
                    await client.say(command.encode() + b"\n")
                    await client.until("KEYUPDATE")
                    await client.say(b"turn %d\n" % turn)
                    await client.until(f"turn {turn}\n")
                protocol = await service.made()
                assert protocol.data == b"".join(b"turn %d\n" % turn for turn in range(5))

    run(main())


@pytest.mark.parametrize("certificate", ["client", "stranger", None])
def test_client_certificate(run, openssl, certs, version, certificate):
    async def main():
        pem = certs.file(f"{certificate}.pem")
        options = ["-cert", pem, "-key", pem] if certificate else []
        async with serving(certs.server(version=version, ask=True), Echo) as service:
            async with s_client(openssl, certs, service.port, version, *options) as client:
                if certificate == "client":
                    await client.until("Verify return code: 0 (ok)")
                    protocol = await service.made()
                    found = protocol.transport.get_extra_info("peercert")
                    assert ("email", "client@example.com") in found["subjectAltName"]
                    return
                await client.rest()
                await client.ended()
                assert [protocol.events for protocol in service.protocols] == [[]]

    run(main())


def test_alpn_and_server_name(run, openssl, certs, version):
    async def main():
        context = certs.server(version=version, alpn=["h2", "http/1.1"])
        names = []
        context.sni_callback = lambda tls, name, context: names.append(name)
        async with serving(context, Echo) as service:
            async with s_client(openssl, certs, service.port, version, "-alpn", "spdy/1,http/1.1") as client:
                said = await client.until("Verify return code: 0 (ok)")
                assert b"ALPN protocol: http/1.1" in said
                protocol = await service.made()
                assert protocol.transport.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
                assert names == [NAME]

    run(main())


def test_session_of_the_client(run, openssl, certs, version, tmp_path):
    """Saved by one connection, brought by the next."""
    file = str(tmp_path / "session")

    async def main():
        async with serving(certs.server(version=version), Echo) as service:
            for option, word in (("-sess_out", b"New, "), ("-sess_in", b"Reused, ")):
                async with s_client(openssl, certs, service.port, version, option, file) as client:
                    said = await client.until("Verify return code: 0 (ok)")
                    assert word in said
                    await client.say(b"x\n")
                    await client.until("x\n")  # a TLS 1.3 ticket comes before it
                    await client.say(b"Q\n")
                    assert await client.ended() == 0
            second = await service.made(2)
            assert second.transport.get_extra_info("ssl_object").session_reused

    run(main())


def test_version_that_is_not_spoken(run, openssl, certs):
    async def main():
        async with serving(certs.server(version="1.3"), Echo) as service:
            async with s_client(openssl, certs, service.port, "1.2") as client:
                await client.rest()
                assert await client.ended() != 0
            assert [protocol.events for protocol in service.protocols] == [[]]

    run(main())


def test_large_transfer(run, openssl, certs, version, tmp_path):
    """All of it, both ways; -quiet: no letter is a command."""
    data = re.sub(rb"[\r\n]", b"x", os.urandom(4_000_000)) + b"\n"
    (tmp_path / "data").write_bytes(data)

    async def main():
        async with serving(certs.server(version=version), Echo) as service:
            async with s_client(openssl, certs, service.port, version, "-quiet") as client:
                writing = asyncio.ensure_future(client.say(data))
                protocol = await service.made()
                await client.as_much_as(len(data))
                await writing
                assert data in client.said
                assert len(protocol.data) == len(data)

    run(main())


# ---- its server --------------------------------------------------------------------------------


def test_server(run, openssl, certs, version):
    async def main():
        async with s_server(openssl, certs, version) as (server, port):
            transport, protocol = await connect(port, certs.client(version=version))
            assert transport.get_extra_info("cipher")[1] == f"TLSv{version}"
            transport.write(b"from us\n")
            await server.until("from us\n")
            await server.say(b"from it\n")
            await protocol.until(lambda: protocol.data == b"from it\n")
            await server.say(b"Q\n")  # closes, and ends
            assert await protocol.lost() is None
            assert await server.ended() == 0

    run(main())


def test_server_hears_us_close(run, openssl, certs, version):
    async def main():
        async with s_server(openssl, certs, version, "-naccept", "1") as (server, port):
            transport, protocol = await connect(port, certs.client(version=version))
            transport.write(b"last words\n")
            transport.close()
            said = await server.rest()
            assert b"last words\n" in said
            assert b"DONE" in said
            assert await protocol.lost() is None

    run(main())


def test_server_is_killed(run, openssl, certs, version):
    async def main():
        async with s_server(openssl, certs, version) as (server, port):
            transport, protocol = await connect(port, certs.client(version=version))
            server.process.kill()
            await protocol.lost()
            assert protocol.names()[0] == "connection_made"

    run(main())


def test_server_renegotiates(run, openssl, certs):
    """TLS 1.2, asked for by the server ('r')."""

    async def main():
        async with s_server(openssl, certs, "1.2") as (server, port):
            context = certs.client(version="1.2")
            context.options &= ~ssl.OP_NO_RENEGOTIATION
            transport, protocol = await connect(port, context)
            for turn in range(3):
                await server.say(b"r\n")
                await server.until("SSL_do_handshake ->")
                transport.write(b"turn %d\n" % turn)
                await server.until(f"turn {turn}\n")
                await server.say(b"TURN %d\n" % turn)
                await protocol.until(lambda: protocol.data.endswith(b"TURN %d\n" % turn))
            transport.abort()
            await protocol.lost()

    run(main())


@pytest.mark.parametrize("command", ["k", "K"])
def test_server_updates_keys(run, openssl, certs, command):
    async def main():
        async with s_server(openssl, certs, "1.3") as (server, port):
            transport, protocol = await connect(port, certs.client(version="1.3"))
            for turn in range(5):
                await server.say(command.encode() + b"\n")
                await server.until("SSL_do_handshake ->")
                await server.say(b"TURN %d\n" % turn)
                await protocol.until(lambda: protocol.data.endswith(b"TURN %d\n" % turn))
                transport.write(b"turn %d\n" % turn)
                await server.until(f"turn {turn}\n")
            transport.abort()
            await protocol.lost()

    run(main())


@pytest.mark.parametrize("command", ["c", None])
def test_server_asks_for_a_certificate(run, openssl, certs, command):
    """In the handshake, or after it (TLS 1.3, 'c')."""

    async def main():
        options = ["-CAfile", certs.ca, "-Verify" if command is None else "-verify", "2"]
        async with s_server(openssl, certs, "1.3", *options) as (server, port):
            context = certs.client("client", "1.3")
            context.post_handshake_auth = command is not None
            transport, protocol = await connect(port, context)
            if command is not None:
                await server.say(b"c\n")
                await server.until("SSL_do_handshake ->")
                await server.say(b"hello\n")
                await protocol.until(lambda: protocol.data == b"hello\n")
            transport.write(b"done\n")
            while b"done\n" not in server.said:
                await server.until("\n")
            assert b"CN = client" in server.said or b"CN=client" in server.said, bytes(server.said)
            transport.abort()
            await protocol.lost()

    run(main())


@pytest.mark.parametrize("certificate", ["expired", "wronghost", "stranger"])
def test_servers_that_are_not_trusted(run, openssl, certs, version, certificate):
    async def main():
        async with s_server(openssl, certs, version, certificate=certificate) as (server, port):
            with pytest.raises(ssl.SSLCertVerificationError):
                await connect(port, certs.client(version=version))

    run(main())


def test_alpn_of_the_server(run, openssl, certs, version):
    async def main():
        async with s_server(openssl, certs, version, "-alpn", "h2,http/1.1") as (server, port):
            transport, protocol = await connect(port, certs.client(version=version, alpn=["http/1.1", "h2"]))
            assert transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
            transport.abort()
            await protocol.lost()

    run(main())
