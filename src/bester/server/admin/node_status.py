"""What a running server shows of itself: to clients, handlers and operators alike."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

from bester import __version__
from bester.core.endpoint import Peer
from bester.core.metrics import Drop
from bester.logsink import STDERR
from bester.net.fingerprints import spelled
from bester.server.admin import problems
from bester.server.telemetry.rates import served
from bester.server.telemetry.storage import disk_space
from bester.store.database import Shared
from bester.store.ports import account_of

if TYPE_CHECKING:
    from bester.core.routing import TypeRoute
    from bester.net.fingerprints import Shown
    from bester.server.runtime import Runtime
    from bester.store.ports import Account, MailboxSize, Queued, QueueSize


def types(runtime: Runtime) -> list[str]:
    """The types that have a handler now, sorted."""
    return sorted(name for name, handlers in runtime.exchange.types.items() if handlers.available)


def listeners(runtime: Runtime) -> dict[str, dict[str, str]]:
    """The listeners, as the informer names them (section 9)."""
    return {f"listener{index}": {"address": url} for index, url in enumerate(runtime.listener_urls)}


def server_info(runtime: Runtime, clients: int) -> dict[str, Any]:
    """What anyone who is logged in may know of the server (sections 5 and 9)."""
    return {
        "clientCount": clients,
        "adminInfo": runtime.config.admin.info,
        "listeners": listeners(runtime),
    }


def clients(runtime: Runtime, after: str = "", limit: int | None = None) -> list[dict[str, Any]]:
    """The connected accounts with their sessions, sorted: those after a name, and at most so many."""
    now = runtime.clock()
    presence = runtime.exchange.presence
    names = [name for name in presence.all_usernames() if name > after][:limit]
    return [
        {
            "username": name,
            "sessions": [
                {
                    "address": session.carrier.remote.address,
                    "seconds": round(now - session.since, 1),
                    "inFlight": session.in_flight,
                    "features": session.features,
                    "mail": True if session.takes is None else bool(session.takes) and sorted(session.takes),
                }
                for session in presence.all_sessions(name)
            ],
        }
        for name in names
    ]


async def accounts(runtime: Runtime, after: str, limit: int) -> list[dict[str, Any]]:
    """A page of the accounts, with how many sessions they have here and what is in their mailboxes."""
    found: list[Account] = await runtime.accounts.list(after, limit)
    sizes: dict[str, MailboxSize] = {}
    while found and (page := await runtime.messages.mailbox_sizes(after, limit)):
        sizes.update((size.username, size) for size in page)
        after = page[-1].username
        if after >= found[-1].username or len(page) < limit:
            break
    rows: list[dict[str, Any]] = []
    for account in found:
        size = sizes.get(account.username)
        rows.append(
            {
                "username": account.username,
                "roles": account.roles,
                "created": account.created,
                "sessions": len(runtime.exchange.presence.all_sessions(account.username)),
                "mailbox": {"messages": size.messages if size else 0, "bytes": size.bytes if size else 0},
            }
        )
    return rows


def handlers(runtime: Runtime) -> list[dict[str, Any]]:
    """The types, who serves them, and how it goes."""
    now = runtime.clock()
    rows: list[dict[str, Any]] = []
    for name, kind in sorted(runtime.exchange.types.items()):
        answered, failed, seconds = served(runtime, kind.metrics)
        rows.append(
            {
                "type": name,
                "attached": [
                    {
                        "name": handler.name,
                        "outstanding": len(handler.outstanding),
                        "concurrency": handler.concurrency,
                        "seconds": round(now - handler.since, 1),
                    }
                    for handler in kind.attached
                ],
                "classic": _classic_socket(runtime, kind),
                "process": runtime.supervisor.state(name),
                "stopped": runtime.supervisor.is_stopped(name),
                "down": runtime.supervisor.is_down(name),
                "active": kind.active,
                "waiting": sum(len(sender_queue.waiting) for sender_queue in kind.sender_queues.values()),
                "answered": answered,
                "failed": failed,
                "meanMs": round(1000 * seconds / answered, 3) if answered else None,
                "lastError": kind.last_error or None,
            }
        )
    return rows


def _classic_socket(runtime: Runtime, kind: TypeRoute) -> str | None:
    """Where a type's classic handler answers, or would if an operator had not stopped it."""
    if (
        runtime.supervisor.is_stopped(kind.name)
        and (handler := runtime.config.served_types().get(kind.name)) is not None
    ):
        return str(handler.socket)
    return kind.rules.classic_socket


