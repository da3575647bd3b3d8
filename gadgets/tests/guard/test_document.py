"""docs/guard.md can be followed, and its table of settings is that of the code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gadgets.tests.kitchen.test_document import keys_in

from bester_gadgets.guard import settings

DOCUMENT = "docs/guard.md"


def test_it_can_be_followed(reader: Any, parts_of: Callable[[str], list[Any]]) -> None:
    reader.follow(parts_of(DOCUMENT))
    assert reader.programs.keys() == {"server", "handler", "guard"}


def test_every_setting_is_in_its_table(table_of: Callable[[str, str], list[list[str]]]) -> None:
    models: dict[str, Any] = {
        "accounts.": settings.Rate,
        "servers.": settings.Rate,
        "blocked.": settings.Blocked,
        "firstContact.": settings.FirstContact,
    }
    wanted = {
        prefix + str(field.alias or name)
        for prefix, model in models.items()
        for name, field in model.model_fields.items()
    }
    assert keys_in(table_of(DOCUMENT, "| Key | Default |")) == wanted | {"type", "concurrency"}
