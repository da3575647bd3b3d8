"""What a reload can apply, and what it cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bester.config import Config, changes_needing_restart, parse

NETWORK = {"tcp4": {"port": 1}, "unix": {"address": "s"}}


def made(**blocks: Any) -> Config:
    return parse(json.dumps({"server": {"name": "a"}, "network": NETWORK} | blocks), Path("/base"))


@pytest.mark.parametrize(
    ("blocks", "keys"),
    [
        ({}, []),
        ({"server": {"name": "b"}}, ["server.name"]),
        ({"network": NETWORK | {"tcp4": {"port": 2}}}, ["network.tcp4.port"]),
        ({"network": NETWORK | {"tcp6": {"port": 2}}}, ["network.tcp6"]),
        ({"network": {"tcp4": {"port": 1}}}, ["network.unix"]),
        ({"network": NETWORK | {"types": ["unix", "tcp4"]}}, []),
        ({"network": NETWORK | {"tcp4": {"port": "1", "address": "0.0.0.0"}}}, []),
        ({"network": NETWORK | {"types": ["unix", "tcp4"], "tcp6": {"port": 2}}}, []),
        ({"handlers": {"address": "h", "typeMap": {"t": {}}}}, ["handlers.address"]),
        ({"informer": {"address": "i"}, "control": {"address": "c"}}, ["informer.address", "control.address"]),
        ({"storage": {"path": "s.db"}}, ["storage.path"]),
        ({"database": {"type": "redis", "redis": {"port": 5}}}, ["database.type", "database.redis.port"]),
        ({"tracing": {"otlp": "http://h/"}}, ["tracing"]),
        ({"handlers": {"typeMap": {"t": {}}}, "limits": {"maxHops": 3}, "log": {"level": "debug"}}, []),
        ({"accounts": {"registration": "open"}, "federation": {"rate": 3}, "admin": {"info": {"a": 1}}}, []),
        ({"lgo": {}}, []),
    ],
)
def test_changes(blocks: dict[str, Any], keys: list[str]) -> None:
    assert changes_needing_restart(made(), made(**blocks)) == keys
