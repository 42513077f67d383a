"""TLS contexts with a key made for the tests: of a server at localhost, 127.0.0.1 and ::1, and of clients that trust it."""

import pathlib
import ssl

PEM = str(pathlib.Path(__file__).with_name("localhost.pem"))
NAME = "localhost"


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    return context


def client_context(*, trusting: bool = True) -> ssl.SSLContext:
    """trusting: whether it knows the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if trusting:
        context.load_verify_locations(PEM)
    return context
