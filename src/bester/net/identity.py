"""What a server's certificate proves (docs/protocol.md, section 8.5).

TLS proves that the other end has the private key of the certificate that it presents. From there to a name there are
two ways: the key, or the certificate, is pinned under the name in ``federation.servers``; or the certificate is one
for the name, from an authority of ``federation.ca``. A pin wins: a name that has one is proven by nothing else.

The listener's difficulty is OpenSSL, which Python lets either ask for a client's certificate and end the handshake
where the certificate leads to no authority that it knows, or not ask at all. Most servers' certificates are
self-signed, some are known by a fingerprint alone, and clients with TLS must not be disturbed. So a server that dials
presents a *letter* in place of its certificate: a certificate for the same key, made when the server starts and issued
by an authority of which everybody knows the private key (:func:`_anybody`), with the server's certificates inside, in
an extension. It gets through the handshake wherever that authority is known, and that it does proves nothing but the
possession of the key, which is all that is asked of TLS. What the key proves is then looked up here, and only here:
nothing is ever concluded from the fact that OpenSSL found a chain.

A program that knows no letters presents its certificate as it is; it gets through where that certificate is pinned as a
file, or comes from an authority of ``federation.ca``.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bester.config import Config
from bester.config.values import is_server_name
from bester.errors import BadConfiguration
from bester.net.fingerprints import Shown, fingerprints, shown
from bester.net.tls import ask_for_certificates, peer_context

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

ENCLOSED = "2.25.141279349518062186107473917362540273281"
"""The extension of a letter, under an arc for which nobody need be asked: PKCS #7 in DER, certificates alone."""
MAX_ENCLOSED = 16
"""How many certificates of a letter are looked at."""

_BEGIN = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
_END = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)


@dataclass(frozen=True, slots=True)
class Expiry:
    """When a certificate ends, and which one it is, in words."""

    what: str
    at: datetime.datetime


class Proof(NamedTuple):
    """The names that a certificate proves; the first is the one that counts where the server names none of them."""

    names: tuple[str, ...] = ()
    shown: Shown | None = None
    """The certificate that proved them."""


