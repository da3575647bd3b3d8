"""``bester gadget``: the ready-made handlers (docs/gadgets.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bester.cli.output import BAD, USAGE, fail, say
from bester.installation import document, how_to_add

gadget = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Run a ready-made handler. Each is a process of its own, which attaches to a server on this machine.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@gadget.callback()
def _group() -> None:
    """Keeps it a group however many commands it has."""


def _settings_in(name: str) -> str:
    return f"The settings are described in {document(f'{name}.md')}"


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


@gadget.command(epilog=_settings_in("mail"))
def mail(settings: SettingsArgument) -> None:
    """Turn mail into messages, and messages into mail.

    Mail comes in by SMTP and goes out through a smarthost, until SIGTERM.

    Exit status: 0 after a stop, 1 if the server or the disk refuses, 2 if the settings are wrong.
    """
    from bester import ClientError
    from bester.gadgets.settings import SettingsError

    try:
        from bester.gadgets.mail.program import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("aiosmtpd", "aiosmtplib"):
            raise
        fail(f"{error.name} is not installed: {how_to_add('mail')}", BAD)
    try:
        run(settings, say)
    except SettingsError as error:
        fail(f"{settings} is wrong:\n{error}", USAGE)
    except ClientError as error:
        fail(str(error), BAD)


@gadget.command(epilog=_settings_in("kitchen"))
def kitchen(
    settings: Annotated[
        Path | None,
        typer.Argument(metavar="[SETTINGS]", help="A TOML file, or by its ending a JSON file.", show_default=False),
    ] = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="No broker: an oven, a fridge, a kettle and a dishwasher to play with.")
    ] = False,
    speed: Annotated[
        float, typer.Option("--speed", min=0.1, max=10_000, help="Of the simulated kitchen: 20 is a minute in 3 s.")
    ] = 20.0,
    handlers: HandlersOption = None,
    informer: InformerOption = None,
) -> None:
    """Bridge to MQTT. Devices' topics become pushes to the accounts that subscribed, commands go back to devices.

    Exit status: 0 after a signal, 1 refused by the server, or the database cannot be used, 2 wrong settings.
    """
    from bester import Refused
    from bester.gadgets.kitchen import main
    from bester.gadgets.kitchen.store import StoreError
    from bester.gadgets.running import run
    from bester.gadgets.settings import SettingsError

    if simulate == (settings is not None):
        fail("wanted is either SETTINGS or --simulate (see --help)", USAGE)
    try:
        if settings is None:
            run(lambda: main.simulate(speed, handlers, informer))
        else:
            found, source = main.read(settings)
            run(lambda: main.run(settings, found, source, handlers, informer))
    except SettingsError as error:
        fail(f"{settings} is wrong:\n{error}", USAGE)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("aiomqtt", "paho"):
            raise
        fail(f"{error.name} is not installed (--simulate needs none of it): {how_to_add('kitchen')}", BAD)
    except (Refused, StoreError) as error:
        fail(str(error), BAD)


@gadget.command(epilog=_settings_in("webhook"))
def webhook(
    settings: SettingsArgument,
    handlers: HandlersOption = None,
) -> None:
    """HTTP in place of sockets. Messages call a URL, whose answer is executed; POST /push/NAME pushes into Bester.

    Calls are signed (HMAC-SHA256, Standard Webhooks), retried and bounded in time. Who pushes has a token or signs.

    Exit status: 0 after a signal, 1 refused by the server, or the port cannot be opened, 2 wrong settings.
    """
    from bester import Refused
    from bester.gadgets.running import run
    from bester.gadgets.settings import SettingsError
    from bester.gadgets.webhook import main

    try:
        found = main.read(settings)
        run(lambda: main.run(settings, found, handlers))
    except SettingsError as error:
        fail(f"{settings} is wrong:\n{error}", USAGE)
    except (Refused, OSError) as error:
        fail(str(error), BAD)


@gadget.command(epilog=_settings_in("chat"))
def chat(
    settings: Annotated[
        Path | None,
        typer.Argument(metavar="[SETTINGS]", help="A TOML file, or by its ending a JSON file.", show_default=False),
    ] = None,
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
    from bester.gadgets.chat.gadget import Chat
    from bester.gadgets.chat.settings import ChatSettings
    from bester.gadgets.running import run
    from bester.gadgets.settings import SettingsError, read_settings

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
