"""Losses of power; all of it is ``make faults``."""

from __future__ import annotations

from faults.scenarios.powercut import careless, cuts
from faults.short import short


def test_a_loss_of_power_loses_nothing_that_was_reported() -> None:
    assert short("powercut", lambda run: cuts(run, 6)) == []


def test_a_log_that_is_not_synced_loses_something() -> None:
    assert short("powercut", lambda run: careless(run, 2)) == []
