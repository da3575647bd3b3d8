"""A client that sends to its own account gets the message and the report in one write."""

from __future__ import annotations

from pathlib import Path

from tests.bench.calls import counted
from tests.bench.test_calls import CLIENTS, NOISE


def test_a_message_to_the_sender_s_own_account_and_its_report_are_one_write(tmp_path: Path) -> None:
    calls = counted(tmp_path, "pass", "bester to itself", CLIENTS, 1)
    assert calls.writes <= NOISE * calls.reads
