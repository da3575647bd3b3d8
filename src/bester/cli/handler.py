"""``bester handler``: commands for developers and operators of handlers."""

from __future__ import annotations

import typer

from bester.cli import handlers
from bester.cli.describe import describe
from bester.cli.handler_check import check
from bester.cli.handler_new import new
from bester.cli.handler_record import record
from bester.cli.handler_replay import replay
from bester.cli.handler_shadow import shadow

handler = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Create, check and manage handlers. The server is on this machine.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@handler.callback()
def _group() -> None:
    """Makes this a group, however many commands it has."""


handler.command()(new)
for command in (check, describe, record, replay, shadow):
    handler.command()(command)
handlers.add_to(handler)
