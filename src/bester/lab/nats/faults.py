"""Faults of single requests to JetStream, and of single messages that are published to a stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Fate(NamedTuple):
    """The fate of one request; without arguments all is well."""

    ignored: bool = False
    """Whether it has no effect, and no answer."""
    lost: bool = False
    """Whether its answer is lost, after it had its effect."""
    delay_s: float = 0.0
    """How much later its answers come."""
    nobody: bool = False
    """Whether nobody hears it, as while servers change: the client is told that there are no responders."""


USUAL = Fate()
Fates = Callable[[str], Fate]
"""Decides the fate of each request by the subject that it was published to."""


def as_usual(subject: str) -> Fate:
    """Lets everything work."""
    return USUAL
