"""Makes the certificate of a server that no authority has certified."""

from __future__ import annotations

import datetime
import ipaddress
from typing import TYPE_CHECKING, Any

from bester.clock import wall_time

if TYPE_CHECKING:
    from cryptography import x509

VALID_DAYS = 3650
"""Long, because few operators renew it: others pin its fingerprint until an authority's certificate replaces it."""
_MAX_COMMON_NAME = 64


def make_certificate(name: str, key: Any = None, days: int = VALID_DAYS) -> tuple[bytes, bytes, str]:
    """Returns a self-signed certificate and its key, both as PEM, and the key's fingerprint.

    Args:
        name: the server's name, or its address.
        key: a private key; by default a new EC key on P-256.
        days: its validity.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    from bester.net.fingerprints import fingerprints, spelled

    key = key or ec.generate_private_key(ec.SECP256R1())
    own_hash = isinstance(key, (ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey))
    public = key.public_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:_MAX_COMMON_NAME])])
    now = datetime.datetime.fromtimestamp(wall_time(), datetime.UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    # For both uses, because a server is also a client of other servers, and proves its name there too.
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([_general_name(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(both, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, None if own_hash else hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return made.public_bytes(serialization.Encoding.PEM), pem, spelled(fingerprints(made).key)


def _general_name(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
