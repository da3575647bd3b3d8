"""Hands the exchange's receipts to the store, once a second (docs/tracing.md)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from bester.clock import wall_time
from bester.core.endpoint import Consented, Endpoint, Peer
from bester.core.receipts import MAX_NAMES, Entry
from bester.core.routing import AttachedHandler
from bester.core.session import Session
from bester.core.traces import Traces
from bester.protocol.frames import decode_id, encode_text
from bester.protocol.framing import PREFIX
from bester.protocol.reports import ReportError, Result, decode_result, decode_written
from bester.server.runtime import Runtime
from bester.server.settings import receipt_bounds
from bester.store.receipts import Receipt, ReceiptStore

log = logging.getLogger("bester.receipts")

GOOD_PER_S = 500
BAD_PER_S = 1000
"""How many receipts are kept of one second's messages; the others are only counted."""
EVERY_S = 1.0
MAX_ROUTE_BYTES = 64 * 1024
"""A longer route is not stored."""


class Receipts:
    """The receipts of finished messages, on their way from the exchange to the store."""

    def __init__(self, runtime: Runtime, store: ReceiptStore) -> None:
        self.runtime = runtime
        self.store = store
        self.recorded = 0
        """Since the start."""
        self.flushed: list[Callable[[Sequence[Entry], float], None]] = []
        """Each is called with the entries that are handed to the store, and with the time, in seconds since 1970, at
        which the exchange's clock was 0."""
        self._due = 0.0

    def open(self) -> None:
        """Begins to record."""
        self.store.open()
        self._share()

    def sweep(self, now: float) -> None:
        """Once a second: flushes, and lets the exchange keep the next second's receipts."""
        if now >= self._due:
            self._due = now + EVERY_S
            self.flush()
            self._share()

    def _share(self) -> None:
        receipts = self.runtime.exchange.reports.receipts
        receipts.good_left, receipts.bad_left = GOOD_PER_S, BAD_PER_S

    def flush(self) -> None:
        """Hands the receipts to the store, whose thread takes the reports apart."""
        receipts = self.runtime.exchange.reports.receipts
        entries, receipts.entries = receipts.entries, []
        if not entries:
            return
        self.recorded += len(entries)
        bounds = receipt_bounds(self.runtime.config)
        traces = self.runtime.exchange.traces
        began = wall_time() - self.runtime.clock()
        for callback in self.flushed:
            callback(entries, began)
        self.store.add(lambda: [_receipt(entry, traces, began) for entry in entries], len(entries), bounds)

    async def close(self) -> None:
        """Writes the last receipts; nothing more is recorded."""
        receipts = self.runtime.exchange.reports.receipts
        receipts.good_left = receipts.bad_left = 0
        self.flush()
        await self.store.close()

    async def settle(self) -> None:
        """Returns when the receipts of all finished messages can be found."""
        self.flush()
        await self.store.settle()

    @property
    def over_share(self) -> int:
        """Finished messages since the start that were only counted."""
        exchange = self.runtime.exchange
        finished = exchange.batch.counters.good + exchange.batch.counters.bad_total
        return finished - self.recorded - len(exchange.reports.receipts.entries)

    @property
    def unrecorded(self) -> int:
        """Finished messages since the start that were only counted, or could not be stored."""
        return self.over_share + self.store.lost


# -- entries, taken apart on the store's thread, and for the console a few on the event loop ---------------------


class Outcome(NamedTuple):
    """The outcome of a finished message, as its sender was told it."""

    error: ReportError | None
    counts: Mapping[str, int]
    """The recipients, by status."""
    first: Sequence[Result]
    """The first recipients, at most :data:`~bester.core.receipts.MAX_NAMES`."""
    route: bytes
    """The steps as JSON, where the sender asked for them."""


def outcome_of(entry: Entry) -> Outcome:
    """Decodes the report in a receipt's entry."""
    large = entry.large
    if large is not None:
        error = ReportError(*large.error) if large.error is not None else None
        return Outcome(error, large.counts, [decode_result(result) for result in large.results if result], b"")
    payload = decode_written(memoryview(entry.report)[PREFIX.size :])
    counts = Counter(result.status for result in payload.results)
    return Outcome(payload.error, counts, payload.results[:MAX_NAMES], bytes(payload.route))


def _receipt(entry: Entry, traces: Traces, began: float) -> Receipt:
    outcome = outcome_of(entry)
    recipients = b""
    if outcome.counts:
        recipients = encode_text(
            {"counts": outcome.counts, "first": [_shown_result(result) for result in outcome.first]}
        )
    return Receipt(
        entry.at + began,
        traces.whole(entry.trace)[3:35],
        sender_of(entry.origin),
        entry.type,
        decode_id(entry.id)[:256],
        outcome.error.code if outcome.error is not None else "good",
        _explained(outcome.error)[:500] if outcome.error is not None else "",
        round((entry.at - entry.since) * 1000, 3),
        recipients.decode(),
        outcome.route.decode() if len(outcome.route) <= MAX_ROUTE_BYTES else "",
    )


def _explained(error: ReportError) -> str:
    return f"{error.reason}: {error.message}" if error.reason else error.message


def _shown_result(result: Result) -> dict[str, str]:
    shown = {"to": result.to, "status": result.status}
    return shown if result.error is None else shown | {"code": result.error.code}


def sender_of(origin: Endpoint) -> str:
    """Returns the proven name of a sender: an account, a server, or ``handler NAME``; "" if it has none."""
    if isinstance(origin, Session):
        return origin.username
    if isinstance(origin, Peer | Consented):
        return origin.name or ""
    return f"handler {origin.name}" if isinstance(origin, AttachedHandler) else ""
