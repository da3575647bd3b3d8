"""``python -m lab.plants``: plants faults in copies of the source, one at a time, and tells how soon each is found."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import msgspec
from faults.report import machine

from lab.plants.page import Result, table
from lab.plants.planting import Plant, load
from lab.plants.trial import CONTROL, Trial, run


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser("python -m lab.plants", description=__doc__)
    names = [CONTROL, *(one.name for one in load())]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help="this one; may be repeated")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long each may take; default 10")
    parser.add_argument("--jobs", type=int, default=1, help="how many are tried at a time; default 1")
    parser.add_argument("--seed", type=int, default=1, help="where the search begins; default 1")
    parser.add_argument("--json", type=Path, help="write the result there, after each")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Tries the faults; returns 1 if one was not found, or something was found where there is none."""
    chosen = options(arguments)
    plants: list[Plant | None] = [None, *load()]
    if chosen.only:
        plants = [one for one in plants if (CONTROL if one is None else one.name) in chosen.only]
    result = Result(machine(), chosen.minutes * 60, chosen.jobs, [])
    with ThreadPoolExecutor(max_workers=chosen.jobs) as pool:
        for done in as_completed([pool.submit(run, one, result.seconds, chosen.seed) for one in plants]):
            trial = done.result()
            result.trials.append(trial)
            print(_line(trial), flush=True)
            if chosen.json is not None:
                chosen.json.write_bytes(msgspec.json.format(msgspec.json.encode(result)))
    print("\n".join(table(result)))
    return 0 if all(bool(trial.violation) != (trial.plant == CONTROL) for trial in result.trials) else 1


def _line(trial: Trial) -> str:
    what = f"seed {trial.seed}: {trial.violation}" if trial.violation else trial.error or "nothing found"
    return f"{trial.plant}: {trial.seconds:.1f} s, {trial.plays} plays: {what}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
