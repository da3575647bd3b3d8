"""What is thrown away, by what it was and why: every place in the server that does so counts it here.

A message that its sender is told about as a whole is counted by its report instead (:mod:`bester.core.metrics`), and a
connection that is ended by :class:`bester.server.counts.Counts`.
"""

from __future__ import annotations

import enum

CODE = "CODE"
"""Stands for any error's code (docs/protocol.md, section 11)."""


class Drop(enum.Enum):
    """What, and its cause; docs/metrics.md has a row for each."""

    ANSWER_LATE = "answer", "unmatched"
    COMMAND_ABANDONED = "command", "senderGone"
    EFFECT_FAILED = "effect", "internal"
    FRAME_AFTER_END = "frame", "afterEnd"
    FRAME_INCOMPLETE = "frame", "incomplete"
    FRAME_UNSENT = "frame", "connectionGone"
    LETTER_CLEARED = "letter", "accountGone"
    LETTER_EXPIRED = "letter", "expired"
    LETTER_OVER_SHARE = "letter", "share"
    LETTER_NOT_KEPT = "letter", CODE
    LETTER_UNACKNOWLEDGED = "letter", "unacknowledged"
    LETTER_TRANSIENT = "letter", "nobodyThere"
    LINE_UNREAD = "line", "notRead"
    MESSAGE_REFUSED = "message", CODE
    MESSAGE_UNFINISHED = "message", "shutdown"
    NODE_UNREADABLE = "node", "unreadable"
    NODE_UNSENT = "node", "busDown"
    OUTGOING_DROPPED = "outgoing", "operator"
    OUTGOING_EXPIRED = "outgoing", "expired"
    OUTGOING_REFUSED = "outgoing", CODE
    RECEIPT_EXPIRED = "receipt", "expired"
    RECEIPT_OVER_SHARE = "receipt", "share"
    RECEIPT_UNKEPT = "receipt", "store"
    RECIPIENT_AWAY = "recipient", "nobodyThere"
    RECIPIENT_FAILED = "recipient", CODE
    REPLY_UNWANTED = "reply", "senderGone"
    REPORT_UNMATCHED = "report", "unmatched"
    REPORT_UNTOLD = "report", "internal"
    REPORT_UNWANTED = "report", "senderGone"
    SPAN_OVER_SHARE = "span", "share"
    SPAN_UNSENT = "span", "collector"

    @property
    def what(self) -> str:
        return str(self.value[0])

    @property
    def cause(self) -> str:
        return str(self.value[1])


class Drops:
    """Counts since the start."""

    __slots__ = ("_counted",)

    def __init__(self) -> None:
        self._counted: dict[tuple[str, str], int] = {}

    def count(self, drop: Drop, number: int = 1, *, code: str = "") -> None:
        """Counts something that is thrown away; ``code`` is the error's, where the cause is :data:`CODE`."""
        if number:
            key = drop.what, code or drop.cause
            self._counted[key] = self._counted.get(key, 0) + number

    def get(self, drop: Drop, code: str = "") -> int:
        return self._counted.get((drop.what, code or drop.cause), 0)

    def by_what(self) -> dict[str, dict[str, int]]:
        """Returns them as operators get them: by what was dropped, then by cause."""
        found: dict[str, dict[str, int]] = {}
        for (what, cause), number in sorted(self._counted.items()):
            found.setdefault(what, {})[cause] = number
        return found
