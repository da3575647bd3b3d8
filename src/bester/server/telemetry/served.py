"""The work of this node's handlers, without that of other nodes' handlers, which the type's metrics count too."""

from __future__ import annotations

from typing import NamedTuple

from bester.core.metrics import TypeMetrics
from bester.server.ports import Nodes


class Served(NamedTuple):
    """How many requests of a type this node's handlers answered and failed."""

    answered: int
    failed: int
    seconds: float
    """The sum of the times to an answer."""


def served(nodes: Nodes, metrics: TypeMetrics) -> Served:
    """Returns the work of this node's handlers for a type since the start; each node shows its own."""
    other = nodes.served_elsewhere(metrics)
    if other is None:
        return Served(metrics.answered, metrics.failed, metrics.seconds)
    seconds = max(0.0, metrics.seconds - other.seconds)
    return Served(metrics.answered - other.answered, metrics.failed - other.failed, seconds)


def served_within(nodes: Nodes, metrics: TypeMetrics) -> list[int]:
    """Returns how long this node's handlers took, in the buckets of :attr:`TypeMetrics.buckets`."""
    other = nodes.served_elsewhere(metrics)
    if other is None:
        return metrics.buckets
    return [max(0, all - elsewhere) for all, elsewhere in zip(metrics.buckets, other.buckets, strict=True)]
