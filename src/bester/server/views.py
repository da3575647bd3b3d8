"""What a running server shows of itself: to clients, handlers and operators alike."""

from __future__ import annotations

import asyncio
import datetime
import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from bester.core.endpoints import Peer
from bester.errors import BesterError
from bester.server.sampling import disk, served

if TYPE_CHECKING:
    from bester.core.handlers import HandlerType
    from bester.server.hall import Hall
    from bester.store.ports import Account, MailboxSize, Queued, QueueSize

EXPIRY_DAYS = 30
"""How long before its end a certificate is a problem."""
DISK_RESERVES = 4
"""With less than so many reserves free, the disk is a problem."""
NEARLY_FULL = 0.5
"""How full the queue of one server may be."""
OLD_S = 86_400.0
"""How old what waits for another server may be."""
SLOW_LOOP_S = 1.0
MAX_PROBLEMS = 100


def types(hall: Hall) -> list[str]:
    """The types that have a handler now, sorted."""
    return sorted(name for name, handlers in hall.exchange.types.items() if handlers.available)


def listeners(hall: Hall) -> dict[str, dict[str, str]]:
    """The listeners, as the informer names them (section 9)."""
    return {f"listener{index}": {"address": url} for index, url in enumerate(hall.listener_urls)}


def server_info(hall: Hall, clients: int) -> dict[str, Any]:
    """What anyone who is logged in may know of the server (sections 5 and 9)."""
    return {
        "clientCount": clients,
        "adminInfo": hall.config.admin.info,
        "listeners": listeners(hall),
    }


def clients(hall: Hall, after: str = "", limit: int | None = None) -> list[dict[str, Any]]:
    """The connected accounts with their sessions, sorted: those after a name, and at most so many."""
    now = hall.clock()
    presence = hall.exchange.presence
    names = [name for name in presence.usernames() if name > after][:limit]
    return [
        {
            "username": name,
            "sessions": [
                {
                    "address": session.carrier.remote.address,
                    "seconds": round(now - session.since, 1),
                    "inFlight": session.in_flight,
                    "features": session.features,
                }
                for session in presence.sessions(name)
            ],
        }
        for name in names
    ]


async def accounts(hall: Hall, after: str, limit: int) -> list[dict[str, Any]]:
    """A page of the accounts, with how many sessions they have here and what is in their mailboxes."""
    found: list[Account] = await hall.accounts.list(after, limit)
    sizes: dict[str, MailboxSize] = {}
    while found and (page := await hall.messages.mailbox_sizes(after, limit)):
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
                "sessions": len(hall.exchange.presence.sessions(account.username)),
                "mailbox": {"messages": size.messages if size else 0, "bytes": size.bytes if size else 0},
            }
        )
    return rows


def handlers(hall: Hall) -> list[dict[str, Any]]:
    """The types, who serves them, and how it goes."""
    now = hall.clock()
    rows: list[dict[str, Any]] = []
    for name, kind in sorted(hall.exchange.types.items()):
        answered, failed, seconds = served(hall, kind)
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
                "classic": _classic_socket(hall, kind),
                "process": hall.supervisor.state(name),
                "stopped": hall.supervisor.is_stopped(name),
                "active": kind.active,
                "waiting": sum(len(lane.waiting) for lane in kind.lanes.values()),
                "answered": answered,
                "failed": failed,
                "meanMs": round(1000 * seconds / answered, 3) if answered else None,
                "lastError": kind.last_error or None,
            }
        )
    return rows


def _classic_socket(hall: Hall, kind: HandlerType) -> str | None:
    """Where a type's classic handler answers, or would if an operator had not stopped it."""
    if hall.supervisor.is_stopped(kind.name) and (handler := hall.config.served_types().get(kind.name)) is not None:
        return str(handler.socket)
    return kind.rules.classic_socket


def servers(hall: Hall) -> list[dict[str, Any]]:
    """The other servers that the configuration names."""
    return [{"name": name, "address": peer.address} for name, peer in sorted(hall.config.federation.servers.items())]


async def destinations(hall: Hall) -> list[dict[str, Any]]:
    """How it goes with the other servers: those of the configuration, and those with anything under way or waiting."""
    return servers_now(hall, await hall.messages.queue_sizes())


def servers_now(hall: Hall, queues: list[QueueSize]) -> list[dict[str, Any]]:
    """The same, with what waits in these queues."""
    forwarding = hall.forwarding
    sizes = {size.destination: size for size in queues}
    configured = {name: peer.address for name, peer in hall.config.federation.servers.items()}
    incoming: Counter[str] = Counter()
    for connection in forwarding.incoming:
        if isinstance(connection.endpoint, Peer) and connection.endpoint.name is not None:
            incoming[connection.endpoint.name] += 1
    loop_now = asyncio.get_running_loop().time()
    rows: list[dict[str, Any]] = []
    for name in sorted({*configured, *forwarding.destinations, *sizes, *incoming}):
        row: dict[str, Any] = {"name": name, "address": configured.get(name, name), "verified": None, "link": "down"}
        destination = forwarding.destinations.get(name)
        if destination is not None:
            link = destination.link
            if link is not None:
                row |= {"link": "up", "seconds": round(loop_now - link.since, 1), "verified": link.verified}
            elif destination.carrier is not None:
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
        }
        rows.append(row)
    return rows


def queued(row: Queued) -> dict[str, Any]:
    """One message of the outbox, without its data."""
    message = row.message
    return {
        "id": row.position,
        "server": message.destination,
        "type": message.type,
        "messageId": message.message_id,
        "bytes": len(message.data),
        "created": row.created,
        "tries": row.tries,
        "nextTry": row.next_try or None,
        "dead": row.dead,
        "lastError": row.last_error or None,
    }


