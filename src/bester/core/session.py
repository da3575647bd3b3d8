"""A client's session, and the phases in which messages reach it.

A session is *live*, or it catches up from its account's mailbox, or it is stalled. :data:`TRANSITIONS` says which
change leads from which phase to which; nothing else sets a phase. ``bester.core.replay`` reads mailboxes (MAIL_WAITS,
MAILBOX_EMPTY), ``bester.core.delivery`` watches sockets and time (STOPS_READING, READS_AGAIN).
"""

from __future__ import annotations

import enum
from collections import deque
from typing import Any

from bester.core.endpoint import Endpoint
from bester.core.model import Delivery, Late
from bester.protocol import frames
from bester.protocol.messages import Payload


class Phase(enum.Enum):
    """How messages reach a session."""

    LIVE = "live"
    """At once."""
    CATCHING_UP = "catchingUp"
    """From the mailbox, where new ones stand behind the older."""
    STALLED = "stalled"
    """Not at all: it does not read. When it does, it catches up."""


class Change(enum.Enum):
    """What changes a session's phase."""

    MAIL_WAITS = "mailWaits"
    """Something stands in its mailbox that it is to get first."""
    MAILBOX_EMPTY = "mailboxEmpty"
    """The last page of the mailbox was empty, and nothing is on its way into it."""
    STOPS_READING = "stopsReading"
    """It leaves its socket full, or acknowledges nothing, for too long."""
    READS_AGAIN = "readsAgain"
    """Its socket takes more again."""


TRANSITIONS: dict[tuple[Phase, Change], Phase] = {
    (Phase.LIVE, Change.MAIL_WAITS): Phase.CATCHING_UP,
    (Phase.LIVE, Change.STOPS_READING): Phase.STALLED,
    (Phase.CATCHING_UP, Change.MAILBOX_EMPTY): Phase.LIVE,
    (Phase.CATCHING_UP, Change.STOPS_READING): Phase.STALLED,
    (Phase.STALLED, Change.STOPS_READING): Phase.STALLED,
    (Phase.STALLED, Change.READS_AGAIN): Phase.CATCHING_UP,
}
"""All phases that a session can come to. A pair that is not here is a fault of ours, and raises KeyError."""


class Session(Endpoint):
    """One client's attachment; an account may have several."""

    __slots__ = (
        "blocked",
        "commands",
        "features",
        "late",
        "more_mail",
        "passed",
        "phase",
        "position",
        "queue",
        "queue_bytes",
        "read_from",
        "reading_mail",
        "received_meanwhile",
        "roles",
        "since",
        "stuck",
        "takes",
        "unacked",
        "unacked_bytes",
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
        writer: Any = None,
    ) -> None:
        super().__init__(frames.origin_part("client", username, server, True), writer)
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
        self.unacked: dict[str, Delivery] = {}
        """By delivery id, oldest first: what was written and is not acknowledged; without ``ack``, what the socket may
        not have taken yet."""
        self.unacked_bytes = 0
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
        self.received_meanwhile: set[str] = set()
        """Delivery ids that it received since the page was asked for that is being read, which may still hold them."""
        self.more_mail = False
        """Whether more may have come into its mailbox than the page has that is being read."""

    def change(self, change: Change) -> None:
        """Changes the phase; whoever calls it refreshes the account's presence."""
        self.phase = TRANSITIONS[self.phase, change]
        if self.phase is Phase.CATCHING_UP:
            self.position = 0  # from the beginning
