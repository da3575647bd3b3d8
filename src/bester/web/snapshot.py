"""What the console shows of the running server, once a second, as JSON (docs/web.md)."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from bester import __version__
from bester.server import problems, views
from bester.server.sampling import HISTORY_COLUMNS, STEP_S, disk

if TYPE_CHECKING:
    from bester.server.hall import Hall

MAX_ROWS = 500
"""The most handlers, and servers, in one snapshot."""


def history(hall: Hall) -> dict[str, Any]:
    """The rates of the last ten minutes, the oldest first."""
    return {"step": STEP_S, "columns": HISTORY_COLUMNS, "rows": list(hall.sampler.history)}


async def now(hall: Hall) -> dict[str, Any]:
    """Everything that the console shows at once.

    Raises:
        Internal: the store cannot be reached.
    """
    sampler = hall.sampler
    exchange = hall.exchange
    counters = exchange.counters
    rates = sampler.rates
    done = rates.get("good", 0.0) + rates.get("bad", 0.0)
    servers = await views.destinations(hall)
    totals = await sampler.totals()
    room = disk(str(hall.config.storage.path))
    return {
        "time": round(time.time(), 3),
        "server": {
            "name": hall.config.server.name,
            "version": __version__,
            "pid": os.getpid(),
            "uptime": round(time.time() - hall.started, 1),
            "listeners": hall.listener_urls,
            "draining": exchange.draining or hall.stop_asked.is_set(),
        },
        "rates": rates,
        "types": sampler.types,
        "latency": {"meanMs": sampler.mean_ms, "p95Ms": sampler.p95_ms()},
        "errorRate": round(rates.get("bad", 0.0) / done, 4) if done else 0.0,
        "counts": {
            "connections": len(hall.connections),
            "unauthenticated": len(hall.gate),
            "sessions": exchange.presence.session_count,
            "online": len(exchange.presence.usernames()),
            "accounts": totals.accounts,
            "handlers": len(exchange.handlers),
            "links": sum(row["link"] == "up" for row in servers),
            "linksFrom": len(hall.forwarding.incoming),
            "underWay": exchange.under_way,
            "waiting": sum(len(lane.waiting) for kind in exchange.types.values() for lane in kind.lanes.values()),
            "queue": sum(row["waiting"] for row in servers),
            "dead": sum(row["dead"] for row in servers),
            "mailboxes": totals.mailboxes,
            "mailboxMessages": totals.mailbox_messages,
            "mailboxBytes": totals.mailbox_bytes,
        },
        "totals": {
            "accepted": counters.accepted,
            "good": counters.good,
            "bad": counters.bad,
            "deliveries": counters.deliveries,
            "pushes": counters.pushes,
            "repeats": counters.repeats,
            "dropped": views.dropped(hall),
            "refused": hall.counts.refused,
            "slowConsumers": hall.counts.slow_consumers,
        },
        "loop": {"lagMs": round(1000 * sampler.lag_s, 1), "worstLagMs": round(1000 * sampler.worst_lag_s, 1)},
        "disk": None if room is None else room | {"reserve": hall.config.storage.reserve},
        "handlers": handlers(hall)[:MAX_ROWS],
        "servers": servers[:MAX_ROWS],
        "movements": sampler.take_movements(),
        "problems": await problems.find(hall),
    }


def handlers(hall: Hall) -> list[dict[str, Any]]:
    """Those that serve types: each attached process, and each type's classic handler."""
    ahead_s = time.time() - hall.clock()
    types = hall.exchange.types
    rows: list[dict[str, Any]] = []
    for handler in hall.exchange.handlers:
        served = [kind for kind in handler.types if kind.name in types]
        rows.append(
            {
                "name": handler.name,
                "kind": "attached",
                "state": "draining" if handler.detached else "up",
                "types": [kind.name for kind in handler.types],
                "since": round(handler.since + ahead_s, 1),
                "outstanding": len(handler.outstanding),
                "concurrency": handler.concurrency,
                "answered": sum(kind.tally.answered for kind in served),
                "failed": sum(kind.tally.failed for kind in served),
                "lastError": next((kind.last_error for kind in served if kind.last_error), None),
            }
        )
    configured = hall.config.served_types()
    for name, kind in types.items():
        rules = configured.get(name)
        if rules is None or rules.socket is None:
            continue
        process = hall.supervisor.state(name)
        state = "up"
        if hall.supervisor.is_stopped(name):
            state = "stopped"
        elif process is not None and process["pid"] is None and process["starts"]:
            state = "down"
        rows.append(
            {
                "name": name,
                "kind": "classic",
                "state": state,
                "types": [name],
                "since": None,
                "process": process,
                "outstanding": kind.active,
                "concurrency": kind.rules.classic_concurrency,
                "answered": kind.tally.answered,
                "failed": kind.tally.failed,
                "lastError": kind.last_error or None,
            }
        )
    return sorted(rows, key=lambda row: (row["name"], row["kind"]))
