"""Looks receipts up for operators: where messages went, and why they failed (docs/tracing.md)."""

from __future__ import annotations

from typing import Any

import msgspec

from bester.clock import wall_time
from bester.errors import BadArguments
from bester.store.receipts import Found, Receipt, ReceiptStore

MAX_FOUND = 1000
WHY_S = 3600.0
"""How far back :func:`why` looks unless the operator says when to begin."""

ADVICE = {
    "badAddress": "the handler's author corrects the address in its sendServers",
    "badPayload": "the sender's data does not fit the type's schema: `bester handler describe TYPE` shows it",
    "badResponse": "the handler's answer is wrong: `bester status` shows its last error, the log the details",
    "cancelled": "nothing: the sender wanted no answer any more; if many do, its type is too slow for them",
    "dropped": "a guard drops such messages without telling their senders: look at its rules if it should not",
    "handlerError": "the handler refused the message: for the reason that it gave, else look at its own output",
    "handlerTimeout": "the handler is too slow, or hangs: look at its process, or raise its timeout",
    "handlerUnavailable": "start the handler, or look why it goes away: its output is in the log",
    "idConflict": "the sender must give every `once` message an id of its own",
    "internal": "something failed inside the server: its log says what",
    "mailboxFull": "the recipient does not take its mail: raise limits.mailboxMessages, or remove the account",
    "noHandler": "no handler serves this type: start it, or correct the type's name",
    "notAllowed": "handlers.typeMap.TYPE.allow does not let this sender send: change it, or tell the sender",
    "overloaded": "too much waits: look at `bester status` for what is slow",
    "rejected": "a guard refuses such messages, or gives no verdict: `bester status` shows its last error",
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


async def trace(
    store: ReceiptStore,
    id: str | None,
    account: str | None,
    type: str | None,
    outcome: str | None,
    since: float,
    limit: int,
) -> dict[str, Any]:
    """Returns the receipts of messages, newest first; call :func:`check_limit` first."""
    found = await store.find(id=_trace_id(id), sender=account, type=type, outcome=outcome, since=since, limit=limit)
    return {"receipts": [_shown(receipt) for receipt in found]} | _looked(found)


async def why(store: ReceiptStore, since: float | None) -> dict[str, Any]:
    """Returns the failures by their causes, from ``since`` (seconds since 1970) or of the last hour."""
    since = wall_time() - WHY_S if since is None else since
    found = await store.causes(since)
    causes = [
        {
            "code": cause.code,
            "type": cause.type,
            "count": cause.times,
            "last": _shown(cause.last),
            "advice": ADVICE.get(cause.code, OTHER_ADVICE),
        }
        for cause in found
    ]
    return {"since": since, "causes": causes} | _looked(found)


def check_limit(limit: int) -> None:
    """Checks how many receipts an operator asks for.

    Raises:
        BadArguments: too many, or none.
    """
    if not 1 <= limit <= MAX_FOUND:
        raise BadArguments(f"limit must be from 1 to {MAX_FOUND}")


def _looked(found: Found[Any]) -> dict[str, float]:
    return {} if found.looked_since is None else {"lookedSince": round(found.looked_since, 3)}


def _shown(receipt: Receipt) -> dict[str, Any]:
    """Returns a receipt as operators see it."""
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
    """Returns a trace's id, which may be given as a whole traceparent."""
    parts = (id or "").split("-")
    return parts[1] if len(parts) == 4 and len(parts[1]) == 32 else id
