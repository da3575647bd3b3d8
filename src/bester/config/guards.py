"""The guards of a configuration (docs/protocol.md, section 3.7)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import Field

from bester.config.values import Block, TypeName, block, field, seconds

SenderKind = Literal["clients", "servers", "strangers"]

TYPE = 'a type\'s name of 1 to 128 characters without control characters, not "dummy" or "builtin"'


class GuardedMessages(Block):
    """The messages about which a guard is asked."""

    types: Annotated[tuple[TypeName, ...] | None, Field(strict=False)] = field(
        None,
        "The types of these messages; not the guard's own, and no circle of guards.",
        "a list of types' names",
        item=TYPE,
        default_text="all but the types of guards",
    )
    from_: Annotated[tuple[SenderKind, ...] | None, Field(strict=False)] = Field(
        None,
        alias="from",
        description="Their senders. `strangers` are servers that prove no name, or one that is neither in "
        "`federation.servers` nor trusted by the operators (section 3.8).",
        json_schema_extra={
            "allowed": "a list of senders",
            "item": '"clients", "servers" or "strangers"',
            "default_text": "all",
        },
    )


class Guard(Block):
    """An entry of ``guards``."""

    guard: TypeName = field(..., "The type that the guard serves.", TYPE)
    for_: GuardedMessages = block("The messages about which it is asked.", alias="for")
    timeout: float = seconds(
        5, 0.01, 3600, "How long a verdict may take, the time in which the guard is busy included."
    )
    on_failure: Literal["accept", "reject"] = field(
        ...,
        "What is done with a message if the guard is absent, too slow or busy, or gives no valid verdict.",
        'one of "accept", "reject"',
    )


def circles(guards: Sequence[Guard]) -> Iterator[int]:
    """Yields the places of guards whose own messages they are asked about, directly or through other guards."""
    asked_about: dict[str, set[str]] = {}
    for entry in guards:
        asked_about.setdefault(entry.guard, set()).update(entry.for_.types or ())
    for place, entry in enumerate(guards):
        if entry.guard in _reached(entry.for_.types or (), asked_about):
            yield place


def _reached(types: Sequence[str], asked_about: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    pending = list(types)
    while pending:
        one = pending.pop()
        if one not in seen:
            seen.add(one)
            pending += asked_about.get(one, ())
    return seen
