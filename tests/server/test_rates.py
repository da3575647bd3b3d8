"""The numbers that are made of the server's counts."""

from __future__ import annotations

from bester.core.metrics import BOUNDS_S
from bester.server.telemetry.rates import percentile_ms


def counts(**by_bound: int) -> list[int]:
    """Returns a histogram's buckets, given how many times lie up to each bound in ms."""
    found = [0] * (len(BOUNDS_S) + 1)
    for name, count in by_bound.items():
        found[BOUNDS_S.index(float(name.removeprefix("ms")) / 1000) if name != "more" else -1] = count
    return found


def test_a_percentile_is_estimated_within_its_bucket() -> None:
    assert percentile_ms(counts(), 0.95) is None
    assert percentile_ms([], 0.95) is None
    assert percentile_ms(counts(ms1=100), 0.5) == 0.75
    assert percentile_ms(counts(ms1=90, ms5=10), 0.95) == 3.75
    assert percentile_ms(counts(ms1=95, ms5=5), 0.95) == 1.0
    assert percentile_ms(counts(ms1=1, more=9), 0.95) == 1000 * BOUNDS_S[-1]
