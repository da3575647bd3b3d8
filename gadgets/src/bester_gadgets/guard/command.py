"""``bester gadget guard``."""

from __future__ import annotations

from bester.cli.output import BAD, USAGE, fail
from bester_gadgets.options import HandlersOption, SettingsArgument, new_app, settings_in

app = new_app()


@app.command(epilog=settings_in("guard"))
def guard(
    settings: SettingsArgument,
    handlers: HandlersOption = None,
) -> None:
    """A guard. It refuses blocked senders and too many messages, and holds those of strangers for consent.

    The server asks it before other handlers, where its configuration says so: handlers.guards.

    Exit status: 0 after a signal, 1 refused by the server, 2 wrong settings.
    """
    from bester import Refused
    from bester_gadgets.guard import gadget
    from bester_gadgets.running import run
    from bester_gadgets.settings import SettingsError

    try:
        found = gadget.read(settings)
        run(lambda: gadget.run(settings, found, handlers))
    except SettingsError as error:
        fail(f"{settings} is wrong:\n{error}", USAGE)
    except Refused as error:
        fail(str(error), BAD)
