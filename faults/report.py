"""A run's result as tables and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.machine import describe
from bench.report import number
from rich import box
from rich.console import Console
from rich.table import Table

from faults.run import Check

OF_THIS_MACHINE = ("cpu", "cores", "memory", "kernel", "python", "bester", "load before")


def machine() -> dict[str, str]:
    """Returns what belongs beside every result."""
    found = describe()
    return {name: found[name] for name in OF_THIS_MACHINE if name in found}


def as_json(
    machine: dict[str, str], options: dict[str, Any], checks: Sequence[Check], notes: Sequence[str]
) -> dict[str, Any]:
    """Returns all of a run; the same form as the benchmark's."""
    return {
        "machine": machine,
        "options": options,
        "targets": [check.as_json() for check in checks],
        "notes": list(notes),
    }


def show(checks: Sequence[Check], notes: Sequence[str], console: Console) -> None:
    """Prints the table."""
    console.width = max(console.width, 120)
    table = Table(box=box.SIMPLE_HEAD)
    for name, side in (("", "left"), ("", "left"), ("found", "right"), ("bound", "right"), ("", "left")):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    last = ""
    for check in checks:
        sign = "≥" if check.at_least else "≤"
        verdict = "reached" if check.reached else "NOT reached"
        shown = check.scenario if check.scenario != last else ""
        table.add_row(shown, check.what, f"{number(check.value)} {check.unit}", f"{sign} {check.bound:g}", verdict)
        last = check.scenario
    console.print(table)
    for note in notes:
        console.print(note, soft_wrap=True)
