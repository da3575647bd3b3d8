"""The short forms of the scenarios, for the tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import uvloop
from tests import forking

from faults.run import Check, Run, Skipped

PATIENCE = 20
"""Other tests have most of the processor: everything may take so many times as long as in the full scenario."""


def _late(check: Check) -> bool:
    """Returns whether a bound on time was missed by no more than that."""
    return check.unit in ("s", "ms") and not check.at_least and check.value <= PATIENCE * check.bound


def short(name: str, scenario: Callable[[Run], Awaitable[None]]) -> list[str]:
    """Runs a scenario, and returns what was not reached; skips the test where it cannot be run here."""

    async def run() -> list[str]:
        async with Run(name, quick=True, start=forking.start) as run:
            await scenario(run)
            assert run.checks
            missed = [check for check in run.missed() if not _late(check)]
            return [f"{check.what}: {check.value:g} {check.unit}" for check in missed] + (run.notes if missed else [])

    try:
        return uvloop.run(run())
    except Skipped as reason:
        pytest.skip(str(reason))
