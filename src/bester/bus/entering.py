"""Where NATS is, and how it is entered."""

from __future__ import annotations

import asyncio
import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bester.errors import BadConfiguration
from bester.tls import verifying_context

if TYPE_CHECKING:
    from bester.bus.wire import WireClient

log = logging.getLogger("bester.bus")

CONNECT_S = 10.0
"""How long a new client tries."""


class CannotEnter(Exception):
    """No server can be reached, or one does not let this node in; the text says why."""


@dataclass(frozen=True, slots=True)
class BusOptions:
    """What the configuration says of it."""

    servers: tuple[str, ...]
    user: str | None = None
    password: str | None = None
    token: str | None = None
    credentials: Path | None = None
    nkey: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


def arguments(options: BusOptions) -> dict[str, Any]:
    """Returns it as arguments of nats-py's ``connect``.

    Raises:
        BadConfiguration: certificates cannot be used.
    """
    found: dict[str, Any] = {
        "servers": list(options.servers),
        "user": options.user,
        "password": options.password,
        "token": options.token,
        "user_credentials": str(options.credentials) if options.credentials is not None else None,
        "nkeys_seed": str(options.nkey) if options.nkey is not None else None,
    }
    if options.ca is not None or options.certificate is not None:
        try:
            found["tls"] = verifying_context(options.ca, options.certificate, options.key)
        except (OSError, ssl.SSLError) as error:
            raise BadConfiguration(f"cluster: the certificates cannot be used: {error}") from error
    return found


def context_of(options: BusOptions) -> ssl.SSLContext | None:
    """Returns the context for a new connection of a client that is there; None where none is configured or can be made.

    The files may have changed since the client was made, or be in the middle of a change.
    """
    try:
        return arguments(options).get("tls")
    except BadConfiguration as error:
        log.warning("%s; those from before are used", error.inside)
        return None


async def enter(client: WireClient, arguments: dict[str, Any], refused: asyncio.Event) -> None:
    """Connects a new client, within :data:`CONNECT_S`, or not at all.

    Args:
        client: the client.
        arguments: all that its ``connect`` takes.
        refused: set when a server does not let it in: then it tries no longer.

    Raises:
        CannotEnter: it is not connected, and closed.
    """
    from nats.errors import Error

    refused.clear()
    connecting = asyncio.ensure_future(client.connect(**arguments))
    refusal = asyncio.ensure_future(refused.wait())
    try:
        await asyncio.wait({connecting, refusal}, timeout=CONNECT_S, return_when=asyncio.FIRST_COMPLETED)
        if not connecting.done():
            raise TimeoutError
        connecting.result()
    except (OSError, Error, TimeoutError) as error:
        raise CannotEnter(str(client.last_error or error) or "no answer in time") from error
    finally:
        refusal.cancel()
        connecting.cancel()
        await asyncio.wait({connecting})
        if not client.is_connected:
            await client.close()


def shown(url: str) -> str:
    """Returns a server's URL without its password."""
    scheme, mark, rest = url.rpartition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"
