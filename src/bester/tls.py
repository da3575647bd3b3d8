"""TLS contexts of programs that check certificates, and of those that show them: the same on every Python."""

from __future__ import annotations

import ssl
from pathlib import Path


def verifying_context(
    cafile: str | Path | None = None, certificate: str | Path | None = None, key: str | Path | None = None
) -> ssl.SSLContext:
    """Returns the context of a client that checks who the server is: TLS 1.2 or later.

    Args:
        cafile: the authorities, or other certificates to trust, as PEM; None for the system's.
        certificate: what the client presents itself; None for nothing.
        key: the private key of that.

    Raises:
        OSError, ssl.SSLError: a file cannot be read, or they do not belong together.
    """
    context = ssl.create_default_context(cafile=cafile)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # From 3.13 on Python refuses authorities that say less than RFC 5280 wants, as most do that people make themselves.
    context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
    # Before 3.13 it does not trust a certificate that is no authority, though it is in the file.
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
    context.load_cert_chain(certificate, key)
    return context
