"""A run's result as tables and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bench.figures import BUSY_AT_LEAST, TARGETS, Figures
from bester.compiled import build


def as_json(figures: Figures, machine: dict[str, str], options: dict[str, Any]) -> dict[str, Any]:
    """Returns all of a run."""
    return {
        "machine": machine,
        "options": options,
        "figures": figures.as_json(),
        "targets": targets(figures),
        "notes": figures.notes,
    }


def targets(figures: Figures) -> list[dict[str, Any]]:
    """Returns each target that was measured, and whether it is reached, and validly so."""
    found = []
    for target in TARGETS:
        value = target.value(figures)
        if value is not None:
            found.append(
                {
                    "name": target.name,
                    "value": round(value, 3),
                    "bound": target.bound_of(build() == "compiled"),
                    "unit": target.unit,
                    "atLeast": target.at_least,
                    "reached": target.reached(value, build() == "compiled"),
                    "valid": target.valid(figures),
                }
            )
    return found


def show(figures: Figures, machine: dict[str, str], console: Console) -> None:
    """Prints the tables, on one line each even where that does not fit."""
    console.width = max(console.width, 120)
    console.print("  ".join(f"{name} {value}" for name, value in machine.items()), soft_wrap=True)
    peers = list(dict.fromkeys(figure.peer for figure in figures.all()))
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("", "", *peers):
        table.add_column(name, justify="right" if name else "left")
    rows = dict.fromkeys((figure.scenario, figure.unit) for figure in figures.all())
    last = ""
    for scenario, unit in rows:
        cells = [
            "" if value is None else number(value) + invalid(unit, figures.valid(scenario, peer))
            for peer, value in ((peer, figures.get(scenario, peer, unit)) for peer in peers)
        ]
        table.add_row(scenario if scenario != last else "", unit, *cells)
        last = scenario
    console.print(table)
    bounds = Table(box=box.SIMPLE_HEAD)
    for name in ("target", "measured", "bound", ""):
        bounds.add_column(name, justify="left" if name in ("target", "") else "right")
    for target in targets(figures):
        sign = "≥" if target["atLeast"] else "≤"
        reached = verdict(target)
        unit = target["unit"]
        bounds.add_row(target["name"], f"{target['value']:g} {unit}", f"{sign} {target['bound']:g} {unit}", reached)
    console.print(bounds)
    for note in figures.notes:
        console.print(note)


def invalid(unit: str, valid: bool) -> str:
    """What is said beside a figure of a server that had too little to do."""
    return " INVALID" if unit.startswith("CPU µs") and not valid else ""


def verdict(target: dict[str, Any]) -> str:
    """What is said of a target."""
    if not target["valid"]:
        return f"INVALID: a server had less than {BUSY_AT_LEAST:g} % of a core to do"
    return "reached" if target["reached"] else "NOT reached"


def number(value: float) -> str:
    """A figure with as many digits as it is worth."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def write(path: Path, result: dict[str, Any]) -> None:
    """Writes the JSON."""
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
