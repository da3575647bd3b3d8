"""TLS contexts for clients and for servers, which behave the same on every version of Python."""

from __future__ import annotations

import ssl
from pathlib import Path

TICKETS = 2
"""How many tickets a listener gives to each client of TLS 1.3, for sessions to resume; OpenSSL's own default."""


def verifying_context(
    cafile: str | Path | None = None, certificate: str | Path | None = None, key: str | Path | None = None
) -> ssl.SSLContext:
    """Returns the context of a client that verifies the server's certificate: TLS 1.2 or later.

    Args:
        cafile: the authorities, or other certificates to trust, as PEM; None for the system's.
        certificate: the client's own certificate; None for none.
        key: the certificate's private key.

    Raises:
        OSError, ssl.SSLError: a file cannot be read, or they do not belong together.
    """
    context = ssl.create_default_context(cafile=cafile)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # From 3.13 on Python refuses authorities that lack fields that RFC 5280 requires, as most home-made ones do.
    context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
    # Before 3.13 Python does not trust a certificate in the file that is not an authority.
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


def server_context(certificate: str | Path, key: str | Path) -> ssl.SSLContext:
    """Returns the context of a TLS listener: TLS 1.2 or later.

    Raises:
        OSError, ssl.SSLError: the files cannot be read, or do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.num_tickets = TICKETS
    context.load_cert_chain(certificate, key)
    return context
