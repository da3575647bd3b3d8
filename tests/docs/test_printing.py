"""Whatever is printed or logged goes through ``bester.printable``: nothing goes around it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from bester.cli.screen import Screen, new_grid, new_table

TERMINAL = "chat/terminal/"
ALLOWED = {
    ("rich.console", "Console"): {"cli/screen.py"},
    ("rich.table", "Table"): {"cli/screen.py", "cli/status.py", f"{TERMINAL}help.py"},  # of our own words
    ("rich.text", "Text"): {"cli/screen.py", f"{TERMINAL}app.py", f"{TERMINAL}help.py"},
    ("textual.content", "Content"): {f"{TERMINAL}look.py"},
    ("rich", "print"): set(),
    ("rich.panel", "Panel"): set(),  # its title is markup
    ("rich.markup", "render"): set(),
}
PRINTING = {"cli/output.py", "cli/main.py", "cli/service.py", "cli/besterd.py", "cli/nodes.py", "config/document.py"}
"""They print what is our own, or the operator's."""
LOGGING = {"logsink.py"}


def sources(root: Path) -> Iterator[tuple[str, ast.AST]]:
    for package in (root / "src" / "bester", root / "gadgets" / "src" / "bester_gadgets"):
        for path in sorted(package.rglob("*.py")):
            name = path.relative_to(package).as_posix()
            if not name.startswith(("web/static/", "workbench/templates/")):
                yield name, ast.parse(path.read_text(encoding="utf-8"))


def test_what_prints_is_imported_where_it_is_made_safe(root: Path) -> None:
    for name, tree in sources(root):
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                for one in node.names:
                    allowed = ALLOWED.get((node.module or "", one.name))
                    assert allowed is None or name in allowed, f"{name}: {one.name} of {node.module}: see cli/screen.py"


@pytest.mark.parametrize("width", [20, 80])
def test_no_table_cuts_what_it_shows(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_key = "sha256:" + "0123456789abcdef" * 4
    table, grid = new_table("name", "key", title="all"), new_grid()
    for one in (table, grid):
        one.add_row("own", print_key)
        Screen().print(one)
        shown = capsys.readouterr().out
        assert "\N{HORIZONTAL ELLIPSIS}" not in shown
        assert print_key in "".join(line.removeprefix("  own").strip() for line in shown.splitlines()).replace(
            "own  ", ""
        )


def test_nothing_prints_or_logs_past_the_helpers(root: Path) -> None:
    for name, tree in sources(root):
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            assert called != "print" or name in PRINTING, f"{name}: use bester.cli.output"
            assert called not in ("logging.basicConfig", "logging.StreamHandler") or name in LOGGING, name
            assert not called.endswith(("from_markup", "from_ansi")), f"{name}: {called}"


def test_no_widget_takes_markup(root: Path) -> None:
    widgets = pytest.importorskip("textual.widgets", reason="textual is not installed")
    seen = 0
    for name, tree in sources(root):
        if not name.startswith(TERMINAL):
            continue
        bases = {
            ast.unparse(base): node
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
            for base in node.bases
            if ast.unparse(base) in ("Static", "Label", "Button")
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            made = getattr(widgets, called, None) if called.isidentifier() else None
            if called == "super().__init__" and any(node in ast.walk(one) for one in bases.values()):
                made = widgets.Static
            if made is not None and "markup" in inspect.signature(made.__init__).parameters:
                seen += 1
                assert any(one.arg == "markup" and ast.unparse(one.value) == "False" for one in node.keywords), (
                    f"{name}:{node.lineno}: {called} without markup=False"
                )
    assert seen > 8
