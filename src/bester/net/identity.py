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
possession of the key, which is all that is asked of TLS.

What the key proves is then looked up here, and only here, by the same rule for servers that dial and servers that are
dialled: nothing is ever concluded from what OpenSSL thinks of a chain or a name.

A program that knows no letters presents its certificate as it is; it gets through where that certificate is pinned as a
file, or comes from an authority of ``federation.ca``.
"""

from __future__ import annotations

import datetime
import functools
import ssl
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from bester.clock import wall_time
from bester.config import Config
from bester.config.values import is_server_name
from bester.errors import BadConfiguration
from bester.net.fingerprints import Shown, fingerprints, shown
from bester.net.letters import MAX_ENCLOSED, authority_of_anybody, enclosed, letter, pem_of, trusted_pem_of
from bester.net.tls import ask_for_certificates, peer_context

if TYPE_CHECKING:
    from cryptography import x509

ProofBy = Literal["", "pin", "authority"]
"""What a server that is dialled must prove its name with; empty: nothing."""
MAX_NAMED = 5
"""How many names of a certificate are told."""
_DER = 2
"""OpenSSL's number for this form, X509_FILETYPE_ASN1."""


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


class _Uncertified(Exception):
    """No authority has certified any name; the text says why."""


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
        try:
            self.dialling = _context(self.files if dials else None)
            """The context with which other servers are dialled. It checks nothing: :meth:`doubt` does."""
        except (OSError, ValueError) as error:
            raise BadConfiguration(f"the server's own certificate cannot be used: {error}") from error

    def __bool__(self) -> bool:
        """Tells whether any name can be proven at all."""
        return bool(self.pins or self._authorities)

    def proof(self, der: bytes, others: Sequence[bytes] = ()) -> Proof:
        """Returns the names that a certificate proves, whose key the other end has shown to possess.

        Args:
            der: the certificate that it presented, as a letter or as it is.
            others: the other certificates that it sent.
        """
        try:
            presented, known = _read(der), _read_all(others)
            digits = fingerprints(presented)
            known = [*enclosed(presented), *known]
            same = [one for one in known if fingerprints(one).key == digits.key]
            certificate = same[0] if same else presented
            pinned_by = {digits.key, *(fingerprints(one).certificate for one in (presented, *same))}
            names = [name for name, pins in self.pins.items() if not pins.isdisjoint(pinned_by)]
            if not names and self._authorities:
                names = [name for name in self._certified(certificate, known) if name not in self.pins]
        except Exception:
            # What others send may be wrong in more ways than the parser names, and wrong is all that it is.
            return Proof()
        return Proof(tuple(names), shown(certificate)) if names else Proof()

    def doubt(self, name: str, by: ProofBy, der: bytes | None, others: Sequence[bytes] = ()) -> str:
        """Returns why the certificate that a dialled server shows does not prove its name; empty where it does.

        Args:
            name: the name that it must prove.
            by: what with; nothing is doubted where it must prove nothing.
            der: the certificate.
            others: the other certificates that it sent.
        """
        if not by:
            return ""
        if der is None:
            return "it shows no certificate"
        try:
            certificate, known = _read(der), _read_all(others)
            if by == "pin":
                pinned = not self.pins.get(name, frozenset()).isdisjoint(fingerprints(certificate))
                return "" if pinned else "its certificate has another key than the pinned one"
            names = self._certified(certificate, known)
        except _Uncertified as error:
            return str(error)
        except Exception:
            return "its certificate cannot be read"  # as in proof()
        return "" if name in names else f"its certificate is for {', '.join(names[:MAX_NAMED])}"

    def _certified(self, certificate: x509.Certificate, others: list[x509.Certificate]) -> list[str]:
        """Returns the names for which the authorities have issued a certificate that is valid now.

        Raises:
            _Uncertified: there are none; the text says why.
        """
        from cryptography import x509
        from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

        try:
            extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        except x509.ExtensionNotFound:
            raise _Uncertified("its certificate has no DNS name (subjectAltName)") from None
        found = (name.lower() for name in extension.value.get_values_for_type(x509.DNSName))
        names = [name for name in dict.fromkeys(found) if is_server_name(name)]
        if not names:
            raise _Uncertified("its certificate has no DNS name (subjectAltName) without a wildcard")
        now = datetime.datetime.fromtimestamp(wall_time(), datetime.UTC)
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise _Uncertified("its certificate has expired, or is not valid yet")
        authorities, servers = _rules()
        policy = PolicyBuilder().store(Store(self._authorities))
        policy = policy.extension_policies(ca_policy=authorities, ee_policy=servers)
        try:
            policy.build_server_verifier(x509.DNSName(names[0])).verify(certificate, others)
        except VerificationError as error:
            raise _Uncertified("no authority of federation.ca has issued its certificate") from error
        return names

    def serve(self, context: ssl.SSLContext) -> None:
        """Lets a listener's context ask its clients for certificates, where any name can be proven."""
        if self:
            known = authority_of_anybody() + "".join(map(pem_of, self._authorities))
            ask_for_certificates(context, known + "".join(map(trusted_pem_of, self._known)))


def _context(files: tuple[Path, Path] | None) -> ssl.SSLContext:
    """Returns the context for dialling, with a letter for these files."""
    if files is None:
        return peer_context()
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # ssl takes certificates from files alone
        file.write(letter(read_certificates(files[0])))
        file.flush()
        return peer_context(file.name, str(files[1]))


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


def _read(der: bytes) -> x509.Certificate:
    from cryptography import x509

    return x509.load_der_x509_certificate(der)


def _read_all(ders: Sequence[bytes]) -> list[x509.Certificate]:
    return [_read(der) for der in ders[:MAX_ENCLOSED]]


def presented(transport: Any) -> tuple[bytes | None, list[bytes]]:
    """Returns the certificate that the other end of a TLS connection presented, and those that it sent with it."""
    tls = transport.get_extra_info("ssl_object")
    certificate = tls.getpeercert(binary_form=True) if tls is not None else None
    if certificate is None:
        return None, []
    if sys.version_info >= (3, 13):
        return certificate, list(tls.get_unverified_chain())[1:]
    # Before 3.13 it is there, and has no public name.
    chain = tls._sslobj.get_unverified_chain() or []
    return certificate, [one.public_bytes(_DER) for one in chain[1:]]
