"""``bester gadget mail``."""

from __future__ import annotations

from bester.cli.output import BAD, USAGE, fail, say
from bester.installation import how_to_add
from bester_gadgets.options import SettingsArgument, new_app, settings_in

app = new_app()


@app.command(epilog=settings_in("mail"))
def mail(settings: SettingsArgument) -> None:
    """Turn mail into messages, and messages into mail.

    Mail comes in by SMTP and goes out through a smarthost, until SIGTERM.

    Exit status: 0 after a stop, 1 if the server or the disk refuses, 2 if the settings are wrong.
    """
    from bester import ClientError
    from bester_gadgets.settings import SettingsError

    try:
        from bester_gadgets.mail.program import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("aiosmtpd", "aiosmtplib"):
            raise
        fail(f"{error.name} is not installed: {how_to_add('mail', to='bester-gadgets')}", BAD)
    try:
        run(settings, say)
    except SettingsError as error:
        fail(f"{settings} is wrong:\n{error}", USAGE)
    except ClientError as error:
        fail(str(error), BAD)
