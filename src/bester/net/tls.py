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
