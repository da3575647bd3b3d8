"""``bester certificate``: shows and renews a server's certificate, and makes a new server's self-signed one."""

from __future__ import annotations

import datetime
import re
from typing import TYPE_CHECKING, Annotated

import typer

from bester.cli.output import BAD, fail, say, say_json
from bester.cli.settings import ConfigOption, JsonOption, load_config
from bester.clock import wall_time
from bester.net.selfsigned import VALID_DAYS, make_certificate

if TYPE_CHECKING:
    from pathlib import Path

    from bester.config import Config

certificate = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Show and renew a certificate. Clients and other servers recognise a server by it.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
