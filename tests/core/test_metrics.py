"""What is counted of a type."""

from __future__ import annotations

from bester.core.metrics import BOUNDS_S, MAX_TIMES, MAX_TYPES, Drop, Drops, MetricsByType, TypeMetrics


def test_times_become_a_histogram() -> None:
    metrics = TypeMetrics()
    times = [0.0, BOUNDS_S[0], 0.0002, BOUNDS_S[-1], 100.0, 0.0]
    for seconds in times:
        metrics.took(seconds)
    assert metrics.answered == len(times)
    assert metrics.seconds == sum(times)
    assert metrics.buckets == [3, 1, *[0] * (len(BOUNDS_S) - 3), 1, 1]
    metrics.took(0.0002)
    assert (metrics.answered, metrics.buckets[1]) == (7, 2)


def test_times_do_not_pile_up() -> None:
    by_type = MetricsByType()
    metrics = by_type.of("chat", configured=False)
    for _ in range(MAX_TIMES):
        metrics.took(0.001)
    by_type.sweep()
    assert len(metrics._times) == MAX_TIMES
    metrics.took(0.001)
    by_type.sweep()
    assert not metrics._times
    assert metrics.answered == MAX_TIMES + 1


def test_attached_types_cannot_make_counters_without_end() -> None:
    by_type = MetricsByType()
    own = [by_type.of(f"type{number}", configured=False) for number in range(MAX_TYPES)]
    assert len({id(metrics) for metrics in own}) == MAX_TYPES
    assert by_type.of("one more", configured=False) is by_type.others
    assert by_type.of("type0", configured=False) is own[0]
    assert by_type.of("configured", configured=True) is not by_type.others
    assert len(list(by_type)) == MAX_TYPES + 2


def test_drops_are_counted_by_what_and_cause() -> None:
    drops = Drops()
    drops.count(Drop.RECIPIENT_FAILED, 0, code="badResponse")
    assert drops.by_what() == {}
    drops.count(Drop.RECIPIENT_FAILED, 2, code="badResponse")
    drops.count(Drop.RECIPIENT_AWAY)
    assert drops.by_what() == {"recipient": {"badResponse": 2, "nobodyThere": 1}}
    assert drops.get(Drop.RECIPIENT_FAILED, "badResponse") == 2
    assert drops.get(Drop.RECIPIENT_FAILED) == 0
