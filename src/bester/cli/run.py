"""``bester run``: runs a handler that a module has."""

from __future__ import annotations

from typing import Annotated

import typer

TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="HANDLER",
        help="The handler: module:name or path/file.py:name. Without :name, its name is handler.",
        show_default=False,
    ),
]


def run(
    target: TargetArgument,
    reload: Annotated[
        bool, typer.Option("--reload", help="Start it anew when its files change, without losing a message.")
    ] = False,
) -> None:
    """Run a handler, until ^C or SIGTERM.

    It attaches to the server that it was made for: by default to the socket BESTER_HANDLERS, or besterHandlers here.
    """
    from bester.cli.loading import load, place_of, run_now

    if reload:
        from bester.cli.reloading import keep_running

        keep_running(target, place_of(target).root)
    else:
        run_now(load(target))
