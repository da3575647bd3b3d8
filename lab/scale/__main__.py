"""``python -m lab.scale``: runs the scenarios, and writes their figures."""

from __future__ import annotations

import argparse
import json
import subprocess
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
    names = chosen.only or list(SCENARIOS)
    if len(names) > 1:  # each in a process of its own, whose memory is that of its world alone
        rest = ["--servers", str(chosen.servers), "--seed", str(chosen.seed)]
        rest += ["--json", str(chosen.json)] if chosen.json else []
        for name in names:
            subprocess.run([sys.executable, "-m", "lab.scale", *rest, "--only", name], check=True)
        return
    [name] = names
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
