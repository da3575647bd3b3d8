"""``bester``, the command of operators and users.

Every subcommand is in its own file, which is imported when the subcommand is named. A subcommand imports heavy modules
only when it runs, so that ``bester --help`` is quick.
"""

from __future__ import annotations

from typing import Annotated

import typer

from bester import __version__
from bester.cli.commands import Commands
from bester.cli.output import EXIT_STATUS
from bester.compiled import build

app = typer.Typer(
    name="bester",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog=EXIT_STATUS,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"bester {__version__} ({build()})")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version, and whether it is compiled."
        ),
    ] = False,
) -> None:
    """Talk to Bester servers, and operate them. The server itself is the program besterd."""


def main() -> None:
    """Runs the subcommand that the command line names."""
    app()
