"""``bester gadget chat``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bester.cli.output import BAD, USAGE, fail
from bester_gadgets.options import HandlersOption, InformerOption, MaybeSettingsArgument, new_app, settings_in

app = new_app()


@app.command(epilog=settings_in("chat"))
def chat(
    settings: MaybeSettingsArgument = None,
    database: Annotated[
        Path | None, typer.Option("--database", metavar="FILE", help="Its SQLite file. Default: chat.db.")
    ] = None,
    handlers: HandlersOption = None,
    informer: InformerOption = None,
) -> None:
    """Chat between people and in rooms, across servers.

    Exit status: 0 after a signal, 1 refused by the server, or the database cannot be used, 2 wrong settings.
    """
    from bester import Refused
    from bester.errors import BadConfiguration
    from bester_gadgets.chat.gadget import Chat
    from bester_gadgets.chat.settings import ChatSettings
    from bester_gadgets.running import run
    from bester_gadgets.settings import SettingsError, read_settings

    try:
        found = read_settings(settings, ChatSettings) if settings is not None else ChatSettings()
    except SettingsError as error:
        fail(f"{settings} is wrong:\n{error}", USAGE)
    if database is not None:
        found = found.model_copy(update={"database": database})
    try:
        run(lambda: Chat(found, handlers=handlers, informer=informer).serve())
    except (BadConfiguration, Refused) as error:
        fail(str(error), BAD)