class Identities:
    """The certificates and pins of one configuration.

    Unusable files raise :class:`bester.errors.BadConfiguration`; the files are read in the constructor alone, which
    blocks.
    """

    def __init__(self, config: Config) -> None:
        federation = config.federation
        self.files = own_files(config)
        """Our own certificate and its key, which we present when we dial; None where there are none."""
        self.pins: dict[str, frozenset[str]] = {}
        """By server's name: the fingerprints, of its certificate or of its key, that prove it."""
        self.expiries: list[Expiry] = []
        self.own: list[Shown] = []
        """Our own certificates; the first is the one that we present."""
        self._authorities: list[x509.Certificate] = []
        self._known: list[x509.Certificate] = []
        for name, peer in federation.servers.items():
            if peer.fingerprint is not None:
                self.pins[name] = frozenset((peer.fingerprint,))
            elif peer.certificate is not None:
                pinned = read_certificates(peer.certificate)[0]
                # Its key alone: a certificate that is renewed with the same key is still the same server's.
                self.pins[name] = frozenset((fingerprints(pinned).key,))
                self._known.append(pinned)
                self.expiries.append(Expiry(f"the pinned certificate of {name}", pinned.not_valid_after_utc))
        if federation.ca is not None:
            self._authorities = read_certificates(federation.ca)
            for authority in self._authorities:
                what = f"the authority {authority.subject.rfc4514_string()} of federation.ca"
                self.expiries.append(Expiry(what, authority.not_valid_after_utc))
        for path in dict.fromkeys(files[0] for files in (self.files, _listening_files(config)) if files is not None):
            own = shown(read_certificates(path)[0])
            self.own.append(own)
            self.expiries.append(Expiry(f"this server's own certificate {path.name}", own.expires))
        dials = bool(self) or any(peer.tls for peer in federation.servers.values())
        letter = self.files if dials else None
        try:
            self.unchecked = self._context(letter)
            """For dialling where a pin is compared after the handshake, or nothing is proven."""
            self.checked = self._context(letter, self._authorities) if self._authorities else None
            """For dialling where the authorities prove the name; None where there are none."""
        except (OSError, ValueError) as error:
            raise BadConfiguration(f"the server's own certificate cannot be used: {error}") from error

    def __bool__(self) -> bool:
        """Tells whether any name can be proven at all."""
        return bool(self.pins or self._authorities)

    def proof(self, der: bytes, enclosed: list[bytes] | None = None) -> Proof:
        """Returns the names that a certificate proves, whose key the other end has shown to possess.

        Args:
            der: the certificate that it presented, as a letter or as it is.
            enclosed: the other certificates that it sent, where they are known.
        """
        from cryptography import x509

        try:
            presented = x509.load_der_x509_certificate(der)
            known = fingerprints(presented)
            inside = [*_enclosed(presented), *map(x509.load_der_x509_certificate, enclosed or ())]
            same = [one for one in inside if fingerprints(one).key == known.key]
        except Exception:
            # What others send may be wrong in more ways than the parser names, and wrong is all that it is.
            return Proof()
        certificate = same[0] if same else presented
        digits = {known.key, *(fingerprints(one).certificate for one in (presented, *same))}
        names = [name for name, pins in self.pins.items() if not pins.isdisjoint(digits)]
        if not names and self._authorities:
            names = [name for name in self._certified(certificate, inside) if name not in self.pins]
        if not names:
            return Proof()
        return Proof(tuple(names), shown(certificate))

    def is_pinned(self, name: str, der: bytes) -> bool:
        """Tells whether the certificate that a dialled server showed is the pinned one of that name, or has its key."""
        from cryptography import x509

        try:
            both = fingerprints(x509.load_der_x509_certificate(der))
        except Exception:
            return False  # as in proof()
        return not self.pins.get(name, frozenset()).isdisjoint(both)

    def _certified(self, certificate: x509.Certificate, others: list[x509.Certificate]) -> list[str]:
        """Returns the names for which the authorities have issued a certificate that is valid now."""
        from cryptography import x509
        from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

        try:
            extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            found = (name.lower() for name in extension.value.get_values_for_type(x509.DNSName))
            names = [name for name in dict.fromkeys(found) if is_server_name(name)]
            if not names:
                return []
            authorities, servers = _rules()
            policy = PolicyBuilder().store(Store(self._authorities))
            policy = policy.extension_policies(ca_policy=authorities, ee_policy=servers)
            policy.build_server_verifier(x509.DNSName(names[0])).verify(certificate, others)
        except (VerificationError, x509.ExtensionNotFound, ValueError, x509.UnsupportedGeneralNameType):
            return []
        return names

    def serve(self, context: ssl.SSLContext) -> None:
        """Lets a listener's context ask its clients for certificates, where any name can be proven."""
        if self:
            pem = _authority_of_anybody() + "".join(map(_pem, (*self._known, *self._authorities)))
            ask_for_certificates(context, pem)

    @staticmethod
    def _context(files: tuple[Path, Path] | None, authorities: list[x509.Certificate] | None = None) -> ssl.SSLContext:
        trusted = "".join(map(_pem, authorities)) if authorities else None
        if files is None:
            return peer_context(trusted=trusted)
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # ssl takes certificates from files alone
            file.write(letter(read_certificates(files[0])))
            file.flush()
            return peer_context(file.name, str(files[1]), trusted)


def own_files(config: Config) -> tuple[Path, Path] | None:
    """Returns the certificate and the key that this server proves its name with, if it has any."""
    federation = config.federation
    if federation.certificate is not None and federation.key is not None:
        return federation.certificate, federation.key
    return _listening_files(config)


def _listening_files(config: Config) -> tuple[Path, Path] | None:
    tls = config.network.tls
    if tls is None or "tls" not in config.network.wanted():
        return None
    return tls.certificate, tls.key


