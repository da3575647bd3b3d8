"""docs/mail.md can be followed; its examples are of the format, and its table has every setting with its default."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise, takewhile
from typing import Any, get_args

import msgspec
from pydantic import BaseModel

from bester_gadgets.mail.compose import compose
from bester_gadgets.mail.message import Mail, Outgoing, Result
from bester_gadgets.mail.settings import MailSettings

DOCUMENT = "docs/mail.md"
FORMS: dict[str, Any] = {"received": Mail, "sent": Outgoing, "result": Result}


def test_it_can_be_tried(reader: Any, parts_of: Callable[[str], list[Any]]) -> None:
    reader.follow([*takewhile(lambda part: part.mark not in FORMS, parts_of(DOCUMENT))])
    assert {"server", "sink", "mail", "t"} <= reader.programs.keys()


def test_the_examples_are_of_the_format(parts_of: Callable[[str], list[Any]]) -> None:
    seen = set()
    for mark, part in pairwise(parts_of(DOCUMENT)):
        if mark.mark in FORMS:
            seen.add(mark.mark)
            form = FORMS[mark.mark]
            read = msgspec.json.decode(part.text, type=form)
            # Nothing in an example is unknown to the format.
            assert msgspec.json.decode(msgspec.json.encode(read)).keys() >= msgspec.json.decode(part.text).keys()
            if isinstance(read, Outgoing):
                compose(read, "t@a.example", read.references, 50)
    assert seen == FORMS.keys()


def keys(model: type[BaseModel], before: str = "") -> Iterator[tuple[str, Any]]:
    for field in model.model_fields.values():
        key = before + str(field.alias)
        inner = [one for one in (field.annotation, *get_args(field.annotation)) if isinstance(one, type)]
        parts = [one for one in inner if issubclass(one, BaseModel)]
        if parts:
            yield from keys(parts[0], f"{key}.")
        else:
            yield key, None if field.is_required() or field.default_factory else field.default


def test_every_setting_is_in_the_table(table_of: Callable[[str, str], list[list[str]]]) -> None:
    rows = {row[0].strip("`"): row[1] for row in table_of(DOCUMENT, "| Key | Default")}
    wanted = {
        key: "" if value is None else f'`"{value}"`' if isinstance(value, str) else str(value).lower()
        for key, value in keys(MailSettings)
    }
    assert rows == wanted
