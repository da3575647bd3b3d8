"""What is odd is said, and does not stop the start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bester.config import parse

TCP = {"tcp4": {"port": 2223}}


def warnings(base: Path, /, **blocks: Any) -> tuple[str, ...]:
    return parse(json.dumps({"network": TCP} | blocks), base).warnings


@pytest.mark.parametrize(
    ("blocks", "warning"),
    [
        ({"lgo": {}}, "lgo: unknown key, ignored; did you mean log?"),
        ({"quux": {}}, "quux: unknown key, ignored"),
        ({"base": "/"}, "base: unknown key, ignored; did you mean database?"),
        ({"limits": {"max_message": 5}}, "limits.max_message: unknown key, ignored; did you mean maxMessage?"),
        ({"network": TCP | {"TCP6": {}}}, "network.TCP6: unknown key, ignored; did you mean tcp6?"),
        (
            {"handlers": {"typeMap": {"a.b": {"time out": 5}}}},
            'handlers.typeMap."a.b"."time out": unknown key, ignored; did you mean timeout?',
        ),
        (
            {"federation": {"servers": {"b": {"address": "b", "adress": ""}}}},
            "federation.servers.b.adress: unknown key, ignored; did you mean address?",
        ),
        (
            {"federation": {"servers": {"b.c": {"address": "unix:b", "fingerprint": "00" * 32}}}},
            'federation.servers."b.c": a Unix socket has no certificate; '
            "what is pinned counts only where the server connects",
        ),
        (
            {"federation": {"servers": {"b": {"address": "unix:x/../besterControl"}}}},
            "federation.servers.b: its address is this server's own socket, control.address; nothing is sent there",
        ),
        (
            {"federation": {"servers": {"b": {"address": "b", "tls": False, "fingerprint": "00" * 32}}}},
            "federation.servers.b: tls is false; what is pinned counts only where the server connects",
        ),
        (
            {"federation": {"servers": {name: {"address": "b:1", "fingerprint": "00" * 32} for name in "bc"}}},
            'federation.servers.c: the server "b" has the same pin; one server then has both names',
        ),
    ],
)
def test_one_warning(tmp_path: Path, blocks: dict[str, Any], warning: str) -> None:
    assert warnings(tmp_path, **blocks) == (warning,)


def test_a_binary_that_cannot_be_started(tmp_path: Path) -> None:
    entry = {"handlerBinary": "binary", "unixDomainSocketPath": "s"}
    handlers = {"typeMap": {"t": entry}}
    place, name = "handlers.typeMap.t.handlerBinary", str(tmp_path / "binary")
    assert warnings(Path("/base"), handlers=handlers) == (
        f'{place}: "/base/binary" is no file; nothing is started for this type',
    )
    (tmp_path / "binary").touch(mode=0o644)
    (warning,) = warnings(tmp_path, handlers=handlers)
    assert warning.startswith(f'{place}: "{name}'[:60])
    assert warning.endswith("is not executable; nothing is started for this type")
    (tmp_path / "binary").chmod(0o755)
    assert warnings(tmp_path, handlers=handlers) == ()


def test_values_of_unknown_keys_are_not_shown(tmp_path: Path) -> None:
    assert "hidden" not in "".join(warnings(tmp_path, database={"password": "hidden"}))
