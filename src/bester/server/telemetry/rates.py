"""Rates, latencies and the event loop's lag, made once a second from numbers that the server keeps anyway.

Nothing is counted here per message: :class:`Rates` reads the numbers and keeps the differences.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from bester.clock import wall_time
from bester.core.metrics import BOUNDS_S
from bester.server.ports import Nodes
from bester.server.runtime import Runtime
from bester.server.telemetry.served import Served, served, served_within

STEP_S = 1.0
HISTORY = 600
"""For how many seconds the rates are kept."""
P95_SECONDS = 10
"""Of how many seconds' answers the 95th percentile is taken."""
LAG_SECONDS = 10
"""For how many seconds a lag of the loop is shown."""
HISTORY_COLUMNS = ("time", "good", "bad", "deliveries", "pushes", "meanMs", "lagMs", "sessions", "underWay")
_NONE = Served(0, 0, 0.0)


class Stored(Protocol):
    """The mailboxes' number among the rates."""

    @property
    def stored(self) -> int:
        """Messages put into mailboxes."""


class Sent(Protocol):
    """Federation's numbers among the rates."""

    @property
    def sent(self) -> int:
        """Messages that other servers have."""

    @property
    def queued(self) -> int:
        """Messages that went into the outbox."""


class Rates:
    """Reads the server's numbers once a second, from :meth:`start` to :meth:`stop`."""

    def __init__(self, runtime: Runtime, mailboxes: Stored, federation: Sent, nodes: Nodes) -> None:
        self._runtime = runtime
        self._mailboxes = mailboxes
        self._federation = federation
        self._nodes = nodes
        self.history: deque[list[float | None]] = deque(maxlen=HISTORY)
        """A row for each second, of :data:`HISTORY_COLUMNS`; the oldest first."""
        self.rates: dict[str, float] = {}
        """The counts of the last second, by name."""
        self.types: dict[str, dict[str, float | None]] = {}
        """``answered``, ``failed`` and ``meanMs`` of the last second, by type."""
        self.mean_ms: float | None = None
        """The mean time of the last second's answers; None if there was none."""
        self.ticked: list[Callable[[], None]] = []
        """Each is called once a second, when the numbers are new."""
        self.lag_s = 0.0
        """How late the loop was the last time."""
        self._lags: deque[float] = deque(maxlen=LAG_SECONDS)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._counted_before: dict[str, int] = {}
        self._types_before: dict[str, Served] = {}
        self._looked = 0.0
        self._answers: deque[list[int]] = deque(maxlen=P95_SECONDS)
        """How many answers each of the last seconds had, in the buckets of the histogram."""
        self._buckets_before: list[int] = []

    # -- once a second -------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._counted_before, self._types_before = self._counted(), self._counted_types()
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
        for callback in self.ticked:
            callback()

    @property
    def worst_lag_s(self) -> float:
        """The greatest lag within :data:`LAG_SECONDS`, that of a callback that is overdue now included."""
        return max(self._loop.time() - self._due, *self._lags, 0.0) if self._timer is not None else 0.0

    def _read(self, passed_s: float) -> None:
        counted_before, self._counted_before = self._counted_before, self._counted()
        self.rates = {
            name: round((count - counted_before[name]) / passed_s, 2) for name, count in self._counted_before.items()
        }
        types_before, self._types_before = self._types_before, self._counted_types()
        self.types = {}
        all_answered, all_seconds = 0, 0.0
        for name, done in self._types_before.items():
            before = types_before.get(name, _NONE)
            if done.answered < before.answered:  # the type was gone meanwhile
                before = _NONE
            count, spent_s = done.answered - before.answered, done.seconds - before.seconds
            all_answered += count
            all_seconds += spent_s
            self.types[name] = {
                "answered": round(count / passed_s, 2),
                "failed": round((done.failed - before.failed) / passed_s, 2),
                "meanMs": _mean_ms(spent_s, count),
            }
        self.mean_ms = _mean_ms(all_seconds, all_answered)
        buckets_before, self._buckets_before = self._buckets_before, self._buckets()
        self._answers.append(
            [max(0, now - then) for now, then in zip(self._buckets_before, buckets_before, strict=True)]
        )
        exchange = self._runtime.exchange
        rates = [self.rates[name] for name in ("good", "bad", "deliveries", "pushes")]
        lag_ms = round(1000 * self.lag_s, 1)
        sessions = exchange.presence.session_count
        self.history.append([round(wall_time(), 1), *rates, self.mean_ms, lag_ms, sessions, exchange.reports.under_way])

    def _counted(self) -> dict[str, int]:
        counters, counts = self._runtime.exchange.batch.counters, self._runtime.counts
        return {
            "accepted": counters.accepted,
            "good": counters.good,
            "bad": counters.bad_total,
            "deliveries": counters.deliveries,
            "pushes": counters.pushes,
            "connections": counts.connections,
            "logins": counts.logins,
            "stored": self._mailboxes.stored,
            "sent": self._federation.sent,
            "queued": self._federation.queued,
            "dropped": sum(sum(causes.values()) for causes in counters.drops.by_what().values()),
        }

    def _counted_types(self) -> dict[str, Served]:
        return {
            name: served(self._nodes, kind.metrics) for name, kind in self._runtime.exchange.dispatcher.types.items()
        }

    def _buckets(self) -> list[int]:
        by_type = self._runtime.exchange.batch.counters.by_type
        return [sum(column) for column in zip(*(served_within(self._nodes, one) for one in by_type), strict=True)]

    def p95_ms(self) -> float | None:
        """Returns the 95th percentile of the times to an answer in the last :data:`P95_SECONDS`; None without answers.

        It is estimated from the histogram, as if the times within a bucket were spread evenly.
        """
        counts = [sum(column) for column in zip(*self._answers, strict=True)]
        return percentile_ms(counts, 0.95)


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
