"""Metrics: how messages of each type ended, how long its handlers took, and what was dropped and why.

Each message costs two steps: one is added to ``good``, and a time is appended to a list by
:attr:`TypeMetrics.took`. The times are folded into sums and a histogram later, many at once, when somebody asks or
there are many.

A message as a whole is counted by its report. Everything else that is thrown away is counted as a :class:`Drop`;
connections that the server ends are counted by :class:`bester.server.counts.Counts`.
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections.abc import Iterator

MAX_TYPES = 200
"""How many types outside the configuration are counted by name; anyone who may attach a handler can make them up."""

MAX_TIMES = 1000
"""With more times than this, the next sweep folds them."""

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
    """Metrics of one type since the start."""

    __slots__ = ("_answered", "_buckets", "_seconds", "_times", "bad", "failed", "good", "took")

    def __init__(self) -> None:
        self.good = 0
        """Messages and handlers' pushes with a good report."""
        self.bad: dict[str, int] = {}
        """Messages and handlers' pushes with a bad report, by its code."""
        self.failed = 0
        """Requests without an answer, or with a malformed one."""
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
        """How many answers are in each bucket: one bucket for each of :data:`BOUNDS_S`, and one beyond."""
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


UNCOUNTED = TypeMetrics()
"""The metrics of other nodes' requests, which these nodes count themselves."""


class MetricsByType:
    """The metrics of all types since the start."""

    def __init__(self) -> None:
        self.others = TypeMetrics()
        """The metrics of types that nobody serves, and of those beyond :data:`MAX_TYPES`."""
        self.named: dict[str, TypeMetrics] = {}
        self._attached = 0

    def __iter__(self) -> Iterator[TypeMetrics]:
        yield self.others
        yield from self.named.values()

    def of(self, type: str, *, configured: bool) -> TypeMetrics:
        """Returns a type's metrics, which outlive its handlers; or ``others`` if there are too many types."""
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


CODE = "CODE"
"""Stands for any error's code (docs/protocol.md, section 11)."""


class Drop(enum.Enum):
    """The kind of a thing that is thrown away, and the cause; docs/metrics.md has a row for each."""

    ANSWER_LATE = "answer", "unmatched"
    COMMAND_ABANDONED = "command", "senderGone"
    EFFECT_FAILED = "effect", "internal"
    FRAME_AFTER_END = "frame", "afterEnd"
    FRAME_INCOMPLETE = "frame", "incomplete"
    FRAME_UNSENT = "frame", "connectionGone"
    HELD_EXPIRED = "held", "expired"
    HELD_REFUSED = "held", "refused"
    LETTER_CLEARED = "letter", "accountGone"
    LETTER_EXPIRED = "letter", "expired"
    LETTER_OVER_SHARE = "letter", "share"
    LETTER_NOT_KEPT = "letter", CODE
    LETTER_UNACKNOWLEDGED = "letter", "unacknowledged"
    LETTER_TRANSIENT = "letter", "nobodyThere"
    LINE_UNREAD = "line", "notRead"
    MESSAGE_REFUSED = "message", CODE
    MESSAGE_UNFINISHED = "message", "shutdown"
    NODE_UNREADABLE = "node", "unreadable"
    NODE_UNSENT = "node", "busDown"
    OUTGOING_DROPPED = "outgoing", "operator"
    OUTGOING_EXPIRED = "outgoing", "expired"
    OUTGOING_REFUSED = "outgoing", CODE
    RECEIPT_EXPIRED = "receipt", "expired"
    RECEIPT_OVER_SHARE = "receipt", "share"
    RECEIPT_UNKEPT = "receipt", "store"
    RECIPIENT_AWAY = "recipient", "nobodyThere"
    RECIPIENT_FAILED = "recipient", CODE
    REPLY_UNWANTED = "reply", "senderGone"
    REPORT_UNMATCHED = "report", "unmatched"
    REPORT_UNTOLD = "report", "internal"
    REPORT_UNWANTED = "report", "senderGone"
    SPAN_OVER_SHARE = "span", "share"
    SPAN_UNSENT = "span", "collector"

    @property
    def what(self) -> str:
        return str(self.value[0])

    @property
    def cause(self) -> str:
        return str(self.value[1])


class Drops:
    """Drops since the start."""

    __slots__ = ("_counted",)

    def __init__(self) -> None:
        self._counted: dict[tuple[str, str], int] = {}

    def count(self, drop: Drop, number: int = 1, *, code: str = "") -> None:
        """Counts something that is thrown away; ``code`` is the error's if the cause is :data:`CODE`."""
        if number:
            key = drop.what, code or drop.cause
            self._counted[key] = self._counted.get(key, 0) + number

    def get(self, drop: Drop, code: str = "") -> int:
        return self._counted.get((drop.what, code or drop.cause), 0)

    def by_what(self) -> dict[str, dict[str, int]]:
        """Returns the counts as operators get them: by kind, then by cause."""
        found: dict[str, dict[str, int]] = {}
        for (what, cause), number in sorted(self._counted.items()):
            found.setdefault(what, {})[cause] = number
        return found


class Counters:
    """The exchange's counters; each counts since the start."""

    __slots__ = (
        "accepted",
        "by_type",
        "deliveries",
        "drops",
        "for_nodes",
        "for_nodes_done",
        "given_again",
        "pushes",
        "repeats",
    )

    def __init__(self) -> None:
        self.accepted = 0
        self.deliveries = 0
        """Recipients whose sessions were written to."""
        self.for_nodes = 0
        self.for_nodes_done = 0
        """Requests of other nodes of this server, and how many of them have their outcome."""
        self.given_again = 0
        """Messages that were given to a session again, because it did not acknowledge them."""
        self.pushes = 0
        self.repeats = 0
        """``once`` messages that were answered with the first one's report."""
        self.by_type = MetricsByType()
        """How messages ended, by type."""
        self.drops = Drops()

    @property
    def good(self) -> int:
        return sum(metrics.good for metrics in self.by_type)

    @property
    def bad(self) -> dict[str, int]:
        """Messages with a bad report, by error code."""
        found: dict[str, int] = {}
        for metrics in self.by_type:
            for code, number in metrics.bad.items():
                found[code] = found.get(code, 0) + number
        return found

    @property
    def bad_total(self) -> int:
        return sum(number for metrics in self.by_type for number in metrics.bad.values())
