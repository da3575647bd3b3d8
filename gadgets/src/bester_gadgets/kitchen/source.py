"""Defines the source of devices: a broker, or a simulation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Received = Callable[[str, bytes, bool], None]
"""Called with topic, payload, and whether a broker had kept it, nobody knows since when; never raises."""


class SourceAway(Exception):
    """The devices cannot be reached now; the text says why."""


class Source(Protocol):
    """A source of topics and payloads, which also takes them."""

    @property
    def connected(self) -> bool:
        """Tells whether the source is connected."""
        ...

    async def run(self, filters: list[str], received: Received) -> None:
        """Brings what comes on these topics, until it is cancelled."""
        ...

    async def publish(self, topic: str, payload: bytes) -> None:
        """Sends, and returns when the other side has it.

        Raises:
            SourceAway: it cannot, now.
        """
        ...
