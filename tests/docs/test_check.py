"""docs/check.md has every check, with what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bester.workbench.check import Check
from bester.workbench.runner import CHECKS

DOCUMENT = "docs/check.md"


def test_the_table_is_complete(table_of: Callable[[str, str], list[list[str]]]) -> None:
    rows: dict[tuple[str, str], tuple[Check, list[str]]] = {}
    for form, checks in CHECKS.items():
        for check in checks:
            rows.setdefault((check.id, check.contract), (check, []))[1].append(form.value)
    assert table_of(DOCUMENT, "| Check ") == [
        [f"`{check.id}`" + (" *" if check.echo else ""), ", ".join(forms), check.section, check.contract]
        for check, forms in rows.values()
    ]


def test_the_sections_are_there(root: Path, table_of: Callable[[str, str], list[list[str]]]) -> None:
    text = (root / "docs/protocol.md").read_text(encoding="utf-8")
    for _, _, sections, _ in table_of(DOCUMENT, "| Check "):
        for section in sections.split(", "):
            assert f"### {section} " in text, section
