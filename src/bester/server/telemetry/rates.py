"""Rates, latencies and the event loop's lag, made once a second from numbers that the server keeps anyway.

Nothing is counted here per message: :class:`Rates` reads the numbers and keeps the differences.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bester.clock import wall_time
from bester.core.metrics import BOUNDS_S, TypeMetrics

if TYPE_CHECKING:
    from bester.server.runtime import Runtime

STEP_S = 1.0
HISTORY = 600
"""For how many seconds the rates are kept."""
P95_SECONDS = 10
"""Of how many seconds' answers the 95th percentile is taken."""
LAG_SECONDS = 10
"""For how many seconds a lag of the loop is told."""
HISTORY_COLUMNS = ("time", "good", "bad", "deliveries", "pushes", "meanMs", "lagMs", "sessions", "underWay")


class Rates:
    """Reads the server's numbers once a second; see the module."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.history: deque[list[float | None]] = deque(maxlen=HISTORY)
        """A row for each second, of :data:`HISTORY_COLUMNS`; the oldest first."""
        self.rates: dict[str, float] = {}
        """What was counted per second, by name, in the last second."""
        self.types: dict[str, dict[str, float | None]] = {}
        """The same for each type: ``answered``, ``failed``, ``meanMs``."""
        self.mean_ms: float | None = None
        """The mean time of the last second's answers; None if there was none."""
        self.ticked: list[Callable[[], None]] = []
        """Called after each look."""
        self.lag_s = 0.0
        """How late the loop was when it was looked at last."""
        self._lags: deque[float] = deque(maxlen=LAG_SECONDS)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._before: dict[str, int] = {}
        self._types_before: dict[str, tuple[int, int, float]] = {}
        self._looked = 0.0
        self._answers: deque[list[int]] = deque(maxlen=P95_SECONDS)
        """How many answers each of the last seconds had, in the buckets of the histogram."""
        self._buckets_before: list[int] = []

    # -- once a second -------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._before, self._types_before = self._counted(), self._counted_types()
        self._buckets_before = self._buckets()
        self._looked = self._loop.time()
        self._due = self._looked + STEP_S
        self._timer = self._loop.call_at(self._due, self._tick)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        now = self._loop.time()
        self.lag_s = max(0.0, now - self._due)
        self._lags.append(self.lag_s)
        self._due = now + STEP_S
        self._timer = self._loop.call_at(self._due, self._tick)
        self._read(max(now - self._looked, 0.001))
        self._looked = now
        for tell in self.ticked:
            tell()

    @property
    def worst_lag_s(self) -> float:
        """The greatest lag of the last :data:`LAG_SECONDS` seconds, and of a look that is overdue now."""
        return max(self._loop.time() - self._due, *self._lags, 0.0) if self._timer is not None else 0.0

    def _read(self, passed_s: float) -> None:
        before, self._before = self._before, self._counted()
        self.rates = {name: round((count - before[name]) / passed_s, 2) for name, count in self._before.items()}
        types_before, self._types_before = self._types_before, self._counted_types()
        self.types = {}
        all_answered, all_seconds = 0, 0.0
        for name, (answered, failed, seconds) in self._types_before.items():
            old_answered, old_failed, old_seconds = types_before.get(name, (0, 0, 0.0))
            if answered < old_answered:  # the type was gone meanwhile
                old_answered, old_failed, old_seconds = 0, 0, 0.0
            count, spent_s = answered - old_answered, seconds - old_seconds
            all_answered += count
            all_seconds += spent_s
            self.types[name] = {
                "answered": round(count / passed_s, 2),
                "failed": round((failed - old_failed) / passed_s, 2),
                "meanMs": _mean_ms(spent_s, count),
            }
        self.mean_ms = _mean_ms(all_seconds, all_answered)
        buckets_before, self._buckets_before = self._buckets_before, self._buckets()
        self._answers.append(
            [max(0, now - then) for now, then in zip(self._buckets_before, buckets_before, strict=True)]
        )
        exchange = self.runtime.exchange
        rates = [self.rates[name] for name in ("good", "bad", "deliveries", "pushes")]
        lag_ms = round(1000 * self.lag_s, 1)
        sessions = exchange.presence.session_count
        self.history.append([round(wall_time(), 1), *rates, self.mean_ms, lag_ms, sessions, exchange.under_way])

    def _counted(self) -> dict[str, int]:
        counters, counts = self.runtime.exchange.counters, self.runtime.counts
        return {
            "accepted": counters.accepted,
            "good": counters.good,
            "bad": counters.bad_total,
            "deliveries": counters.deliveries,
            "pushes": counters.pushes,
            "connections": counts.connections,
            "logins": counts.logins,
            "stored": self.runtime.mailboxes.stored,
            "sent": self.runtime.federation.sent,
            "queued": self.runtime.federation.queued,
            "dropped": sum(sum(causes.values()) for causes in counters.drops.by_what().values()),
        }

    def _counted_types(self) -> dict[str, tuple[int, int, float]]:
        return {name: served(self.runtime, kind.metrics) for name, kind in self.runtime.exchange.types.items()}

    def _buckets(self) -> list[int]:
        by_type = self.runtime.exchange.counters.by_type
        return [sum(column) for column in zip(*(served_within(self.runtime, one) for one in by_type), strict=True)]

    def p95_ms(self) -> float | None:
        """Returns the 95th percentile of the times to an answer in the last :data:`P95_SECONDS`; None without answers.

        It is estimated from the histogram, as if the times within a bucket were spread evenly.
        """
        counts = [sum(column) for column in zip(*self._answers, strict=True)]
        return percentile_ms(counts, 0.95)


def served(runtime: Runtime, metrics: TypeMetrics) -> tuple[int, int, float]:
    """Returns how many requests of a type this node's handlers answered and failed, and how long that took in all.

    What other nodes' handlers answered for this one is counted there.
    """
    other = runtime.nodes.remote_handlers.served_elsewhere.get(metrics) if runtime.nodes is not None else None
    if other is None:
        return metrics.answered, metrics.failed, metrics.seconds
    seconds = max(0.0, metrics.seconds - other.seconds)
    return metrics.answered - other.answered, metrics.failed - other.failed, seconds


def served_within(runtime: Runtime, metrics: TypeMetrics) -> list[int]:
    """Returns how long they took, in the buckets of :attr:`TypeMetrics.buckets`."""
    other = runtime.nodes.remote_handlers.served_elsewhere.get(metrics) if runtime.nodes is not None else None
    if other is None:
        return metrics.buckets
    return [max(0, all - elsewhere) for all, elsewhere in zip(metrics.buckets, other.buckets, strict=True)]


def _mean_ms(seconds: float, count: int) -> float | None:
    return round(1000 * seconds / count, 3) if count else None


def percentile_ms(counts: Sequence[int], share: float) -> float | None:
    """Returns the time below which this share of a histogram's counts lies; ``counts`` are those of its buckets."""
    rank = share * sum(counts)
    if not rank:
        return None
    lower_s, below = 0.0, 0
    for upper_s, count in zip(BOUNDS_S, counts, strict=False):
        if below + count >= rank:
            return round(1000 * (lower_s + (upper_s - lower_s) * (rank - below) / count), 3)
        lower_s, below = upper_s, below + count
    return 1000 * BOUNDS_S[-1]
