"""The console for tables and colours, which prints all text literally."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bester.printable import escaped


class Screen(Console):
    """Standard output or standard error, without markup; no text can act on the terminal."""

    def __init__(self, *, stderr: bool = False, soft_wrap: bool = False) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, stderr=stderr, soft_wrap=soft_wrap)

    def render_str(self, text: str, **more: Any) -> Text:
        """Renders every text that is printed, including those in tables."""
        return super().render_str(escaped(text), **(more | {"markup": False, "emoji": False}))


def new_table(*columns: str, title: str | None = None, whole: Collection[str] = ()) -> Table:
    """Returns a table in which nothing is cut off: long cells are wrapped.

    Args:
        columns: the headings; without any, the table has no header, and rows of any length.
        title: the line above the table.
        whole: the columns that are not wrapped, so that ids can be copied.
    """
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_header=bool(columns))
    for column in columns:
        table.add_column(column, no_wrap=column in whole, overflow="fold")
    return table


def new_grid() -> Table:
    """Returns a table of names and values without lines, in which nothing is cut off."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(overflow="fold")
    return grid


def styled(text: str, style: str = "") -> Text:
    """Returns a text in a style; keeps its line feeds."""
    return Text(escaped(text, keep="\n"), style=style)
