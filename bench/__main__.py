"""``python -m bench``: measures, and shows the results."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import report
from bench.figures import WAITED_MUCH, Figures
from bench.generators import missing
from bench.machine import describe, raise_file_limit
from bench.options import scenario_parser
from bench.peers import Accounts, Peers
from bench.run import Run
from bench.scenarios import SCENARIOS
from bench.scenarios.crowds import FIRST

CROWD = 10_000
SPARE_FILES = 500
"""How many files a process opens beside its crowd."""


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = scenario_parser(
        "python -m bench",
        "Bester beside nats-server, nats-py, XMPP servers and a bare relay, on this machine, in one run.",
        SCENARIOS,
        quick="about two minutes: shorter, and with fewer clients",
        json="write all samples there",
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured; at least 3, default 3")
    parser.add_argument("--seconds", type=float, help="how long each time; default 3")
    parser.add_argument("--minutes", type=float, help="how long the long load is; default 1")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a picture there, such as docs/performance.svg")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep what callgrind found there")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Runs the scenarios, and shows their figures."""
    chosen = options(arguments)
    seconds = chosen.seconds or (0.6 if chosen.quick else 3.0)
    minutes = chosen.minutes or (0.2 if chosen.quick else 1.0)
    wanted = 2000 if chosen.quick else CROWD
    crowd = min(wanted, raise_file_limit() - SPARE_FILES)
    figures = Figures()
    if crowd < CROWD:
        figures.notes.append(f"Crowds of {crowd:,} clients, not {CROWD:,}.")
    reason = missing()
    if reason:
        figures.notes.append(f"The load generators are those in Python, which may be the limit: {reason}.")
    names = list(chosen.only or SCENARIOS)
    machine = describe()
    errors = Console(stderr=True)
    columns = TextColumn("{task.description:32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with (
        tempfile.TemporaryDirectory(prefix="bester-bench-") as folder,
        Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress,
    ):
        bar = progress.add_task("accounts", total=len(names))
        peers = Peers(Path(folder), Accounts(Path(folder), FIRST + max(crowd, 5100, 1000)))
        for name in names:

            def say(what: str, name: str = name) -> None:
                progress.update(bar, description=f"{name}: {what}")

            say("")
            run = Run(peers, seconds, max(3, chosen.rounds), crowd, minutes, say, figures, chosen.keep)
            with ExitStack() as stack:
                SCENARIOS[name][0](run, stack)
            progress.advance(bar)
    if figures.waited > WAITED_MUCH:
        waited = f"{min(1.0, figures.waited):.0%}"
        figures.notes.append(f"Other work of the machine had a server's core for up to {waited} of the time.")
    report.show(figures, machine, Console())
    used = {"seconds": seconds, "rounds": max(3, chosen.rounds), "crowd": crowd, "minutes": minutes, "only": names}
    if chosen.json:
        report.write(chosen.json, report.as_json(figures, machine, used))
    if chosen.plot:
        from bench.plot import plot

        plot(figures, chosen.plot)


if __name__ == "__main__":
    main(sys.argv[1:])
