"""``bester gadget webhook``."""

from __future__ import annotations

from bester.cli.output import BAD, USAGE, fail
from bester_gadgets.options import HandlersOption, SettingsArgument, new_app, settings_in

app = new_app()


@app.command(epilog=settings_in("webhook"))
def webhook(
    settings: SettingsArgument,
    handlers: HandlersOption = None,
) -> None:
    """HTTP in place of sockets. Messages call a URL, whose answer is executed; POST /push/NAME pushes into Bester.

    Calls are signed (HMAC-SHA256, Standard Webhooks), retried and bounded in time. A push needs a token or a signature.

    Exit status: 0 after a signal, 1 refused by the server, or the port cannot be opened, 2 wrong settings.
    """
    from bester import Refused
    from bester_gadgets.running import run
    from bester_gadgets.settings import SettingsError
    from bester_gadgets.webhook import main

    try:
        found = main.read(settings)
        run(lambda: main.run(settings, found, handlers))
    except SettingsError as error:
        fail(f"{settings} is wrong:\n{error}", USAGE)
    except (Refused, OSError) as error:
        fail(str(error), BAD)
