"""The numbers of one node and its process, as operators see them."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

from bester import __version__
from bester.compiled import build
from bester.core.metrics import Drop
from bester.logsink import STDERR
from bester.server.admin.handlers import count_waiting, handlers
from bester.server.admin.servers import identity
from bester.server.admin.services import AdminServices
from bester.store.database import SqliteStore

MAX_ROWS = 500
"""The most handlers in one glance."""


def process(services: AdminServices) -> dict[str, Any]:
    """Returns what no other node shares with this process."""
    runtime = services.runtime
    return {
        "server": runtime.config.server.name,
        "version": __version__,
        "build": build(),
        "identity": identity(services),
        "pid": os.getpid(),
        "uptime": round(runtime.uptime_s, 1),
        "listeners": runtime.listener_urls,
        "handlerListeners": runtime.handler_urls,
        "loop": {"worstLagMs": round(1000 * services.rates.worst_lag_s, 1)},
        "recordings": services.recordings.rows(),
    }


def numbers(services: AdminServices) -> dict[str, Any]:
    """Returns numbers that can be added up over nodes."""
    runtime, federation, receipts = services.runtime, services.federation, services.receipts
    exchange = runtime.exchange
    counters = exchange.batch.counters
    return {
        "connections": len(services.connections.all),
        "unauthenticated": len(services.limits),
        "accounts": len(exchange.presence.usernames()),
        "sessions": exchange.presence.session_count,
        "underWay": exchange.reports.under_way,
        "streams": len(exchange.streams),
        "messages": {
            "accepted": counters.accepted,
            "good": counters.good,
            "bad": counters.bad,
            "deliveries": counters.deliveries,
            "pushes": counters.pushes,
            "repeats": counters.repeats,
            "givenAgain": counters.given_again,
        },
        "dropped": dropped(services),
        "bytes": traffic(services),
        "receipts": {"recorded": receipts.recorded, "unrecorded": receipts.unrecorded},
        "logins": {"good": runtime.counts.logins, "bad": runtime.counts.logins_failed},
        "refused": runtime.counts.refused,
        "slowConsumers": runtime.counts.slow_consumers,
        "toServers": {
            "sent": federation.sent,
            "queued": federation.queued,
            "skipped": federation.skipped,
            "failed": federation.failed,
            "linksFrom": len(federation.incoming),
        },
    }


def glance(services: AdminServices) -> dict[str, Any]:
    """Returns the numbers that change from second to second, in the form of the console's event ``now`` (docs/web.md).

    Nothing in it is read from the store.
    """
    runtime, rates = services.runtime, services.rates
    exchange = runtime.exchange
    counters = exchange.batch.counters
    return {
        "server": {
            "name": runtime.config.server.name,
            "version": __version__,
            "pid": os.getpid(),
            "uptime": round(runtime.uptime_s, 1),
            "listeners": runtime.listener_urls,
            "draining": exchange.admission.draining or runtime.stop_asked.is_set(),
        },
        "rates": rates.rates,
        "types": rates.types,
        "latency": {"meanMs": rates.mean_ms, "p95Ms": rates.p95_ms()},
        "counts": {
            "connections": len(services.connections.all),
            "unauthenticated": len(services.limits),
            "sessions": exchange.presence.session_count,
            "online": services.cluster.counted_here(),
            "handlers": sum(not handler.is_remote for handler in exchange.dispatcher.handlers),
            "linksFrom": len(services.federation.incoming),
            "underWay": exchange.reports.under_way,
            "streams": len(exchange.streams),
            "waiting": sum(map(count_waiting, exchange.dispatcher.types.values())),
        },
        "totals": {
            "accepted": counters.accepted,
            "good": counters.good,
            "bad": counters.bad,
            "deliveries": counters.deliveries,
            "pushes": counters.pushes,
            "repeats": counters.repeats,
            "givenAgain": counters.given_again,
            "dropped": dropped(services),
            "refused": runtime.counts.refused,
            "slowConsumers": runtime.counts.slow_consumers,
        },
        "loop": {"lagMs": round(1000 * rates.lag_s, 1), "worstLagMs": round(1000 * rates.worst_lag_s, 1)},
        "disk": disk(services) if services.storage.on_disk else None,
        "handlers": handlers(services)[:MAX_ROWS],
        "recordings": services.recordings.rows(),
    }


def disk(services: AdminServices) -> dict[str, int] | None:
    """Returns how much space is left on the store's disk; None if that is unknown."""
    space = services.storage.disk_space()
    return None if space is None else space | {"reserve": services.runtime.config.storage.reserve}


async def stored(services: AdminServices) -> dict[str, int]:
    """Returns how much the store holds.

    Raises:
        Internal: the store cannot be reached.
    """
    totals = await services.storage.totals()
    return {
        "accounts": totals.accounts,
        "mailboxes": totals.mailboxes,
        "mailboxMessages": totals.mailbox_messages,
        "mailboxBytes": totals.mailbox_bytes,
    }


def dropped(services: AdminServices) -> dict[str, dict[str, int]]:
    """Returns how much was thrown away since the start, by what it was and why: :class:`bester.core.metrics.Drop`."""
    receipts, tracing = services.receipts, services.tracing
    found = services.runtime.exchange.batch.counters.drops.by_what()
    for drop, number in (
        (Drop.LINE_UNREAD, STDERR.dropped),
        (Drop.RECEIPT_OVER_SHARE, receipts.over_share),
        (Drop.RECEIPT_UNKEPT, receipts.store.lost),
        (Drop.RECEIPT_EXPIRED, receipts.store.expired),
        (Drop.SPAN_OVER_SHARE, tracing.dropped),
        (Drop.SPAN_UNSENT, tracing.failed),
    ):
        if number:
            found.setdefault(drop.what, {})[drop.cause] = number
    return found


def traffic(services: AdminServices) -> dict[str, dict[str, int]]:
    """Returns the bytes of frames since the start, ``received`` and ``sent``, by the kind of connection."""
    counts = services.runtime.counts
    received, sent = Counter(counts.received), Counter(counts.sent)
    for connection in services.connections.all:
        received[connection.kind] += connection.framer.taken
        sent[connection.kind] += connection.sent
    return {"received": dict(sorted(received.items())), "sent": dict(sorted(sent.items()))}


def queues(services: AdminServices) -> dict[str, int]:
    """Returns how many messages, deliveries and writes wait in memory; messages on disk are not among them."""
    exchange, federation = services.runtime.exchange, services.federation
    found = dict.fromkeys(("handlers", "backlog", "unacknowledged", "sessions", "servers", "deposits", "outbox"), 0)
    found["handlers"] = sum(map(count_waiting, exchange.dispatcher.types.values()))
    for username in exchange.presence.all_usernames():
        for session in exchange.presence.all_sessions(username):
            found["backlog"] += session.backlog
            found["unacknowledged"] += len(session.unacked)
            found["sessions"] += len(session.queue)
    for connection in federation.incoming:
        if connection.endpoint is not None:
            found["backlog"] += connection.endpoint.backlog
    found["servers"] = sum(destination.fresh for destination in federation.destinations.values())
    found["deposits"] = services.mailboxes.waiting
    found["outbox"] = federation.outbox.waiting
    if isinstance(services.messages, SqliteStore):
        found["store"] = services.messages.database.waiting
    return found
