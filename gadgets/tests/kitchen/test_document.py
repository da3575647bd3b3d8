"""docs/kitchen.md can be followed, and its table of settings is that of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bester_gadgets.kitchen import settings

DOCUMENT = "docs/kitchen.md"


def test_it_can_be_followed(reader: Any, parts_of: Callable[[str], list[Any]]) -> None:
    reader.follow(parts_of(DOCUMENT))
    assert {"j", "kitchen", "g"} <= reader.programs.keys()


def test_every_setting_is_in_its_table(table_of: Callable[[str, str], list[list[str]]]) -> None:
    documented = keys_in(table_of(DOCUMENT, "| Key | Default |"))
    models: dict[str, Any] = {
        "": settings.KitchenSettings,
        "broker.": settings.Broker,
        "devices.NAME.": settings.DeviceSettings,
        "discover.": settings.Discover,
        "limits.": settings.Limits,
    }
    inner = {"broker", "devices", "discover", "limits"}
    wanted = {
        prefix + str(field.alias)
        for prefix, model in models.items()
        for field in model.model_fields.values()
        if prefix or field.alias not in inner
    }
    assert {key.removesuffix(".KEY") for key in documented} == wanted


def keys_in(rows: list[list[str]]) -> set[str]:
    """The keys of a table's first column; ``.more`` goes on from the key before it."""
    found: set[str] = set()
    before = ""
    for cells in rows:
        for key in re.findall(r"`([^`]+)`", cells[0]):
            before = before.rpartition(".")[0] + key if key.startswith(".") else key
            found.add(before)
    return found


def test_its_codes_are_those_of_the_code(root: Path, table_of: Callable[[str, str], list[list[str]]]) -> None:
    documented = {(row[0].strip("`"), row[1] == "yes") for row in table_of(DOCUMENT, "| code | temporary |")}
    found = set()
    for path in (root / "gadgets/src/bester_gadgets/kitchen").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Problem":
                [code] = [one.value for one in node.args[:1] if isinstance(one, ast.Constant)]
                found.add((code, bool(node.keywords)))
    assert found == documented
