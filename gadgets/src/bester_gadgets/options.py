"""The options and arguments that the commands of several gadgets have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bester.installation import document

HandlersOption = Annotated[
    str | None,
    typer.Option(
        "--handlers", envvar="BESTER_HANDLERS", metavar="PATH", help="The server's handler socket (besterHandlers)."
    ),
]
InformerOption = Annotated[
    str | None,
    typer.Option(
        "--informer", envvar="BESTER_INFORMER", metavar="PATH", help="The server's informer socket (bInformer)."
    ),
]
SettingsArgument = Annotated[
    Path, typer.Argument(metavar="SETTINGS", help="A TOML file, or by its ending a JSON file.", show_default=False)
]
MaybeSettingsArgument = Annotated[
    Path | None,
    typer.Argument(metavar="[SETTINGS]", help="A TOML file, or by its ending a JSON file.", show_default=False),
]


def new_app() -> typer.Typer:
    """Returns the Typer app of one gadget, to which its command is added."""
    return typer.Typer(add_completion=False, rich_markup_mode=None)


def settings_in(name: str) -> str:
    """Returns the last line of a command's help: the document that describes the gadget's settings."""
    return f"The settings are described in {document(f'{name}.md')}"
