"""Token buckets: an average rate, with bursts (docs/protocol.md, sections 5 and 8)."""

from __future__ import annotations

from collections.abc import Hashable


class TokenBucket:
    """Gives out ``burst`` tokens at once and ``rate_per_s`` in the long run; it starts full."""

    __slots__ = ("_at", "_tokens", "burst", "rate_per_s")

    def __init__(self, rate_per_s: float, burst: float) -> None:
        self.rate_per_s = rate_per_s
        self.burst = burst
        self._tokens = burst
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Takes one token; False if there is none. ``now`` is a monotonic time in seconds."""
        if now > self._at:
            self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate_per_s)
            self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Buckets:
    """A token bucket for each key, such as an address.

    Args:
        rate_per_s, burst: as for :class:`TokenBucket`.
        max_keys: how many are remembered; beyond it, the one that is unused for longest is forgotten and so full again.
    """

    def __init__(self, rate_per_s: float, burst: float, max_keys: int = 16_384) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._max_keys = max_keys
        self._buckets: dict[Hashable, TokenBucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: Hashable, now: float) -> bool:
        """Takes one of the key's tokens; False if there is none."""
        bucket = self._buckets.pop(key, None)
        if bucket is None:
            bucket = TokenBucket(self._rate_per_s, self._burst)
            if len(self._buckets) >= self._max_keys:
                del self._buckets[next(iter(self._buckets))]
        self._buckets[key] = bucket  # at the end: the dictionary is in the order of the last use
        return bucket.take(now)
