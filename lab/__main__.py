"""``python -m lab``: looks for faults in simulated worlds, or runs one plan again."""

from __future__ import annotations

import argparse
import os
import random
import sys
from pathlib import Path

import msgspec

from lab.draw import draw
from lab.plan import Plan, as_play, read, write
from lab.points import points
from lab.run import run_plan
from lab.search import Result, run_safely, search
from lab.shrink import kind_of, shrink


def main() -> int:
    """Returns 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    parser.add_argument("--seed", type=int, help="run the plan of this seed alone")
    parser.add_argument("--plan", type=Path, help="run the plan in this file alone")
    parser.add_argument("--from", dest="first", type=int, help="the first seed of a search; random if not given")
    parser.add_argument("--seconds", type=float, default=120.0, help="how long to search")
    parser.add_argument("--hours", type=float, help="how long to search")
    parser.add_argument("--until-found", action="store_true", help="end with the first broken promise")
    parser.add_argument("--result", type=Path, help="write what was found there, as JSON")
    parser.add_argument("--cluster", action="store_true", help="let every plan have a cluster, not one in five")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many processes search")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="show the play; twice: its trace as well")
    parser.add_argument("--shrink", type=float, default=60.0, help="for how many seconds a plan is made smaller")
    keep = "where plans that found something are kept"
    parser.add_argument("--keep", type=Path, default=Path("build/lab"), help=keep)
    parser.add_argument("--small", action="store_true", help="make the plan smaller, if it breaks a promise")
    parser.add_argument("--json", action="store_true", help="show the plan as JSON")
    options = parser.parse_args()
    if options.seed is not None:
        return _run(draw(options.seed, None, points(), clusters=options.cluster), options)
    if options.plan is not None:
        return _run(read(options.plan), options)
    first = options.first if options.first is not None else random.SystemRandom().randrange(1 << 32)
    print(f"searching from seed {first}", flush=True)
    seconds = options.hours * 3600 if options.hours else options.seconds
    result = search(first, seconds, options.jobs, _say, until_found=options.until_found, clusters=options.cluster)
    _tell(result)
    if options.result is not None:
        told = {
            "plans": result.plans,
            "seconds": result.took_s,
            "found": [{"seed": one.seed, "violations": one.broken} for one in result.found if one.broken],
        }
        options.result.write_bytes(msgspec.json.encode(told))
    kinds = set()
    for one in result.found:
        options.keep.mkdir(parents=True, exist_ok=True)
        path = options.keep / f"{one.seed}.json"
        path.write_bytes(write(one.plan))
        print(f"  --plan {path}: {one.violations[0][:200]}")
        if kind_of(one.violations[0]) not in kinds:
            kinds.add(kind_of(one.violations[0]))
            _shrink(one.plan, one.violations, options)
    return 1 if any(one.broken for one in result.found) else 0


def _say(line: str) -> None:
    print(line, flush=True)


def _run(plan: Plan, options: argparse.Namespace) -> int:
    if options.json:
        sys.stdout.write(write(plan).decode())
        return 0
    if options.verbose:
        print("\n".join(as_play(plan)))
    outcome = run_plan(plan, print if options.verbose > 1 else None)
    print(
        f"digest {outcome.digest}; {outcome.messages} messages, {outcome.reports} reports, {outcome.receipts} receipts,"
        f" {outcome.steps} callbacks, {outcome.simulated_s:.1f} s in {outcome.took_s:.2f} s"
    )
    for one in outcome.violations:
        print("VIOLATION", one)
    if outcome.violations and options.small:
        _shrink(plan, outcome.violations, options)
    return 1 if outcome.violations else 0


def _shrink(plan: Plan, violations: list[str], options: argparse.Namespace) -> None:
    small = shrink(plan, violations, lambda one: run_safely(one).violations, options.shrink)
    print("\n".join(as_play(small)))
    for violation in run_safely(small).violations[:5]:
        print("VIOLATION", violation)
    options.keep.mkdir(parents=True, exist_ok=True)
    path = options.keep / f"{plan.seed}-small.json"
    path.write_bytes(write(small))
    print(f"  --plan {path}")


def _tell(result: Result) -> None:
    print("\n".join(result.coverage.lines()))
    print(
        f"{result.plans} plans in {result.took_s:.0f} s ({result.plans / result.took_s:.1f}/s;"
        f" {result.busy_s / max(result.plans, 1):.2f} s each), {result.messages:,} messages"
        f" ({result.messages / result.took_s:,.0f}/s), {result.receipts:,} deliveries,"
        f" {result.simulated_s / 3600:.1f} h simulated"
    )
    broken = sum(bool(one.broken) for one in result.found)
    print(
        f"{broken} plans broke a promise, and {len(result.found) - broken} left memory, or were too long to be judged"
    )


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # what the order of sets hangs on
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "lab", *sys.argv[1:]])
    sys.exit(main())
