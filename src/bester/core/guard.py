"""Guards: which messages they are asked about, and what their answers mean (docs/protocol.md, section 3.7)."""

from __future__ import annotations

from typing import NamedTuple

from bester.core.endpoint import Endpoint, Peer
from bester.core.rules import GuardRule
from bester.errors import BesterError, Dropped, HandlerFailed, Rejected
from bester.protocol.answers import check_status, verdict_command
from bester.protocol.messages import HandlerMessage
from bester.protocol.names import username

VERDICTS = ("accept", "reject", "drop", "hold", "failure")
"""What is counted of each guard; a failure is the lack of a verdict."""


class Verdict(NamedTuple):
    """What a guard decided about a message."""

    kind: str
    """One of :data:`VERDICTS`."""
    error: BesterError | None = None
    """Why the message does not pass."""
    holder: str | None = None
    """The account that may consent to a message that is held back; None: the operators."""

    @property
    def status(self) -> str:
        """The status of its step in the route."""
        return self.error.code if self.error is not None else "held" if self.kind == "hold" else self.kind


def is_asked(rule: GuardRule, origin: Endpoint, known: frozenset[str]) -> bool:
    """Returns whether a guard is asked about a sender's messages; ``known`` are the servers that are no strangers."""
    senders = rule.senders
    if not senders:
        return True
    if not isinstance(origin, Peer):
        return "clients" in senders
    return "servers" in senders or ("strangers" in senders and (origin.name is None or origin.name not in known))


def verdict_of(message: HandlerMessage, guard: str) -> Verdict:
    """Returns the verdict that the answer of this guard is.

    Raises:
        BadResponse: it is none.
    """
    try:
        check_status(message.header)
    except HandlerFailed as refusal:
        return refused(refusal)
    command = verdict_command(message)
    if command is None or command.type in ("accept", "done"):
        return Verdict("accept")
    if command.type == "drop":
        return Verdict("drop", Dropped(f"dropped by the guard {guard}"))
    return Verdict("hold", holder=username(command.data) if isinstance(command.data, str) else None)


def refused(refusal: HandlerFailed) -> Verdict:
    """Returns the verdict of a guard that refuses a message, in its own words."""
    meaning = refusal.message if refusal.message != HandlerFailed.meaning else None
    return Verdict("reject", Rejected(meaning, refusal.reason, refusal.temporary))


def without_verdict(rule: GuardRule) -> Verdict:
    """Returns what is done with a message about which a guard says nothing."""
    if rule.passes_on_failure:
        return Verdict("accept")
    return Verdict("reject", Rejected("the guard of this type gives no verdict now", temporary=True))
