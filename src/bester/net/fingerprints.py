"""What a certificate can be pinned by (docs/protocol.md, section 8.5)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cryptography import x509


class Fingerprints(NamedTuple):
    """The SHA-256 of a certificate and of its public key (its SubjectPublicKeyInfo), as hexadecimal digits."""

    certificate: str
    key: str


def fingerprints(certificate: x509.Certificate) -> Fingerprints:
    """Returns both fingerprints of a certificate."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Fingerprints(
        hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest(), hashlib.sha256(key).hexdigest()
    )
