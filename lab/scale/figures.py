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


def figures(world: World, busy_s: float) -> dict[str, Any]:
    """Returns what is shown of a world.

    Args:
        world: which has run.
        busy_s: for how long it was under load; rates are of this time.
    """
    ledger, servers, engine = world.ledger, world.servers, world.engine
    rates = sorted(count / busy_s for count in world.accepted)
    shares = sorted(server.processor.busy_s / busy_s for server in servers)
    latency = quantiles(ledger.latencies, 0.5, 0.99, 0.999)
    hops: dict[int, int] = {}
    for one in ledger.hops:
        hops[one] = hops.get(one, 0) + 1
    links = [sum(one.link is not None for one in server.federation.destinations.values()) for server in servers]
    faults = ledger.faults()
    return {
        "servers": world.count,
        "seed": world.seed,
        "messages": len(ledger.sender),
        "deliveries": len(ledger.latencies),
        "good": ledger.count(GOOD),
        "faults": faults,
        "rate": {
            "mean": sum(rates) / len(rates),
            "p50": rates[len(rates) // 2],
            "p99": rates[int(len(rates) * 0.99)],
            "busiest": rates[-1],
        },
        "busy": {"p50": shares[len(shares) // 2], "p99": shares[int(len(shares) * 0.99)], "busiest": shares[-1]},
        "longestTurnMs": 1e3 * max(server.processor.longest_s for server in servers),
        "latencyMs": {name: 1e3 * value for name, value in zip(("p50", "p99", "p999"), latency, strict=True)},
        "hops": {str(count): number for count, number in sorted(hops.items())},
        "links": {"mean": sum(links) / len(links), "most": max(links)},
        "stored": max(server.outbox.most for server in servers),
        "dials": len(world.network.dials),
        "kibPerServer": {"idle": world.kib_per_server, "after": resident_kib() / world.count},
        "peakMib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "simulatedS": engine.now,
        "wallS": world.wall_s,
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
