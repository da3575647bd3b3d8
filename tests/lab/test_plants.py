"""The planted faults fit the present source, and are Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from lab.plan import Account, Errand, Fault, Hand, Message, Plan, Session, Site, Weather, write
from lab.plants.page import BEGIN, END, Result, page
from lab.plants.planting import ROOT, Plant, load, plant
from lab.plants.trial import CONTROL, Trial


@pytest.mark.parametrize("one", load(), ids=lambda one: one.name)
def test_each_fits_the_source_exactly_once(one: Plant) -> None:
    text = one.path.read_text(encoding="utf-8")
    changed = one.applied(text)
    assert changed != text
    compile(changed, one.file, "exec")
    assert one.wrong.endswith(".")
    assert one.breaks.endswith(".")


def test_names_are_unique() -> None:
    names = [one.name for one in load()]
    assert len(set(names)) == len(names) >= 20


def test_a_copy_has_the_fault_and_nothing_else(tmp_path: Path) -> None:
    one = load()[0]
    copy = plant(one, tmp_path)
    for path in (ROOT / "src" / "bester" / "store").glob("*.py"):
        found = (copy / "bester" / "store" / path.name).read_text(encoding="utf-8")
        text = path.read_text(encoding="utf-8")
        assert found == (one.applied(text) if path == one.path else text)


@pytest.mark.parametrize(
    ("name", "spread_s", "latency_s", "cut_at"),
    [("newest-first", 0.0, 0.0005, 0.52), ("backlog-overtaken", 1.0, 0.02, 0.6)],
)
def test_disorder_in_a_stream_between_servers_is_seen(
    tmp_path: Path, name: str, spread_s: float, latency_s: float, cut_at: float
) -> None:
    on = Errand(servers=(1,), then=Errand())
    plan = Plan(
        seed=1,
        servers=(Site({"federation": {"retryMin": 0.05}}), Site({"limits": {"maxInFlight": 4}})),
        hands=(Hand(0, ("t0",)), Hand(1, ("t0",))),
        accounts=(Account(0),),
        sessions=(Session(0),),
        messages=tuple(Message(round(0.5 + spread_s * at / 120, 4), 0, errand=on) for at in range(120)),
        faults=(Fault(cut_at, "reset", who=0, other=1),),
        proven=True,
        length_s=4.0,
        weather=Weather(latency_s=latency_s),
    )
    (tmp_path / "plan").write_bytes(write(plan))
    planted = plant(next(one for one in load() if one.name == name), tmp_path)
    for source, expected in ((planted, True), (ROOT / "src", False)):
        done = subprocess.run(
            [sys.executable, "-m", "lab", "--plan", str(tmp_path / "plan")],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(source), "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ("VIOLATION order" in done.stdout) == expected, done.stdout + done.stderr


def test_a_fault_that_no_longer_fits_is_named() -> None:
    one = load()[0]._replace(before="no such text")
    with pytest.raises(ValueError, match=f"{one.name} no longer fits.* 0 times in {one.file}"):
        one.applied("text")


def test_the_table_says_what_was_found() -> None:
    first, second, *_ = load()
    trials = [Trial(CONTROL, 600.0, 5000), Trial(first.name, 3.2, 12, "lost | gone", 7), Trial(second.name, 600.0, 900)]
    text = page(Result({"cores": 2}, 600.0, 2, trials), f"above\n{BEGIN}old\n{END}\nbelow\n")
    assert "old" not in text
    assert "**1 of 2 were found.** Without a fault, in 600 s and 5,000 plays: nothing was found." in text
    assert f"| `{first.name}`: `{first.file}` | {first.wrong} | 3 s | 12 | lost \\| gone (seed 7) |" in text
    assert "| **not** in 600 s | 900 |" in text
