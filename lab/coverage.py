"""What plans have reached: fault points, kinds of faults and pairs of them, reports and their codes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from lab.points import points
from lab.run import Outcome
from lab.trouble import ALL_KINDS

PAIR_S = 1.0
"""Two faults that happen within this time are a pair."""


class Coverage:
    """Counts, over many plans."""

    def __init__(self) -> None:
        self.points: Counter[str] = Counter()
        self.deaths: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.pairs: Counter[tuple[str, str]] = Counter()
        self.codes: Counter[str] = Counter()

    def add(self, outcome: Outcome) -> None:
        """Adds what one plan reached."""
        self.points.update(outcome.points)
        self.codes.update(outcome.codes)
        before: list[tuple[float, str]] = []
        for at, kind in outcome.happened:
            if kind.startswith("at "):
                self.deaths[kind.removeprefix("at ")] += 1
                kind = "death"
            else:
                self.kinds[kind] += 1
            before = [one for one in before if at - one[0] <= PAIR_S]
            self.pairs.update((earlier, kind) for _, earlier in before)
            before.append((at, kind))

    def wanted(self) -> dict[str, float]:
        """Returns how much more often kinds of faults should be drawn, because they came rarely, or in few pairs."""
        found = {}
        for kind in ALL_KINDS:
            pairs = sum((self.pairs[kind, one] > 0) + (self.pairs[one, kind] > 0) for one in ALL_KINDS)
            found[kind] = round(1.0 + 2.0 / (1 + self.kinds[kind]) + 1.0 - pairs / (2 * len(ALL_KINDS)), 3)
        found["dieAt"] *= 1 + 3 * sum(1 for one in points() if not self.deaths[one]) / max(len(points()), 1)
        return found

    def lines(self) -> Iterator[str]:
        """Yields a table for people."""
        yield f"{'fault point':28} {'arrivals':>10} {'deaths':>8}"
        for point in points():
            yield f"{point:28} {self.points[point]:>10,} {self.deaths[point]:>8,}"
        yield "faults: " + ", ".join(f"{kind} {self.kinds[kind]}" for kind in ALL_KINDS)
        reached = sum(1 for one in ALL_KINDS for other in ALL_KINDS if self.pairs[one, other])
        yield f"pairs of faults within {PAIR_S:g} s: {reached} of {len(ALL_KINDS) ** 2}"
        yield "reports: " + ", ".join(f"{code} {count:,}" for code, count in sorted(self.codes.items()))
