"""A disk that fills up; all of it is ``make faults``."""

from __future__ import annotations

from faults.scenarios.diskfull import fills
from faults.short import short


def test_a_full_disk_refuses_and_goes_on_when_there_is_room() -> None:
    assert short("diskfull", lambda run: fills(run, 2, tokens=False)) == []
