"""Pauses between attempts, each twice as long as the one before.

They vary at random, so that clients that lost the same server do not all come back at the same moment.
"""

from __future__ import annotations

import random

__all__ = ["Backoff", "pause_after"]


class Backoff:
    """The pauses between the attempts at one thing.

    Args:
        first_s: the first pause, and the first one after :meth:`reset`.
        longest_s: the longest pause.
        spread: the smallest and the largest factor by which a pause varies.
    """

    __slots__ = ("_last_s", "first_s", "longest_s", "spread")

    def __init__(self, first_s: float, longest_s: float, spread: tuple[float, float] = (0.5, 1.0)) -> None:
        self.first_s = first_s
        self.longest_s = longest_s
        self.spread = spread
        self._last_s = 0.0

    @property
    def upcoming_s(self) -> float:
        """The next pause, before it is varied."""
        return min(max(2 * self._last_s, self.first_s), self.longest_s)

    def next_s(self) -> float:
        """Returns how long to wait before the next attempt; the pause after it will be longer."""
        self._last_s = self.upcoming_s
        return self._last_s * random.uniform(*self.spread)

    def reset(self) -> None:
        """Begins with the first pause again, because an attempt succeeded."""
        self._last_s = 0.0


def pause_after(tries: int, first_s: float, longest_s: float) -> float:
    """Returns how long to wait after ``tries`` attempts: twice as long each time, and up to a quarter more or less."""
    return min(longest_s, first_s * 2.0 ** min(tries, 60)) * random.uniform(0.75, 1.25)
