"""Puts a webhook gadget together."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from bester import Handler, Refuse, Request
from bester_gadgets.fresh import fresh_server, fresh_verifying
from bester_gadgets.running import serve
from bester_gadgets.settings import SettingsError, read_settings
from bester_gadgets.webhook.calling import Caller
from bester_gadgets.webhook.settings import WebhookSettings
from bester_gadgets.webhook.taking import Endpoint

T = TypeVar("T")


def read(path: Path) -> WebhookSettings:
    """Returns the settings of a file; paths in them are relative to it.

    Raises:
        SettingsError: they are wrong.
    """
    return read_settings(path, WebhookSettings)


async def run(path: Path, settings: WebhookSettings, handlers: str | None) -> None:
    """Runs the gadget until a signal.

    Raises:
        SettingsError: a certificate, or its key, cannot be used.
        OSError: the endpoint's port cannot be opened.
        Refused: the server does not want this handler.
    """
    callers, served = [], []
    for name, hook in settings.hooks.items():
        caller = Caller(name, hook, _tls(f"hooks.{name}.ca", partial(fresh_verifying, _beside(path, hook.ca))))
        callers.append(caller)
        # Each hook has a connection of its own, so that a slow one takes no places from the others.
        handler = Handler(handlers, name=f"webhook {name}", concurrency=hook.concurrency, dry_run=False)
        handler.on(*hook.types)(caller.handle)
        served.append(handler)
    try:
        if settings.push:
            tls = _tls("listen.certificate", partial(_server_tls, path, settings))
            pushing = Handler(handlers, name="webhook push", dry_run=False)
            pushing.on(settings.name)(_only_pushes)
            endpoint = Endpoint(settings.listen, settings.push, pushing.push, tls)
            await serve([*served, pushing], endpoint.run())
        else:
            await serve(served)
    finally:
        for caller in callers:
            await caller.close()


def _only_pushes(request: Request) -> None:
    raise Refuse("this process only pushes", code="webhook.onlyPushes")


def _tls(where: str, make: Callable[[], T]) -> T:
    try:
        return make()
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"{where}: {error.strerror or error}") from error


def _beside(path: Path, ca: Path | None) -> Path | None:
    return path.parent / ca if ca is not None else None


def _server_tls(path: Path, settings: WebhookSettings) -> ssl.SSLContext | None:
    listen = settings.listen
    if listen.certificate is None or listen.key is None:
        return None
    return fresh_server(path.parent / listen.certificate, path.parent / listen.key)
