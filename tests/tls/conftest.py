"""Fixtures of the TLS tests. `loop` is of the implementation under test, so that all of it can be proved on asyncio's own:
COROLLA_TEST_IMPL=asyncio."""

import datetime
import gc
import pathlib

import impl
import pytest
import trustme
from tls.support import Certificates


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A CA and what it signed, and another CA that nobody trusts; made once."""
    directory = tmp_path_factory.mktemp("certificates")
    authority, stranger = trustme.CA(), trustme.CA()
    now = datetime.datetime.now(datetime.UTC)
    past = {"not_before": now - datetime.timedelta(days=9), "not_after": now - datetime.timedelta(days=2)}
    issued = {
        "server": authority.issue_cert("localhost", "127.0.0.1", "first.example"),
        "second": authority.issue_cert("second.example"),
        "client": authority.issue_cert("client@example.com", common_name="client"),
        "expired": authority.issue_cert("localhost", "127.0.0.1", **past),
        "wronghost": authority.issue_cert("elsewhere.example"),
        "stranger": stranger.issue_cert("localhost", "127.0.0.1"),
        "rsa": authority.issue_cert("localhost", "127.0.0.1", key_type=trustme.KeyType.RSA),
    }
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    for name, certificate in issued.items():
        certificate.private_key_and_cert_chain_pem.write_to_path(str(directory / f"{name}.pem"))
        certificate.private_key_pem.write_to_path(str(directory / f"{name}.key"))
        chain = b"".join(part.bytes() for part in certificate.cert_chain_pems)
        (directory / f"{name}.crt").write_bytes(chain)
    return Certificates(directory)


@pytest.fixture
def loop(reports):
    loop = impl.new_event_loop()
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    try:
        yield loop
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
    gc.collect()
    assert not reports, f"the loop's exception handler was called: {reports}"


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    """Where a Unix socket may be bound."""
    return str(tmp_path / "sock")


@pytest.fixture(params=["client", "server"])
def side(request: pytest.FixtureRequest) -> str:
    """Which end is under test."""
    return str(request.param)


@pytest.fixture(params=["1.2", "1.3"])
def version(request: pytest.FixtureRequest) -> str:
    """Of TLS."""
    return str(request.param)
