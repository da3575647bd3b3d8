"""SIGTERM under load; all of it is ``make faults``."""

from __future__ import annotations

from faults.scenarios.sigterm import stops
from faults.short import short


def test_stops_under_load_lose_nothing() -> None:
    assert short("sigterm", lambda run: stops(run, 3)) == []
