"""A client's session, and the phases in which messages reach it."""

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
