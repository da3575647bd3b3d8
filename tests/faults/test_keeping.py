"""What is kept, and what is not written at all; all of it is ``make faults``."""

from __future__ import annotations

from faults.scenarios.keeping import no_sync
from faults.short import short


def test_messages_between_connected_sessions_cost_no_sync() -> None:
    assert short("keeping", lambda run: no_sync(run, 500)) == []
