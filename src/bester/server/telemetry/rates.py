"""What a server's plain numbers make in a second: rates, latencies, the loop's lag, and some of what went through.

Nothing is counted here per message. Once a second the sampler reads the numbers that the other rooms keep anyway, and
keeps the differences. Movements, which say who sent what to whom, are looked at only while somebody watches, and at
most :data:`MAX_MOVEMENTS` in a second: for as long, two of the exchange's methods are covered by ones that look first.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bester.clock import wall_time
from bester.core.endpoint import Endpoint, Peer
from bester.core.routing import AttachedHandler, Request
from bester.core.session import Session
from bester.protocol.reports import decode_result

if TYPE_CHECKING:
    from bester.core.metrics import TypeMetrics
    from bester.server.runtime import Runtime
    from bester.store.ports import MailboxSize

STEP_S = 1.0
HISTORY = 600
"""For how many seconds the rates are kept."""
MAX_MOVEMENTS = 50
"""The most movements that are looked at in a second."""
MAX_RECIPIENTS = 5
"""The most recipients that a movement names."""
LATENCIES = 500
"""Of how many of the last answers that were looked at the 95th percentile is taken."""
LAG_SECONDS = 10
"""For how many seconds a lag of the loop is told."""
HISTORY_COLUMNS = ("time", "good", "bad", "deliveries", "pushes", "meanMs", "lagMs", "sessions", "underWay")
TOTALS_S = 10.0
"""How old totals may be that are read from the store."""
MAX_PAGES = 50
"""How many pages of mailboxes are added up at most; what is beyond is not counted."""
_PAGE = 1000


class Totals:
    """What is in the store, as of some seconds ago."""

    def __init__(self) -> None:
        self.accounts = 0
        self.mailboxes = 0
        self.mailbox_messages = 0
        self.mailbox_bytes = 0
        self.fullest: list[MailboxSize] = []
        """The mailboxes that are nearly full."""
        self.complete = True
        """Whether all mailboxes were added up."""


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
        self._watchers = 0
        self._movements: list[tuple[Request, float, float]] = []
        self._latencies: deque[float] = deque(maxlen=LATENCIES)
        self._totals = Totals()
        self._totals_at = float("-inf")
        self._totals_lock = asyncio.Lock()

    # -- once a second -------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._before, self._types_before = self._counted(), self._counted_types()
        self._looked = self._loop.time()
        self._due = self._looked + STEP_S
        self._timer = self._loop.call_at(self._due, self._tick)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._uncover()

    def _tick(self) -> None:
        now = self._loop.time()
        self.lag_s = max(0.0, now - self._due)
        self._lags.append(self.lag_s)
        self._due = now + STEP_S
        self._timer = self._loop.call_at(self._due, self._tick)
        self._read(max(now - self._looked, 0.001))
        self._looked = now
        if self._watchers:
            self._cover()
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

    # -- movements -----------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Somebody watches: movements are looked at until as many have said :meth:`unwatch`."""
        self._watchers += 1
        self._cover()

    def unwatch(self) -> None:
        self._watchers -= 1
        if not self._watchers:
            self._uncover()
            self._movements.clear()

    def _cover(self) -> None:
        """Lets answers and failures be seen, until there are enough of them in this second."""
        exchange = self.runtime.exchange
        answered, fail = type(exchange)._answered, type(exchange).fail
        note = self._note

        # Instances come before their class: when these are removed, the exchange is as if nobody had ever looked.
        def _answered(request: Request, *rest: Any) -> None:
            since = request.since
            answered(exchange, request, *rest)
            note(request, since)

        def _fail(request: Request, *rest: Any) -> None:
            since = request.since
            fail(exchange, request, *rest)
            note(request, since)

        vars(exchange).update(_answered=_answered, fail=_fail)

    def _uncover(self) -> None:
        for name in ("_answered", "fail"):
            vars(self.runtime.exchange).pop(name, None)

    def _note(self, request: Request, since: float) -> None:
        if self._movements and self._movements[-1][0] is request:
            return  # an answer that turned out to be a failure is one movement
        took_s = max(0.0, self.runtime.exchange.now - since)
        self._latencies.append(took_s)
        self._movements.append((request, wall_time(), took_s))
        if len(self._movements) >= MAX_MOVEMENTS:
            self._uncover()

    def take_movements(self) -> list[dict[str, Any]]:
        """Returns the movements since the last call, oldest first: at most :data:`MAX_MOVEMENTS` per second."""
        movements, self._movements = self._movements, []
        return [_movement(request, at, took_s) for request, at, took_s in movements[-MAX_MOVEMENTS:]]

    def p95_ms(self) -> float | None:
        """Returns the 95th percentile of the last times to an answer that were looked at; None without any."""
        if not self._latencies:
            return None
        ordered = sorted(self._latencies)
        return round(1000 * ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 3)

    # -- what is in the store --------------------------------------------------------------------------------------

    async def totals(self) -> Totals:
        """Returns how much is in the store, at most :data:`TOTALS_S` old.

        Raises:
            Internal: the store cannot be reached.
        """
        async with self._totals_lock:
            if self._loop.time() - self._totals_at >= TOTALS_S:
                self._totals = await self._add_up()
                self._totals_at = self._loop.time()
        return self._totals

    async def _add_up(self) -> Totals:
        runtime = self.runtime
        totals = Totals()
        totals.accounts = await runtime.accounts.store.count()
        limits = runtime.config.limits
        after = ""
        for _ in range(MAX_PAGES):
            page = await runtime.messages.mailbox_sizes(after, _PAGE)
            for size in page:
                totals.mailboxes += 1
                totals.mailbox_messages += size.messages
                totals.mailbox_bytes += size.bytes
                if size.messages > 0.8 * limits.mailbox_messages or size.bytes > 0.8 * limits.mailbox_bytes:
                    totals.fullest.append(size)
            if len(page) < _PAGE:
                break
            after = page[-1].username
        else:
            totals.complete = False
        return totals


