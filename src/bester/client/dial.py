"""Opens a client's connection, and verifies that the other end is the right server."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import ssl
from collections.abc import Callable

from bester import dialling
from bester.client.url import Target
from bester.net.channel import Channel
from bester.net.keepalive import keep_alive
from bester.protocol.reports import ConnectError
from bester.timeouts import within
from bester.tls import verifying_context

_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})
"""The reasons that OpenSSL gives for an answer that is not TLS."""
_UNKNOWN_ISSUER = frozenset({18, 19, 20, 21})
"""OpenSSL's codes for a certificate that is self-signed or has an unknown authority."""


async def dial(
    target: Target, make_channel: Callable[[], Channel], *, tls: ssl.SSLContext | None = None, timeout_s: float = 10.0
) -> Channel:
    """Connects; the caller owns the channel.

    Args:
        target: the server to connect to.
        make_channel: called once for each address that is tried.
        tls: replaces the context that the target asks for.
        timeout_s: for the name, the connection and the TLS handshake together.

    Raises:
        ConnectError: with the operating system's reason, or with the fault of the server's certificate.
    """
    try:
        async with within(timeout_s):
            channel = await _open(target, make_channel, tls)
    except TimeoutError as error:
        raise ConnectError(f"{target}: no connection within {timeout_s:g} s", temporary=True) from error
    except ssl.SSLCertVerificationError as error:
        advice = "; pin it by its fingerprint, or name its authority" if error.verify_code in _UNKNOWN_ISSUER else ""
        raise ConnectError(f"{target}: TLS: {error.verify_message}{advice}") from error
    except ssl.SSLError as error:
        plain = error.reason in _NO_TLS
        why = "the server does not speak it; without TLS the URL begins with bester://" if plain else error.reason
        raise ConnectError(f"{target}: TLS: {why or error}") from error
    except OSError as error:
        raise ConnectError(f"{target}: {_reason(error)}", temporary=True) from error
    if target.fingerprint is not None:
        shown = channel.peer_certificate()
        if shown is None or target.fingerprint not in _fingerprints(shown):
            channel.abort()
            await channel.wait_closed()
            found = hashlib.sha256(shown or b"").hexdigest()
            raise ConnectError(f"{target}: the server has another certificate, sha256:{found}")
    return channel


def _reason(error: OSError) -> str:
    # asyncio replaces the system's text by its own, or by the texts of several errors.
    if isinstance(error, socket.gaierror):
        return error.strerror or str(error)
    return os.strerror(error.errno) if error.errno else "none of its addresses answers"


def _fingerprints(certificate: bytes) -> tuple[str, str]:
    """Returns the fingerprints that may pin a certificate (DER): its own, and that of its key, which outlives it."""
    from cryptography import x509

    from bester.net.fingerprints import fingerprints

    try:
        return fingerprints(x509.load_der_x509_certificate(certificate))
    except ValueError:
        return hashlib.sha256(certificate).hexdigest(), ""


async def _open(target: Target, make_channel: Callable[[], Channel], tls: ssl.SSLContext | None) -> Channel:
    loop = asyncio.get_running_loop()
    if target.path is not None:
        _, channel = await loop.create_unix_connection(make_channel, target.path)
        return channel
    context = tls or (client_context(target) if target.tls else None)

    async def attempt(connected: socket.socket) -> Channel:
        keep_alive(connected)
        name = target.host if context else None
        _, channel = await loop.create_connection(make_channel, sock=connected, ssl=context, server_hostname=name)
        return channel

    return await dialling.dial(await dialling.addresses([(target.host, target.port)]), attempt)


def client_context(target: Target) -> ssl.SSLContext:
    """Returns the TLS context for a target: TLS 1.2 or later, and always some proof of the server's identity.

    Raises:
        ConnectError: the file of authorities cannot be read.
    """
    if target.fingerprint is None:
        try:
            context = verifying_context(target.cafile)
        except OSError as error:
            why = error.reason if isinstance(error, ssl.SSLError) else error.strerror
            raise ConnectError(f"the authorities in {target.cafile} cannot be read: {why or error}") from error
    else:
        # The certificate itself is pinned, which proves more than a name or a signature; it is compared after the
        # handshake and before anything is sent.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
