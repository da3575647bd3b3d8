"""docs/handlers.md can be followed: its files are written, its commands typed, and what it shows comes."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

DOCUMENT = "docs/handlers.md"


def test_the_tutorial(reader: Any, parts_of: Callable[[str], list[Any]]) -> None:
    # The fixtures, also where this copy of Bester was installed before it had their entry point.
    reader.environment["PYTEST_PLUGINS"] = "bester.testing.plugin"
    reader.follow(parts_of(DOCUMENT))
    assert {"j", "l", "g", "translator", "bake", "menu", "oven"} <= reader.programs.keys()


def test_the_storm_is_among_the_examples(root: Path, parts_of: Callable[[str], list[Any]]) -> None:
    files = {mark.mark: part.text for mark, part in pairwise(parts_of(DOCUMENT)) if mark.mark is not None}
    for file in (root / "examples" / "storm").glob("*.py"):
        assert files[f"file: {file.name}"] == file.read_text(encoding="utf-8").replace("\n\n\n", "\n\n")


def test_every_block_is_part_of_it(parts_of: Callable[[str], list[Any]]) -> None:
    parts = parts_of(DOCUMENT)
    for before, part in zip([None, *parts], parts, strict=False):
        if part.mark is None:
            assert before is not None, f"line {part.line}: a block without a mark"
            assert before.mark, f"line {part.line}: a block without a mark"


def test_the_first_handler_is_short_and_needs_no_library(parts_of: Callable[[str], list[Any]]) -> None:
    parts = parts_of(DOCUMENT)
    [first] = [part for mark, part in pairwise(parts) if mark.mark == "file: afrikaans.py"]
    assert not re.search(r"\bbester\b", first.text)
    serving = first.text.split("class ")[1].split("\n\n")[0]
    assert len(serving.splitlines()) <= 12
