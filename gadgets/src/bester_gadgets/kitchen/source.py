"""Where devices are: behind a broker, or simulated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Received = Callable[[str, bytes, bool], None]
"""Called with topic, payload, and whether a broker had kept it, nobody knows since when; never raises."""


class SourceAway(Exception):
    """The devices cannot be reached now; the text says why."""


class Source(Protocol):
    """What brings topics and payloads, and takes them."""

    @property
    def connected(self) -> bool:
        """Whether something can come now."""
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
