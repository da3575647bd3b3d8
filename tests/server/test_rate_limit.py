"""Average rates, with bursts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bester.server.rate_limit import Buckets, TokenBucket


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(rate_per_s=2, burst=3)
    assert [bucket.take(50.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(50.25)
    assert bucket.take(50.5)
    assert not bucket.take(50.5)
    assert [bucket.take(1000.0) for _ in range(4)] == [True, True, True, False]


def test_a_clock_that_stands_gives_nothing() -> None:
    bucket = TokenBucket(rate_per_s=1, burst=1)
    assert bucket.take(10.0)
    assert not bucket.take(10.0)
    assert not bucket.take(9.0)
    assert bucket.take(11.0)


@given(st.lists(st.floats(0, 2), max_size=200))
def test_no_more_than_burst_and_rate_allow_is_ever_given(pauses: list[float]) -> None:
    bucket = TokenBucket(rate_per_s=3, burst=5)
    now, taken = 7.0, 0
    for pause in pauses:
        now += pause
        taken += bucket.take(now)
        assert taken <= 5 + 3 * (now - 7.0) + 1e-6


def test_each_key_has_a_bucket() -> None:
    buckets = Buckets(rate_per_s=1, burst=1)
    assert buckets.take("a", 1.0)
    assert buckets.take("b", 1.0)
    assert not buckets.take("a", 1.0)
    assert buckets.take("a", 2.0)


def test_the_longest_unused_is_forgotten_when_there_are_too_many() -> None:
    buckets = Buckets(rate_per_s=1, burst=1, max_keys=2)
    assert buckets.take("a", 1.0)
    assert buckets.take("b", 1.0)
    assert not buckets.take("a", 1.0)  # used after b
    assert buckets.take("c", 1.0)
    assert len(buckets) == 2
    assert not buckets.take("a", 1.0)
    assert buckets.take("b", 1.0)
