"""How many system calls a message takes: one read for each peer and batch, and one write.

What a round trip costs is the kernel's for a good part, so a second write, such as one for the report after the
message, costs a third more; it shows in no count of instructions in user space.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.bench.calls import counted

CLIENTS = 50
NOISE = 1.05
"""Other threads wake the loop."""


@pytest.mark.parametrize("outstanding", [1, 8])
def test_each_read_leads_to_one_write(tmp_path: Path, outstanding: int) -> None:
    """A read from a client leads to a part of a write to the handler; one from the handler to a write per client."""
    calls = counted(tmp_path, "lean", "bester", CLIENTS, outstanding)
    assert calls.reads * outstanding * NOISE >= 1  # they are counted
    assert calls.writes <= NOISE * calls.reads
    assert calls.waits < calls.reads / 2  # many sockets are ready each time
