"""``bester gadget``: the ready-made handlers, and those that other distributions add (docs/gadgets.md)."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from bester.cli.commands import Added
from bester.installation import document, how_to_add_gadgets
from bester.plugins import GADGETS


class Gadgets(TyperGroup):
    """The group of the installed gadgets."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        added = Added(GADGETS)
        self.commands: Any = added
        self.epilog = f"To install or write a gadget, see {document('gadgets.md')}"
        if missing := added.missing():
            self.epilog = f"Not installed: {', '.join(missing)}. {how_to_add_gadgets()}"


gadget = typer.Typer(
    cls=Gadgets,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Run a ready-made handler. Each is a separate process, which attaches to a server on this machine.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@gadget.callback()
def _group() -> None:
    """Makes this a group even if no gadget is installed."""
