"""Certificates of servers, as files: self-signed ones, and those of an authority."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from bester.net.fingerprints import Fingerprints, fingerprints
from bester.net.selfsigned import make_certificate


@dataclass(frozen=True)
class Papers:
    """A certificate and its key in a folder."""

    folder: Path
    name: str

    @property
    def certificate(self) -> str:
        return str(self.folder / f"{self.name}.pem")

    @property
    def key(self) -> str:
        return str(self.folder / f"{self.name}.key")

    @property
    def fingerprints(self) -> Fingerprints:
        return fingerprints(x509.load_pem_x509_certificate(Path(self.certificate).read_bytes()))

    @property
    def der(self) -> bytes:
        from cryptography.hazmat.primitives.serialization import Encoding

        return x509.load_pem_x509_certificate(Path(self.certificate).read_bytes()).public_bytes(Encoding.DER)

    @property
    def network(self) -> dict[str, Any]:
        """A configuration's ``network.types`` and ``network.tls``."""
        tls = {"port": 0, "address": "127.0.0.1", "certificate": self.certificate, "key": self.key}
        return {"types": ["unix", "tcp4", "tls"], "tls": tls}

    def write(self, certificate: bytes, key: bytes | None = None) -> Papers:
        Path(self.certificate).write_bytes(certificate)
        if key is not None:
            Path(self.key).write_bytes(key)
        return self

    def renew(self, days: int = 10) -> None:
        """Makes another certificate for the same key."""
        key = load_pem_private_key(Path(self.key).read_bytes(), None)
        self.write(make_certificate(self.name, key, days)[0])


def self_signed(folder: Path, name: str, days: int = 1000) -> Papers:
    """Writes a new key and its certificate; with 0 days it has expired."""
    return Papers(folder, name).write(*make_certificate(name, None, days)[:2])


def issued(folder: Path, authority: trustme.CA, *names: str, expired: bool = False) -> Papers:
    """Writes a certificate of an authority, with its chain."""
    not_before, not_after = datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)
    more: dict[str, Any] = {"not_before": not_before, "not_after": not_after} if expired else {}
    made = authority.issue_cert(*names, **more)
    chain = b"".join(part.bytes() for part in made.cert_chain_pems)
    return Papers(folder, names[0]).write(chain, made.private_key_pem.bytes())
