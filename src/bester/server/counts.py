"""Counters of connections."""

from __future__ import annotations

from collections import Counter


class Counts:
    """Counters since the start."""

    __slots__ = (
        "connections",
        "discarded_in",
        "discarded_out",
        "logins",
        "logins_failed",
        "received",
        "refused",
        "sent",
        "slow_consumers",
    )

    def __init__(self) -> None:
        self.connections = 0
        self.logins = 0
        self.logins_failed = 0
        self.slow_consumers = 0
        self.refused: dict[str, int] = {}
        """Connections closed for an error, by its code."""
        self.received: Counter[str] = Counter()
        """Bytes of frames from connections that are closed, by their kind; of links and classic forms at once."""
        self.sent: Counter[str] = Counter()
        self.discarded_in = 0
        """Bytes that came on connections that the server had ended."""
        self.discarded_out = 0
        """Bytes that the peer had not read when its connection was cut off, or its time was over."""

    def refuse(self, code: str) -> None:
        self.refused[code] = self.refused.get(code, 0) + 1
