"""Checks the files that a configuration names: certificates, keys, executables."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from bester.clock import wall_time
from bester.config.checks import Finding
from bester.config.model import Config
from bester.config.problems import KeyPath, Problem, dotted, shown

_CERTIFICATES = "a PEM file with certificates"
_KEY = "a PEM file with the certificate's private key, without a passphrase"


def check_files(config: Config) -> list[Problem]:
    """Returns the problems of the files that the server cannot start without, as :func:`load` does.

    A certificate must parse, and its key must match it. The server reads both again when it starts.
    """
    return [finding.problem() for finding in file_findings(config)]


def file_findings(config: Config) -> Iterator[Finding]:
    """Yields every problem of the certificates and keys in use."""
    for listener in config.listeners():
        if listener.certificate is not None and listener.key is not None:
            yield from _check_pair(("network", listener.kind), listener.certificate, listener.key)
    tls = config.handlers.tls
    if tls is not None:
        if tls.certificate is not None and tls.key is not None:
            yield from _check_pair(("handlers", "tls"), tls.certificate, tls.key)
        if tls.client_authority is not None:
            yield from _check_certificates(("handlers", "tls", "clientAuthority"), tls.client_authority)
    federation = config.federation
    if federation.certificate is not None and federation.key is not None:
        yield from _check_pair(("federation",), federation.certificate, federation.key)
    if federation.ca is not None:
        yield from _check_certificates(("federation", "ca"), federation.ca)
    for name, peer in federation.servers.items():
        if peer.certificate is not None:
            yield from _check_certificates(("federation", "servers", name, "certificate"), peer.certificate)


def file_warnings(config: Config) -> Iterator[str]:
    """Yields a warning for each certificate that is not valid now, and each executable that cannot be started.

    Neither prevents a start: peers that have pinned a certificate's key ignore its validity period, and another
    program may answer on a handler's socket.
    """
    for listener in config.listeners():
        if listener.certificate is not None:
            yield from _validity_warnings(("network", listener.kind, "certificate"), listener.certificate)
    if config.handlers.tls is not None and config.handlers.tls.certificate is not None:
        yield from _validity_warnings(("handlers", "tls", "certificate"), config.handlers.tls.certificate)
    if config.federation.certificate is not None:
        yield from _validity_warnings(("federation", "certificate"), config.federation.certificate)
    for name, handler in config.served_types().items():
        if handler.binary is None:
            continue
        place = dotted(("handlers", "typeMap", name, "handlerBinary"))
        if not handler.binary.is_file():
            yield f"{place}: {shown(str(handler.binary))} is no file; nothing is started for this type"
        elif not os.access(handler.binary, os.X_OK):
            yield f"{place}: {shown(str(handler.binary))} is not executable; nothing is started for this type"


def _validity_warnings(path: KeyPath, file: Path) -> Iterator[str]:
    import datetime

    from cryptography import x509  # imported here, so that a server without TLS does not load it

    try:
        found = x509.load_pem_x509_certificate(file.read_bytes())
    except (OSError, ValueError):  # file_findings() reports it if the server cannot start without the file
        return
    now = datetime.datetime.fromtimestamp(wall_time(), datetime.UTC)
    if found.not_valid_after_utc <= now:
        yield f"{dotted(path)}: {shown(str(file))} expired on {found.not_valid_after_utc:%Y-%m-%d}; renew it"
    elif found.not_valid_before_utc > now:
        yield f"{dotted(path)}: {shown(str(file))} is not valid before {found.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"


def _check_pair(path: KeyPath, certificate: Path, key: Path) -> Iterator[Finding]:
    import ssl  # imported here, so that a server without TLS does not load it

    findings = list(_check_certificates((*path, "certificate"), certificate))
    unreadable = _unreadable(key)
    if unreadable is not None:
        findings.append(Finding((*path, "key"), unreadable, _KEY))
    yield from findings
    if findings:
        return
    try:
        # Without a password callback, OpenSSL would ask for a passphrase on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_no_passphrase)
    except ssl.SSLError as error:
        other = error.reason == "KEY_VALUES_MISMATCH"
        found = f"{shown(str(key))}, the key of another certificate" if other else f"{shown(str(key))}, no usable key"
        yield Finding((*path, "key"), found, _KEY)
    except _HasPassphraseError:
        yield Finding((*path, "key"), f"{shown(str(key))}, a key with a passphrase", _KEY)


class _HasPassphraseError(Exception):
    pass


def _no_passphrase() -> str:
    raise _HasPassphraseError


def _check_certificates(path: KeyPath, file: Path) -> Iterator[Finding]:
    import ssl

    unreadable = _unreadable(file)
    if unreadable is not None:
        yield Finding(path, unreadable, _CERTIFICATES)
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except ssl.SSLError:
        yield Finding(path, f"{shown(str(file))}, no certificates", _CERTIFICATES)


def _unreadable(file: Path) -> str | None:
    try:
        with file.open("rb") as opened:
            opened.read(1)
    except OSError as error:
        return f"{shown(str(file))} ({(error.strerror or 'not readable').lower()})"
    return None
