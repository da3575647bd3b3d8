"""The three kinds of peers that send messages: clients' sessions, other servers, attached handlers.

The exchange never writes to a socket. It appends whole frames to an endpoint's ``out`` and lists the endpoint once in
``Exchange.dirty``; the server writes what is there at the end of the batch.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import TYPE_CHECKING, Any

from bester.protocol import frames
from bester.protocol.messages import Payload

if TYPE_CHECKING:
    from bester.core.handlers import TypeRoute
    from bester.core.model import Delivery, Late, Request, Waiting


HANDED_BYTES = 256 * 1024
"""What a handler is handed, at least, before its socket must say whether it takes more."""


class Order:
    """Keeps the order of one sender's messages where handlers of other nodes are asked.

    Such a node carries out by itself what an answer says (:mod:`bester.core.nodes`), but leaves some to this one. What
    is carried out there must not overtake what was left: so nothing is to be carried out there while something that was
    left is under way, or may yet be left. What had been asked before that was known is recognised by its epoch.
    """

    __slots__ = ("asked", "epoch", "left", "number", "older")

    def __init__(self, number: int) -> None:
        self.number = number
        """What other nodes know the sender by."""
        self.epoch = 1
        """Larger each time that something was left unexpectedly."""
        self.left = 0
        """How many messages are under way that this node carries out."""
        self.asked = 0
        """How many requests are outstanding that may be carried out there."""
        self.older = 0
        """How many are of an earlier epoch, and so may be left."""

    def begin(self) -> None:
        """Something was left unexpectedly: so may be all that is outstanding."""
        self.epoch += 1
        self.older += self.asked
        self.asked = 0

    def answered(self, epoch: int) -> None:
        """A request of this epoch has its answer, or will have none."""
        if epoch == self.epoch:
            self.asked -= 1
        else:
            self.older -= 1


class Endpoint:
    """One connection, as the exchange sees it."""

    __slots__ = (
        "acknowledges",
        "admitting",
        "backlog",
        "carrier",
        "closed",
        "closing",
        "held_bytes",
        "in_flight",
        "listed",
        "order",
        "origin",
        "out",
        "paused",
        "reply_to",
        "sender",
        "waiting",
    )

    scope = ""

    def __init__(self, origin: bytes, carrier: Any = None) -> None:
        self.origin = origin
        """The part of a request that says who sent it, as bytes."""
        self.carrier = carrier
        """What writes the frames; the exchange does not look at it."""
        self.acknowledges = False
        """Whether it acknowledges what it is given (the feature ``ack``)."""
        self.reply_to = False
        """Whether it is told which of its messages a reply answers."""
        self.out: list[bytes] = []
        self.listed = False
        """Whether the endpoint stands in ``Exchange.dirty``."""
        self.closed = False
        """Whether nothing can be written to it any more."""
        self.closing = False
        """Whether it is to be closed as soon as nothing from it is in flight."""
        self.in_flight = 0
        """Messages from here that have no report yet, and count against ``maxInFlight``."""
        self.waiting = 0
        """Messages from here whose report waits for recipients alone."""
        self.sender = b""
        """Who sends, for certain, as ``once`` messages are remembered by; empty where nobody knows."""
        self.backlog: deque[Waiting] | None = None
        """Messages beyond ``max_in_flight``, the oldest first."""
        self.admitting = False
        """Whether the backlog is being let in just now."""
        self.held_bytes = 0
        """Bytes of messages from here that wait for a place."""
        self.paused = False
        """Whether the socket is not read because of what is held."""
        self.order: Order | None = None
        """What keeps the order of what handlers of other nodes are asked for it; None until the first time."""

    @property
    def busy(self) -> bool:
        """Whether a message from here has no report yet: under way, waiting for recipients, or waiting to be taken."""
        return bool(self.in_flight or self.waiting or self.backlog)


class Phase(enum.Enum):
    """How messages reach a session."""

    LIVE = "live"
    """At once."""
    CATCHING_UP = "catchingUp"
    """From the mailbox, where new ones stand behind the older."""
    STALLED = "stalled"
    """Not at all: it does not read. When it does, it catches up."""


class Session(Endpoint):
    """One client's attachment; an account may have several."""

    __slots__ = (
        "blocked",
        "commands",
        "features",
        "given",
        "given_bytes",
        "had",
        "late",
        "more_mail",
        "passed",
        "phase",
        "position",
        "queue",
        "queue_bytes",
        "read_from",
        "reading_mail",
        "roles",
        "since",
        "stuck",
        "takes",
        "username",
    )

    scope = "client"

    def __init__(
        self,
        username: str,
        server: str,
        *,
        roles: tuple[str, ...] = (),
        features: tuple[str, ...] = (),
        takes: frozenset[str] | None = None,
        created: float = 0.0,
        since: float = 0.0,
        carrier: Any = None,
    ) -> None:
        super().__init__(frames.origin_part("client", username, server, True), carrier)
        # When the account was made tells it from an earlier one of its name, whose reports are not its own.
        self.sender = f"{username}@{server}#{created}".encode()
        self.username = username
        self.roles = roles
        self.features = features
        self.since = since
        """When it authenticated, in seconds of the exchange's clock."""
        self.commands: list[Payload] = []
        """Built-in commands that are to be run, in order; the first is under way."""
        self.acknowledges = "ack" in features
        self.reply_to = "replyTo" in features
        self.takes = takes
        """The types of the account's messages that it takes; None: all."""
        self.phase = Phase.LIVE
        self.blocked = False
        """Whether its socket takes no more for now."""
        self.given: dict[str, Delivery] = {}
        """By delivery id, oldest first: what was written and is not acknowledged; without ``ack``, what the socket may
        not have taken yet."""
        self.given_bytes = 0
        self.queue: deque[Delivery] = deque()
        """What is written as soon as there is room."""
        self.queue_bytes = 0
        self.late: dict[str, Late] = {}
        """What went to the mailbox because the session took too long, and what it may still have."""
        self.passed = 0.0
        """When the newest that it acknowledged was given first: it has passed over what was given before that."""
        self.stuck = ""
        """The delivery id of what it left unacknowledged first, until it acknowledges that."""
        self.position = 0
        """How far its mailbox was read."""
        self.read_from = 0
        """Where the page began that is being read."""
        self.reading_mail = False
        self.had: set[str] = set()
        """What it has since the page was asked for that is being read, which may still hold it."""
        self.more_mail = False
        """Whether more may have come into its mailbox than the page has that is being read."""


