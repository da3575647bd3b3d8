"""The fingerprints by which certificates are pinned (docs/protocol.md, section 8.5)."""

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
    """A description of a certificate that the other end presents; proves nothing by itself."""

    fingerprints: Fingerprints
    subject: str
    expires: datetime.datetime
    """The end of its validity, in UTC."""
    names: tuple[str, ...]
    """Its DNS names, in lower case."""


def shown(certificate: x509.Certificate) -> Shown:
    """Returns a certificate's description."""
    from cryptography import x509

    subject = certificate.subject.rfc4514_string()
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = tuple(name.lower() for name in alternatives.get_values_for_type(x509.DNSName))
    except (x509.ExtensionNotFound, ValueError):
        names = ()
    return Shown(fingerprints(certificate), subject, certificate.not_valid_after_utc, names)


def spelled(digits: str) -> str:
    """Returns a fingerprint in the form that people read; a configuration accepts it, too."""
    return f"sha256:{digits}"


def fingerprints(certificate: x509.Certificate) -> Fingerprints:
    """Returns both fingerprints of a certificate."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Fingerprints(
        hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest(), hashlib.sha256(key).hexdigest()
    )
