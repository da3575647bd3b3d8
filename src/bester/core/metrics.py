"""What is counted of a type: how its messages ended, and how long its handlers took.

Each message costs two steps: one is added to ``good``, and a time is appended to a list by :attr:`TypeMetrics.took`. The
times are made into sums and a histogram later, many at once, when somebody asks or there are many.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

MAX_TYPES = 200
"""Types that are counted by name beside those of the configuration: whoever may attach a handler makes them up."""
MAX_TIMES = 1000
"""Beyond so many times, they are folded with the next sweep."""
BOUNDS_S = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
"""The upper bounds of the histogram's buckets, in seconds; the last bucket has none."""


class TypeMetrics:
    """Counts since the start."""

    __slots__ = ("_answered", "_buckets", "_seconds", "_times", "bad", "failed", "good", "took")

    def __init__(self) -> None:
        self.good = 0
        """Messages, and handlers' pushes, with a good report."""
        self.bad: dict[str, int] = {}
        """Those with a bad one, by its code."""
        self.failed = 0
        """Requests that have no answer, or a wrong one."""
        self._times: list[float] = []
        self.took = self._times.append
        """Takes the seconds from a request's hand-over to its answer."""
        self._answered = 0
        self._seconds = 0.0
        self._buckets = [0] * (len(BOUNDS_S) + 1)

    @property
    def answered(self) -> int:
        return self._answered + len(self._times)

    @property
    def seconds(self) -> float:
        """The sum of the times to an answer."""
        self._fold()
        return self._seconds

    @property
    def buckets(self) -> list[int]:
        """How many answers took up to each of :data:`BOUNDS_S` and longer than the one before; then the rest."""
        self._fold()
        return list(self._buckets)

    def sweep(self) -> None:
        """Bounds what the times take in memory; called a few times a second."""
        if len(self._times) > MAX_TIMES:
            self._fold()

    def _fold(self) -> None:
        times = self._times
        if not times:
            return
        times.sort()
        self._answered += len(times)
        self._seconds += sum(times)
        below = 0
        for index, bound in enumerate(BOUNDS_S):
            up_to = bisect_right(times, bound, below)
            self._buckets[index] += up_to - below
            below = up_to
        self._buckets[-1] += len(times) - below
        times.clear()  # the list stays, because took is its method


class MetricsByType:
    """Those of all types that there were."""

    def __init__(self) -> None:
        self.others = TypeMetrics()
        """Of types that nobody serves, and of those beyond :data:`MAX_TYPES`."""
        self.named: dict[str, TypeMetrics] = {}
        self._attached = 0

    def __iter__(self) -> Iterator[TypeMetrics]:
        yield self.others
        yield from self.named.values()

    def of(self, type: str, *, configured: bool) -> TypeMetrics:
        """Returns a type's own, the same each time that it is served; or ``others``, where there are too many."""
        metrics = self.named.get(type)
        if metrics is None:
            if not configured:
                if self._attached >= MAX_TYPES:
                    return self.others
                self._attached += 1
            metrics = self.named[type] = TypeMetrics()
        return metrics

    def sweep(self) -> None:
        for metrics in self:
            metrics.sweep()
