"""Bounds how much is taken from one side."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Hashable

MAX_KEYS = 10_000


class Rates:
    """A token bucket for each key: ``rate_per_s`` in the long run, ``burst`` at once.

    Of the keys, the one that is unused for longest is forgotten, and so full again, when there are more than 10,000.
    """

    def __init__(self, rate_per_s: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._clock = clock
        self._buckets: dict[Hashable, tuple[float, float]] = {}

    def take(self, key: Hashable) -> float:
        """Takes a token; returns 0, or the seconds until there is one."""
        now = self._clock()
        tokens, at = self._buckets.pop(key, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate_per_s)
        wait_s = 0.0 if tokens >= 1 else (1 - tokens) / self._rate_per_s
        if len(self._buckets) >= MAX_KEYS:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[key] = (tokens if wait_s else tokens - 1, now)
        return wait_s


def network_of(address: str) -> str:
    """Returns what counts as one sender: an IPv4 address, or the /64 network of an IPv6 address."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ip.ipv4_mapped or ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)
