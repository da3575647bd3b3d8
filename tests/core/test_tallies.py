"""What is counted of a type."""

from __future__ import annotations

from bester.core.tallies import BOUNDS_S, MAX_TIMES, MAX_TYPES, Tallies, Tally


def test_times_become_a_histogram() -> None:
    tally = Tally()
    times = [0.0, BOUNDS_S[0], 0.0002, BOUNDS_S[-1], 100.0, 0.0]
    for seconds in times:
        tally.took(seconds)
    assert tally.answered == len(times)
    assert tally.seconds == sum(times)
    assert tally.buckets == [3, 1, *[0] * (len(BOUNDS_S) - 3), 1, 1]
    tally.took(0.0002)
    assert (tally.answered, tally.buckets[1]) == (7, 2)


def test_times_do_not_pile_up() -> None:
    tallies = Tallies()
    tally = tallies.of("chat", configured=False)
    for _ in range(MAX_TIMES):
        tally.took(0.001)
    tallies.sweep()
    assert len(tally._times) == MAX_TIMES
    tally.took(0.001)
    tallies.sweep()
    assert not tally._times
    assert tally.answered == MAX_TIMES + 1


def test_whoever_attaches_cannot_make_counters_without_end() -> None:
    tallies = Tallies()
    own = [tallies.of(f"type{number}", configured=False) for number in range(MAX_TYPES)]
    assert len({id(tally) for tally in own}) == MAX_TYPES
    assert tallies.of("one more", configured=False) is tallies.others
    assert tallies.of("type0", configured=False) is own[0]
    assert tallies.of("configured", configured=True) is not tallies.others
    assert len(list(tallies)) == MAX_TYPES + 2
