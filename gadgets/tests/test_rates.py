"""How much is taken from each side."""

from __future__ import annotations

import pytest

from bester_gadgets import rates
from bester_gadgets.rates import Rates


def test_a_burst_at_once_and_the_rate_in_the_long_run() -> None:
    now = 0.0
    taking = Rates(2 / 60, 2, lambda: now)
    assert [taking.take("a") for _ in range(3)] == [0.0, 0.0, 30.0]
    assert taking.take("b") == 0.0
    now = 30.0
    assert [taking.take("a") for _ in range(2)] == [0.0, 30.0]
    now = 1000.0
    assert [taking.take("a") for _ in range(3)] == [0.0, 0.0, 30.0]


def test_who_was_not_seen_for_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MAX_KEYS", 2)
    taking = Rates(1, 1, lambda: 0.0)
    assert [taking.take(name) for name in "abab"] == [0.0, 0.0, 1.0, 1.0]
    assert taking.take("c") == 0.0
    assert taking.take("b") == 1.0
    assert taking.take("a") == 0.0