class Peer(Endpoint):
    """Another server's connection to us."""

    __slots__ = ("name",)

    scope = "server"

    def __init__(self, name: str | None = None, carrier: Any = None) -> None:
        super().__init__(frames.origin_part("server", None, name, name is not None), carrier)
        self.sender = name.encode() if name is not None else b""
        self.name = name
        """The name that it proved, or None."""


class AttachedHandler(Endpoint):
    """A handler process's connection: requests go to it, answers and pushes come from it."""

    __slots__ = (
        "blocked",
        "concurrency",
        "detached",
        "dry_types",
        "full",
        "name",
        "outstanding",
        "room",
        "since",
        "types",
    )

    scope = "handler"
    elsewhere = False
    """Whether it stands for another node."""

    def __init__(self, name: str, server: str, concurrency: int, since: float = 0.0, carrier: Any = None) -> None:
        super().__init__(frames.origin_part("handler", None, server, True), carrier)
        self.name = name
        self.concurrency = concurrency
        self.since = since
        self.types: tuple[TypeRoute, ...] = ()
        self.dry_types: frozenset[str] = frozenset()
        """The types for which it says what it would do, without doing it (section 7.2)."""
        self.outstanding: dict[str, Request] = {}
        """By request id, the oldest first."""
        self.blocked = False
        """Whether its socket takes no more for now, or is :attr:`full`."""
        self.full = False
        """Whether it gets no more before what it was handed is written, and its socket says whether it takes that."""
        self.room = HANDED_BYTES
        """How many bytes it may be handed until then."""
        self.detached = False
        """Whether it asked for no more requests."""

    @property
    def free(self) -> bool:
        """Whether another request may be handed over now."""
        return len(self.outstanding) < self.concurrency and not self.blocked


class RemoteHandler(AttachedHandler):
    """Stands for another node of this server, and one type that it serves."""

    __slots__ = ("carrying", "node")

    elsewhere = True

    def __init__(self, node: str, server: str, concurrency: int, since: float = 0.0) -> None:
        super().__init__(node, server, concurrency, since)
        self.node = node
        self.carrying: dict[str, Request] = {}
        """By request id: what was answered there, and is being carried out there."""


class NodePeer(Endpoint):
    """Another node of this server, as the one that asks for something here."""

    __slots__ = ("left", "node")

    scope = "node"

    def __init__(self, node: str) -> None:
        super().__init__(b"")
        self.node = node
        self.left: dict[int, tuple[int, float]] = {}
        """By the numbers of its senders: the last epoch of which something was left to it, and when."""
