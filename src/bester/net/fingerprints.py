"""What a certificate can be pinned by (docs/protocol.md, section 8.5)."""

from __future__ import annotations

import datetime
import hashlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cryptography import x509


class Fingerprints(NamedTuple):
    """The SHA-256 of a certificate and of its public key (its SubjectPublicKeyInfo), as hexadecimal digits."""

    certificate: str
    key: str


class Shown(NamedTuple):
    """What there is to tell of a certificate that somebody shows; it proves nothing by itself."""

    fingerprints: Fingerprints
    subject: str
    expires: datetime.datetime
    """In UTC."""
    names: tuple[str, ...]
    """Its DNS names, in lower case."""


def shown(certificate: x509.Certificate) -> Shown:
    """Returns what there is to tell of a certificate."""
    from cryptography import x509

    subject = certificate.subject.rfc4514_string()
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = tuple(name.lower() for name in alternatives.get_values_for_type(x509.DNSName))
    except (x509.ExtensionNotFound, ValueError):
        names = ()
    return Shown(fingerprints(certificate), subject, certificate.not_valid_after_utc, names)


def spelled(digits: str) -> str:
    """Returns a fingerprint as it is written for people, and may be written in a configuration."""
    return f"sha256:{digits}"


def fingerprints(certificate: x509.Certificate) -> Fingerprints:
    """Returns both fingerprints of a certificate."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Fingerprints(
        hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest(), hashlib.sha256(key).hexdigest()
    )
