"""The addresses of NATS, and how a node authenticates there."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bester.errors import BadConfiguration
from bester.tls import verifying_context

log = logging.getLogger("bester.bus")


@dataclass(frozen=True, slots=True)
class BusTimes:
    """How long the connection waits for NATS, in seconds; shorter in tests."""

    connect_s: float = 10.0
    """A new client tries to connect for this long."""
    permitted_s: float = 2.0
    """:meth:`~bester.bus.connection.Bus.check_permitted` waits this long for its answer."""
    ping_s: float = 1.0
    """The pause between pings; a server that misses two is left for another one."""
    reconnect_s: float = 0.25
    """The pause between attempts to connect again."""
    refused_s: float = 10.0
    """The longest pause between attempts at servers that refuse this node."""


@dataclass(frozen=True, slots=True)
class BusOptions:
    """The NATS servers, and what authenticates this node there."""

    servers: tuple[str, ...]
    user: str | None = None
    password: str | None = None
    token: str | None = None
    credentials: Path | None = None
    nkey: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    times: BusTimes = BusTimes()


def connect_arguments(options: BusOptions) -> dict[str, Any]:
    """Returns the options as arguments of nats-py's ``connect``.

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


def current_tls_context(options: BusOptions) -> ssl.SSLContext | None:
    """Returns a TLS context for a reconnection, from the certificates that are on disk now.

    None where no TLS is configured, or where the files cannot be used, as in the middle of a renewal: then the client
    keeps the context that it has.
    """
    try:
        return connect_arguments(options).get("tls")
    except BadConfiguration as error:
        log.warning("%s; those from before are used", error.inside)
        return None


def without_password(url: str) -> str:
    """Returns a server's URL without its user and password."""
    scheme, mark, rest = url.rpartition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"
