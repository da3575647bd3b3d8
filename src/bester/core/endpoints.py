"""The three kinds of peers that send messages: clients' sessions, other servers, attached handlers.

The exchange never writes to a socket. It appends whole frames to an endpoint's ``out`` and lists the endpoint once in
``Exchange.dirty``; the server's hall writes what is there at the end of the batch.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from bester.protocol import frames
from bester.protocol.messages import Payload

if TYPE_CHECKING:
    from bester.core.handlers import HandlerType
    from bester.core.work import Request


class Endpoint:
    """One connection, as the exchange sees it."""

    __slots__ = (
        "admitting",
        "backlog",
        "carrier",
        "closed",
        "closing",
        "held_bytes",
        "in_flight",
        "listed",
        "origin",
        "out",
        "paused",
    )

    scope = ""

    def __init__(self, origin: bytes, carrier: Any = None) -> None:
        self.origin = origin
        """The part of a request that says who sent it, as bytes."""
        self.carrier = carrier
        """What writes the frames; the exchange does not look at it."""
        self.out: list[bytes] = []
        self.listed = False
        """Whether the endpoint stands in ``Exchange.dirty``."""
        self.closed = False
        """Whether nothing can be written to it any more."""
        self.closing = False
        """Whether it is to be closed as soon as nothing from it is in flight."""
        self.in_flight = 0
        """Messages from here that have no report yet."""
        self.backlog: deque[tuple[Payload, int, int]] | None = None
        """Messages beyond ``max_in_flight``, with their sizes in bytes and their hops."""
        self.admitting = False
        """Whether the backlog is being let in just now."""
        self.held_bytes = 0
        """Bytes of messages from here that wait for a place."""
        self.paused = False
        """Whether the socket is not read because of what is held."""


class Session(Endpoint):
    """One client's attachment; an account may have several."""

    __slots__ = ("commands", "features", "roles", "since", "username")

    scope = "client"

    def __init__(
        self,
        username: str,
        server: str,
        *,
        roles: tuple[str, ...] = (),
        features: tuple[str, ...] = (),
        since: float = 0.0,
        carrier: Any = None,
    ) -> None:
        super().__init__(frames.origin_part("client", username, server, True), carrier)
        self.username = username
        self.roles = roles
        self.features = features
        self.since = since
        """When it authenticated, in seconds of the exchange's clock."""
        self.commands: list[Payload] = []
        """Built-in commands that are to be run, in order; the first is under way."""


class Peer(Endpoint):
    """Another server's connection to us."""

    __slots__ = ("name",)

    scope = "server"

    def __init__(self, name: str | None = None, carrier: Any = None) -> None:
        super().__init__(frames.origin_part("server", None, name, name is not None), carrier)
        self.name = name
        """The name that it proved, or None."""


class AttachedHandler(Endpoint):
    """A handler process's connection: requests go to it, answers and pushes come from it."""

    __slots__ = ("blocked", "concurrency", "detached", "name", "outstanding", "since", "types")

    scope = "handler"

    def __init__(self, name: str, server: str, concurrency: int, since: float = 0.0, carrier: Any = None) -> None:
        super().__init__(frames.origin_part("handler", None, server, True), carrier)
        self.name = name
        self.concurrency = concurrency
        self.since = since
        self.types: tuple[HandlerType, ...] = ()
        self.outstanding: dict[str, Request] = {}
        """By request id, the oldest first."""
        self.blocked = False
        """Whether its socket takes no more for now."""
        self.detached = False
        """Whether it asked for no more requests."""

    @property
    def free(self) -> bool:
        """Whether another request may be handed over now."""
        return len(self.outstanding) < self.concurrency and not self.blocked
