"""Letters, which a connecting server presents in place of its certificate (docs/protocol.md, section 8.5)."""

from __future__ import annotations

import base64
import datetime
import functools
import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

ENCLOSED = "2.25.141279349518062186107473917362540273281"
"""The OID of a letter's extension, under an arc that needs no registration: PKCS #7 in DER, only certificates."""
MAX_ENCLOSED = 16
"""How many certificates of a letter are read."""
REPEATABLE: bool | None = None
"""Whether signatures follow from what is signed (RFC 6979), so that they have one size; None: as OpenSSL likes."""

_FOR_CLIENTS = bytes.fromhex("300c300a06082b06010505070302")
"""OpenSSL's X509_CERT_AUX in DER: trusted for clientAuth."""
_BEGIN = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
_END = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)


def letter(chain: list[x509.Certificate]) -> str:
    """Returns a letter as PEM: a certificate that listeners accept, for the first one's key, enclosing the chain."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
    from cryptography.x509.oid import ExtendedKeyUsageOID

    builder = _builder("Bester server", chain[0].public_key())
    content = x509.UnrecognizedExtension(
        x509.ObjectIdentifier(ENCLOSED), pkcs7.serialize_certificates(chain, Encoding.DER)
    )
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    return pem_of(
        builder.add_extension(content, critical=False)
        .add_extension(usage, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(_anybody_key(), hashes.SHA256(), ecdsa_deterministic=REPEATABLE)
    )


def enclosed(certificate: x509.Certificate) -> list[x509.Certificate]:
    """Returns the certificates that a letter encloses; empty if the certificate is not a letter.

    Raises:
        ValueError: the enclosed certificates cannot be read.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import pkcs7

    try:
        content = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier(ENCLOSED)).value
    except x509.ExtensionNotFound:
        return []
    assert isinstance(content, x509.UnrecognizedExtension)
    return pkcs7.load_der_pkcs7_certificates(content.value)[:MAX_ENCLOSED]


@functools.cache
def _anybody_key() -> ec.EllipticCurvePrivateKey:
    """Returns the private key of the authority *anybody*, which is derived from a published text."""
    from cryptography.hazmat.primitives.asymmetric import ec

    known = hashlib.sha256(b"bester: whoever has this key is anybody").digest()
    return ec.derive_private_key(int.from_bytes(known), ec.SECP256R1())


@functools.cache
def authority_of_anybody() -> str:
    """Returns the certificate of *anybody* as PEM; its signature is not the same everywhere."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    key = _anybody_key()
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    return pem_of(
        _builder("anybody", key.public_key(), 1)
        .add_extension(constraints, critical=True)
        .sign(key, hashes.SHA256(), ecdsa_deterministic=REPEATABLE)
    )


def _builder(subject: str, public: Any, number: int | None = None) -> x509.CertificateBuilder:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    return x509.CertificateBuilder(
        issuer_name=name("anybody"),
        subject_name=name(subject),
        public_key=public,
        serial_number=number or x509.random_serial_number(),
        not_valid_before=_BEGIN,
        not_valid_after=_END,
    )


def pem_of(certificate: x509.Certificate) -> str:
    """Returns a certificate as PEM."""
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM).decode()


def trusted_pem_of(certificate: x509.Certificate) -> str:
    """Returns a certificate as PEM, marked as trusted for clients, whatever its extensions say.

    Otherwise a certificate made only for servers would end the handshake of a client that presents it.
    """
    from cryptography.hazmat.primitives.serialization import Encoding

    der = certificate.public_bytes(Encoding.DER) + _FOR_CLIENTS
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN TRUSTED CERTIFICATE-----\n{body}-----END TRUSTED CERTIFICATE-----\n"
