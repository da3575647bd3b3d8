"""One connection, as the exchange sees it: a sender, and the frames to be written to it.

The exchange never writes to a socket. It appends whole frames to an endpoint's ``out`` and lists the endpoint once in
``Batch.dirty``; the server writes the frames at the end of the batch.
"""

from __future__ import annotations

from typing import Any

from bester.core.order import Order
from bester.protocol import frames


class Endpoint:
    """One connection, as the exchange sees it."""

    __slots__ = (
        "acknowledges",
        "backlog",
        "closed",
        "closing",
        "held_bytes",
        "in_flight",
        "listed",
        "notes",
        "order",
        "origin",
        "out",
        "paused",
        "reply_to",
        "sender",
        "waiting",
        "writer",
    )

    scope = ""

    def __init__(self, origin: bytes, writer: Any = None) -> None:
        self.origin = origin
        """The part of a request that names the sender, as JSON."""
        self.writer = writer
        """Writes the frames; the exchange does not look at it."""
        self.acknowledges = False
        """Whether it acknowledges the messages that it is given (the feature ``ack``)."""
        self.reply_to = False
        """Whether it is told which of its messages a reply answers."""
        self.notes = False
        """Whether it may send messages that have no report, as acknowledgements have none."""
        self.out: list[bytes] = []
        self.listed = False
        """Whether the endpoint stands in ``Batch.dirty``."""
        self.closed = False
        """Whether nothing can be written to it any more."""
        self.closing = False
        """Whether it is to be closed as soon as nothing from it is in flight."""
        self.in_flight = 0
        """How many of its messages have no report yet and count against ``maxInFlight``."""
        self.waiting = 0
        """How many of its messages wait for recipients alone before they are reported."""
        self.sender = b""
        """Identifies the sender of ``once`` messages; empty for a server that proved no name and has sent none."""
        self.backlog = 0
        """How many of its messages are beyond ``max_in_flight`` and wait for admission."""
        self.held_bytes = 0
        """How many bytes its waiting messages take."""
        self.paused = False
        """Whether the socket is not read because too many bytes are held."""
        self.order: Order | None = None
        """The order of its messages that handlers of other nodes are asked; None until the first one."""

    @property
    def busy(self) -> bool:
        """Whether a message from here has no report yet: under way, waiting for recipients, or waiting to be taken."""
        return bool(self.in_flight or self.waiting or self.backlog)


class Peer(Endpoint):
    """Another server's connection to us."""

    __slots__ = ("name",)

    scope = "server"

    def __init__(self, name: str | None = None, writer: Any = None) -> None:
        super().__init__(frames.origin_part("server", None, name, name is not None), writer)
        self.sender = name.encode() if name is not None else b""
        self.name = name
        """The name that it proved, or None."""


class Consented(Endpoint):
    """The sender of one message that was held, and that its holder has consented to.

    Args:
        scope, user, server, verified: the sender, as handlers are told it.
        id: identifies the message, which is a ``once`` message.
        writer: takes its report.
    """

    __slots__ = ("name",)

    scope = "consented"

    def __init__(
        self, scope: str, user: str | None, server: str | None, verified: bool, id: str, writer: Any = None
    ) -> None:
        super().__init__(frames.origin_part(scope, user, server, verified), writer)
        self.sender = f"held {id}".encode()
        self.name = user or server or ""
        """The account or the server, for people."""


class NodePeer(Endpoint):
    """Another node of this server, as a sender of requests to this one."""

    __slots__ = ("answered_back", "node")

    scope = "node"

    def __init__(self, node: str) -> None:
        super().__init__(b"")
        self.node = node
        self.answered_back: dict[int, tuple[int, float]] = {}
        """By the number of a sender: the newest epoch of which an answer went back to the node, and when it did."""
