"""Takes the exchange's receipts away once in a second, and answers those who ask for them (docs/tracing.md)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from bester.clock import wall_time
from bester.core.endpoint import Endpoint, Peer
from bester.core.receipts import MAX_NAMES, Entry
from bester.core.routing import AttachedHandler
from bester.core.session import Session
from bester.core.traces import Traces
from bester.errors import BadArguments
from bester.protocol.frames import encode_text
from bester.protocol.framing import PREFIX
from bester.protocol.reports import ReportError, Result, decode_result, decode_written
from bester.store.receipts import Bounds, Found, Receipt, ReceiptStore

if TYPE_CHECKING:
    from bester.config import Config
    from bester.server.runtime import Runtime

log = logging.getLogger("bester.receipts")

GOOD_PER_S = 500
BAD_PER_S = 1000
"""How many are recorded in a second; more of them are counted, and nothing else."""
EVERY_S = 1.0
MAX_FOUND = 1000
MAX_ROUTE_BYTES = 64 * 1024
WHY_S = 3600.0
"""How far back ``why`` looks, where nothing is said."""

ADVICE = {
    "badAddress": "the handler's author corrects the address in its sendServers",
    "badResponse": "the handler's answer is wrong: `bester status` shows its last error, the log the details",
    "handlerError": "the handler refused the message: for the reason that it gave, else look at its own output",
    "handlerTimeout": "the handler is too slow, or hangs: look at its process, or raise its timeout",
    "handlerUnavailable": "start the handler, or look why it goes away: its output is in the log",
    "idConflict": "the sender must give every `once` message an id of its own",
    "internal": "something failed inside the server: its log says what",
    "mailboxFull": "the recipient does not take its mail: raise limits.mailboxMessages, or remove the account",
    "noHandler": "no handler serves this type: start it, or correct the type's name",
    "notAllowed": "handlers.typeMap.TYPE.allow does not let this sender send: change it, or tell the sender",
    "overloaded": "too much waits: look at `bester status` for what is slow",
    "serverRefused": "the other server reported it bad: ask its operator with the trace's id",
    "serverUnreachable": "try `bester peer test`; what could be kept is shown by `bester queue list`",
    "serverUnverified": "pin each other's keys: `bester peer add`, on both servers",
    "shuttingDown": "the server was stopping; senders try again",
    "storageFull": "make room on the disk, or in the outbox: `bester queue list`",
    "throttled": "the sender sends more than it may: federation.rate and federation.burst",
    "tooManyHops": "two handlers or servers send to each other without end: `bester send --route` shows the loop",
    "unknownAccount": "there is no such account: add it, or correct the name in the handler or message",
}
"""What to do about a failure, by its code."""
OTHER_ADVICE = "see the code's row in docs/protocol.md, section 11"


def bounds_of(config: Config) -> Bounds:
    """Returns how many receipts are kept, as the configuration says."""
    return Bounds(config.limits.receipt_days, config.limits.receipt_rows, config.storage.reserve)


class Receipts:
    """What this server remembers of finished messages."""

    def __init__(self, runtime: Runtime, store: ReceiptStore) -> None:
        self.runtime = runtime
        self.store = store
        self.recorded = 0
        """Since the start."""
        self._due = 0.0

    def open(self) -> None:
        """Begins to record."""
        self.store.open()
        self._share()

    def sweep(self, now: float) -> None:
        """Takes away what there is, and gives the next second's shares; called a few times a second."""
        if now >= self._due:
            self._due = now + EVERY_S
            self.flush()
            self._share()

    def _share(self) -> None:
        receipts = self.runtime.exchange.receipts
        receipts.good_left, receipts.bad_left = GOOD_PER_S, BAD_PER_S

    def flush(self) -> None:
        """Gives what there is to the store's thread, which does the work."""
        receipts = self.runtime.exchange.receipts
        entries, receipts.entries = receipts.entries, []
        if not entries:
            return
        self.recorded += len(entries)
        bounds = bounds_of(self.runtime.config)
        traces = self.runtime.exchange.traces
        began = wall_time() - self.runtime.clock()
        self.store.add(lambda: [_receipt(entry, traces, began) for entry in entries], len(entries), bounds)

    async def close(self) -> None:
        """Writes what there is; nothing more is recorded."""
        receipts = self.runtime.exchange.receipts
        receipts.good_left = receipts.bad_left = 0
        self.flush()
        await self.store.close()

    async def settle(self) -> None:
        """Returns when what is finished can be found."""
        self.flush()
        await self.store.settle()

    @property
    def over_share(self) -> int:
        """Finished messages since the start that were only counted."""
        exchange = self.runtime.exchange
        finished = exchange.counters.good + exchange.counters.bad_total
        return finished - self.recorded - len(exchange.receipts.entries)

    @property
    def unrecorded(self) -> int:
        """Finished messages since the start that were only counted, or could not be kept."""
        return self.over_share + self.store.lost

    # -- those who ask -------------------------------------------------------------------------------------------

    async def trace(
        self,
        id: str | None,
        account: str | None,
        type: str | None,
        outcome: str | None,
        since: float,
        limit: int,
    ) -> dict[str, Any]:
        """Returns what became of messages, newest first; ``limit`` is checked already."""
        found = await self.store.find(
            id=_trace_id(id), sender=account, type=type, outcome=outcome, since=since, limit=limit
        )
        return {"receipts": [shown(receipt) for receipt in found]} | _looked(found)

    async def why(self, since: float | None) -> dict[str, Any]:
        """Returns the failures since then (seconds since 1970; None: in the last hour) by their causes."""
        since = wall_time() - WHY_S if since is None else since
        found = await self.store.causes(since)
        causes = [
            {
                "code": cause.code,
                "type": cause.type,
                "count": cause.times,
                "last": shown(cause.last),
                "advice": ADVICE.get(cause.code, OTHER_ADVICE),
            }
            for cause in found
        ]
        return {"since": since, "causes": causes} | _looked(found)