def servers(runtime: Runtime) -> list[dict[str, Any]]:
    """The other servers that the configuration names."""
    return [{"name": name, "address": peer.address} for name, peer in sorted(runtime.config.federation.servers.items())]


def identity(runtime: Runtime) -> dict[str, Any] | None:
    """The certificate by which other servers and clients know this one; None where it has none."""
    identities = runtime.federation.trust.identities
    if identities is None or not identities.own:
        return None
    return {"name": runtime.config.server.name, **_certificate(identities.own[0])}


def _certificate(shown: Shown) -> dict[str, Any]:
    return {
        "key": spelled(shown.fingerprints.key),
        "certificate": spelled(shown.fingerprints.certificate),
        "subject": shown.subject,
        "expires": shown.expires.timestamp(),
    }


def _certificates(runtime: Runtime, name: str) -> dict[str, Any]:
    """What is pinned for a server, and what it showed last."""
    trust = runtime.federation.trust
    pins = trust.identities.pins.get(name) if trust.identities is not None else None
    seen = trust.seen.get(name)
    return {
        "pinned": sorted(map(spelled, pins)) if pins else None,
        "presented": _certificate(seen.shown) | {"proven": seen.proven} if seen is not None else None,
    }


async def destinations(runtime: Runtime) -> list[dict[str, Any]]:
    """How it goes with the other servers: those of the configuration, and those with anything under way or waiting."""
    return servers_now(runtime, await runtime.messages.queue_sizes())


def servers_now(runtime: Runtime, queues: list[QueueSize]) -> list[dict[str, Any]]:
    """The same, with what waits in these queues."""
    federation = runtime.federation
    sizes = {size.destination: size for size in queues if account_of(size.destination) is None}
    configured = {name: peer.address for name, peer in runtime.config.federation.servers.items()}
    incoming: Counter[str] = Counter()
    for connection in federation.incoming:
        if isinstance(connection.endpoint, Peer) and connection.endpoint.name is not None:
            incoming[connection.endpoint.name] += 1
    loop_now = asyncio.get_running_loop().time()
    rows: list[dict[str, Any]] = []
    for name in sorted({*configured, *federation.destinations, *sizes, *incoming}):
        row: dict[str, Any] = {"name": name, "address": configured.get(name, name), "verified": None, "link": "down"}
        destination = federation.destinations.get(name)
        if destination is not None:
            link = destination.link
            if link is not None:
                row |= {"link": "up", "seconds": round(loop_now - link.since, 1), "verified": link.verified}
            elif destination.is_classic:
                row["link"] = "classic"
        retry_in_s = destination.retry_in_s() if destination is not None else None
        size = sizes.get(name)
        row |= {
            "incoming": incoming[name],
            "inFlight": destination.in_flight if destination is not None else 0,
            "waiting": size.waiting if size is not None else 0,
            "dead": size.dead if size is not None else 0,
            "retryIn": round(retry_in_s, 1) if retry_in_s is not None else None,
            "lastError": (destination.last_error or None) if destination is not None else None,
            **_certificates(runtime, name),
        }
        rows.append(row)
    return rows


def queued(runtime: Runtime, row: Queued) -> dict[str, Any]:
    """One message of the outbox, without its data; what its server was tried in vain counts for it, too."""
    message = row.message
    destination = runtime.federation.destinations.get(message.destination) if not row.dead else None
    tries, last_error = row.tries, row.last_error
    next_try = runtime.steady.shown(row.next_try) if row.next_try else 0.0
    if destination is not None:
        tries += destination.failures
        last_error = last_error or (destination.last_error if tries else "")
        retry_in_s = destination.retry_in_s()
        if not next_try and retry_in_s is not None:
            next_try = runtime.steady.shown(runtime.steady.now()) + retry_in_s
    return {
        "id": row.position,
        "server": message.destination,
        "type": message.type,
        "messageId": message.message_id,
        "bytes": len(message.data),
        "created": round(runtime.steady.shown(row.created), 3),
        "tries": tries,
        "nextTry": round(next_try, 3) or None,
        "dead": row.dead,
        "lastError": last_error or None,
    }


async def stored(runtime: Runtime) -> dict[str, int]:
    """How much is kept.

    Raises:
        Internal: the store cannot be reached.
    """
    totals = await runtime.totals.get()
    return {
        "accounts": totals.accounts,
        "mailboxes": totals.mailboxes,
        "mailboxMessages": totals.mailbox_messages,
        "mailboxBytes": totals.mailbox_bytes,
    }


