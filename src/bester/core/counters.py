"""Plain numbers that the exchange keeps about itself; read when somebody asks."""

from __future__ import annotations


class Counters:
    """Each counts since the start."""

    __slots__ = (
        "accepted",
        "bad",
        "bad_total",
        "deliveries",
        "dropped",
        "for_nodes",
        "for_nodes_done",
        "good",
        "pushes",
        "repeats",
        "unmatched_answers",
    )

    def __init__(self) -> None:
        self.accepted = 0
        self.good = 0
        self.bad_total = 0
        self.bad: dict[str, int] = {}
        """By error code."""
        self.deliveries = 0
        """Recipients to whose sessions something was written."""
        self.dropped: dict[str, int] = {}
        """Messages that no report tells of, by error code."""
        self.for_nodes = 0
        self.for_nodes_done = 0
        """What other nodes of this server asked for, and how much of it has its outcome."""
        self.pushes = 0
        self.repeats = 0
        """``once`` messages that were answered with the first one's report."""
        self.unmatched_answers = 0
        """Handlers' answers that came too late, twice, or for an unknown id."""

    def count_bad(self, code: str) -> None:
        """Counts a bad status report."""
        self.bad_total += 1
        self.bad[code] = self.bad.get(code, 0) + 1
