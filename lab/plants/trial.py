"""Tries whether the search finds one planted fault, in a copy of the source."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
from msgspec import Struct

from lab.plants.planting import ROOT, Plant, plant

GRACE_S = 60.0
"""How much longer than its time the search may take: it finishes the play that it is in."""
CONTROL = "(none)"
"""The name of a trial without a fault."""


class Trial(Struct, omit_defaults=True):
    """What came of one trial."""

    plant: str
    seconds: float
    """The time until the first violation; without one, the whole time."""
    plays: int
    """How many plays there were until then."""
    violation: str = ""
    """Which promise was seen broken; empty: none was."""
    seed: int = 0
    """The seed of the play in which it was."""
    error: str = ""
    """Why the search ended otherwise."""


class Found(Struct):
    """A play in which the search saw promises broken."""

    seed: int
    violations: list[str]


class Search(Struct):
    """What the search writes about itself (``python -m lab --result``)."""

    plans: int
    seconds: float
    found: list[Found]


def run(one: Plant | None, seconds: float, seed: int) -> Trial:
    """Runs the search until it finds something, or the time is over.

    Args:
        one: the fault; None: nothing is planted, and nothing must be found.
        seconds: how long it may take.
        seed: where the search begins.

    Raises:
        ValueError: the fault no longer fits the source.
    """
    name = one.name if one is not None else CONTROL
    with tempfile.TemporaryDirectory(prefix="bester-plant-") as folder:
        copy = plant(one, Path(folder))
        result = Path(folder) / "result.json"
        environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONHASHSEED": "0"}
        imported = _python("-c", "import bester; print(bester.__file__)", environment=environment, timeout_s=GRACE_S)
        if Path(imported.stdout.strip()).parent != copy / "bester":
            return Trial(name, 0.0, 0, error=f"the copy is not what is imported: {imported.stdout}{imported.stderr}")
        began = time.monotonic()
        try:
            ended = _python(
                *("-m", "lab", "--seconds", f"{seconds:g}", "--from", str(seed), "--jobs", "1"),
                *("--until-found", "--shrink", "0", "--keep", folder, "--result", str(result)),
                environment=environment,
                timeout_s=seconds + GRACE_S,
            )
        except subprocess.TimeoutExpired:
            return Trial(name, time.monotonic() - began, 0, error="the search did not end in its time")
        took_s = time.monotonic() - began
        if not result.exists():
            return Trial(name, took_s, 0, error=ended.stderr[-2000:])
        search = msgspec.json.decode(result.read_bytes(), type=Search)
    if not search.found:
        return Trial(name, search.seconds, search.plans)
    first = search.found[0]
    return Trial(name, search.seconds, search.plans, first.violations[0], first.seed)


def _python(*arguments: str, environment: dict[str, str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        timeout=timeout_s,
        capture_output=True,
        text=True,
        check=False,
    )
