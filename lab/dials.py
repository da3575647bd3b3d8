"""How often servers are dialled that are not there: the pauses between the tries must grow (section 4.5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bester.lab.process import Process
from lab.keeper import Keeper
from lab.stage import Stage

TRIES = 8
WITHIN_S = 14.0
"""So many tries take longer than this: the first pauses are 1, 2 and 4 s, up to a quarter less, and then 5 s."""
ONE_TRY_S = 0.5
"""What is tried within this time is one try, of several addresses."""


class Dials:
    """Counts the tries of each server's process.

    Args:
        stage: the play.
        keepers: its servers.
    """

    def __init__(self, stage: Stage, keepers: Sequence[Keeper]) -> None:
        self._stage = stage
        self._keepers = keepers
        self._tries: dict[tuple[Process, int], list[float]] = {}

    def attempt(self, process: Process | None, address: Any) -> None:
        """Called with each attempt to connect."""
        if process is None or not any(keeper.lab.process is process for keeper in self._keepers):
            return
        for keeper in self._keepers:
            if keeper.lab.machine.address == address[0]:
                tries = self._tries.setdefault((process, keeper.index), [])
                if keeper.lab.running:
                    tries.clear()
                elif not tries or self._stage.now - tries[-1] > ONE_TRY_S:
                    self._note(process, keeper, tries)

    def _note(self, process: Process, keeper: Keeper, tries: list[float]) -> None:
        tries.append(self._stage.now)
        if len(tries) >= TRIES and tries[-1] - tries[-TRIES] < WITHIN_S:
            self._stage.ledger.violation(f"dials: {process} tries {keeper.lab.name}, which is down, without a pause")
