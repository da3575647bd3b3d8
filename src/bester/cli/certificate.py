"""``bester certificate``: shows and renews a server's certificate, and makes a new server's self-signed one."""

from __future__ import annotations

import datetime
import ipaddress
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bester.cli.output import BAD, fail, say, say_json
from bester.cli.settings import ConfigOption, JsonOption, load_config
from bester.clock import wall_time

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography import x509

    from bester.config import Config

certificate = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Show and renew a certificate. Clients and other servers recognise a server by it.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

VALID_DAYS = 3650
"""Long, because few operators renew it: others pin its fingerprint until an authority's certificate replaces it."""
_MAX_COMMON_NAME = 64


@certificate.command()
def show(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Show the certificate, its expiry and its fingerprints.

    Give the key's fingerprint to the operators of other servers: it stays the same when the certificate is renewed.
    """
    path, _ = _files(load_config(config))
    _show(path, json)


@certificate.command()
def renew(
    config: ConfigOption = None,
    days: Annotated[int, typer.Option(min=1, max=36500, metavar="DAYS", help="Its validity.")] = VALID_DAYS,
    json: JsonOption = False,
) -> None:
    """Make a new self-signed certificate for the same key. The fingerprint that others have pinned stays valid.

    The running server uses it at once. This cannot renew a certificate from an authority.
    """
    from bester.cli.rewrite import reload_server, replace_file
    from bester.net.identity import read_certificates

    loaded = load_config(config)
    path, key_path = _files(loaded)
    old = read_certificates(path)[0]
    if old.issuer != old.subject:
        fail(f"{path} is from the authority {old.issuer.rfc4514_string()}, which must renew it", BAD)
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(key_path.read_bytes(), None)
    made, _, _ = make_certificate(loaded.server.name, key, days)
    # Some operators keep the key in the same file.
    kept = re.findall(
        rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----\n?", path.read_bytes(), re.S
    )
    try:
        replace_file(path, made + b"".join(kept))
    except OSError as error:
        fail(f"{path}: {error.strerror or error}", BAD)
    _show(path, json)
    reload_server(loaded, quiet=json)


def _files(config: Config) -> tuple[Path, Path]:
    from bester.net.identity import own_files

    found = own_files(config)
    if found is None:
        fail("this server has no certificate: network.tls and federation.certificate are not set", BAD)
    return found


def _show(path: Path, json: bool) -> None:
    from cryptography import x509

    from bester.net.fingerprints import fingerprints, spelled
    from bester.net.identity import read_certificates

    found = read_certificates(path)[0]
    try:
        general = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [str(one.value) for one in general]
    except x509.ExtensionNotFound:
        names = []
    both = fingerprints(found)
    expired = found.not_valid_after_utc <= datetime.datetime.fromtimestamp(wall_time(), datetime.UTC)
    shown = {
        "names": names,
        "subject": found.subject.rfc4514_string(),
        "issuer": found.issuer.rfc4514_string(),
        "expires": found.not_valid_after_utc.isoformat(),
        "expired": expired,
        "key": spelled(both.key),
        "certificate": spelled(both.certificate),
    }
    if json:
        say_json(shown)
        return
    say(f"{path}: {', '.join(names) or 'no names'}")
    say(f"issued by    {'itself' if found.issuer == found.subject else shown['issuer']}")
    say(f"{'EXPIRED' if expired else 'expires'}      {found.not_valid_after_utc:%Y-%m-%d}")
    say(f"key          {shown['key']}")
    say(f"certificate  {shown['certificate']}")


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