def dropped(runtime: Runtime) -> dict[str, dict[str, int]]:
    """What was thrown away since the start, by what it was and why: :class:`bester.core.metrics.Drop`."""
    receipts, tracing = runtime.receipts, runtime.tracing
    found = runtime.exchange.counters.drops.by_what()
    for drop, number in (
        (Drop.LINE_UNREAD, STDERR.dropped),
        (Drop.RECEIPT_OVER_SHARE, receipts.over_share),
        (Drop.RECEIPT_UNKEPT, receipts.store.lost),
        (Drop.RECEIPT_EXPIRED, receipts.store.expired),
        (Drop.SPAN_OVER_SHARE, tracing.dropped if tracing is not None else 0),
        (Drop.SPAN_UNSENT, tracing.failed if tracing is not None else 0),
    ):
        if number:
            found.setdefault(drop.what, {})[drop.cause] = number
    return found


def traffic(runtime: Runtime) -> dict[str, dict[str, int]]:
    """Bytes of frames since the start, ``received`` and ``sent``, by the kind of connection."""
    received, sent = Counter(runtime.counts.received), Counter(runtime.counts.sent)
    for connection in runtime.connections:
        received[connection.kind] += connection.framer.taken
        sent[connection.kind] += connection.sent
    return {"received": dict(sorted(received.items())), "sent": dict(sorted(sent.items()))}


def queues(runtime: Runtime) -> dict[str, int]:
    """How much waits in memory: messages, deliveries, writes; what is on disk is not among them."""
    exchange, federation = runtime.exchange, runtime.federation
    found = dict.fromkeys(("handlers", "backlog", "unacknowledged", "sessions", "servers", "deposits", "outbox"), 0)
    found["handlers"] = sum(
        len(sender_queue.waiting) for kind in exchange.types.values() for sender_queue in kind.sender_queues.values()
    )
    for username in exchange.presence.all_usernames():
        for session in exchange.presence.all_sessions(username):
            found["backlog"] += len(session.backlog or ())
            found["unacknowledged"] += len(session.given)
            found["sessions"] += len(session.queue)
    for connection in federation.incoming:
        if connection.endpoint is not None:
            found["backlog"] += len(connection.endpoint.backlog or ())
    found["servers"] = sum(destination.fresh for destination in federation.destinations.values())
    found["deposits"] = runtime.mailboxes.waiting
    found["outbox"] = federation.outbox.waiting
    if isinstance(runtime.messages, Shared):
        found["store"] = runtime.messages.database.waiting
    return found


async def status(runtime: Runtime) -> dict[str, Any]:
    """Everything at a glance; the numbers count since the start."""
    room = disk_space(str(runtime.config.storage.path))
    return {
        **process(runtime),
        **numbers(runtime),
        "disk": None if room is None else room | {"reserve": runtime.config.storage.reserve},
        "stored": await stored(runtime),
        "handlers": handlers(runtime),
        "servers": await destinations(runtime),
        "problems": await problems.find(runtime),
    }


def process(runtime: Runtime) -> dict[str, Any]:
    """What is this process's alone."""
    return {
        "server": runtime.config.server.name,
        "version": __version__,
        "identity": identity(runtime),
        "pid": os.getpid(),
        "uptime": round(runtime.uptime_s, 1),
        "listeners": runtime.listener_urls,
        "loop": {"worstLagMs": round(1000 * runtime.rates.worst_lag_s, 1)},
    }


def numbers(runtime: Runtime) -> dict[str, Any]:
    """What is counted, and can be added up."""
    exchange = runtime.exchange
    counters = exchange.counters
    return {
        "connections": len(runtime.connections),
        "unauthenticated": len(runtime.gate),
        "accounts": len(exchange.presence.usernames()),
        "sessions": exchange.presence.session_count,
        "underWay": exchange.under_way,
        "messages": {
            "accepted": counters.accepted,
            "good": counters.good,
            "bad": counters.bad,
            "deliveries": counters.deliveries,
            "pushes": counters.pushes,
            "repeats": counters.repeats,
            "givenAgain": counters.given_again,
        },
        "dropped": dropped(runtime),
        "bytes": traffic(runtime),
        "receipts": {"recorded": runtime.receipts.recorded, "unrecorded": runtime.receipts.unrecorded},
        "logins": {"good": runtime.counts.logins, "bad": runtime.counts.logins_failed},
        "refused": runtime.counts.refused,
        "slowConsumers": runtime.counts.slow_consumers,
        "toServers": {
            "sent": runtime.federation.sent,
            "queued": runtime.federation.queued,
            "skipped": runtime.federation.skipped,
            "failed": runtime.federation.failed,
            "linksFrom": len(runtime.federation.incoming),
        },
    }
