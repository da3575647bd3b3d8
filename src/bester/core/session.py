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


class Phase(enum.Enum):
    """How messages reach a session."""

    LIVE = "live"
    """It gets messages at once."""
    CATCHING_UP = "catchingUp"
    """It gets messages from the mailbox, where new ones are behind older ones."""
    STALLED = "stalled"
    """It gets none, because it does not read; when it reads again, it catches up."""


class Change(enum.Enum):
    """A cause of a new phase."""

    MAIL_WAITS = "mailWaits"
    """Its mailbox has messages that it must get first."""
    MAILBOX_EMPTY = "mailboxEmpty"
    """The last page of the mailbox was empty, and no message is on its way into it."""
    STOPS_READING = "stopsReading"
    """It has left its socket full, or acknowledged nothing, for too long."""
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
"""The next phase, by phase and change. A pair that is not here is a fault of ours, and raises KeyError."""


class Session(Endpoint):
    """One client's session; an account may have several."""

    __slots__ = (
        "blocked",
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
        # The time of creation distinguishes the account from an earlier one of its name, whose reports it must not get.
        self.sender = f"{username}@{server}#{created}".encode()
        self.username = username
        self.roles = roles
        self.features = features
        self.since = since
        """When it authenticated, in seconds of the exchange's clock."""
        self.acknowledges = "ack" in features
        self.reply_to = "replyTo" in features
        self.notes = self.acknowledges or "parts" in features
        self.takes = takes
        """The types of messages that it takes; None takes all."""
        self.phase = Phase.LIVE
        self.blocked = False
        """Whether its socket takes no more for now."""
        self.unacked: dict[str, Delivery] = {}
        """By delivery id, oldest first: messages that were written and not acknowledged; without ``ack``, those that
        the socket may not have taken yet."""
        self.unacked_bytes = 0
        self.queue: deque[Delivery] = deque()
        """Messages that are written as soon as there is room."""
        self.queue_bytes = 0
        self.late: dict[str, Late] = {}
        """By delivery id: messages that went to the mailbox because it took too long; it may still acknowledge them."""
        self.passed = 0.0
        """When the newest message that it acknowledged was first given; it has passed over those given before."""
        self.stuck = ""
        """The delivery id of the first message that it left unacknowledged, until it acknowledges that."""
        self.position = 0
        """The position in its mailbox up to which it was read."""
        self.read_from = 0
        """The position at which the page begins that is being read."""
        self.reading_mail = False
        self.received_meanwhile: set[str] = set()
        """Delivery ids that it received while a page is being read, which may still hold them."""
        self.more_mail = False
        """Whether messages may have come into its mailbox while a page is being read."""

    def change(self, change: Change) -> None:
        """Changes the phase; the caller refreshes the account's presence."""
        self.phase = TRANSITIONS[self.phase, change]
        if self.phase is Phase.CATCHING_UP:
            self.position = 0  # from the beginning
