"""Where tables and colours are printed: the one console, for which a text is a text, whoever wrote it."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from bester.shown import escaped


class Screen(Console):
    """Standard output, or standard error; no markup, and nothing in a text acts on the terminal."""

    def __init__(self, *, stderr: bool = False, soft_wrap: bool = False) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, stderr=stderr, soft_wrap=soft_wrap)

    def render_str(self, text: str, **more: Any) -> Text:
        """Makes what is shown of every text that is printed, also of each in a table."""
        return super().render_str(escaped(text), **(more | {"markup": False, "emoji": False}))


def styled(text: str, style: str = "") -> Text:
    """Returns a text in a style; its line feeds stay."""
    return Text(escaped(text, keep="\n"), style=style)
