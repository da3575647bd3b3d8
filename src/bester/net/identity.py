"""Derives the names that a server's certificate proves (docs/protocol.md, section 8.5).

TLS proves that the other end has the private key of the certificate that it presents. Two ways lead from the key to a
name: the key, or the certificate, is pinned under the name in ``federation.servers``; or an authority of
``federation.ca`` has issued the certificate for the name. A pin takes precedence: nothing else proves a name that has
one.

Listeners face a limitation: Python lets OpenSSL either request a client's certificate and end the handshake if no known
authority issued it, or request none. Most servers' certificates are self-signed, some are known only by a fingerprint,
and clients with TLS must not be affected. So a server that connects presents a *letter* in place of its certificate: a
certificate for the same key, made when the server starts and issued by an authority whose private key is public
(:func:`_anybody_key`), with the server's certificates in an extension. The handshake accepts it wherever that authority
is known. That proves only the possession of the key, and nothing more is required of TLS.

Only this module then decides what the key proves, by the same rule for both ends of a connection: it never relies on
OpenSSL's verdict on a chain or a name.

A program that does not know letters presents its plain certificate; the handshake accepts it if that certificate is
pinned as a file, or comes from an authority of ``federation.ca``.
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
"""The proof of its name that a dialled server must give; empty if none."""
MAX_NAMED = 5
"""How many names of a certificate an error lists."""
_DER = 2
"""OpenSSL's number for this form, X509_FILETYPE_ASN1."""


@dataclass(frozen=True, slots=True)
class Expiry:
    """The end of a certificate's validity, with a description of the certificate."""

    what: str
    at: datetime.datetime


class Proof(NamedTuple):
    """The names that a certificate proves; the first one counts if the server states none of them."""

    names: tuple[str, ...] = ()
    shown: Shown | None = None
    """The certificate that proves them."""


class _Uncertified(Exception):
    """Raised if no authority has certified any name; the text says why."""


class Identities:
    """The certificates and pins of one configuration.

    Only the constructor reads files, which blocks; unusable files raise :class:`bester.errors.BadConfiguration`.
    """

    def __init__(self, config: Config) -> None:
        federation = config.federation
        self.files = own_files(config)
        """The server's own certificate and key, which it presents when it connects; None if it has none."""
        self.pins: dict[str, frozenset[str]] = {}
        """By server name: the fingerprints, of the certificate or of the key, that prove it."""
        self.expiries: list[Expiry] = []
        self.own: list[Shown] = []
        """The server's own certificates; it presents the first one."""
        self._authorities: list[x509.Certificate] = []
        self._known: list[x509.Certificate] = []
        for name, peer in federation.servers.items():
            if peer.fingerprint is not None:
                self.pins[name] = frozenset((peer.fingerprint,))
            elif peer.certificate is not None:
                pinned = read_certificates(peer.certificate)[0]
                # Only its key: a certificate renewed with the same key still belongs to the same server.
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
            """The context for connections to other servers. It checks nothing: :meth:`doubt` does."""
        except (OSError, ValueError) as error:
            raise BadConfiguration(f"the server's own certificate cannot be used: {error}") from error

    def __bool__(self) -> bool:
        """Returns whether any name can be proven."""
        return bool(self.pins or self._authorities)

    def proof(self, der: bytes, others: Sequence[bytes] = ()) -> Proof:
        """Returns the names that a certificate proves; TLS has shown that the other end has its key.

        Args:
            der: the certificate that the other end presented, plain or as a letter.
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
            # Invalid certificates raise more kinds of errors than the parser documents; all mean the same here.
            return Proof()
        return Proof(tuple(names), shown(certificate)) if names else Proof()

    def doubt(self, name: str, by: ProofBy, der: bytes | None, others: Sequence[bytes] = ()) -> str:
        """Returns why a dialled server's certificate does not prove its name; empty if it does.

        Args:
            name: the name that the server must prove.
            by: the proof that it must give; if none, the result is empty.
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
        """Returns the names in the certificate if the authorities have issued it and it is valid now.

        Raises:
            _Uncertified: there are no such names; the text says why.
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
        """Makes a listener's context request certificates of its clients, if any name can be proven."""
        if self:
            known = authority_of_anybody() + "".join(map(pem_of, self._authorities))
            ask_for_certificates(context, known + "".join(map(trusted_pem_of, self._known)))


def _context(files: tuple[Path, Path] | None) -> ssl.SSLContext:
    """Returns the context for dialling, with a letter for these files."""
    if files is None:
        return peer_context()
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # ssl reads certificates only from files
        file.write(letter(read_certificates(files[0])))
        file.flush()
        return peer_context(file.name, str(files[1]))


def own_files(config: Config) -> tuple[Path, Path] | None:
    """Returns the certificate and key with which this server proves its name, if it has any."""
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
        BadConfiguration: the file cannot be read, or has no certificates.
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
    """Returns the rules for the extensions of authorities' and of servers' certificates.

    These are the web's rules, relaxed where small authorities omit extensions or mark them differently. A certificate
    for TLS servers is enough for servers that connect, too: the web's authorities no longer issue others.
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
    """Returns the certificate that the other end of a TLS connection presented, and the others that it sent."""
    tls = transport.get_extra_info("ssl_object")
    certificate = tls.getpeercert(binary_form=True) if tls is not None else None
    if certificate is None:
        return None, []
    if sys.version_info >= (3, 13):
        return certificate, list(tls.get_unverified_chain())[1:]
    # Before Python 3.13 the method exists, but has no public name.
    chain = tls._sslobj.get_unverified_chain() or []
    return certificate, [one.public_bytes(_DER) for one in chain[1:]]
