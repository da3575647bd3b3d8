"""TLS between servers: 1.2 or later (docs/protocol.md, section 8.5)."""

from __future__ import annotations

import ssl
import tempfile

_NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which Python has no name for."""


def ask_for_certificates(context: ssl.SSLContext, known: str) -> None:
    """Lets a listener ask new connections for certificates; those that have none get in as before.

    One that has a certificate gets in only where it is, or is issued by, one of ``known`` (PEM). This decides who
    completes the handshake, and proves nothing; so it is no matter whether a certificate has expired.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # trusted certificates are taken from files alone
        file.write(known)
        file.flush()
        context.load_verify_locations(file.name)
    # A certificate that is no authority counts, too.
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    context.verify_mode = ssl.CERT_OPTIONAL


def peer_context(certificate: str | None = None, key: str | None = None) -> ssl.SSLContext:
    """Returns the context with which a server dials another one; it checks nothing: the caller does.

    Args:
        certificate: what it presents itself; None for nothing.
        key: the private key of that.

    Raises:
        OSError, ssl.SSLError: the files cannot be read, or do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context
