"""TLS between servers: 1.2 or later (docs/protocol.md, section 8.5)."""

from __future__ import annotations

import asyncio
import ssl
import tempfile

_NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, for which Python has no name."""


def ask_for_certificates(context: ssl.SSLContext, known: str) -> None:
    """Makes a listener request certificates on new connections; clients without certificates still connect.

    A client with a certificate can connect only if the certificate is one of ``known`` (PEM), or one of them issued it.
    This decides only who completes the handshake and proves nothing, so expired certificates are accepted.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # ssl reads trusted certificates only from files
        file.write(known)
        file.flush()
        context.load_verify_locations(file.name)
    # Certificates that are not authorities count, too.
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    context.verify_mode = ssl.CERT_OPTIONAL


def peer_context(certificate: str | None = None, key: str | None = None) -> ssl.SSLContext:
    """Returns the context with which a server connects to another one; it checks nothing: the caller must.

    Args:
        certificate: the certificate to present; None for none.
        key: its private key.

    Raises:
        OSError, ssl.SSLError: the files cannot be read, or do not match.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


def ended_in_order(transport: asyncio.BaseTransport, error: Exception | None) -> bool:
    """Whether the other server closed a connection, and did not die or vanish.

    Over TLS this takes its ``close_notify``: the system closes the sockets of a process that is killed, too.

    Args:
        transport: the connection's, from which all data has been read.
        error: what ``connection_lost`` was given.
    """
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    if error is not None or tls is None:
        return error is None
    try:
        return not tls.read(1)
    except ssl.SSLZeroReturnError:
        return True
    except ssl.SSLError:
        return False
