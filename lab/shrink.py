"""Makes a plan that breaks a promise smaller, for as long as it still breaks it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from msgspec.structs import replace

from lab.plan import Errand, Fault, Message, Plan, Site, Weather
from lab.trouble import HAND_KINDS, SESSION_KINDS

T = TypeVar("T")
Breaks = Callable[[Plan], list[str]]
"""Runs a plan and returns its violations."""


def kind_of(violation: str) -> str:
    """Returns what a violation has in common with others of its kind."""
    return re.sub(r"\d+", "N", violation.partition(":")[0])


def shrink(plan: Plan, violations: Sequence[str], run: Breaks, seconds: float) -> Plan:
    """Returns a smaller plan with a violation of the kind of the first one.

    Args:
        plan: a plan.
        violations: what it violates.
        run: runs a plan.
        seconds: for how long smaller ones are tried.
    """
    kind = kind_of(violations[0])
    until = time.monotonic() + seconds
    better = True
    while better:
        better = False
        for candidate in _smaller(plan):
            if time.monotonic() > until:
                return plan
            if candidate != plan and any(kind_of(one) == kind for one in run(candidate)):
                plan, better = candidate, True
                break
    return plan


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Yields plans that have less, those with much less first."""
    for messages in _halves(plan.messages):
        yield replace(plan, messages=messages)
    for faults in _halves(plan.faults):
        yield replace(plan, faults=faults)
    for at in reversed(range(len(plan.sessions))):
        yield _without_session(plan, at)
    for at in reversed(range(len(plan.hands))):
        yield _without_hand(plan, at)
    for at in reversed(range(len(plan.servers))):
        if len(plan.servers) > 1:
            yield _without_server(plan, at)
    yield from _simpler(plan)


def _halves(parts: tuple[T, ...]) -> Iterator[tuple[T, ...]]:
    """Yields a tuple without a part of it: a half, a quarter, and so on to one."""
    size = len(parts) // 2 or len(parts)
    while size:
        for start in range(0, len(parts), size):
            yield parts[:start] + parts[start + size :]
        if size > 1 and len(parts) > 64:
            size = size // 4
        else:
            size //= 2


def _without_session(plan: Plan, at: int) -> Plan:
    messages = tuple(_moved(one, "by", at) for one in plan.messages if one.by != at)
    faults = tuple(
        _moved(one, "who", at) if one.kind in SESSION_KINDS else one
        for one in plan.faults
        if one.kind not in SESSION_KINDS or one.who != at
    )
    return replace(plan, sessions=plan.sessions[:at] + plan.sessions[at + 1 :], messages=messages, faults=faults)


def _without_hand(plan: Plan, at: int) -> Plan:
    faults = tuple(
        _moved(one, "who", at) if one.kind in HAND_KINDS else one
        for one in plan.faults
        if one.kind not in HAND_KINDS or one.who != at
    )
    return replace(plan, hands=plan.hands[:at] + plan.hands[at + 1 :], faults=faults)


def _without_server(plan: Plan, at: int) -> Plan:
    """Takes a server with all that is at it; its accounts' names stay theirs, and are unknown elsewhere."""
    for index in reversed(range(len(plan.sessions))):
        if plan.accounts[plan.sessions[index].account].server == at:
            plan = _without_session(plan, index)
    for index in reversed(range(len(plan.hands))):
        if plan.hands[index].server == at:
            plan = _without_hand(plan, index)
    other = HAND_KINDS + SESSION_KINDS
    faults = tuple(
        one if one.kind in other else _moved(_moved(one, "who", at), "other", at)
        for one in plan.faults
        if one.kind in other or one.who != at
    )
    return replace(
        plan,
        servers=plan.servers[:at] + plan.servers[at + 1 :],
        hands=tuple(_moved(one, "server", at) for one in plan.hands),
        accounts=tuple(_moved(one, "server", at) for one in plan.accounts),
        messages=tuple(replace(one, errand=_errand_without(one.errand, at)) for one in plan.messages),
        faults=faults,
    )


def _errand_without(errand: Errand, at: int) -> Errand:
    servers = tuple(one - (one > at) for one in errand.servers if one != at)
    then = None if errand.then is None else _errand_without(errand.then, at)
    return replace(errand, servers=servers, then=then, circle=errand.circle and bool(servers))


def _moved(part: Any, name: str, at: int) -> Any:
    """Returns something with a place that is one less if it was behind another one."""
    place = getattr(part, name)
    return replace(part, **{name: place - 1}) if place > at or (place == at and place) else part


def _simpler(plan: Plan) -> Iterator[Plan]:
    """Yields plans of which one thing is simpler."""
    for name, value in (("weather", Weather()), ("proven", False), ("names", False)):
        if getattr(plan, name) != value:
            yield replace(plan, **{name: value})
    last = max([0.0, *(one.at for one in plan.messages), *(one.at for one in plan.faults)])
    ends = [one.at + one.for_s for one in plan.faults] + [end for one in plan.sessions for _, end in one.away]
    for length_s in (round(last + 0.1, 3), round(max([last, *ends]) + 0.1, 3)):
        if length_s < plan.length_s:
            yield replace(plan, length_s=length_s)
    yield from _each(plan, "servers", _simpler_site)
    yield from _each(plan, "sessions", lambda one: _reset(one, library=False, away=(), slow_s=0.0, node=None))
    yield from _each(plan, "hands", lambda one: _reset(one, library=False, concurrency=64, late_s=0.0, node=0))
    yield from _each(plan, "messages", _simpler_message)
    yield from _each(plan, "faults", _simpler_fault)


def _each(plan: Plan, name: str, simpler: Callable[[Any], Sequence[Any]]) -> Iterator[Plan]:
    parts = getattr(plan, name)
    for at, one in enumerate(parts):
        for other in simpler(one):
            if other != one:
                yield replace(plan, **{name: (*parts[:at], other, *parts[at + 1 :])})


def _reset(part: Any, **defaults: Any) -> list[Any]:
    return [replace(part, **{name: value}) for name, value in defaults.items() if getattr(part, name) != value]


def _simpler_site(site: Site) -> list[Site]:
    found = [Site(), *_reset(site, settings={}, nats=1)]
    return [*found, replace(site, nodes=site.nodes - 1)] if site.nodes > 1 else found


def _simpler_message(message: Message) -> list[Message]:
    found = _reset(message, size=0, type="t0")
    return found + [replace(message, errand=errand) for errand in _simpler_errand(message.errand)]


def _simpler_errand(errand: Errand) -> Iterator[Errand]:
    if errand.servers or errand.handler:
        yield replace(errand, servers=(), handler="", then=None, circle=False)
    for at in range(len(errand.servers) if len(errand.servers) > 1 else 0):
        yield replace(errand, servers=errand.servers[:at] + errand.servers[at + 1 :])
    for at in range(len(errand.clients)):
        yield replace(errand, clients=errand.clients[:at] + errand.clients[at + 1 :])
    yield from _reset(errand, wait_s=0.0, transient=False, circle=False, reply=False, lie="")
    if errand.then is not None:
        for then in _simpler_errand(errand.then):
            yield replace(errand, then=then)


def _simpler_fault(fault: Fault) -> list[Fault]:
    found = _reset(fault, for_s=0.0, count=min(fault.count, 1), node=0)
    if fault.for_s > 1:
        found.append(replace(fault, for_s=1.0))
    return found
