"""``bester gadget``: the ready-made handlers (docs/gadgets.md)."""

from __future__ import annotations

import typer

gadget = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Run a ready-made handler: each is a process of its own, which attaches to a server on this machine.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@gadget.callback()
def _group() -> None:
    """Keeps it a group however many commands it has."""
