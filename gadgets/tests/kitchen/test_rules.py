"""Thresholds: what any sequence of readings makes of a rule."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bester_gadgets.kitchen.rules import Event, Memory, Rule, Scalar, step

BOUNDED = settings(max_examples=60, deadline=None)
NUMBERS = st.one_of(st.integers(-1000, 1000), st.floats(-1000, 1000))
HUGE = st.one_of(st.integers(-(10**299), 10**299), st.floats(-1e299, 1e299))
SLACK = st.one_of(st.just(0), st.floats(0, 100))
SCALARS = st.one_of(NUMBERS, st.booleans(), st.text(max_size=5))
VALUES = st.one_of(SCALARS, st.none(), st.lists(NUMBERS, max_size=2))


def told(rule: Rule, values: list[Any]) -> list[tuple[Event, Any]]:
    """Returns what happens, with the value that it happened at."""
    memory, found = Memory(), []
    for value in values:
        memory, event = step(rule, memory, value)
        if event is not None:
            found.append((event, value))
    return found


def test_an_oven_that_wavers_makes_one_alarm() -> None:
    rule = Rule("temperature", above=200, hysteresis=5)
    values = [180, 200, 200.5, 199, 201, 196, 203, 195, 199, 200, 201]
    assert told(rule, values) == [("raised", 200.5), ("cleared", 195), ("raised", 201)]
    assert len(told(Rule("temperature", above=200), values)) > 3


@BOUNDED
@given(limit=NUMBERS, slack=SLACK, values=st.lists(VALUES))
def test_above(limit: float, slack: float, values: list[Any]) -> None:
    events = told(Rule(above=limit, hysteresis=slack), values)
    assert [event for event, _ in events] == ["raised", "cleared"] * (len(events) // 2) + ["raised"] * (len(events) % 2)
    for event, value in events:
        assert value > limit if event == "raised" else value <= limit - slack


@BOUNDED
@given(limit=NUMBERS, slack=SLACK, values=st.lists(NUMBERS))
def test_below_is_above_seen_from_the_other_side(limit: float, slack: float, values: list[float]) -> None:
    below = told(Rule(below=limit, hysteresis=slack), values)
    above = told(Rule(above=-limit, hysteresis=slack), [-value for value in values])
    assert below == [(event, -value) for event, value in above]


@BOUNDED
@given(limit=NUMBERS, slack=SLACK, values=st.lists(NUMBERS, min_size=1))
def test_a_rule_that_is_not_active_is_not_exceeded(limit: float, slack: float, values: list[float]) -> None:
    rule, memory = Rule(above=limit, hysteresis=slack), Memory()
    for value in values:
        memory, _ = step(rule, memory, value)
        assert memory.active or value <= limit
        assert not memory.active or value > limit - slack


@BOUNDED
@given(wanted=SCALARS, values=st.lists(VALUES))
def test_equals(wanted: Scalar, values: list[Any]) -> None:
    memory = Memory()
    for value in values:
        memory, _ = step(Rule(equals=wanted), memory, value)
        if isinstance(value, bool | str) or isinstance(wanted, bool | str):
            same = type(value) is type(wanted) and value == wanted
        else:
            same = value == wanted
        assert memory.active == same or not isinstance(value, Scalar)


@BOUNDED
@given(slack=SLACK, values=st.lists(SCALARS, min_size=1))
def test_changes_tells_what_differs_from_what_was_told(slack: float, values: list[Any]) -> None:
    rule, memory = Rule(changes=True, hysteresis=slack), Memory()
    for number, value in enumerate(values):
        before = memory.told
        memory, event = step(rule, memory, value)
        if number == 0:
            assert (event, memory.told) == (None, value)
        elif event is None:
            assert memory.told == before
            assert value == before or abs(value - before) <= slack
        else:
            assert (event, memory.told) == ("changed", value)
            assert type(value) is not type(before) or value != before


@BOUNDED
@given(limit=HUGE, slack=st.floats(0, 1e299), values=st.lists(HUGE))
def test_numbers_of_any_size_can_be_compared(limit: float, slack: float, values: list[Any]) -> None:
    for rule in (Rule(above=limit, hysteresis=slack), Rule(below=limit, hysteresis=slack), Rule(equals=limit)):
        told(rule, values)
    told(Rule(changes=True, hysteresis=slack), values)


@BOUNDED
@given(rule=st.sampled_from([Rule(above=1), Rule(below=1), Rule(equals="x"), Rule(changes=True)]), value=VALUES)
def test_what_is_remembered_survives_the_store(rule: Rule, value: Any) -> None:
    memory, _ = step(rule, Memory(), value)
    assert msgspec.json.decode(msgspec.json.encode(memory), type=Memory) == memory
    assert msgspec.json.decode(msgspec.json.encode(rule), type=Rule) == rule


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"above": 1, "below": 2},
        {"changes": False},
        {"above": "hot"},
        {"above": True},
        {"above": 1, "hysteresis": -1},
        {"equals": None},
        {"equals": "x" * 257},
        {"reading": "", "above": 1},
        {"above": 1, "belov": 2},
        {"below": 10**400},
        {"equals": -(10**301)},
        {"above": 1, "hysteresis": 1e300},
    ],
)
def test_rules_that_are_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, Rule)