def check_limit(limit: int) -> None:
    """Sees whether so many receipts may be asked for.

    Raises:
        BadArguments: not so many.
    """
    if not 1 <= limit <= MAX_FOUND:
        raise BadArguments(f"limit must be from 1 to {MAX_FOUND}")


def _looked(found: Found[Any]) -> dict[str, float]:
    return {} if found.looked_since is None else {"lookedSince": round(found.looked_since, 3)}


def shown(receipt: Receipt) -> dict[str, Any]:
    """Returns a receipt as operators get it."""
    row: dict[str, Any] = {
        "at": round(receipt.at, 3),
        "trace": receipt.trace,
        "from": receipt.sender or None,
        "type": receipt.type,
        "id": receipt.message_id,
        "outcome": receipt.outcome,
        "message": receipt.error or None,
        "ms": receipt.ms,
        "recipients": msgspec.json.decode(receipt.recipients) if receipt.recipients else None,
    }
    if receipt.node:
        row["node"] = receipt.node
    if receipt.route:
        row["route"] = msgspec.json.decode(receipt.route)
    return row


def _trace_id(id: str | None) -> str | None:
    """A whole traceparent is as good as its trace's id."""
    parts = (id or "").split("-")
    return parts[1] if len(parts) == 4 and len(parts[1]) == 32 else id


# -- on the store's thread ---------------------------------------------------------------------------------------


def _receipt(entry: Entry, traces: Traces, began: float) -> Receipt:
    error: tuple[str, str] | None
    route = b""
    if entry.large is not None:
        error, counts = entry.large.error, entry.large.counts
        first: Sequence[Result] = [decode_result(result) for result in entry.large.results if result]
    else:
        payload = decode_written(memoryview(entry.report)[PREFIX.size :])
        error = _explained(payload.error) if payload.error is not None else None
        counts = Counter(result.status for result in payload.results)
        first = payload.results[:MAX_NAMES]
        route = bytes(payload.route)
    recipients = b""
    if counts:
        recipients = encode_text({"counts": counts, "first": [_shown_result(result) for result in first]})
    return Receipt(
        entry.at + began,
        traces.whole(entry.trace)[3:35],
        sender_of(entry.origin),
        entry.type,
        entry.id[:256],
        error[0] if error is not None else "good",
        error[1][:500] if error is not None else "",
        round((entry.at - entry.since) * 1000, 3),
        recipients.decode(),
        route.decode() if len(route) <= MAX_ROUTE_BYTES else "",
    )


def _explained(error: ReportError) -> tuple[str, str]:
    return error.code, f"{error.reason}: {error.message}" if error.reason else error.message


def _shown_result(result: Result) -> dict[str, str]:
    told = {"to": result.to, "status": result.status}
    return told if result.error is None else told | {"code": result.error.code}


def sender_of(origin: Endpoint) -> str:
    """Returns who sent something, for certain: an account, a server's proven name, or ``handler NAME``."""
    if isinstance(origin, Session):
        return origin.username
    if isinstance(origin, Peer):
        return origin.name or ""
    return f"handler {origin.name}" if isinstance(origin, AttachedHandler) else ""
