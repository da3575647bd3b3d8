"""What the listener ``web`` needs of a server, and what a server needs of it: ``bester.web`` is above both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bester.config import ListenerConfig
from bester.net.identity import Expiry
from bester.net.listeners import Listener
from bester.server.admin.services import AdminServices
from bester.server.admin.watch import Watch
from bester.server.connections.services import Services
from bester.server.runtime import Runtime
from bester.server.telemetry.movements import Movements


@dataclass(frozen=True, slots=True)
class WebServices:
    """What a server gives to its listener ``web``."""

    runtime: Runtime
    connections: Services
    admin: AdminServices
    movements: Movements
    watch: Watch
    silent_listeners: Callable[[], list[str]]
    """Returns the sockets for messages that are not open any more."""


class Web(Protocol):
    """Serves a configured listener ``web``."""

    listener: Listener
    expiry: Expiry | None
    """When its certificate ends, as of the last :meth:`note_certificate`."""

    async def open(self) -> None:
        """Listens and serves.

        Raises:
            BadConfiguration: it cannot.
        """

    def note_certificate(self) -> None:
        """Reads from the certificate's file when it ends."""

    async def close(self) -> None:
        """Ends what is still open; the second time it does nothing."""


MakeWeb = Callable[[WebServices, ListenerConfig], Web]
