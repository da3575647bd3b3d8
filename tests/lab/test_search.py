"""The search for faults: it can be repeated, finds what is wrong, and makes it small."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace as changed
from pathlib import Path

import pytest
from faults.points import points as points_of_processes
from lab.coverage import Coverage
from lab.draw import draw
from lab.ledger import Attempt, Copy, Ledger, Receipt
from lab.plan import Account, Errand, Fault, Hand, Message, Plan, Session, Site, as_play, read, write
from lab.points import points
from lab.run import Outcome, run_plan
from lab.search import search
from lab.shrink import kind_of, shrink

ROOT = Path(__file__).parents[2]


def small(**changes: object) -> Plan:
    """Returns a plan with two accounts at one server."""
    plan = {
        "seed": 1,
        "servers": (Site(),),
        "hands": (Hand(0, ("t0",)),),
        "accounts": (Account(0), Account(0)),
        "sessions": (Session(0), Session(1)),
        "messages": (Message(0.1, 0, errand=Errand(clients=("a1",))),),
        "length_s": 1.0,
    }
    return Plan(**(plan | changes))  # type: ignore[arg-type]


def test_a_plan_can_be_written_and_read(tmp_path: Path) -> None:
    for seed in range(20):
        plan = draw(seed, None, points())
        path = tmp_path / "plan.json"
        path.write_bytes(write(plan))
        assert read(path) == plan
        assert draw(seed, None, points()) == plan
        assert len(list(as_play(plan))) > len(plan.messages)


def test_a_seed_has_one_trace() -> None:
    command = [sys.executable, "-m", "lab", "--seed", "11"]
    outputs = set()
    for _ in range(2):
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=True
        )
        outputs.add(done.stdout.partition(" in ")[0])
    assert len(outputs) == 1
    assert "digest" in outputs.pop()


def test_everything_comes() -> None:
    outcome = run_plan(small())
    assert outcome.violations == []
    assert (outcome.reports, outcome.receipts) == (1, 1)
    assert outcome.codes["result delivered"] == 1


def test_a_death_at_a_named_point_is_survived() -> None:
    away = (Session(0), Session(1, away=((0.0, 1.0),)))
    fault = Fault(0.0, "dieAt", count=1, point="mailbox.stored")
    outcome = run_plan(small(sessions=away, faults=(fault,)))
    assert outcome.violations == []
    assert (outcome.happened[-1][1], outcome.receipts) == ("at mailbox.stored", 1)


@pytest.mark.timeout(400)
def test_a_disk_that_forgets_is_found_and_the_plan_becomes_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bester.lab.disk.File.sync", lambda self: None)
    plan = small(
        sessions=(Session(0), Session(1, away=((0.0, 2.0),))),
        messages=tuple(Message(0.1 * at, 0, errand=Errand(clients=("a1",), wait_s=0.01)) for at in range(6)),
        faults=(Fault(1.0, "powerCut", for_s=0.5), Fault(1.2, "clock", amount=1.0)),
        length_s=3.0,
    )
    violations = run_plan(plan).violations
    assert violations
    smaller = shrink(plan, violations, lambda one: run_plan(one).violations, 100.0)
    assert len(smaller.messages) < 4
    assert len(smaller.faults) == 1
    assert kind_of(run_plan(smaller).violations[0]) == kind_of(violations[0])


def test_reports_are_counted_by_connection() -> None:
    ledger = Ledger()
    ledger.sends(0, 0, 1, 0.5)
    good = Attempt(True, False, "", ())
    ledger.reported(0, 1, good, 1.0)
    assert ledger.violations == []
    ledger.reported(0, 1, good, 1.0)
    assert "more reports" in ledger.violations[0]


def test_copies_are_told_apart_by_their_way() -> None:
    ledger = Ledger()
    ledger.came(Copy(0, "", 0, "a0"), Receipt(0, "d1", 1.0, 1))
    ledger.came(Copy(0, "s1", 1, "a0"), Receipt(0, "d2", 1.0, 1))
    assert len(ledger.received) == 2


def test_what_came_rarely_is_drawn_more_often() -> None:
    coverage = Coverage()
    before = coverage.wanted()["kill"]
    coverage.add(changed(Outcome(), happened=[(1.0, "kill"), (1.5, "reset")] * 5))
    assert coverage.wanted()["kill"] < before
    assert coverage.pairs["kill", "reset"] == 15
    assert any("kill 5" in line for line in coverage.lines())


def test_the_named_points_are_those_of_the_faults() -> None:
    assert list(points()) == points_of_processes()


def test_a_search_says_what_it_came_to() -> None:
    lines: list[str] = []
    result = search(1, 3.0, 1, lines.append)
    assert result.plans >= 1
    assert result.messages > 0
    assert not result.found, lines
