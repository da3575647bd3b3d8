"""What one process has to show just now: rates, counts, who serves types. Nothing here asks the store."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from bester import __version__
from bester.clock import wall_time
from bester.server import views
from bester.server.sampling import disk, served

if TYPE_CHECKING:
    from bester.server.hall import Hall

MAX_ROWS = 500
"""The most handlers in one look."""


def glance(hall: Hall) -> dict[str, Any]:
    """Returns it, in the form of the console's event ``now`` (docs/web.md)."""
    sampler = hall.sampler
    exchange = hall.exchange
    counters = exchange.counters
    room = disk(str(hall.config.storage.path)) if hall.nodes is None else None
    return {
        "server": {
            "name": hall.config.server.name,
            "version": __version__,
            "pid": os.getpid(),
            "uptime": round(hall.uptime_s, 1),
            "listeners": hall.listener_urls,
            "draining": exchange.draining or hall.stop_asked.is_set(),
        },
        "rates": sampler.rates,
        "types": sampler.types,
        "latency": {"meanMs": sampler.mean_ms, "p95Ms": sampler.p95_ms()},
        "counts": {
            "connections": len(hall.connections),
            "unauthenticated": len(hall.gate),
            "sessions": exchange.presence.session_count,
            "online": online(hall),
            "handlers": sum(not handler.elsewhere for handler in exchange.handlers),
            "linksFrom": len(hall.forwarding.incoming),
            "underWay": exchange.under_way,
            "waiting": sum(len(lane.waiting) for kind in exchange.types.values() for lane in kind.lanes.values()),
        },
        "totals": {
            "accepted": counters.accepted,
            "good": counters.good,
            "bad": counters.bad,
            "deliveries": counters.deliveries,
            "pushes": counters.pushes,
            "repeats": counters.repeats,
            "givenAgain": counters.given_again,
            "dropped": views.dropped(hall),
            "refused": hall.counts.refused,
            "slowConsumers": hall.counts.slow_consumers,
        },
        "loop": {"lagMs": round(1000 * sampler.lag_s, 1), "worstLagMs": round(1000 * sampler.worst_lag_s, 1)},
        "disk": None if room is None else room | {"reserve": hall.config.storage.reserve},
        "handlers": serving(hall)[:MAX_ROWS],
    }


def online(hall: Hall) -> int:
    """Returns how many accounts have sessions here; in a cluster without those that another node counts."""
    if hall.nodes is not None:
        return hall.nodes.sharing.counted_here()
    return len(hall.exchange.presence.usernames())


def serving(hall: Hall) -> list[dict[str, Any]]:
    """Those that serve types: each attached process, and each type's classic handler."""
    ahead_s = wall_time() - hall.clock()
    types = hall.exchange.types
    rows: list[dict[str, Any]] = []
    for handler in hall.exchange.handlers:
        if handler.elsewhere:
            continue
        kinds = [kind for kind in handler.types if kind.name in types]
        counts = [served(hall, kind.tally) for kind in kinds]
        rows.append(
            {
                "name": handler.name,
                "kind": "attached",
                "state": "draining" if handler.detached else "up",
                "types": [kind.name for kind in handler.types],
                "since": round(handler.since + ahead_s, 1),
                "outstanding": len(handler.outstanding),
                "concurrency": handler.concurrency,
                "answered": sum(answered for answered, _, _ in counts),
                "failed": sum(failed for _, failed, _ in counts),
                "lastError": next((kind.last_error for kind in kinds if kind.last_error), None),
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
        answered, failed, _ = served(hall, kind.tally)
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
                "answered": answered,
                "failed": failed,
                "lastError": kind.last_error or None,
            }
        )
    return sorted(rows, key=lambda row: (row["name"], row["kind"]))
