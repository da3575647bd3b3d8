"""Puts a run's figures into a page: ``python -m bench.page RESULT.json docs/performance.md``.

The text between ``<!-- figures -->`` and ``<!-- end of figures -->`` is replaced.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bench.report import invalid, number, verdict

BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->"


def page(result: dict[str, Any], text: str) -> str:
    """Returns the page with the figures of this result."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return before + BEGIN + "\n".join([*_machine(result), *_targets(result), *_figures(result)]) + "\n" + END + after


def _machine(result: dict[str, Any]) -> list[str]:
    machine = ", ".join(f"{name} {value}" for name, value in result["machine"].items())
    options = result["options"]
    how = f"{options['rounds']} rounds of {options['seconds']:g} s each, the long load {options['minutes']:g} minutes."
    return [f"Machine: {machine}.", "", f"Medians of {how}", *result["notes"], ""]


def _targets(result: dict[str, Any]) -> list[str]:
    lines = ["### Targets", "", "| Target | Bound | Measured | |", "|---|---|---|---|"]
    for target in result["targets"]:
        value, bound, unit = target["value"], target["bound"], target["unit"]
        said = verdict(target)
        if said != "reached":
            said = f"**{said}**{_missed(value, bound) if target['valid'] else ''}"
        sign = "at least" if target["atLeast"] else "at most"
        lines.append(f"| {target['name']} | {sign} {bound:g} {unit} | {number(value)} {unit} | {said} |")
    return [*lines, ""]


def _missed(value: float, bound: float) -> str:
    return f", by {100 * abs(value / bound - 1):.0f} %" if bound else ""


def _figures(result: dict[str, Any]) -> list[str]:
    figures = result["figures"]
    peers = list(dict.fromkeys(figure["peer"] for figure in figures))
    lines = ["### All figures", "", f"| Scenario | | {' | '.join(peers)} |", "|---|---|" + "---:|" * len(peers)]
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for figure in figures:
        cell = number(figure["median"]) + invalid(figure["unit"], figure["valid"])
        rows.setdefault((figure["scenario"], figure["unit"]), {})[figure["peer"]] = cell
    for (scenario, unit), values in rows.items():
        cells = (values.get(peer, "") for peer in peers)
        lines.append(f"| {scenario} | {unit} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    target.write_text(page(json.loads(source.read_text()), target.read_text()), encoding="utf-8")
