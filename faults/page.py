"""Puts a run's result into a page: ``python -m faults.page RESULT.json docs/reliability.md``.

The text between ``<!-- figures -->`` and ``<!-- end of figures -->`` is replaced.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bench.page import BEGIN, END
from bench.report import number


def page(result: dict[str, Any], text: str) -> str:
    """Returns the page with the result."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    machine = ", ".join(f"{name} {value}" for name, value in result["machine"].items())
    lines = [f"Machine: {machine}.", "", "| Scenario | What | Bound | Found | |", "|---|---|---|---:|---|"]
    last = ""
    for check in result["targets"]:
        shown = check["scenario"] if check["scenario"] != last else ""
        last = check["scenario"]
        sign, unit = ("at least" if check["atLeast"] else "at most"), check["unit"]
        verdict = "reached" if check["reached"] else "**not reached**"
        bound = f"{sign} {number(check['bound'])} {unit}".rstrip()
        lines.append(f"| {shown} | {check['name']} | {bound} | {number(check['value'])} {unit} | {verdict} |")
    lines += ["", *(f"- {note}" for note in result["notes"])]
    return before + BEGIN + "\n".join(lines) + "\n" + END + after


if __name__ == "__main__":
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    target.write_text(page(json.loads(source.read_text()), target.read_text()), encoding="utf-8")
