"""Certificates and keys are checked before anything starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from bester.config import Config, ConfigError, ListenerConfig, check_files, parse

AUTHORITY = trustme.CA()
ONE = AUTHORITY.issue_cert("a.example")
OTHER = AUTHORITY.issue_cert("b.example")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "a.pem").write_bytes(ONE.cert_chain_pems[0].bytes())
    (tmp_path / "a.key").write_bytes(ONE.private_key_pem.bytes())
    (tmp_path / "b.key").write_bytes(OTHER.private_key_pem.bytes())
    (tmp_path / "ca.pem").write_bytes(AUTHORITY.cert_pem.bytes())
    (tmp_path / "garbage").write_text("garbage")
    key = load_pem_private_key(ONE.private_key_pem.bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hidden"))
    (tmp_path / "locked.key").write_bytes(locked)
    return tmp_path


def made(base: Path, certificate: str = "a.pem", key: str = "a.key", **federation: Any) -> Config:
    tls = {"port": 2223, "address": "::", "certificate": certificate, "key": key}
    return parse(json.dumps({"network": {"tls": tls}, "federation": federation}), base)


def test_a_certificate_and_its_key(base: Path) -> None:
    servers = {"b.example": {"address": "b.example", "certificate": "a.pem"}}
    config = made(base, ca="ca.pem", servers=servers)
    assert check_files(config) == []
    assert config.listeners() == [ListenerConfig("tls", "::", 2223, base / "a.pem", base / "a.key")]
    (base / "a.key").unlink()
    assert [problem.key for problem in check_files(config)] == ["network.tls.key"]


@pytest.mark.parametrize(
    ("certificate", "key", "wrong", "found"),
    [
        ("a.pem", "b.key", "network.tls.key", ", the key of another certificate"),
        ("a.pem", "garbage", "network.tls.key", ", no usable key"),
        ("a.pem", "locked.key", "network.tls.key", ", a key with a passphrase"),
        ("a.pem", "nowhere", "network.tls.key", " (no such file or directory)"),
        ("a.pem", ".", "network.tls.key", " (is a directory)"),
        ("garbage", "a.key", "network.tls.certificate", ", no certificates"),
        ("nowhere", "a.key", "network.tls.certificate", " (no such file or directory)"),
    ],
)
def test_a_pair_that_does_not_do(base: Path, certificate: str, key: str, wrong: str, found: str) -> None:
    with pytest.raises(ConfigError) as caught:
        made(base, certificate, key)
    (problem,) = caught.value.problems
    assert problem.key == wrong
    assert problem.found.endswith(found)


def test_both_are_told(base: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        made(base, "nowhere", "nowhere", ca="garbage", servers={"b": {"address": "b", "certificate": "no"}})
    assert [problem.key for problem in caught.value.problems] == [
        "network.tls.certificate",
        "network.tls.key",
        "federation.ca",
        "federation.servers.b.certificate",
    ]


def test_a_certificate_or_a_fingerprint(base: Path) -> None:
    entry = {"address": "b", "certificate": "a.pem", "fingerprint": "00" * 32}
    with pytest.raises(ConfigError, match=r"federation\.servers\.b: found certificate and fingerprint"):
        made(base, servers={"b": entry})


def test_a_listener_that_is_not_started_needs_no_files(base: Path) -> None:
    tls = {"port": 1, "certificate": "nowhere", "key": "nowhere"}
    network = {"types": ["tcp4"], "tcp4": {"port": 1}, "tls": tls}
    assert len(parse(json.dumps({"network": network}), base).listeners()) == 1


def test_a_certificate_for_connecting_to_others(base: Path) -> None:
    def check(**federation: str) -> None:
        parse(json.dumps({"network": {"tcp4": {"port": 1}}, "federation": federation}), base)

    check(certificate="a.pem", key="a.key")
    for wrong, text in (
        ({"certificate": "a.pem", "key": "b.key"}, "federation.key: found .* the key of another certificate"),
        ({"certificate": "a.pem"}, "federation.key: found nothing, allowed: a path: federation.certificate is there"),
        ({"key": "a.key"}, "federation.certificate: found nothing, allowed: a path: federation.key is there"),
    ):
        with pytest.raises(ConfigError, match=text):
            check(**wrong)
