"""Puts runs' figures into a page: ``python -m bench.page RESULT.json [RESULT.json ...] docs/performance.md``.

The text between ``<!-- figures -->`` and ``<!-- end of figures -->`` is replaced. Each run, such as one of pure Python
and one of a compiled server, has tables of its own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bench.report import invalid, number, verdict

BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->"


def page(results: list[dict[str, Any]], text: str) -> str:
    """Returns the page with the figures of these results."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    lines = _machine(results[0])
    for result in results:
        title = f", {_build(result)}" if len(results) > 1 else ""
        lines += [f"### Targets{title}", "", *_targets(result)]
    for result in results:
        title = f", {_build(result)}" if len(results) > 1 else ""
        lines += [f"### All figures{title}", "", *_figures(result), ""]
    return before + BEGIN + "\n".join(lines) + END + after


def _build(result: dict[str, Any]) -> str:
    """Returns whether the server was compiled, as the description of the machine says it."""
    return str(result["machine"]["bester"].partition("(")[2].rstrip(")"))


def _machine(result: dict[str, Any]) -> list[str]:
    machine = ", ".join(f"{name} {value}" for name, value in result["machine"].items())
    options = result["options"]
    how = f"{options['rounds']} rounds of {options['seconds']:g} s each, the long load {options['minutes']:g} minutes."
    return [f"Machine: {machine}.", "", f"Medians of {how}", *result["notes"], ""]


def _targets(result: dict[str, Any]) -> list[str]:
    lines = ["| Target | Bound | Measured | |", "|---|---|---|---|"]
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
    lines = [f"| Scenario | | {' | '.join(peers)} |", "|---|---|" + "---:|" * len(peers)]
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for figure in figures:
        cell = number(figure["median"]) + invalid(figure["unit"], figure["valid"])
        rows.setdefault((figure["scenario"], figure["unit"]), {})[figure["peer"]] = cell
    for (scenario, unit), values in rows.items():
        cells = (values.get(peer, "") for peer in peers)
        lines.append(f"| {scenario} | {unit} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    *sources, target = map(Path, sys.argv[1:])
    shown = page([json.loads(source.read_text()) for source in sources], target.read_text())
    target.write_text(shown, encoding="utf-8")
