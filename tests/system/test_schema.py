"""The commands that show, write and compare what types are."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from tests.system.conftest import Commands

HANDLER = '''
import sys
from typing import Literal
from msgspec import Struct
from bester import Handler

class Order(Struct):
    pizza: {kind}
    count: int = 1

class Receipt(Struct):
    number: int

handler = Handler("besterHandlers")

@handler.on("order", version="{version}", samples=[Order("Funghi", 2)])
def order(order: Order) -> Receipt:
    """Orders a pizza."""
    return Receipt(order.count)

handler.run()
'''


@pytest.fixture
def served(commands: Commands) -> Commands:
    commands.configure(accounts={"registration": "firstUse"})
    commands.serve()
    attach(commands, "str", "1.0")
    return commands


def attach(commands: Commands, kind: str, version: str) -> None:
    (commands.folder / f"{version}.py").write_text(HANDLER.format(kind=kind, version=version))
    commands.start("python", f"{version}.py").wait_for_log("attached to")


def test_a_type_is_described(served: Commands) -> None:
    shown = served.bester("handler", "describe", "order")
    assert shown.returncode == 0, shown.stderr
    lines = [line.rstrip() for line in shown.stdout.splitlines()]
    assert lines[0] == "order 1.0, by order"
    assert "Orders a pizza." in lines
    assert "  pizza  string" in lines
    assert '{"pizza":"Funghi","count":2}' in lines
    asked = served.bester(*shlex.split(lines[-1])[1:-1], "t")
    assert (asked.returncode, asked.stdout) == (0, '{"number":2}\n')
    row = json.loads(served.bester("handler", "describe", "order", "--json").stdout)
    assert row["request"]["$defs"]["Order"]["required"] == ["pizza"]
    assert "order 1.0" in served.bester("handler", "list").stdout
    unknown = served.bester("handler", "describe", "pasta")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "nobody serves this type" in unknown.stderr


def test_a_document_is_written_and_compared(served: Commands) -> None:
    assert served.bester("schema", "--output", "old.json").returncode == 0
    assert json.loads((served.folder / "old.json").read_text())["channels"]["order"]["x-version"] == "1.0"
    written = served.bester("schema")
    assert written.stdout.startswith("asyncapi: 3.0.0\n")
    (served.folder / "old.yaml").write_text(written.stdout)
    assert json.loads(served.bester("schema", "--json").stdout)["info"]["title"] == "a.example"
    for old in ("old.json", "old.yaml"):
        same = served.bester("schema", "check", old)
        assert (same.returncode, same.stdout) == (0, "nothing breaks: 1 types were compared\n")
    attach(served, "Literal['Funghi']", "2.0")
    changed = served.bester("schema", "check", "old.yaml")
    assert changed.returncode == 1
    assert changed.stdout == 'order: request.pizza: any other value than "Funghi" is no longer taken\n'
    served.bester("schema", "-o", "new.json")
    told = served.bester("schema", "check", "old.yaml", "new.json", "--json")
    assert told.returncode == 1
    assert json.loads(told.stdout)["place"] == "request.pizza"
    assert served.bester("schema", "check", "new.json", "old.yaml").returncode == 0


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", "is not YAML"),
        ("[]", "no AsyncAPI 3 document"),
        ("a: &x [*x]", "no AsyncAPI 3 document"),
        (None, "read: No such file"),
    ],
)
def test_what_cannot_be_compared(commands: Commands, text: str | None, error: str) -> None:
    path = Path(commands.folder / "old.yaml")
    if text is not None:
        path.write_text(text)
    found = commands.bester("schema", "check", "old.yaml", "old.yaml")
    assert (found.returncode, found.stdout) == (2, "")
    assert error in found.stderr
    assert "Traceback" not in found.stderr


def test_it_is_written_of_a_running_server(commands: Commands) -> None:
    commands.configure()
    assert commands.bester("schema").returncode == 3
