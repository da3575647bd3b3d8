"""The OpenTelemetry spans of messages, as far as the exchange needs them (docs/tracing.md).

A traced message has one span of the server's own, and one for each step of its trail. A span's id is a random number of
the message, which the server chooses, plus the step's *place*. So the id is known before the step begins, and nothing
is made for it. The server makes the spans later, outside of the exchange, from ``ended``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from bester.core.endpoint import Endpoint
from bester.core.model import Envelope
from bester.core.trail import Spans, Trail
from bester.errors import BesterError


class Ended(NamedTuple):
    """A traced message that is finished. Times are of the exchange's clock, in seconds."""

    at: float
    spans: Spans
    origin: Endpoint
    type: str
    id: bytes
    """The id that the sender gave it, as JSON."""
    error: BesterError | None
    trail: Trail
    results: Sequence[bytes]
    """The entries of the recipients for which the trail has steps."""

    @property
    def size(self) -> int:
        """How many spans it makes."""
        return 1 + len(self.trail.steps)


class SpanRecorder:
    """Chooses the messages that are traced, and keeps those that ended, for the server to take away.

    Args:
        begin: decides about a message by the traceparent that it came with (checked, or ``""``) and the time; returns
            None to leave it untraced.
    """

    __slots__ = ("begin", "dropped", "ended", "room")

    def __init__(self, begin: Callable[[str, float], Spans | None]) -> None:
        self.begin = begin
        self.ended: list[Ended] = []
        self.room = 0
        """How many more spans are taken; 0 as long as nobody takes them away."""
        self.dropped = 0
        """How many spans were dropped because there were too many."""

    def end(self, envelope: Envelope, now: float) -> None:
        """Takes the spans of a message that has its report, if it is traced."""
        trail = envelope.trail
        if trail is None or trail.spans is None:
            return
        results = (envelope.results or [])[: trail.slots]
        entry = Ended(now, trail.spans, envelope.origin, envelope.type, envelope.id, envelope.error, trail, results)
        if entry.size > self.room:
            self.dropped += entry.size
        else:
            self.room -= entry.size
            self.ended.append(entry)