def served(runtime: Runtime, metrics: TypeMetrics) -> tuple[int, int, float]:
    """Returns how many requests of a type this node's handlers answered and failed, and how long that took in all.

    What other nodes' handlers answered for this one is counted there.
    """
    other = runtime.nodes.asking.elsewhere.get(metrics) if runtime.nodes is not None else None
    if other is None:
        return metrics.answered, metrics.failed, metrics.seconds
    seconds = max(0.0, metrics.seconds - other.seconds)
    return metrics.answered - other.answered, metrics.failed - other.failed, seconds


def served_within(runtime: Runtime, metrics: TypeMetrics) -> list[int]:
    """Returns how long they took, in the buckets of :attr:`TypeMetrics.buckets`."""
    other = runtime.nodes.asking.elsewhere.get(metrics) if runtime.nodes is not None else None
    if other is None:
        return metrics.buckets
    return [max(0, all - elsewhere) for all, elsewhere in zip(metrics.buckets, other.buckets, strict=True)]


def disk(path: str) -> dict[str, int] | None:
    """Returns ``free`` and ``total`` bytes of the file system that has a file; None where that cannot be told."""
    try:
        system = os.statvfs(path)
    except OSError:
        return None
    return {"free": system.f_bavail * system.f_frsize, "total": system.f_blocks * system.f_frsize}


def _mean_ms(seconds: float, count: int) -> float | None:
    return round(1000 * seconds / count, 3) if count else None


def _movement(request: Request, at: float, took_s: float) -> dict[str, Any]:
    envelope = request.envelope
    outcome = "underWay" if envelope.pending else "good"
    if envelope.error is not None:
        outcome = envelope.error.code
    results = [decode_result(result).to for result in (envelope.results or ())[:MAX_RECIPIENTS] if result]
    return {
        "time": round(at, 3),
        "from": _who(envelope.origin),
        "scope": envelope.origin.scope,
        "type": request.handlers.name,
        "to": results,
        "recipients": len(envelope.results or ()),
        "outcome": outcome,
        "ms": round(1000 * took_s, 3),
    }


def _who(origin: Endpoint) -> str | None:
    if isinstance(origin, Session):
        return origin.username
    return origin.name if isinstance(origin, (Peer, AttachedHandler)) else None
