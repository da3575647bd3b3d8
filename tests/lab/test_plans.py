"""Plans that once found something find nothing any more."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab.plan import read
from lab.run import run_plan

PLANS = sorted((Path(__file__).parent / "plans").glob("*.json"))


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_a_plan_that_found_something(path: Path) -> None:
    plan = read(path)
    assert plan.found, "a kept plan says what it found"
    assert run_plan(plan).violations == []
