"""What a running server shows of itself: to clients, handlers and operators alike."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bester.server.hall import Hall


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
    return [
        {"name": name, "address": peer.address, "verified": False}
        for name, peer in sorted(hall.config.federation.servers.items())
    ]


def status(hall: Hall) -> dict[str, Any]:
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
        "toServers": {"sent": hall.forwarding.sent, "failed": hall.forwarding.failed},
        "handlers": handlers(hall),
        "servers": servers(hall),
    }
