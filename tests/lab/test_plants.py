"""The planted faults fit the present source, and are Python."""

from __future__ import annotations

from pathlib import Path

import pytest
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