async def status(hall: Hall) -> dict[str, Any]:
    """Everything at a glance; the numbers count since the start."""
    return (
        process(hall)
        | numbers(hall)
        | {
            "handlers": handlers(hall),
            "servers": await destinations(hall),
            "problems": await problems(hall),
        }
    )


def process(hall: Hall) -> dict[str, Any]:
    """What is this process's alone."""
    return {
        "server": hall.config.server.name,
        "pid": os.getpid(),
        "uptime": round(time.time() - hall.started, 1),
        "listeners": hall.listener_urls,
    }


def numbers(hall: Hall) -> dict[str, Any]:
    """What can be added up."""
    exchange = hall.exchange
    counters = exchange.counters
    return {
        "connections": len(hall.connections),
        "unauthenticated": len(hall.gate),
        "accounts": len(exchange.presence.usernames()),
        "sessions": exchange.presence.session_count,
        "underWay": exchange.under_way,
        "messages": {
            "accepted": counters.accepted,
            "good": counters.good,
            "bad": counters.bad,
            "deliveries": counters.deliveries,
            "pushes": counters.pushes,
            "unmatchedAnswers": counters.unmatched_answers,
        },
        "receipts": {"recorded": hall.receipts.recorded, "unrecorded": hall.receipts.unrecorded},
        "logins": {"good": hall.counts.logins, "bad": hall.counts.logins_failed},
        "refused": hall.counts.refused,
        "slowConsumers": hall.counts.slow_consumers,
        "toServers": {
            "sent": hall.forwarding.sent,
            "queued": hall.forwarding.queued,
            "skipped": hall.forwarding.skipped,
            "failed": hall.forwarding.failed,
            "linksFrom": len(hall.forwarding.incoming),
        },
    }


# -- what is about to go wrong ----------------------------------------------------------------------------------


async def problems(hall: Hall) -> list[dict[str, Any]]:
    """What is wrong, or is about to be: ``{"what", "name", "detail", "since"?}``, with times in seconds since 1970.

    ``what`` is one of ``certificate``, ``disk``, ``queue``, ``deadLetters``, ``mailbox``, ``loop``, ``store``.
    """
    return [*own_problems(hall), *await kept_problems(hall)][:MAX_PROBLEMS]


def own_problems(hall: Hall) -> list[dict[str, Any]]:
    """Those of this process and its machine."""
    return _certificates(hall) + (_disk(hall) if hall.nodes is None else []) + _loop(hall)


async def kept_problems(hall: Hall) -> list[dict[str, Any]]:
    """Those of what the server keeps."""
    try:
        return _queues(hall, await hall.messages.queue_sizes()) + await _mailboxes(hall)
    except BesterError as error:
        where = "NATS" if hall.nodes is not None else str(hall.config.storage.path)
        return [{"what": "store", "name": where, "detail": error.message}]


def _certificates(hall: Hall) -> list[dict[str, Any]]:
    now = datetime.datetime.now(datetime.UTC)
    found: list[dict[str, Any]] = []
    for expiry in [*hall.forwarding.trust.expiries(), *hall.more_expiries]:
        days = (expiry.at - now).days
        if days < EXPIRY_DAYS:
            detail = f"ends in {days} days, on {expiry.at:%Y-%m-%d}" if days >= 0 else f"ended on {expiry.at:%Y-%m-%d}"
            row: dict[str, Any] = {"what": "certificate", "name": expiry.what, "detail": detail}
            found.append(row | ({"since": expiry.at.timestamp()} if days < 0 else {}))
    return found


def _disk(hall: Hall) -> list[dict[str, Any]]:
    storage = hall.config.storage
    room = disk(str(storage.path))
    if room is None or room["free"] >= DISK_RESERVES * storage.reserve:
        return []
    detail = f"{room['free'] // 2**20} MiB are free, and {storage.reserve // 2**20} MiB are kept in reserve"
    if room["free"] < storage.reserve:
        detail += "; nothing more is stored"
    return [{"what": "disk", "name": str(storage.path), "detail": detail}]


def _loop(hall: Hall) -> list[dict[str, Any]]:
    lag_s = hall.sampler.worst_lag_s
    if lag_s < SLOW_LOOP_S:
        return []
    return [{"what": "loop", "name": "event loop", "detail": f"was late by {lag_s:.1f} s within the last 10 s"}]


def _queues(hall: Hall, sizes: list[QueueSize]) -> list[dict[str, Any]]:
    most = hall.config.federation.max_queued
    found: list[dict[str, Any]] = []
    for size in sizes:
        reasons = []
        if size.waiting > NEARLY_FULL * most:
            reasons.append(f"{size.waiting} of at most {most} messages wait")
        if size.oldest and time.time() - size.oldest > OLD_S:
            reasons.append(f"the oldest message waits for {(time.time() - size.oldest) / 3600:.0f} h")
        if reasons:
            row = {"what": "queue", "name": size.destination, "detail": "; ".join(reasons), "since": size.oldest}
            found.append(row)
        if size.dead:
            detail = f"{size.dead} messages were given up"
            found.append({"what": "deadLetters", "name": size.destination, "detail": detail})
    return found


async def _mailboxes(hall: Hall) -> list[dict[str, Any]]:
    limits = hall.config.limits
    found: list[dict[str, Any]] = []
    for size in (await hall.sampler.totals()).fullest:
        detail = (
            f"{size.messages} of at most {limits.mailbox_messages} messages, "
            f"{size.bytes // 2**20} of {limits.mailbox_bytes // 2**20} MiB"
        )
        found.append({"what": "mailbox", "name": size.username, "detail": detail})
    return found
