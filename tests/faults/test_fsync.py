"""Syncs that fail; all of it is ``make faults``."""

from __future__ import annotations

from faults.scenarios.fsync import failures
from faults.short import short


def test_a_failing_sync_makes_no_false_report() -> None:
    assert short("fsync", lambda run: failures(run, (1, 3, 4, 19, 24))) == []
