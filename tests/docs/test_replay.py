"""docs/replay.md can be followed: the change of a handler is seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

DOCUMENT = "docs/replay.md"


def test_the_change_is_seen(reader: Any, parts_of: Callable[[str], list[Any]]) -> None:
    reader.follow(parts_of(DOCUMENT))
    assert {"j", "shop", "recording", "shadow"} <= reader.programs.keys()
