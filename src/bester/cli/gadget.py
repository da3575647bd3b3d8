"""``bester gadget``: the ready-made handlers (docs/gadgets.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bester.cli.output import BAD, USAGE, fail, say

gadget = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Run a ready-made handler: each is a process of its own, which attaches to a server on this machine.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@gadget.callback()
def _group() -> None:
    """Keeps it a group however many commands it has."""


SettingsArgument = Annotated[
    Path, typer.Argument(metavar="SETTINGS", help="A TOML file, or by its ending a JSON file.", show_default=False)
]


@gadget.command()
def mail(settings: SettingsArgument) -> None:
    """Turn mail that comes by SMTP into messages, and messages into mail through a smarthost, until SIGTERM.

    What the settings are is in docs/mail.md.

    Exit status: 0 after a stop, 1 if the server or the disk refuses, 2 if the settings are wrong.
    """
    from bester import ClientError
    from bester.gadgets.settings import SettingsError

    try:
        from bester.gadgets.mail.program import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("aiosmtpd", "aiosmtplib"):
            raise
        fail(f"{error.name} is not installed: pip install 'bester[mail]'", BAD)
    try:
        run(settings, say)
    except SettingsError as error:
        fail(f"{settings} is wrong:\n{error}", USAGE)
    except ClientError as error:
        fail(str(error), BAD)
