"""What is left of a finished message for those who ask later where it went (docs/protocol.md, section 7.4).

The exchange appends to ``Receipts.entries`` only while something is left of this second's share, which the server
gives it. Beyond that a finished message costs one look, and is only counted, by the counters that there are anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bester.core.endpoint import Endpoint

MAX_REPORT_BYTES = 16 * 1024
"""Reports up to this are kept whole until they are taken apart, outside of the event loop."""
MAX_NAMES = 20
"""Recipients of one message that are told by name."""
STATUSES = ("delivered", "stored", "sent", "queued", "skipped", "failed")


class Receipts:
    """Those of the last moments, for the server to take away."""

    __slots__ = ("bad_left", "entries", "good_left")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.good_left = 0
        """How many more good ones are appended; 0 as long as nobody takes them away."""
        self.bad_left = 0


class Entry(NamedTuple):
    """One finished message. Times are of the exchange's clock, in seconds."""

    at: float
    since: float
    origin: Endpoint
    type: str
    id: str
    """The sender's own."""
    trace: str
    """As :meth:`bester.core.traces.Traces.whole` takes it."""
    report: bytes
    """The status report's frame; empty where it was too large, and of a ``Large`` instead."""
    large: Large | None


class Large(NamedTuple):
    """What is kept of a report that is not kept itself."""

    error: tuple[str, str] | None
    """Code and text."""
    counts: dict[str, int]
    """Recipients, by status."""
    results: Sequence[bytes]
    """Entries of the first recipients."""


def counts_of(report: bytes) -> dict[str, int]:
    """Returns how many recipients a report tells of, by status; without decoding it."""
    # A name cannot contain this: its quotes are escaped there.
    found = {status: report.count(b'","status":"%b"' % status.encode()) for status in STATUSES}
    return {status: count for status, count in found.items() if count}
