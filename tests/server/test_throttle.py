"""A client that guesses passwords is slowed down, and no other."""

from __future__ import annotations

from bester.server.accounts.throttle import MAX_ACCOUNT_PAUSE_S, MAX_ADDRESS_PAUSE_S, Throttle


def fail(throttle: Throttle, times: int, address: str = "a", account: str = "t", now: float = 100.0) -> None:
    for _ in range(times):
        throttle.failed(address, account, now)


def test_four_failures_cost_nothing_and_the_fifth_does() -> None:
    throttle = Throttle()
    assert throttle.delay("a", "t", 0.0) == 0.0
    fail(throttle, 4)
    assert throttle.delay("a", "t", 100.0) == 0.0
    fail(throttle, 1)
    assert throttle.delay("a", "t", 100.0) == 1.0
    assert throttle.delay("a", "t", 100.75) == 0.25
    assert throttle.delay("a", "t", 200.0) == 0.0


def test_only_failures_within_30_seconds_count_together() -> None:
    throttle = Throttle()
    for now in (0.0, 8.0, 16.0, 24.0, 32.0, 39.0):
        throttle.failed("a", "t", now)
        assert throttle.delay("a", "t", now) == 0.0
    throttle.failed("a", "t", 46.0)  # the fifth since 16.0
    assert throttle.delay("a", "t", 46.0) == 1.0


def test_an_account_is_never_slowed_down_for_another_address() -> None:
    throttle = Throttle()
    fail(throttle, 1000, "attacker")
    assert throttle.delay("owner", "t", 100.0) == 0.0


def test_an_address_is_slowed_down_for_all_accounts() -> None:
    throttle = Throttle()
    for number in range(5):
        throttle.failed("a", f"account{number}", 100.0)
    assert throttle.delay("a", "another", 100.0) == 1.0


def test_the_pause_grows_and_is_bounded() -> None:
    throttle = Throttle()
    fail(throttle, 7)
    assert throttle.delay("a", "t", 100.0) == 4.0
    fail(throttle, 100)
    assert throttle.delay("a", "another", 100.0) == MAX_ADDRESS_PAUSE_S
    assert throttle.delay("a", "t", 100.0) == MAX_ACCOUNT_PAUSE_S


def test_an_address_that_keeps_quiet_begins_anew() -> None:
    throttle = Throttle()
    fail(throttle, 6, now=100.0)  # a pause until 102
    fail(throttle, 1, now=132.0)
    assert throttle.delay("a", "t", 132.0) == 4.0  # until 136
    fail(throttle, 4, now=166.5)
    assert throttle.delay("a", "t", 166.5) == 0.0
    fail(throttle, 1, now=166.5)
    assert throttle.delay("a", "t", 166.5) == 1.0


def test_a_success_forgives_the_account_and_not_the_address() -> None:
    throttle = Throttle()
    fail(throttle, 100)
    throttle.succeeded("a", "t", 100.0)
    throttle.succeeded("b", "t", 100.0)
    assert throttle.delay("a", "t", 100.0) == MAX_ADDRESS_PAUSE_S
    assert throttle.delay("a", "t", 130.0) == 0.0


def test_the_oldest_are_forgotten_when_there_are_too_many() -> None:
    throttle = Throttle(max_entries=6)
    fail(throttle, 5, "old")
    fail(throttle, 5, "kept")
    fail(throttle, 1, "kept", now=101.0)
    fail(throttle, 5, "new", now=101.0)
    assert len(throttle) == 6
    fail(throttle, 1, "newer", now=101.0)
    assert len(throttle) == 6
    assert throttle.delay("old", "t", 101.0) == 0.0
    assert throttle.delay("kept", "t", 101.0) == 2.0


def test_tries_under_way_count_as_failures() -> None:
    throttle = Throttle()
    fail(throttle, 2)
    for _ in range(3):
        assert throttle.may_begin("a", "t", 100.0)
        throttle.began("a", "t")
    assert not throttle.may_begin("a", "t", 100.0)
    assert not throttle.may_begin("a", "another", 100.0)
    assert throttle.may_begin("b", "t", 100.0)
    throttle.succeeded("a", "t", 100.0)
    throttle.ended("a", "t")
    assert throttle.may_begin("a", "t", 100.0)
    assert throttle.may_begin("a", "t", 200.0)


def test_after_a_pause_there_is_one_at_a_time() -> None:
    throttle = Throttle()
    fail(throttle, 5)
    assert throttle.may_begin("a", "t", 102.0)
    throttle.began("a", "t")
    assert not throttle.may_begin("a", "t", 102.0)
    assert throttle.may_begin("a", "t", 200.0)
    throttle.ended("a", "t")
    assert throttle.may_begin("a", "t", 102.0)
