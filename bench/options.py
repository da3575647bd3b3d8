"""The command lines of programs that run scenarios: ``python -m bench`` and ``python -m faults``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path


def scenario_parser(
    prog: str, description: str, scenarios: Mapping[str, tuple[object, str]], *, quick: str, json: str
) -> argparse.ArgumentParser:
    """Returns a parser with ``--only``, ``--quick`` and ``--json``, whose help lists the scenarios.

    Args:
        prog, description: as argparse takes them.
        scenarios: by name, with what each is.
        quick, json: the help on these.
    """
    names = "\n".join(f"  {name:12}{what}" for name, (_, what) in scenarios.items())
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=f"scenarios:\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", action="append", choices=scenarios, metavar="NAME", help="only this scenario")
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--json", type=Path, metavar="FILE", help=json)
    return parser
