"""``python -m faults``: breaks things, and shows whether the promises about messages were kept."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Sequence

import uvloop
from bench.machine import raise_file_limit
from bench.options import scenario_parser
from bench.report import write
from rich.console import Console

from faults import report
from faults.run import Check, Run, Skipped
from faults.scenarios import SCENARIOS


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = scenario_parser(
        "python -m faults",
        "Kills servers, cuts their power, fills their disk, cuts their network, and counts messages.",
        SCENARIOS,
        quick="fewer messages and fewer faults",
        json="write the result there",
    )
    parser.add_argument("--seed", type=int, default=1, help="for other moments and amounts; default 1")
    return parser.parse_args(arguments)


async def one(name: str, chosen: argparse.Namespace, console: Console) -> tuple[list[Check], list[str]]:
    """Runs one scenario; whatever goes wrong in it, the others are run."""
    began = time.monotonic()

    def say(line: str) -> None:
        console.print(f"{name}: {line} ({time.monotonic() - began:.0f} s)")

    async with Run(name, chosen.quick, say, chosen.seed) as run:
        say("begins")
        try:
            await SCENARIOS[name][0](run)
        except Skipped as skipped:
            run.notes.append(f"{name}: skipped: {skipped}.")
        except Exception:
            traceback.print_exc()
            run.at_most("scenarios that broke off", 1, 0)
        said = ", ".join(check.what for check in run.missed()) or "all reached"
        say(f"done: {said}")
        return run.checks, run.notes


def main(arguments: Sequence[str]) -> int:
    """Runs the scenarios; returns 1 if something was not reached."""
    chosen = options(arguments)
    raise_file_limit()
    names = list(chosen.only or SCENARIOS)
    errors = Console(stderr=True)
    machine = report.machine()
    checks: list[Check] = []
    notes: list[str] = []
    for name in names:
        found, said = uvloop.run(one(name, chosen, errors))
        checks += found
        notes += said
    report.show(checks, notes, Console())
    if chosen.json:
        used = {"quick": chosen.quick, "seed": chosen.seed, "only": names}
        write(chosen.json, report.as_json(machine, used, checks, notes))
    return 0 if all(check.reached for check in checks) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