def read_certificates(path: Path) -> list[x509.Certificate]:
    """Returns the certificates of a PEM file, at least one.

    Raises:
        BadConfiguration: it cannot be read, or has none.
    """
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise BadConfiguration(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise BadConfiguration(f"{path}: not a PEM file with certificates") from error


def letter(chain: list[x509.Certificate]) -> str:
    """Returns, as PEM, a certificate that listeners accept, for the first one's key, with all of them inside."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
    from cryptography.x509.oid import ExtendedKeyUsageOID

    builder = _builder("Bester server", chain[0].public_key())
    content = x509.UnrecognizedExtension(
        x509.ObjectIdentifier(ENCLOSED), pkcs7.serialize_certificates(chain, Encoding.DER)
    )
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    return _pem(
        builder.add_extension(content, critical=False)
        .add_extension(usage, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(_anybody(), hashes.SHA256())
    )


def _enclosed(certificate: x509.Certificate) -> list[x509.Certificate]:
    """Returns the certificates that a letter encloses; none where it is no letter.

    Raises:
        ValueError: what it encloses cannot be read.
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
def _anybody() -> ec.EllipticCurvePrivateKey:
    """Returns the private key of the authority that everybody is: it is made from a text that all know."""
    from cryptography.hazmat.primitives.asymmetric import ec

    known = hashlib.sha256(b"bester: whoever has this key is anybody").digest()
    return ec.derive_private_key(int.from_bytes(known), ec.SECP256R1())


@functools.cache
def _authority_of_anybody() -> str:
    """Returns that authority's certificate as PEM; only its name and its key are the same everywhere."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    key = _anybody()
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    return _pem(
        _builder("anybody", key.public_key()).add_extension(constraints, critical=True).sign(key, hashes.SHA256())
    )


def _builder(subject: str, public: Any) -> x509.CertificateBuilder:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    return x509.CertificateBuilder(
        issuer_name=name("anybody"),
        subject_name=name(subject),
        public_key=public,
        serial_number=x509.random_serial_number(),
        not_valid_before=_BEGIN,
        not_valid_after=_END,
    )


def _pem(certificate: x509.Certificate) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM).decode()


@functools.cache
def _rules() -> tuple[Any, Any]:
    """Returns what the extensions of authorities' and servers' certificates must be.

    The web's rules, less strict in what small authorities leave out or mark otherwise. For servers that dial, too, a
    certificate for TLS servers will do: the web's authorities issue no others any more.
    """
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID
    from cryptography.x509.verification import Criticality, ExtensionPolicy

    def may_sign(policy: object, certificate: object, usage: x509.KeyUsage | None) -> None:
        if usage is not None and not usage.key_cert_sign:
            raise ValueError("this key is not for certificates")

    wanted = (
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    )

    def for_tls(policy: object, certificate: object, usage: x509.ExtendedKeyUsage | None) -> None:
        if usage is not None and not any(one in usage for one in wanted):
            raise ValueError("this certificate is not for TLS")

    anything = Criticality.AGNOSTIC
    authorities = ExtensionPolicy.webpki_defaults_ca().may_be_present(x509.KeyUsage, anything, may_sign)
    servers = (
        ExtensionPolicy.webpki_defaults_ee()
        .require_present(x509.SubjectAlternativeName, anything, None)
        .may_be_present(x509.ExtendedKeyUsage, anything, for_tls)
    )
    return authorities, servers


def presented(transport: Any) -> tuple[bytes | None, list[bytes]]:
    """Returns the certificate that the other end of a TLS connection presented, and those that it sent with it.

    The latter only where Python tells them, from 3.13 on.
    """
    tls = transport.get_extra_info("ssl_object")
    certificate = tls.getpeercert(binary_form=True) if tls is not None else None
    if certificate is None:
        return None, []
    chain = getattr(tls, "get_unverified_chain", None)
    return certificate, list(chain())[1:] if chain is not None else []
