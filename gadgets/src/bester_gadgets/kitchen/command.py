"""``bester gadget kitchen``."""

from __future__ import annotations

from typing import Annotated

import typer

from bester.cli.output import BAD, USAGE, fail
from bester.installation import how_to_add
from bester_gadgets.options import HandlersOption, InformerOption, MaybeSettingsArgument, new_app, settings_in

app = new_app()


@app.command(epilog=settings_in("kitchen"))
def kitchen(
    settings: MaybeSettingsArgument = None,
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
    from bester_gadgets.kitchen import main
    from bester_gadgets.kitchen.store import StoreError
    from bester_gadgets.running import run
    from bester_gadgets.settings import SettingsError

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
        command = how_to_add("kitchen", to="bester-gadgets")
        fail(f"{error.name} is not installed (--simulate needs none of it): {command}", BAD)
    except (Refused, StoreError) as error:
        fail(str(error), BAD)
