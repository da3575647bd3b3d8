"""How much of something each of many may do: token buckets in bounded memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

MAX_KNOWN = 10_000


class Rates:
    """A bucket for each name, filled at one rate, that holds what comes in one period.

    The least recently seen name is forgotten where there are too many; it starts with a full bucket again.

    Args:
        amount: how many in one period.
        period_s: its length.
        clock: seconds.
    """

    def __init__(self, amount: float, period_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = max(1.0, amount)
        self._per_s = amount / period_s
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str) -> bool:
        """Says whether one more is within the rate, and counts it if so."""
        now = self._clock()
        left, at = self._known.pop(name, (self._capacity, now))
        left = min(self._capacity, left + (now - at) * self._per_s)
        allowed = left >= 1
        self._known[name] = (left - 1 if allowed else left, now)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return allowed
