"""Asks a candidate what was recorded, in order, and compares its outcomes with the recorded ones (docs/replay.md)."""

from __future__ import annotations

import asyncio
from collections import deque

from bester.protocol.outcomes import Outcome
from bester.workbench.candidate import Candidate
from bester.workbench.differences import OUTCOME, Comparison, Difference, compare
from bester.workbench.recording import Entry, Recording

ASKED_TWICE = 10
"""How many of the first requests the candidate is asked twice."""


class Replay:
    """One replay.

    Args:
        recording: the requests.
        candidate: is asked; it is open.
        at_once: how many requests are outstanding at most.
    """

    def __init__(self, recording: Recording, candidate: Candidate, at_once: int) -> None:
        self.comparison = Comparison()
        self.warnings: list[str] = []
        self.stopped = ""
        """Why not all requests were asked; empty if all were."""
        self._recording = recording
        self._candidate = candidate
        self._at_once = at_once
        self._redaction = recording.redaction

    async def run(self) -> None:
        """Asks all requests.

        Raises:
            BadRecording: the recording is broken.
        """
        for _, entry in self._recording:
            if entry.again is not None:
                self.comparison.varied.learn(entry.outcome, entry.again)
        waiting: deque[tuple[int, Entry, asyncio.Task[Outcome]]] = deque()
        try:
            for line, entry in self._recording:
                if self._candidate.how_it_ended():
                    self.stopped = f"before line {line}: {self._candidate.how_it_ended()}"
                    break
                if self.comparison.asked < ASKED_TWICE and not waiting:
                    await self._ask_twice(line, entry)
                else:
                    waiting.append((line, entry, asyncio.create_task(self._candidate.ask(entry.request))))
                    await self._compare_all(waiting, self._at_once - 1)
            await self._compare_all(waiting, 0)
        finally:
            for _, _, task in waiting:
                task.cancel()
        self.warnings += self._candidate.did()

    async def _compare_all(self, waiting: deque[tuple[int, Entry, asyncio.Task[Outcome]]], left: int) -> None:
        """Compares the oldest outcomes until so many are left."""
        while len(waiting) > left:
            line, entry, task = waiting[0]
            outcome = await task
            waiting.popleft()
            self._compare(line, entry, outcome)

    def _compare(self, line: int, entry: Entry, outcome: Outcome) -> None:
        self._redaction.apply({"outcome": outcome})  # as the recorded one was
        self.comparison.add(line, entry.outcome, entry.again, outcome)

    async def _ask_twice(self, line: int, entry: Entry) -> None:
        outcome = await self._candidate.ask(entry.request)
        if not self._candidate.really and not self._candidate.how_it_ended():
            self._suspect(line, outcome, await self._candidate.ask(entry.request))
        self._compare(line, entry, outcome)

    def _suspect(self, line: int, first: Outcome, second: Outcome) -> None:
        """Warns of the first difference between two equal dry runs that looks as if the first one had left a trace."""
        if self.warnings:
            return
        for one in compare(first, second):
            if not self.comparison.varied.of(one.kind) and _is_a_trace(one):
                self.warnings.append(
                    f"asked line {line} twice in dry runs, it answered differently, as if the first had counted: {one}"
                )
                return


def _is_a_trace(one: Difference) -> bool:
    """Whether a difference looks like state: another outcome, or a number that was counted up or down."""
    before, after = one.before, one.after
    if one.place == OUTCOME:
        return True
    return type(before) is int and type(after) is int and abs(after - before) == 1
