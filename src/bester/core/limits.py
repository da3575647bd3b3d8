"""The bounds that the exchange keeps (docs/protocol.md, section 10)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what one sender or one message may take."""

    max_hops: int = 16
    """How many handlers and servers a message may be sent on to."""
    max_in_flight: int = 1024
    """How many messages of one session may be without a report; more of them wait."""
    max_recipients: int = 10_000
    """How many names or addresses one command may have."""
    max_parts: int = 100_000
    """How many parts the handlers' answer to one message may have."""
    max_held_bytes: int = 256 * 1024
    """How many bytes of one sender may wait before its socket is no longer read."""
