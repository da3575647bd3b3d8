"""docs/clients.md can be followed: its files are written, its commands typed, and what it shows comes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from bester import Client
from bester.client import seen_deliveries, unreported

DOCUMENT = "docs/clients.md"


def test_the_guide(reader: Any, parts_of: Callable[[str], list[Any]]) -> None:
    reader.follow(parts_of(DOCUMENT))
    assert {"j", "chat", "g"} <= reader.programs.keys()


def test_every_block_is_part_of_it(parts_of: Callable[[str], list[Any]]) -> None:
    parts = parts_of(DOCUMENT)
    for before, part in zip([None, *parts], parts, strict=False):
        if part.mark is None:
            assert before is not None, f"line {part.line}: a block without a mark"
            assert before.mark, f"line {part.line}: a block without a mark"


def test_its_figures_are_those_of_the_code(root: Any) -> None:
    text = " ".join((root / DOCUMENT).read_text(encoding="utf-8").split())
    options = {name: parameter.default for name, parameter in inspect.signature(Client).parameters.items()}
    assert f"{options['retry_first_s']:g} s to {options['retry_max_s']:g} s" in text
    assert f"after {options['idle_ping_s']:g} s in which nothing was received" in text
    assert f"after {2 * options['idle_ping_s']:g} s the connection is given up" in text
    assert f"Beyond {unreported.MAX_BYTES // 2**20} MiB" in text
    assert f"{seen_deliveries.SIZE:,} in memory" in text
    assert f"the newest {seen_deliveries.FILE_SIZE:,}" in text
