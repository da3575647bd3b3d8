"""TLS contexts: 1.2 or later (docs/protocol.md, section 8)."""

from __future__ import annotations

import ssl


def server_context(certificate: str, key: str) -> ssl.SSLContext:
    """Returns the context of a TLS listener.

    Raises:
        OSError, ssl.SSLError: the files cannot be read, or do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context


def ask_for_certificates(context: ssl.SSLContext, known: str) -> None:
    """Lets a listener ask new connections for certificates; those that have none get in as before.

    One that has a certificate gets in only where it is, or is issued by, one of ``known`` (PEM). What was known before
    stays so: this decides who completes the handshake, and proves nothing.
    """
    context.load_verify_locations(cadata=known)
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN  # a certificate that is no authority counts, too
    context.verify_mode = ssl.CERT_OPTIONAL


def peer_context(certificate: str | None = None, key: str | None = None, trusted: str | None = None) -> ssl.SSLContext:
    """Returns the context with which a server dials another one.

    Args:
        certificate: what it presents itself; None for nothing.
        key: the private key of that.
        trusted: the authorities (PEM) that must prove the other server's name. None checks nothing: the caller does.

    Raises:
        OSError, ssl.SSLError: the files cannot be read, or do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if trusted is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=trusted)
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context
