"""``python -m lab.scale``: runs the scenarios, and writes their figures."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.machine import describe

from lab.scale.scenarios import SCENARIOS


def main(arguments: Sequence[str]) -> None:
    """Runs the chosen scenarios, each in its turn."""
    parser = argparse.ArgumentParser(prog="python -m lab.scale", description="Thousands of servers in one process.")
    parser.add_argument("--servers", type=int, default=10_000, help="how many there are; default 10,000")
    parser.add_argument("--seed", type=int, default=1, help="from which all chance comes; default 1")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, help="these scenarios alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the figures there")
    chosen = parser.parse_args(arguments)
    for name in chosen.only or SCENARIOS:
        found = SCENARIOS[name](chosen.servers, chosen.seed)
        shown = {key: value for key, value in found.items() if not key.endswith("Curve")}
        print(name, json.dumps(shown, indent=1), flush=True)
        if chosen.json:
            before = json.loads(chosen.json.read_text()) if chosen.json.exists() else {"scenarios": {}}
            before["machine"] = describe()
            before["scenarios"][name] = found
            chosen.json.write_text(json.dumps(before))


if __name__ == "__main__":
    main(sys.argv[1:])
