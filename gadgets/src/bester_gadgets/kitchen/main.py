"""Puts a kitchen together: from its settings and a broker, or simulated."""

from __future__ import annotations

import ssl
from functools import partial
from pathlib import Path

from bester import Handler, Informer
from bester_gadgets.fresh import Fresh
from bester_gadgets.kitchen.service import Kitchen
from bester_gadgets.kitchen.settings import KitchenSettings
from bester_gadgets.kitchen.simulation import SETTINGS, Simulation
from bester_gadgets.kitchen.source import Source
from bester_gadgets.kitchen.store import Store
from bester_gadgets.settings import SettingsError, read_settings

MAX_PASSWORD_BYTES = 4096


async def simulate(speed: float, handlers: str | None, informer: str | None) -> None:
    """Runs the simulated kitchen until a signal; what was subscribed is forgotten then.

    Raises:
        Refused: the server does not want this handler.
    """
    await _run(SETTINGS, Simulation(speed), ":memory:", handlers, informer)


def read(path: Path) -> tuple[KitchenSettings, Source]:
    """Returns a kitchen's settings, and the broker that they name; paths in them are relative to the file.

    Raises:
        SettingsError: they are wrong.
        ModuleNotFoundError: what speaks MQTT is not installed.
    """
    from bester_gadgets.kitchen.broker import Broker

    settings = read_settings(path, KitchenSettings)
    broker = settings.broker
    where = "broker.passwordFile"
    try:
        password = broker.password.get_secret_value if broker.password is not None else None
        if broker.password_file is not None:
            file = path.parent / broker.password_file
            password = Fresh(partial(_read_password, file), file).get
        where = "broker.ca"
        if broker.ca is not None:
            broker = broker.model_copy(update={"ca": path.parent / broker.ca})
        source = Broker(broker, password, settings.limits.payload)
    except (OSError, ValueError, ssl.SSLError) as error:
        raise SettingsError(f"{where}: {getattr(error, 'strerror', None) or error}") from error
    return settings, source


def _read_password(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(MAX_PASSWORD_BYTES).decode().strip()


async def run(
    path: Path, settings: KitchenSettings, source: Source, handlers: str | None, informer: str | None
) -> None:
    """Runs a kitchen until a signal.

    Raises:
        StoreError: the database cannot be used.
        Refused: the server does not want this handler.
    """
    await _run(settings, source, path.parent / settings.database, handlers, informer)


async def _run(
    settings: KitchenSettings, source: Source, database: Path | str, handlers: str | None, informer: str | None
) -> None:
    store = Store(database)
    try:
        async with Informer(informer) as asked:
            handler = Handler(handlers, name=settings.type, dry_run=False)
            await Kitchen(settings, source, store, handler, asked).run()
    finally:
        store.close()
