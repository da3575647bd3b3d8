"""Plain numbers that the exchange keeps about itself; read when somebody asks."""

from __future__ import annotations

from bester.core.drops import Drops
from bester.core.metrics import MetricsByType


class Counters:
    """Each counts since the start."""

    __slots__ = (
        "accepted",
        "by_type",
        "deliveries",
        "drops",
        "for_nodes",
        "for_nodes_done",
        "given_again",
        "pushes",
        "repeats",
    )

    def __init__(self) -> None:
        self.accepted = 0
        self.deliveries = 0
        """Recipients to whose sessions something was written."""
        self.for_nodes = 0
        self.for_nodes_done = 0
        """What other nodes of this server asked for, and how much of it has its outcome."""
        self.given_again = 0
        """Messages that were given to a session again, because it did not acknowledge them."""
        self.pushes = 0
        self.repeats = 0
        """``once`` messages that were answered with the first one's report."""
        self.by_type = MetricsByType()
        """How messages ended, by type."""
        self.drops = Drops()

    @property
    def good(self) -> int:
        return sum(metrics.good for metrics in self.by_type)

    @property
    def bad(self) -> dict[str, int]:
        """By error code."""
        found: dict[str, int] = {}
        for metrics in self.by_type:
            for code, number in metrics.bad.items():
                found[code] = found.get(code, 0) + number
        return found

    @property
    def bad_total(self) -> int:
        return sum(number for metrics in self.by_type for number in metrics.bad.values())
