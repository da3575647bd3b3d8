"""``bester handler``: for those who write handlers, and those who run them."""

from __future__ import annotations

import typer

from bester.cli import handlers
from bester.cli.handler_check import check
from bester.cli.handler_new import new

handler = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Make, check and look after handlers. They are those of the server on this machine.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@handler.callback()
def _group() -> None:
    """Keeps it a group however many commands it has."""


handler.command()(new)
handler.command()(check)
handlers.add_to(handler)
