"""The figures of a run, and their targets."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

OURS = "bester"
NATS = "nats-server"
NATS_PY = "nats-py"
FLOOR = "uvloop relay"
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

    def add(self, scenario: str, peer: str, unit: str, sample: float) -> None:
        """Adds one sample."""
        self._figures.setdefault((scenario, peer, unit), Figure(scenario, peer, unit)).samples.append(sample)

    def get(self, scenario: str, peer: str, unit: str) -> float | None:
        """Returns the median, if it was measured."""
        found = self._figures.get((scenario, peer, unit))
        return found.value if found is not None else None

    def all(self) -> list[Figure]:
        return list(self._figures.values())

    def as_json(self) -> list[dict[str, Any]]:
        return [
            {
                "scenario": figure.scenario,
                "peer": figure.peer,
                "unit": figure.unit,
                "median": round(figure.value, 4),
                "samples": [round(sample, 4) for sample in figure.samples],
            }
            for figure in self.all()
        ]


@dataclass(frozen=True)
class Target:
    """A bound on something that is computed from the figures."""

    name: str
    value: Callable[[Figures], float | None]
    bound: float
    unit: str = ""
    at_least: bool = False

    def reached(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound


def _ratio(scenario: str, unit: str, peer: str) -> Callable[[Figures], float | None]:
    """Returns what computes the ratio of our figure to a peer's."""

    def value(figures: Figures) -> float | None:
        ours, theirs = figures.get(scenario, OURS, unit), figures.get(scenario, peer, unit)
        return ours / theirs if ours is not None and theirs else None

    return value


def _ours(scenario: str, unit: str) -> Callable[[Figures], float | None]:
    return lambda figures: figures.get(scenario, OURS, unit)


TARGETS = (
    Target("1: CPU per round trip 50x1, by nats-server", _ratio("50x1", "CPU µs", NATS), 0.9, "x"),
    Target("1: CPU per round trip 50x8, by nats-server", _ratio("50x8", "CPU µs", NATS), 2.0, "x"),
    Target("1: CPU per round trip 1x64, by nats-server", _ratio("1x64", "CPU µs", NATS), 2.0, "x"),
    Target("1: CPU per round trip 50x8 of 1 KiB, by nats-server", _ratio("50x8 1 KiB", "CPU µs", NATS), 1.0, "x"),
    Target("2: round trips/s 50x8, SDK by nats-py", _ratio("SDK 50x8", "1/s", NATS_PY), 2.5, "x", at_least=True),
    Target("2: p50 latency 1x1 on one core, SDK by nats-py", _ratio("SDK 1x1", "p50 µs", NATS_PY), 0.6, "x"),
    Target("3: CPU per round trip 50x8, classic handler", _ours("classic 50x8", "CPU µs"), 45, "µs"),
    Target("4: CPU per delivery, to 1,000 clients", _ours("fan-out", "CPU µs"), 4, "µs"),
    Target("4: p50 of a fan-out with a slow client, by one without", _ours("slow client", "p50 ratio"), 1.25, "x"),
    Target("5: memory of an idle client", _ours("idle", "KiB"), 5, "KiB"),
    Target("5: all log in while messages flow", _ours("logins", "s"), 60, "s"),
    Target("5: logins that failed, or did not stay", _ours("logins", "failures"), 0),
    Target("6: CPU beside the most idle clients, by the fewest", _ours("beside idle", "growth"), 1.15, "x"),
    Target("6: CPU at the end of long load, by after its first tenth", _ours("steady", "growth"), 1.15, "x"),
    Target("6: memory at the end, by after the first tenth", _ours("steady", "memory growth"), 1.05, "x"),
    Target(
        "6: CPU, with routes, receipts and metrics by without", _ours("watching: 50x8", "with / without"), 1.05, "x"
    ),
    Target("8: CPU of a message in a node, by one server's, 50x8", _ours("pairs 50x8", "node / one server"), 1.1, "x"),
    *(
        Target(
            f"8: CPU with {what} at another node, by all in one, {load}",
            _ours(f"pairs {load}", f"{what} there / here"),
            3,
            "x",
        )
        for load in ("50x8", "50x1")
        for what in ("handler", "recipient", "both")
    ),
    Target("7: start to ready", _ours("start", "s"), 0.4, "s"),
    Target(
        "9: kept messages/s of 512 B, by a bare SQLite loop",
        _ratio("kept 50x32", "1/s", BARE),
        0.35,
        "x",
        at_least=True,
    ),
)
