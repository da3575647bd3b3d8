"""The way of a message is recorded, and bounded (docs/protocol.md, section 7)."""

from __future__ import annotations

import json

import pytest

from bester.core import trail as trails
from bester.core.trail import MAX_STEPS, MAX_TRACED_RECIPIENTS, Trail
from bester.protocol import frames


def test_steps_have_places_of_their_own() -> None:
    trail = Trail(told=False)
    trail.add("handler", "a", 0.0)
    trail.add_recipients("clients", 0, 2, 0.0)
    trail.add("handler", "b", 0.0)
    trail.add_recipients("server", 2, 500, 0.0)
    places = [step.place for step in trail.steps]
    assert len(set(places)) == len(places) == MAX_TRACED_RECIPIENTS
    assert min(places) == 1
    assert trail.slots == MAX_TRACED_RECIPIENTS - 2
    assert Trail().slots == 0


def test_only_so_many_steps_are_told() -> None:
    trail = Trail()
    for number in range(MAX_STEPS + 1):
        trail.add("handler", str(number), 0.0)
    trail.add_recipients("clients", 0, 1, 0.0)
    trail.settled(0, 1.0, b"")
    assert [step.name for step in trail.steps] == [str(number) for number in range(MAX_STEPS)]


def test_the_routes_of_other_servers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trails, "MAX_ROUTE_BYTES", 10)
    trail = Trail()
    trail.add_recipients("server", 0, 2, 1000.0)
    trail.settled(0, 1000.5, b'["small"]')
    trail.settled(1, 1001.0, b'["large"]')
    results = [frames.result(name, "queued") for name in ("k.example", "l.example")]
    small, large = json.loads(trail.as_json("j.example", results))
    step = {"server": "j.example", "step": "outbox", "status": "queued"}
    assert small == step | {"name": "k.example", "ms": 500, "route": ["small"]}
    assert large == step | {"name": "l.example", "ms": 1000}


def test_in_a_dry_run_what_would_be_kept_is_planned() -> None:
    trail = Trail(dry=True)
    trail.add_recipients("server", 0, 1, 0.0)
    assert trail.resolved(trail.steps[0], [frames.result("k.example", "queued")]) == ("outbox", "k.example", "planned")
