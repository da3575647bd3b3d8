"""Puts trials' results into a page: ``python -m lab.plants.page RESULT.json docs/reliability.md``.

The text between ``<!-- plants -->`` and ``<!-- end of plants -->`` is replaced.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from lab.plants.planting import load
from lab.plants.trial import CONTROL, Trial

BEGIN, END = "<!-- plants -->\n", "<!-- end of plants -->"


class Result(Struct):
    """All trials of a run."""

    machine: dict[str, Any]
    seconds: float
    """How long each trial might take."""
    jobs: int
    """How many ran at a time."""
    trials: list[Trial]


def page(result: Result, text: str) -> str:
    """Returns the page with the result."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return before + BEGIN + "\n".join(table(result)) + "\n" + END + after


def table(result: Result) -> list[str]:
    """Returns the lines that say what was found, and when."""
    trials = {trial.plant: trial for trial in result.trials}
    plants = [one for one in load() if one.name in trials]
    found = sum(bool(trials[one.name].violation) for one in plants)
    machine = ", ".join(f"{name} {value}" for name, value in result.machine.items())
    lines = [
        f"Machine: {machine}. {result.jobs} at a time, each with one process.",
        "",
        f"**{found} of {len(plants)} were found.** {_control(trials.get(CONTROL))}",
        "",
        "| Fault | What is wrong | Found after | Plays | What was seen |",
        "|---|---|---:|---:|---|",
    ]
    for one in plants:
        trial = trials[one.name]
        when = f"{trial.seconds:.0f} s" if trial.violation else f"**not** in {trial.seconds:.0f} s"
        seen = f"{_cell(trial.violation)} (seed {trial.seed})" if trial.violation else _cell(trial.error)
        lines.append(f"| `{one.name}`: `{one.file}` | {one.wrong} | {when} | {trial.plays:,} | {seen} |")
    return lines


def _control(trial: Trial | None) -> str:
    if trial is None:
        return ""
    seen = f"{trial.violation} (seed {trial.seed})" if trial.violation else trial.error or "nothing was found"
    return f"Without a fault, in {trial.seconds:.0f} s and {trial.plays:,} plays: {seen}."


def _cell(text: str) -> str:
    line = " ".join(text.split()).replace("|", "\\|")
    return line if len(line) <= 160 else line[:157] + "..."


def read(paths: Sequence[Path]) -> Result:
    """Reads results; of a plant that is in several, the last counts."""
    results = [msgspec.json.decode(path.read_bytes(), type=Result) for path in paths]
    trials = {trial.plant: trial for result in results for trial in result.trials}
    last = results[-1]
    return Result(last.machine, last.seconds, last.jobs, list(trials.values()))


if __name__ == "__main__":
    *sources, target = map(Path, sys.argv[1:])
    target.write_text(page(read(sources), target.read_text(encoding="utf-8")), encoding="utf-8")
