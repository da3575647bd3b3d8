"""``kill -9`` under load, and at a named point; all of it is ``make faults``."""

from __future__ import annotations

from faults.points import points
from faults.scenarios.kill import every_point, random_moments, with_the_library
from faults.short import short


def test_kills_at_random_moments_lose_nothing() -> None:
    assert short("kill", lambda run: random_moments(run, 800, 3)) == []


def test_a_death_at_a_named_point_loses_nothing() -> None:
    assert short("kill", lambda run: every_point(run, (1,), ("mailbox.stored", "outbox.stored"))) == []


def test_kills_with_the_library_at_both_ends_lose_nothing() -> None:
    assert short("kill", lambda run: with_the_library(run, 300, 2)) == []


def test_the_named_points_are_found() -> None:
    assert {"mailbox.stored", "once.remembered"} <= set(points())
