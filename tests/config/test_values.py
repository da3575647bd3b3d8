"""Defaults, and the spellings of values that are accepted."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bester.config import Config, Limits, parse

TCP = {"tcp4": {"port": 2223}}


def made(base: Path, **blocks: Any) -> Config:
    return parse(json.dumps({"network": TCP} | blocks), base)


def test_defaults(tmp_path: Path) -> None:
    config = made(tmp_path)
    assert config.handlers.address == tmp_path / "besterHandlers"
    assert config.informer.address == tmp_path / "bInformer"
    assert config.control.address == tmp_path / "besterControl"
    assert config.storage.path == tmp_path / "bester.db"
    assert config.database.type == "sqlite"
    assert config.accounts.registration == "closed"
    assert config.federation.policy == "local"
    assert (config.federation.retry_for, config.federation.rate, config.federation.burst) == (259200, 50, 200)
    assert (config.log.level, config.log.format) == ("info", "text")
    assert (config.handlers.available_types, config.handlers.type_map, config.served_types()) == (None, {}, {})
    assert (config.cluster, config.path, config.warnings) == (None, None, ())
    assert config.limits == Limits()


def test_default_limits() -> None:
    assert Limits().model_dump() == {
        "max_message": 1048576,
        "max_first_message": 16384,
        "authentication_timeout": 10,
        "frame_timeout": 30,
        "handler_timeout": 30,
        "max_hops": 16,
        "max_in_flight": 1024,
        "max_send_queue": 8388608,
        "max_connections": 20000,
        "max_recipients": 10000,
        "max_parts": 100000,
        "max_unauthenticated": 256,
        "max_unauthenticated_per_address": 10,
        "max_handlers": 256,
        "drain_timeout": 7,
        "max_held": 1000,
        "held_days": 30,
        "receipt_days": 7,
        "receipt_rows": 1_000_000,
        "mailbox_messages": 10000,
        "mailbox_bytes": 67108864,
        "mailbox_days": 30,
        "token_days": 30,
        "max_sessions_per_account": 1000,
    }


@pytest.mark.parametrize(("host", "name"), [("Alpha.Example", "alpha.example"), ("no name", "localhost")])
def test_the_servers_name_is_the_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, name: str) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert made(tmp_path).server.name == name


def test_names_are_lower_case(tmp_path: Path) -> None:
    federation = {"servers": {"B.Example": {"address": "b.example:2223", "fingerprint": "SHA256:" + "AB:" * 31 + "AB"}}}
    config = made(tmp_path, server={"name": "A.Example"}, federation=federation)
    assert config.server.name == "a.example"
    assert config.federation.servers["b.example"].fingerprint == "ab" * 32


def test_listeners_without_types_are_all_that_have_a_block(tmp_path: Path) -> None:
    config = parse('{"network": {"tcp6": {"port": 1}, "tcp4": {"port": "1"}, "unix": {"address": "s"}}}', tmp_path)
    assert [listener.kind for listener in config.listeners()] == ["unix", "tcp4", "tcp6"]


def test_listeners_in_the_order_of_types_and_once(tmp_path: Path) -> None:
    network = {"types": ["tcp4", "unix", "tcp4"], "unix": {"address": "/s"}, "tcp4": {"port": 0}, "tcp6": {"port": 0}}
    listeners = made(tmp_path, network=network).listeners()
    assert [(listener.kind, listener.address, listener.port) for listener in listeners] == [
        ("tcp4", "0.0.0.0", 0),
        ("unix", "/s", None),
    ]


def test_a_types_own_settings(tmp_path: Path) -> None:
    entry = {
        "timeout": 1,
        "concurrency": 2,
        "delivery": "transient",
        "environment": {"A": "secret"},
        "allow": ["role:admin", "t", "b.example"],
    }
    config = made(tmp_path, handlers={"typeMap": {"розмова": entry, "x": {}}}, limits={"handlerTimeout": 2.5})
    served = config.served_types()
    assert served["x"].timeout_s == 2.5
    one = served["розмова"]
    assert (one.timeout_s, one.concurrency, one.delivery) == (1, 2, "transient")
    assert (one.binary, one.socket, one.environment) == (None, None, {"A": "secret"})
    assert one.allow == ("role:admin", "t", "b.example")
    assert "secret" not in repr(config) + repr(served)


def test_passwords_are_not_in_the_representation(tmp_path: Path) -> None:
    config = made(tmp_path, database={"type": "redis", "redis": {"password": "hidden", "username": "u"}})
    assert config.database.redis.password == "hidden"
    assert "hidden" not in repr(config)


def test_admin_info_is_kept_as_it_is(tmp_path: Path) -> None:
    info = {"some_key": [1, 1.5, None, {"lgo": True}], "й": "ї"}
    config = made(tmp_path, admin={"info": info})
    assert config.admin.info == info
    assert config.warnings == ()


def test_the_last_of_repeated_keys_counts(tmp_path: Path) -> None:
    config = parse('{"network": {"tcp4": {"port": 1, "port": 2}}, "log": 5, "log": {}}', tmp_path)
    assert config.listeners()[0].port == 2


def test_relative_bases_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert made(Path()).storage.path == tmp_path / "bester.db"


def test_frozen(tmp_path: Path) -> None:
    config = made(tmp_path)
    with pytest.raises(ValidationError):
        config.limits.max_hops = 3
    with pytest.raises(AttributeError):
        config.listeners()[0].port = 3  # type: ignore[misc]
