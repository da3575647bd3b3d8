"""Receipts of finished messages, for people who ask later where a message went (docs/protocol.md, section 7.4).

The server allows a number of receipts each second, and takes them away. The exchange appends to ``Receipts.entries``
until that number is used up. A further message costs one test, and is only counted, as all messages are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bester.core.endpoint import Endpoint

MAX_REPORT_BYTES = 16 * 1024
"""The largest report that is kept whole until it is decoded, outside of the event loop."""
MAX_NAMES = 20
"""How many recipients of one message are told by name."""
STATUSES = ("delivered", "stored", "sent", "queued", "skipped", "held", "failed")


class Receipts:
    """The receipts of the last moments, for the server to take away."""

    __slots__ = ("bad_left", "entries", "good_left")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.good_left = 0
        """How many more receipts of good messages are appended; 0 as long as nobody takes them away."""
        self.bad_left = 0


class Entry(NamedTuple):
    """One finished message. Times are of the exchange's clock, in seconds."""

    at: float
    since: float
    origin: Endpoint
    type: str
    id: bytes
    """The id that the sender gave it, as JSON."""
    trace: str
    """As :meth:`bester.core.traces.Traces.whole` takes it."""
    report: bytes
    """The status report's frame; empty if it was too large, and a :class:`Large` is kept instead."""
    large: Large | None


class Large(NamedTuple):
    """A summary of a report that is too large to be kept."""

    error: tuple[str, str] | None
    """Code and text."""
    counts: dict[str, int]
    """The number of recipients, by status."""
    results: Sequence[bytes]
    """The entries of the first recipients."""


def counts_of(report: bytes) -> dict[str, int]:
    """Returns the number of recipients in a report, by status, without decoding it."""
    # A name cannot contain this: its quotes are escaped there.
    found = {status: report.count(b'","status":"%b"' % status.encode()) for status in STATUSES}
    return {status: count for status, count in found.items() if count}
