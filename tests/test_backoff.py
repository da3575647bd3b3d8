"""Pauses between tries."""

from __future__ import annotations

import pytest

from bester.backoff import Backoff, pause_after


def test_each_pause_is_twice_the_one_before_up_to_the_bound() -> None:
    backoff = Backoff(1.0, 5.0, spread=(1.0, 1.0))
    assert [backoff.next_s() for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_success_begins_with_the_first_pause() -> None:
    backoff = Backoff(1.0, 5.0, spread=(1.0, 1.0))
    backoff.next_s()
    assert backoff.upcoming_s == 2.0
    backoff.reset()
    assert backoff.next_s() == 1.0


def test_new_bounds_count_from_the_next_pause() -> None:
    backoff = Backoff(1.0, 60.0, spread=(1.0, 1.0))
    for _ in range(5):
        backoff.next_s()
    backoff.first_s, backoff.longest_s = 2.0, 3.0
    assert backoff.next_s() == 3.0


def test_pauses_vary_within_the_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    for factor in (0, 1):
        monkeypatch.setattr("random.uniform", lambda *bounds, factor=factor: bounds[factor])
        assert Backoff(2.0, 60.0).next_s() == (1.0, 2.0)[factor]
        assert Backoff(2.0, 60.0, spread=(0.8, 1.2)).next_s() == 2.0 * (0.8, 1.2)[factor]
        assert pause_after(3, 1.0, 60.0) == 8.0 * (0.75, 1.25)[factor]
        assert pause_after(100, 1.0, 60.0) == 60.0 * (0.75, 1.25)[factor]
