"""What one process has to show just now: rates, counts, who serves types. Nothing here asks the store."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from bester import __version__
from bester.clock import wall_time
from bester.server.admin import node_status as views
from bester.server.telemetry.rates import served
from bester.server.telemetry.storage import disk_space

if TYPE_CHECKING:
    from bester.server.runtime import Runtime

MAX_ROWS = 500
"""The most handlers in one look."""


def glance(runtime: Runtime) -> dict[str, Any]:
    """Returns it, in the form of the console's event ``now`` (docs/web.md)."""
    rates = runtime.rates
    exchange = runtime.exchange
    counters = exchange.counters
    room = disk_space(str(runtime.config.storage.path)) if runtime.nodes is None else None
    return {
        "server": {
            "name": runtime.config.server.name,
            "version": __version__,
            "pid": os.getpid(),
            "uptime": round(runtime.uptime_s, 1),
            "listeners": runtime.listener_urls,
            "draining": exchange.draining or runtime.stop_asked.is_set(),
        },
        "rates": rates.rates,
        "types": rates.types,
        "latency": {"meanMs": rates.mean_ms, "p95Ms": rates.p95_ms()},
        "counts": {
            "connections": len(runtime.connections),
            "unauthenticated": len(runtime.gate),
            "sessions": exchange.presence.session_count,
            "online": online(runtime),
            "handlers": sum(not handler.elsewhere for handler in exchange.handlers),
            "linksFrom": len(runtime.federation.incoming),
            "underWay": exchange.under_way,
            "waiting": sum(
                len(sender_queue.waiting)
                for kind in exchange.types.values()
                for sender_queue in kind.sender_queues.values()
            ),
        },
        "totals": {
            "accepted": counters.accepted,
            "good": counters.good,
            "bad": counters.bad,
            "deliveries": counters.deliveries,
            "pushes": counters.pushes,
            "repeats": counters.repeats,
            "givenAgain": counters.given_again,
            "dropped": views.dropped(runtime),
            "refused": runtime.counts.refused,
            "slowConsumers": runtime.counts.slow_consumers,
        },
        "loop": {"lagMs": round(1000 * rates.lag_s, 1), "worstLagMs": round(1000 * rates.worst_lag_s, 1)},
        "disk": None if room is None else room | {"reserve": runtime.config.storage.reserve},
        "handlers": serving(runtime)[:MAX_ROWS],
    }


def online(runtime: Runtime) -> int:
    """Returns how many accounts have sessions here; in a cluster without those that another node counts."""
    if runtime.nodes is not None:
        return runtime.nodes.interest.counted_here()
    return len(runtime.exchange.presence.usernames())


def serving(runtime: Runtime) -> list[dict[str, Any]]:
    """Those that serve types: each attached process, and each type's classic handler."""
    ahead_s = wall_time() - runtime.clock()
    types = runtime.exchange.types
    rows: list[dict[str, Any]] = []
    for handler in runtime.exchange.handlers:
        if handler.elsewhere:
            continue
        kinds = [kind for kind in handler.types if kind.name in types]
        counts = [served(runtime, kind.metrics) for kind in kinds]
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
    configured = runtime.config.served_types()
    for name, kind in types.items():
        rules = configured.get(name)
        if rules is None or rules.socket is None:
            continue
        process = runtime.supervisor.state(name)
        state = "up"
        if runtime.supervisor.is_stopped(name):
            state = "stopped"
        elif process is not None and process["pid"] is None and process["starts"]:
            state = "down"
        answered, failed, _ = served(runtime, kind.metrics)
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
