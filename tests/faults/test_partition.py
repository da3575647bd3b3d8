"""A node and its NATS server that are cut off from the others; all of it is ``make faults``."""

from __future__ import annotations

from faults.scenarios.partition import parted
from faults.short import short


def test_a_place_that_is_cut_off_loses_nothing() -> None:
    assert short("partition", lambda run: parted(run, 4, 4, 3)) == []
