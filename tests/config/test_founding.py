"""The configuration of the founding documents loads as it is written, in both formats."""

from __future__ import annotations

from pathlib import Path

import pytest

from bester.config import Config, ListenerConfig, load
from bester.config.document import FOUNDING_JSON, FOUNDING_TOML


@pytest.fixture(params=["bester.json", "bester.toml", "bester"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    file = tmp_path / request.param
    file.write_text(FOUNDING_TOML if file.suffix == ".toml" else FOUNDING_JSON)
    return load(file)


def test_listeners(config: Config, tmp_path: Path) -> None:
    assert config.listeners() == [
        ListenerConfig("unix", str(tmp_path / "besterUNIXSock")),
        ListenerConfig("tcp4", "0.0.0.0", 2220),
        ListenerConfig("tcp6", "::", 2221),
    ]


def test_handlers(config: Config, tmp_path: Path) -> None:
    served = config.served_types()
    assert list(served) == ["type1"]
    assert served["type1"].binary == tmp_path / "type1.py"
    assert served["type1"].socket == tmp_path / "aSock"
    assert served["type1"].timeout_s == 30
    assert served["type1"].allow == ("accounts", "servers")
    assert config.handlers.available_types == ("type1", "type2")


def test_the_rest(config: Config, tmp_path: Path) -> None:
    assert config.database.type == "redis"
    assert (config.database.redis.address, config.database.redis.port) == ("127.0.0.1", 6379)
    assert config.admin.info == {}
    assert config.base == tmp_path
    assert config.path is not None
    assert config.path.parent == tmp_path


def test_what_is_odd_about_it(config: Config) -> None:
    assert len(config.warnings) == 2
    assert config.warnings[0].startswith('handlers.availableTypes[1]: "type2" has no entry in handlers.typeMap')
    assert config.warnings[1].startswith("handlers.typeMap.type1.handlerBinary: ")


def test_no_warning_where_all_is_there(tmp_path: Path) -> None:
    (tmp_path / "type1.py").write_text("#!/bin/sh\n")
    (tmp_path / "type1.py").chmod(0o755)
    file = tmp_path / "bester.json"
    file.write_text(FOUNDING_JSON.replace(', "type2"', ""))
    assert load(str(file)).warnings == ()


def test_only_available_types_are_served(tmp_path: Path) -> None:
    file = tmp_path / "bester.json"
    file.write_text(FOUNDING_JSON.replace('["type1", "type2"]', '["type2"]'))
    assert load(file).served_types() == {}
