"""A message on its way to another server (docs/protocol.md, section 8)."""

from __future__ import annotations

import random
from typing import Protocol

from msgspec import Raw

from bester.core.effects import Forward
from bester.core.trail import Trail
from bester.errors import BesterError
from bester.protocol.frames import decode_id
from bester.protocol.link import is_traceparent
from bester.store.ports import Queued

OVERHEAD = 500
"""About how many bytes of memory a message takes beside its data."""


class OutboundMessage:
    """A message for one destination.

    It came just now and somebody waits for its outcome (``forward``), or was read from disk (``position``), or both
    were true one after the other.
    """

    __slots__ = (
        "classic_id",
        "data",
        "deadline",
        "error",
        "failure",
        "forward",
        "hops",
        "message_id",
        "order",
        "position",
        "repeats",
        "server_wide",
        "size",
        "trace",
        "trail",
        "tries",
        "type",
    )

    def __init__(
        self, order: int, message_id: str, type: str, data: Raw | bytes, hops: int, trace: str, classic_id: str
    ) -> None:
        self.order = order
        """Its place among the destination's messages that were never on disk."""
        self.message_id = message_id
        self.classic_id = classic_id
        """The id that a classic server is given: the original sender's, as long as that is known."""
        self.type = type
        self.data = data
        self.hops = hops
        self.trace = trace if is_traceparent(trace) else new_trace()
        self.size = len(data) + OVERHEAD
        self.forward: Forward | None = None
        """The effect whose outcome the exchange waits for; None if it was settled when the message went to disk."""
        self.position = 0
        """Where it is on disk; 0 if it is not there."""
        self.trail: Trail | None = None
        """Takes its route, where the sender asks for it."""
        self.repeats: tuple[OutboundMessage, ...] = ()
        """Messages of the same id that came while it was under way: they are not sent, and have its outcome."""
        self.tries = 0
        self.deadline = 0.0
        """When its report is overdue, in the loop's time."""
        self.error: BesterError | None = None
        """The reason why it came back."""
        self.failure = ""
        """``code: text`` where it was the message's own failure, and not that of the route there."""
        self.server_wide = False
        """Whether that is for the other server as a whole, as ``overloaded`` is."""

    @property
    def transient(self) -> bool:
        """Whether one try is all that it gets."""
        return self.dry or (self.forward is not None and self.forward.transient)

    @property
    def dry(self) -> bool:
        """Whether it is only asked what would become of it: then it is never kept."""
        return self.trail is not None and self.trail.dry


def from_forward(forward: Forward, order: int) -> OutboundMessage:
    """Returns a message that came just now."""
    classic_id = decode_id(forward.envelope.id)
    item = OutboundMessage(
        order, forward.message_id, forward.type, forward.data, forward.hops, forward.trace, classic_id
    )
    item.forward = forward
    trail = forward.envelope.trail
    item.trail = trail if trail is not None and trail.told else None
    return item


def from_disk(row: Queued) -> OutboundMessage:
    """Returns a message that was read from disk."""
    message = row.message
    item = OutboundMessage(
        0, message.message_id, message.type, message.data, message.hops, message.trace, message.message_id
    )
    item.position = row.position
    item.tries = row.tries
    return item


def new_trace() -> str:
    """Returns the W3C traceparent of a trace that begins here."""
    return f"00-{random.getrandbits(128) or 1:032x}-{random.getrandbits(64) or 1:016x}-01"


class Settle(Protocol):
    """Settles a message: tells its sender the outcome; later outcomes of the same message are ignored."""

    def __call__(
        self, item: OutboundMessage, status: str, error: BesterError | None = None, route: bytes = b""
    ) -> None: ...
