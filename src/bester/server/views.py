"""What a running server shows of itself: to clients, handlers and operators alike."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from bester.core.endpoints import Peer

if TYPE_CHECKING:
    from bester.server.hall import Hall
    from bester.store.ports import Queued


def types(hall: Hall) -> list[str]:
    """The types that have a handler now, sorted."""
    return sorted(name for name, handlers in hall.exchange.types.items() if handlers.available)


def listeners(hall: Hall) -> dict[str, dict[str, str]]:
    """The listeners, as the informer names them (section 9)."""
    return {f"listener{index}": {"address": url} for index, url in enumerate(hall.listener_urls)}


def server_info(hall: Hall) -> dict[str, Any]:
    """What anyone who is logged in may know of the server (sections 5 and 9)."""
    return {
        "clientCount": len(hall.exchange.presence.usernames()),
        "adminInfo": hall.config.admin.info,
        "listeners": listeners(hall),
    }


def clients(hall: Hall) -> list[dict[str, Any]]:
    """The connected accounts with their sessions."""
    now = hall.clock()
    presence = hall.exchange.presence
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
        for name in presence.usernames()
    ]


def handlers(hall: Hall) -> list[dict[str, Any]]:
    """The types, who serves them, and how it goes."""
    now = hall.clock()
    rows: list[dict[str, Any]] = []
    for name, kind in sorted(hall.exchange.types.items()):
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
                "classic": kind.rules.classic_socket,
                "process": hall.supervisor.state(name),
                "active": kind.active,
                "waiting": sum(len(lane.waiting) for lane in kind.lanes.values()),
                "answered": kind.answered,
                "failed": kind.failed,
                "meanMs": round(1000 * kind.seconds / kind.answered, 3) if kind.answered else None,
                "lastError": kind.last_error or None,
            }
        )
    return rows


def servers(hall: Hall) -> list[dict[str, Any]]:
    """The other servers that the configuration names."""
    return [{"name": name, "address": peer.address} for name, peer in sorted(hall.config.federation.servers.items())]


async def destinations(hall: Hall) -> list[dict[str, Any]]:
    """How it goes with the other servers: those of the configuration, and those with anything under way or waiting."""
    forwarding = hall.forwarding
    sizes = {size.destination: size for size in await hall.messages.queue_sizes()}
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
    exchange = hall.exchange
    counters = exchange.counters
    return {
        "server": hall.config.server.name,
        "pid": os.getpid(),
        "uptime": round(time.time() - hall.started, 1),
        "listeners": hall.listener_urls,
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
        "handlers": handlers(hall),
        "servers": await destinations(hall),
    }
