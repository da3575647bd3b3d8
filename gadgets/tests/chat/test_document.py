"""docs/chat.md is true: its messages are those that the code takes, and its tables are complete."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bester_gadgets.chat import wire
from bester_gadgets.chat.settings import ChatSettings

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "chat.md").read_text(encoding="utf-8")


def messages(kind: str) -> list[str]:
    found = re.search(rf"<!-- {kind} -->\n```json\n(.*?)```", TEXT, flags=re.DOTALL)
    assert found is not None
    return found[1].splitlines()


@pytest.mark.parametrize(
    ("kind", "read", "ops"),
    [
        ("account", wire.read_client_op, wire.ClientOp),
        ("told", wire.read_told, wire.Told),
        ("server", wire.read_server_op, wire.ServerOp),
    ],
)
def test_its_messages_are_taken(kind: str, read: Callable[[bytes], Any], ops: Any) -> None:
    found = set()
    for line in messages(kind):
        value = read(line.encode())
        assert value is not None, line
        # Nothing of it is passed over, and it is written as the code writes it.
        written = msgspec.json.decode(wire.encode(value))
        given = msgspec.json.decode(line)
        defaults = {name: value for name, value in given.items() if name not in written}
        assert written == {name: value for name, value in given.items() if name not in defaults}
        assert all(value in ("", True, False, []) for value in defaults.values()), defaults
        found.add(given["op"])
    assert found == {one.__struct_config__.tag for one in ops.__args__}


def test_its_settings_are_all_there() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| `?([\w.]+)`? \|", TEXT[TEXT.index("## 6.") :], flags=re.MULTILINE))
    fields = {field.alias or name: field.default for name, field in ChatSettings.model_fields.items()}
    assert rows.keys() == fields.keys()
    for name, default in fields.items():
        assert float(rows[name]) == default if isinstance(default, int | float) else rows[name] == str(default), name


def test_its_codes_are_all_there() -> None:
    code = "\n".join(path.read_text() for path in (ROOT / "gadgets/src/bester_gadgets/chat").glob("*.py"))
    used = set(re.findall(r"Refused\(\s*\"(\w+)\"", code)) | set(re.findall(r"\"chat\.(\w+)\"", code))
    table = TEXT[TEXT.index("| Code | |") : TEXT.index("### What is told")]
    assert used - {"noAnswer", "db"} <= set(re.findall(r"`(\w+)`", table))
