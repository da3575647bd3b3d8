"""The figures of a run, and their targets."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

OURS = "bester"
NATS = "nats-server"
NATS_PY = "nats-py"
FLOOR = "uvloop relay"
C_FLOOR = "C relay"
WITHOUT = "without"
"""Our server without what nobody asked for (:mod:`bench.bare`)."""
SERVER_BUSY = "server %"
"""The unit of the part of one core that a server had something to do with, its own time and what it waited for."""
BUSY_AT_LEAST = 90.0
"""What a message costs a server that waits for its load is not what it costs a busy one."""
WAITED_MUCH = 0.1
"""A server whose core others had for a larger part of the time costs more than on an idle machine."""
CONVOYS = frozenset({"1x64"})
"""Loads of one client, whose messages travel together: the server has nothing to do while client and handler have them.

So it is never busy all the time. How many messages it finds in a read is the load's doing, however fast the generators
are, and for this it is a figure like the others.
"""
BARE = "bare SQLite loop"


@dataclass
class Figure:
    """One thing that was measured, several times; its value is the median."""

    scenario: str
    peer: str
    unit: str
    samples: list[float] = field(default_factory=list)

    @property
    def value(self) -> float:
        return statistics.median(self.samples)


class Figures:
    """All of a run's figures."""

    def __init__(self) -> None:
        self._figures: dict[tuple[str, str, str], Figure] = {}
        self.notes: list[str] = []
        """Notes that must be known beside the figures."""
        self.waited = 0.0
        """The greatest part of the time for which a server waited for its core, which other work of the machine had."""

    def add(self, scenario: str, peer: str, unit: str, sample: float) -> None:
        """Adds one sample."""
        self._figures.setdefault((scenario, peer, unit), Figure(scenario, peer, unit)).samples.append(sample)

    def get(self, scenario: str, peer: str, unit: str) -> float | None:
        """Returns the median, if it was measured."""
        found = self._figures.get((scenario, peer, unit))
        return found.value if found is not None else None

    def valid(self, scenario: str, peer: str) -> bool:
        """Tells whether a server was busy enough for what was measured, where that is looked at."""
        busy = None if scenario in CONVOYS else self.get(scenario, peer, SERVER_BUSY)
        return busy is None or busy >= BUSY_AT_LEAST

    def all(self) -> list[Figure]:
        return list(self._figures.values())

    def as_json(self) -> list[dict[str, Any]]:
        return [
            {
                "scenario": figure.scenario,
                "peer": figure.peer,
                "unit": figure.unit,
                "median": round(figure.value, 4),
                "valid": self.valid(figure.scenario, figure.peer),
                "samples": [round(sample, 4) for sample in figure.samples],
            }
            for figure in self.all()
        ]


@dataclass(frozen=True)
class Target:
    """A bound on one of our figures, or on its ratio to a peer's."""

    name: str
    scenario: str
    what: str
    """The unit of the figure."""
    bound: float
    """Of pure Python."""
    unit: str = "x"
    """Of the bound."""
    by: str | None = None
    """The peer, if it is a ratio."""
    compiled: float | None = None
    """The bound of a server that is compiled, if that is another."""
    at_least: bool = False

    def value(self, figures: Figures) -> float | None:
        """Returns what is compared with the bound, if it was measured."""
        ours = figures.get(self.scenario, OURS, self.what)
        if self.by is None or ours is None:
            return ours
        theirs = figures.get(self.scenario, self.by, self.what)
        return ours / theirs if theirs else None

    def valid(self, figures: Figures) -> bool:
        """Tells whether the servers had enough to do."""
        return all(figures.valid(self.scenario, peer) for peer in (OURS, self.by) if peer is not None)

    def bound_of(self, compiled: bool) -> float:
        return self.compiled if compiled and self.compiled is not None else self.bound

    def reached(self, value: float, compiled: bool) -> bool:
        bound = self.bound_of(compiled)
        return value >= bound if self.at_least else value <= bound


def _round_trip(scenario: str, what: str, bound: float, compiled: float) -> Target:
    return Target(
        f"1: CPU per round trip {what}, by nats-server", scenario, "CPU µs", bound, by=NATS, compiled=compiled
    )


TARGETS = (
    _round_trip("50x1", "50x1", 0.9, 0.7),
    _round_trip("50x8", "50x8", 2.0, 1.25),
    _round_trip("1x64", "1x64", 2.5, 1.5),
    _round_trip("50x8 1 KiB", "50x8 of 1 KiB", 2.0, 1.25),
    Target(
        "1: instructions per round trip, 64 in a read",
        "a round trip, 64 in a read",
        "instructions",
        45_000,
        "",
        compiled=22_000,
    ),
    Target("2: round trips/s 50x8, SDK by nats-py", "SDK 50x8", "1/s", 2.8, by=NATS_PY, compiled=4.0, at_least=True),
    Target("2: p50 latency 1x1 on one core, SDK by nats-py", "SDK 1x1", "p50 µs", 0.6, by=NATS_PY),
    Target("3: CPU per round trip 50x8, classic handler", "classic 50x8", "CPU µs", 45, "µs", compiled=40),
    Target("4: CPU per delivery to 1,000 clients, by nats-server", "fan-out", "CPU µs", 0.4, by=NATS, compiled=0.3),
    Target("4: p50 of a fan-out with a slow client, by one without", "slow client", "p50 ratio", 1.25),
    Target("5: memory of an idle client", "idle", "KiB", 5, "KiB"),
    Target("5: all log in while messages flow", "logins", "s", 60, "s"),
    Target("5: logins that failed, or did not stay", "logins", "failures", 0, ""),
    Target("6: CPU beside the most idle clients, by the fewest", "beside idle", "growth", 1.15),
    Target("6: CPU at the end of long load, by after its first tenth", "steady", "growth", 1.15),
    Target("6: memory at the end, by after the first tenth", "steady", "memory growth", 1.05),
    Target("6: CPU, with routes, receipts and metrics by without", "watching: 50x8", "CPU µs", 1.05, by=WITHOUT),
    Target("7: start to ready", "start", "s", 0.4, "s"),
    Target("8: CPU of a message in a node, by one server's, 50x8", "pairs 50x8", "node / one server", 1.1),
    *(
        Target(f"8: CPU with {what} at another node, by all in one, {load}", f"pairs {load}", f"{what} there / here", 3)
        for load in ("50x8", "50x1")
        for what in ("handler", "recipient", "both")
    ),
    Target(
        "9: kept messages/s of 512 B, by a bare SQLite loop",
        "kept 50x32",
        "1/s",
        0.35,
        "x",
        by=BARE,
        compiled=0.5,
        at_least=True,
    ),
)
