"""Mail: a connection that begins in clear text and goes on in TLS when the client says STARTTLS. aiosmtplib against aiosmtpd, both
on the loop under test, and against a server in the middle that plays false."""

import asyncio
import contextlib
import email.message
import socket
import ssl
import warnings

import pytest
from tls.support import NAME, Peer
from transports.support import HOST, settled

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    aiosmtplib = pytest.importorskip("aiosmtplib", reason="!!! SKIPPED: aiosmtplib is not for this Python")
    smtp = pytest.importorskip("aiosmtpd.smtp", reason="!!! SKIPPED: aiosmtpd is not for this Python")

# aiosmtpd's own, of what it is made of.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Requiring AUTH while not requiring TLS")


class Box:
    """Keeps what is delivered."""

    def __init__(self):
        self.messages = []

    async def handle_DATA(self, server, session, envelope):
        self.messages.append((session.ssl is not None, envelope.mail_from, envelope.rcpt_tos, envelope.content))
        return "250 OK"


async def end(servers):
    """aiosmtpd leaves some of its tasks to themselves."""
    for each in servers:
        if each.transport is not None and not each.transport.is_closing():
            each.transport.abort()
    await settled()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def mail_server(certs, version=None, implicit=False, **kwargs):
    loop = asyncio.get_running_loop()
    box = Box()
    servers = []

    def factory():
        tls = {} if implicit else {"tls_context": certs.server(version=version), "require_starttls": True}
        servers.append(smtp.SMTP(box, hostname=NAME, loop=loop, **tls, **kwargs))
        return servers[-1]

    context = certs.server(version=version) if implicit else None
    server = await loop.create_server(factory, HOST, 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], box
    finally:
        server.close()
        await end(servers)
        await server.wait_closed()
        await settled()


def message(size=20):
    made = email.message.EmailMessage()
    made["From"], made["To"], made["Subject"] = "from@example.com", "to@example.com", "subject"
    made.set_content("line of text\n" * size)
    return made


def test_starttls(run, certs, version):
    async def main():
        async with mail_server(certs, version) as (port, box):
            context = certs.client(version=version)
            async with aiosmtplib.SMTP(hostname=NAME, port=port, start_tls=False, use_tls=False) as client:
                with pytest.raises(aiosmtplib.SMTPException):  # not before
                    await client.send_message(message())
                await client.starttls(tls_context=context)
                assert client.transport.get_extra_info("ssl_object").version() == f"TLSv{version}"
                await client.send_message(message())
                await client.send_message(message(100_000))
            assert [entry[0] for entry in box.messages] == [True, True]
            assert box.messages[1][3].count(b"line of text") == 100_000

    run(main())


def test_on_connection(run, certs):
    """start_tls=True: as soon as it is offered."""

    async def main():
        async with mail_server(certs) as (port, box):
            await aiosmtplib.send(message(), hostname=NAME, port=port, start_tls=True, tls_context=certs.client())
            assert box.messages[0][:3] == (True, "from@example.com", ["to@example.com"])

    run(main())


def test_tls_from_the_first_byte(run, certs):
    async def main():
        async with mail_server(certs, implicit=True) as (port, box):
            await aiosmtplib.send(message(), hostname=NAME, port=port, use_tls=True, tls_context=certs.client())
            assert len(box.messages) == 1

    run(main())


def test_many_at_once(run, certs):
    async def main():
        async with mail_server(certs) as (port, box):
            context = certs.client()
            await asyncio.gather(
                *(
                    aiosmtplib.send(message(), hostname=NAME, port=port, start_tls=True, tls_context=context)
                    for _ in range(20)
                )
            )
            assert len(box.messages) == 20

    run(main())


@pytest.mark.parametrize("certificate", ["expired", "wronghost", "stranger"])
def test_server_that_is_not_trusted(run, certs, certificate, reports):
    async def main():
        loop = asyncio.get_running_loop()
        context = certs.server(certificate)
        made = []

        def factory():
            made.append(smtp.SMTP(Box(), hostname=NAME, loop=loop, tls_context=context))
            return made[-1]

        server = await loop.create_server(factory, HOST, 0)
        client = aiosmtplib.SMTP(hostname=NAME, port=server.sockets[0].getsockname()[1], start_tls=False)
        await client.connect()
        with pytest.raises((ssl.SSLCertVerificationError, aiosmtplib.SMTPException)):
            await client.starttls(tls_context=certs.client())
        client.close()
        await end(made)
        server.close()
        await server.wait_closed()
        await settled()

    run(main())
    reports.clear()  # what aiosmtpd's task makes of it


def test_injected_command(run, certs):
    """The STARTTLS command injection (CVE-2011-0411): a command that somebody put behind STARTTLS in clear text is not taken
    for one that came within TLS."""

    async def main():
        loop = asyncio.get_running_loop()
        async with mail_server(certs) as (port, box):
            sock = socket.create_connection((HOST, port))
            peer = Peer(sock, certs.client(), "client")

            async def line(*words):
                got = b""
                while not any(word in got for word in words):
                    data = await loop.sock_recv(sock, 4096)
                    if not data:
                        break
                    got += data
                return got

            await line(b"220 ")
            await peer.raw(b"EHLO there\r\n")
            await line(b"250 HELP")
            await peer.raw(b"STARTTLS\r\nNOOP injected\r\nVRFY injected\r\n")
            got = await line(b"220 Ready")
            got = got.partition(b"\n")[2]
            assert b"250" not in got
            replies = b""
            with contextlib.suppress(OSError):
                peer.incoming.write(got)
                await peer.handshake()
                await peer.send(b"EHLO again\r\n")
                while b"250 HELP" not in replies:
                    replies += await peer.read()
                    assert replies
            # What answers there are, answer what came within.
            assert b"injected" not in replies
            assert b"252" not in replies
            assert replies.count(b"250 ") <= 1
            peer.close()

    run(main())


def test_injected_answer(run, certs):
    """The same against a client: an answer behind the server's "go ahead", in clear text."""

    async def main():
        async def serve(reader, writer):
            writer.write(b"220 hello\r\n")
            await reader.readline()
            writer.write(b"250-hello\r\n250 STARTTLS\r\n")
            await reader.readline()
            writer.write(b"220 go ahead\r\n250-injected\r\n250 AUTH PLAIN\r\n")
            with contextlib.suppress(OSError):
                await writer.start_tls(certs.server())
                await reader.readline()
                writer.write(b"250-within\r\n250 HELP\r\n")
                await reader.read()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

        server = await asyncio.start_server(serve, HOST, 0)
        client = aiosmtplib.SMTP(hostname=NAME, port=server.sockets[0].getsockname()[1], start_tls=False, timeout=30)
        await client.connect()
        with contextlib.suppress(OSError, aiosmtplib.SMTPException):
            await client.starttls(tls_context=certs.client())
            response = await client.ehlo()
            assert response.message.startswith("within")
            assert not client.supports_extension("auth")
        client.close()
        server.close()
        await server.wait_closed()
        await settled()

    run(main())
