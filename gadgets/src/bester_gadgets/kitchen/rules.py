"""Thresholds: when a reading is worth an alarm, and when no longer.

A rule is *active* or not. ``above: 200`` with a hysteresis of 5 becomes active when the reading is more than 200, and
ends when it is 195 or less, so that a reading that wavers around 200 makes one alarm and not a hundred. ``changes`` is
never active: it compares with what was told last.
"""

from __future__ import annotations

from typing import Literal, TypeGuard

from msgspec import UNSET, Struct, UnsetType

Scalar = bool | int | float | str
Event = Literal["raised", "cleared", "changed"]

MAX_TEXT = 256
MAX_NUMBER = 1e300
"""So that two of them can be added, also a whole number and another."""


class Rule(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One of ``above``, ``below``, ``equals`` and ``changes``, for one reading of a device."""

    reading: str = "value"
    above: int | float | None = None
    below: int | float | None = None
    equals: Scalar | UnsetType = UNSET
    changes: bool = False
    hysteresis: int | float = 0
    """How far back a number must go before the rule ends; for ``changes``, how far it must go from what was told."""

    def __post_init__(self) -> None:
        kinds = (self.above is not None, self.below is not None, self.equals is not UNSET, self.changes)
        if sum(kinds) != 1:
            raise ValueError("a rule has one of above, below, equals, and changes (true)")
        if self.hysteresis < 0:
            raise ValueError("hysteresis is 0 or more")
        numbers = (self.above, self.below, self.equals, self.hysteresis)
        if any(isinstance(one, int | float) and abs(one) >= MAX_NUMBER for one in numbers):
            raise ValueError(f"a number in a rule is less than {MAX_NUMBER:g}")
        if not 1 <= len(self.reading) <= MAX_TEXT or (isinstance(self.equals, str) and len(self.equals) > MAX_TEXT):
            raise ValueError(f"a text in a rule has 1 to {MAX_TEXT} characters")


class Memory(Struct, frozen=True, omit_defaults=True):
    """The state of a rule between two readings."""

    active: bool = False
    told: Scalar | None = None
    """For ``changes``: the value that the next one is compared with; None before the first."""


def step(rule: Rule, memory: Memory, value: object) -> tuple[Memory, Event | None]:
    """Returns what is remembered after this value, and what happened, if anything.

    A value that the rule cannot compare (a text with a number, a list) changes nothing.
    """
    if not isinstance(value, Scalar):
        return memory, None
    if rule.changes:
        return _changes(rule, memory, value)
    active = _holds(rule, memory.active, value)
    if active is None or active == memory.active:
        return memory, None
    return Memory(active), "raised" if active else "cleared"


def _holds(rule: Rule, active: bool, value: Scalar) -> bool | None:
    slack = rule.hysteresis if active else 0
    if rule.above is not None:
        return value > rule.above - slack if _is_number(value) else None
    if rule.below is not None:
        return value < rule.below + slack if _is_number(value) else None
    wanted = rule.equals
    assert wanted is not UNSET
    if _is_number(value) and _is_number(wanted):
        return abs(value - wanted) <= slack
    return type(value) is type(wanted) and value == wanted


def _changes(rule: Rule, memory: Memory, value: Scalar) -> tuple[Memory, Event | None]:
    told = memory.told
    if told is None:
        return Memory(told=value), None
    if _is_number(told) and _is_number(value):
        same = abs(value - told) <= rule.hysteresis
    else:
        same = type(value) is type(told) and value == told
    return (memory, None) if same else (Memory(told=value), "changed")


def _is_number(value: Scalar) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
