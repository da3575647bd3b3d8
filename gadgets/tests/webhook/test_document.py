"""docs/webhook.md can be followed, and its table of settings is that of the code."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from gadgets.tests.kitchen.test_document import keys_in

from bester_gadgets.webhook import settings

DOCUMENT = "docs/webhook.md"


def test_it_can_be_followed(reader: Any, parts_of: Callable[[str], list[Any]]) -> None:
    reader.follow(parts_of(DOCUMENT))
    assert reader.programs.keys() == {"j", "webhook"}


def test_the_example_is_short_and_needs_no_library(parts_of: Callable[[str], list[Any]]) -> None:
    [app] = [part for mark, part in pairwise(parts_of(DOCUMENT)) if mark.mark == "file: shout.py"]
    assert "bester" not in app.text
    assert len([line for line in app.text.splitlines() if line]) <= 15


def test_every_setting_is_in_its_table(table_of: Callable[[str, str], list[list[str]]]) -> None:
    models: dict[str, Any] = {"hooks.NAME.": settings.Hook, "push.NAME.": settings.Push, "listen.": settings.Listen}
    wanted = {prefix + str(field.alias) for prefix, model in models.items() for field in model.model_fields.values()}
    assert keys_in(table_of(DOCUMENT, "| Key | Default |")) == wanted | {"name"}
