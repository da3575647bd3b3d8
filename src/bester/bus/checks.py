"""Checks before and after connecting to NATS, whose errors say in one line what is wrong and what to do."""

from __future__ import annotations

import re
from pathlib import Path

from bester.bus.options import BusOptions
from bester.errors import BadConfiguration
from bester.installation import how_to_add

OLDEST = (2, 12)
"""The oldest release of nats-server that nodes can use: the first with atomic batch publishing."""
NEEDED = "the NATS account of the nodes needs bester.>, $JS.API.> and _INBOX.>, to publish and to subscribe"
_SECRETS = "cluster.user, password, token, nkey or credentials"
_NUMBERS = re.compile(r"(\d+)\.(\d+)")
_SEED = re.compile(rb"^S[A-Z2-7]{57}$", re.MULTILINE)
_JWT = re.compile(rb"^[\w-]+\.[\w-]+\.[\w-]+$", re.MULTILINE)
MAX_BYTES = 64 * 1024
"""How much is read of a file with a seed."""


def check_secrets(options: BusOptions) -> None:
    """Checks the files with keys and certificates, for which nats-py would raise all kinds of errors.

    Raises:
        BadConfiguration: one cannot be read, or does not contain what it should.
    """
    for name in ("ca", "certificate", "key"):
        if (path := getattr(options, name)) is not None:
            _read(f"cluster.{name}", path)
    if options.nkey is not None:
        _check_seed("cluster.nkey", options.nkey, _read("cluster.nkey", options.nkey).strip())
    if options.credentials is not None:
        text = _read("cluster.credentials", options.credentials)
        seed = _SEED.search(text)
        if seed is None or _JWT.search(text) is None:
            raise BadConfiguration(
                f"cluster.credentials: {options.credentials} has no JWT with its seed, "
                "as nsc generate creds writes them"
            )
        _check_seed("cluster.credentials", options.credentials, seed.group())


def _read(key: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES)
    except OSError as error:
        raise BadConfiguration(f"{key}: {path} cannot be read: {error.strerror}") from error


def _check_seed(key: str, path: Path, seed: bytes) -> None:
    try:
        import nkeys
    except ImportError as error:
        raise BadConfiguration(f"{key} needs a package that is missing: {how_to_add('cluster')}") from error
    try:
        nkeys.from_seed(bytearray(seed)).wipe()
    except Exception as error:  # of all kinds
        raise BadConfiguration(f"{key}: {path} has no seed of an NKey, which is one line like SU...") from error


def check_release(text: str) -> None:
    """Checks that a nats-server is new enough.

    Raises:
        BadConfiguration: it is not.
    """
    found = _NUMBERS.match(text)
    if found is not None and (int(found[1]), int(found[2])) < OLDEST:
        needed = ".".join(map(str, OLDEST))
        raise BadConfiguration(f"nats-server {text} is too old: cluster needs {needed} or later")


def what_to_check(text: str, refused: bool) -> str:
    """Returns what to check after a failed connection.

    Args:
        text: the error.
        refused: whether a server refused this node.
    """
    if refused:
        return _SECRETS
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "cluster.ca, and the name and the end of the NATS server's certificate"
    if "SSL" in text:
        return "cluster.certificate and key, and tls in the NATS server's configuration"
    return "cluster.nats"


def is_denied(text: str) -> bool:
    """Whether NATS says that something is not permitted."""
    return "permissions violation" in text.lower()
