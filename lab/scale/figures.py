"""The figures of a world that has run."""

from __future__ import annotations

import random
import resource
from array import array
from collections.abc import Sequence
from typing import Any

from lab.scale.ledger import GOOD
from lab.scale.world import World, resident_kib

SAMPLE = 200_000
"""Quantiles are of so many values, drawn at random, where there are more."""


def quantiles(values: Sequence[float], *at: float) -> list[float]:
    """Returns quantiles; zeros of nothing."""
    if len(values) > SAMPLE:
        values = random.Random(0).sample(list(values), SAMPLE)
    ranked = sorted(values)
    return [ranked[min(len(ranked) - 1, int(one * len(ranked)))] if ranked else 0.0 for one in at]


def figures(world: World, busy_s: float = 0.0) -> dict[str, Any]:
    """Returns what is shown of the time since :meth:`World.begin`.

    Args:
        world: which has run.
        busy_s: for how long it was under load; all of that time if it is 0.
    """
    busy_s = busy_s or world.engine.now - world.begun.at
    before = world.begun
    rates = sorted((now - then) / busy_s for now, then in zip(world.accepted, before.accepted, strict=True))
    shares = sorted((now - then) / busy_s for now, then in zip(world.busy, before.busy, strict=True))
    return {
        "rate": {"mean": sum(rates) / len(rates)} | _spread(rates),
        "busy": {"mean": sum(shares) / len(shares)} | _spread(shares),
        "loadS": busy_s,
    }


def _spread(ranked: list[float]) -> dict[str, float]:
    return {"p50": ranked[len(ranked) // 2], "p99": ranked[int(len(ranked) * 0.99)], "busiest": ranked[-1]}


def ended(world: World, found: dict[str, Any]) -> dict[str, Any]:
    """Adds to the figures what is known when all has come."""
    ledger, servers, engine = world.ledger, world.servers, world.engine
    begun = world.begun.at
    counted = [took for took, at in zip(ledger.latencies, ledger.arrived, strict=True) if at - took >= begun]
    latency = quantiles(counted, 0.5, 0.99, 0.999)
    hops: dict[int, int] = {}
    for one in ledger.hops:
        hops[one] = hops.get(one, 0) + 1
    links = [sum(one.link is not None for one in server.federation.destinations.values()) for server in servers]
    return found | {
        "servers": world.count,
        "seed": world.seed,
        "messages": len(ledger.sender),
        "deliveries": len(ledger.latencies),
        "good": ledger.count(GOOD),
        "faults": ledger.faults(),
        "longestTurnMs": 1e3 * max(server.processor.longest_s for server in servers),
        "latencyMs": {name: 1e3 * value for name, value in zip(("p50", "p99", "p999"), latency, strict=True)},
        "hops": {str(count): number for count, number in sorted(hops.items())},
        "links": {"mean": sum(links) / len(links), "most": max(links)},
        "stored": max(server.outbox.most for server in servers),
        "dials": len(world.network.dials),
        "refused": sum(sum(server.runtime.counts.refused.values()) for server in servers),
        "kibPerServer": {"idle": world.kib_per_server, "after": resident_kib() / world.count},
        "peakMib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "simulatedS": engine.now,
        "wallS": world.wall_s,
        "cpuS": world.cpu_s,
        "events": engine.events,
        "digest": ledger.digest((engine.events, engine.now)),
    }


def histogram(values: array[float], width: float, begins: float, ends: float) -> list[int]:
    """Returns how many values are in each part of a time."""
    counts = [0] * max(1, round((ends - begins) / width))
    for value in values:
        at = int((value - begins) / width)
        if 0 <= at < len(counts):
            counts[at] += 1
    return counts
