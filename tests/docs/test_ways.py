"""docs/ways.md can be followed: a handler attaches over TLS, another one speaks over its standard input and output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

DOCUMENT = "docs/ways.md"


def test_it_can_be_followed(reader: Any, parts_of: Callable[[str], list[Any]]) -> None:
    reader.follow(parts_of(DOCUMENT))
    assert reader.programs.keys() == {"j", "billing"}
