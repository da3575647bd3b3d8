"""The bounds that the exchange keeps (docs/protocol.md, section 10)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what one sender or one message may take."""

    max_hops: int = 16
    """Handlers and servers that a message may be sent on to."""
    max_in_flight: int = 1024
    """Messages of one session without a report; more of them wait."""
    max_recipients: int = 10_000
    """Names or addresses in one command."""
    max_held_bytes: int = 256 * 1024
    """What may wait for one sender before its socket is no longer read."""
