"""README.md fits on a page or two, and what it says to type works."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

DOCUMENT = "README.md"
MAX_LINES = 120


def test_it_is_short(root: Path) -> None:
    assert len((root / DOCUMENT).read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_the_three_terminals(reader: Any, parts_of: Callable[[str], list[Any]]) -> None:
    reader.follow(parts_of(DOCUMENT))
    assert reader.programs.keys() == {"handler", "server"}


def test_its_commands_are_those_of_the_makefile(root: Path) -> None:
    text = (root / DOCUMENT).read_text(encoding="utf-8")
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", text, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_its_links_lead_somewhere(root: Path) -> None:
    documents = (f"docs/{path.name}" for path in (root / "docs").glob("*.md"))
    for name in ("README.md", "CHANGELOG.md", "examples/shop/README.md", *documents):
        document = root / name
        text = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for target in re.findall(r"\]\(([^)]+)\)", text):
            if target.startswith("https://"):
                continue
            path, _, anchor = target.partition("#")
            linked = (document.parent / path).resolve() if path else document
            assert linked.exists(), f"{name}: {target}"
            if anchor:
                assert anchor in anchors(linked.read_text(encoding="utf-8")), f"{name}: {target}"


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
