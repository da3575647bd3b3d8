"""docs/security.md names a test for each line, and each of these is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

DOCUMENT = "docs/security.md"
_TEST = re.compile(r"`((?:gadgets/)?tests/[\w/]+\.py)::(\w+)`")


def rows(root: Path) -> list[list[str]]:
    lines = (root / DOCUMENT).read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")]
    return [row for row in cells if not row[0].startswith("What ")]


@cache
def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {one.name for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_each_line_has_tests_that_are_there(root: Path) -> None:
    found = rows(root)
    assert len(found) > 40
    for row in found:
        assert len(row) == 3, row
        named = _TEST.findall(row[2])
        assert named, f"no test: {row[0]}"
        assert not re.sub(r"[\s,]", "", _TEST.sub("", row[2])), row[2]
        for file, name in named:
            assert (root / file).is_file(), file
            assert name in functions_of(root / file), f"{file}::{name}"


@pytest.mark.parametrize(
    "party",
    ["An outsider", "A client", "A handler", "Another server", "A local user", "An operator", "A gadget's caller"],
)
def test_each_party_has_its_lines(root: Path, party: str) -> None:
    section = (root / DOCUMENT).read_text(encoding="utf-8").split(f"\n## {party}\n")[1].split("\n## ")[0]
    assert section.count("\n| ") > 2
