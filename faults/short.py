"""The short forms of the scenarios, for the tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import uvloop

from faults.run import Run, Skipped


def short(name: str, scenario: Callable[[Run], Awaitable[None]]) -> list[str]:
    """Runs a scenario, and returns what was not reached; skips the test where it cannot be run here."""

    async def run() -> list[str]:
        async with Run(name, quick=True) as run:
            await scenario(run)
            assert run.checks
            return [f"{check.what}: {check.value:g} {check.unit}" for check in run.missed()] + (
                run.notes if run.missed() else []
            )

    try:
        return uvloop.run(run())
    except Skipped as reason:
        pytest.skip(str(reason))
