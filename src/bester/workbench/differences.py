"""Compares the outcomes of one request: what the commands are and what data they send, not how that is spelled.

A difference has a place, such as ``commands[0].payload.data.price``. Differences of many requests are grouped by their
*kind*, which is the place without the numbers: ``commands[*].payload.data.price``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bester.protocol.outcomes import Outcome
from bester.protocol.values import encode_data

MAX_GROUPS = 500
"""How many kinds of differences are told apart; further ones are one group."""
MAX_SHOWN = 120
"""The longest text of a value, in characters."""
OUTCOME = "outcome"
"""The place of a difference between an answer, a refusal and a failure."""
ABSENT: Any = object()
_INDEX = re.compile(r"\[\d+\]")
_JOINT = re.compile(r"[.\[]")
_NAME = re.compile(r"[^\W\d]\w*")


class Difference(NamedTuple):
    """One difference between two outcomes."""

    place: str
    before: Any
    """A value of JSON, or :data:`ABSENT`."""
    after: Any

    @property
    def kind(self) -> str:
        """The place without the numbers."""
        if self.place == OUTCOME:
            return f"{OUTCOME}: {self.before} -> {self.after}"
        return _INDEX.sub("[*]", self.place)

    def __str__(self) -> str:
        if self.place == OUTCOME:
            return f"{self.place}: {self.before} -> {self.after}"
        return f"{self.place}: {shown(self.before)} -> {shown(self.after)}"


def shown(value: Any) -> str:
    """Returns a value as short text."""
    if value is ABSENT:
        return "(nothing)"
    text = bytes(encode_data(value)).decode()
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 4]} ..."


def compare(before: Outcome, after: Outcome) -> list[Difference]:
    """Returns how two outcomes differ, in the order of their places."""
    (kind, old), (now, new) = next(iter(before.items())), next(iter(after.items()))
    if kind != now:
        return [Difference(OUTCOME, _summary(before), _summary(after))]
    if kind == "failed":
        return list(_within("failed.code", old.get("code"), new.get("code")))
    if kind == "commands":
        # To do nothing beside other commands is no command.
        old, new = ([one for one in each if one.get("type") != "done"] for each in (old, new))
    return list(_within(kind, old, new))


def _summary(outcome: Outcome) -> str:
    kind, inner = next(iter(outcome.items()))
    if kind == "commands":
        return "answered"
    code = inner.get("code")
    return f"{kind} {code}" if isinstance(code, str) else kind


def _within(place: str, before: Any, after: Any) -> Iterator[Difference]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted({*before, *after}):
            inner = f"{place}.{name}" if _NAME.fullmatch(name) else f"{place}[{shown(name)}]"
            yield from _within(inner, before.get(name, ABSENT), after.get(name, ABSENT))
    elif isinstance(before, list) and isinstance(after, list):
        for at in range(max(len(before), len(after))):
            old, new = (each[at] if at < len(each) else ABSENT for each in (before, after))
            yield from _within(f"{place}[{at}]", old, new)
    elif before is ABSENT or after is ABSENT or isinstance(before, bool) != isinstance(after, bool) or before != after:
        yield Difference(place, before, after)


class Variation:
    """The places whose values a handler varies itself, when it is asked the same twice."""

    def __init__(self) -> None:
        self.kinds: set[str] = set()

    def learn(self, first: Outcome, again: Outcome) -> None:
        """Learns from two outcomes of one request.

        A request that was answered once and refused once says nothing about others.
        """
        self.kinds.update(one.kind for one in compare(first, again) if one.place != OUTCOME)

    def of(self, kind: str) -> str:
        """Returns the kind of the values that vary and that values of this kind are, or are within; ``""`` if none."""
        ends = (*(match.start() for match in _JOINT.finditer(kind)), len(kind))
        return next((kind[:end] for end in ends if kind[:end] in self.kinds), "")


@dataclass(slots=True)
class Group:
    """The differences of one kind."""

    line: int
    """The line of the example in the recording; in a shadow, the number of the request."""
    example: Difference
    count: int = 0


@dataclass(slots=True)
class Comparison:
    """The differences of many requests."""

    varied: Variation = field(default_factory=Variation)
    asked: int = 0
    different: int = 0
    groups: dict[str, Group] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    """By kind, how many differences do not count because the old handler varies such values itself."""

    def add(self, line: int, before: Outcome, again: Outcome | None, after: Outcome) -> list[Difference]:
        """Compares the outcomes of one request; returns the differences that count.

        Args:
            line: identifies the request.
            before: the outcome that was recorded.
            again: what the same handler answered when it was asked again.
            after: the outcome of the candidate.
        """
        self.asked += 1
        own = again is not None and any(one.place == OUTCOME for one in compare(before, again))
        counts: list[Difference] = []
        for one in compare(before, after):
            kind = one.kind
            varied = kind if own and one.place == OUTCOME else self.varied.of(kind)
            if varied:
                self.left_out[varied] = self.left_out.get(varied, 0) + 1
                continue
            counts.append(one)
            if kind not in self.groups and len(self.groups) >= MAX_GROUPS:
                kind = "others"
            self.groups.setdefault(kind, Group(line, one)).count += 1
        self.different += bool(counts)
        return counts
