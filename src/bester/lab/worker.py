"""What stands in the lab for the thread of a database: everything runs in place, on the loop, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from random import Random

from bester.lab.disk import Disk
from bester.store import worker
from bester.store.worker import Job, Outcome, Resolve, Serving

FASTEST_S, SLOWEST_S = 0.0002, 0.004
"""How long a batch takes, apart from what a slow disk adds."""


class LabWorker:
    """Runs the batches of one database, each at one moment of the loop's time.

    A batch has the jobs that were submitted until then: those of a turn, and, as on a thread, those that came while the
    one before was under way. Its results come later than its commit, so a process can die between the two.

    Args:
        resolve: gives results to those who wait.
        random: decides how long a batch takes.
        disk: the disk whose slowness is waited for.
    """

    def __init__(self, resolve: Resolve, random: Random, disk: Disk | None = None) -> None:
        self._resolve = resolve
        self._random = random
        self._disk = disk
        self._loop = asyncio.get_running_loop()
        self._jobs: list[Job] = []
        self._outcomes: list[Outcome] = []
        self._busy = False
        self._finishing = False

    @property
    def waiting(self) -> int:
        return len(self._jobs)

    def start(self, serving: Serving) -> None:
        self._serving = serving
        self._begin(self._open)

    def submit(self, job: Job) -> None:
        self._jobs.append(job)
        if not self._busy:
            self._begin(self._serve)

    def deliver(self, outcomes: list[Outcome]) -> None:
        self._outcomes += outcomes

    def finish(self) -> None:
        self._finishing = True
        if not self._busy:
            self._begin(self._end)

    def join(self) -> None:
        pass

    def abandon(self) -> None:
        """Closes what is still open when the world ends; a collector might do so on another thread, which must not."""
        with suppress(Exception):
            self._serving.close()

    def _begin(self, run: Callable[[], None]) -> None:
        self._busy = True
        self._loop.call_later(self._delay_s(), run)

    def _open(self) -> None:
        with suppress(StopIteration):
            next(self._serving)
        self._ran()

    def _serve(self) -> None:
        batch, self._jobs = self._jobs[: worker.MAX_BATCH], self._jobs[worker.MAX_BATCH :]
        with suppress(StopIteration):  # it could not be opened
            self._serving.send(batch)
        self._ran()

    def _end(self) -> None:
        self._finishing = False
        with suppress(StopIteration):
            self._serving.send([])
        self._ran()

    def _ran(self) -> None:
        owed_s = 0.0 if self._disk is None else self._disk.settle()
        outcomes, self._outcomes = self._outcomes, []
        self._loop.call_later(self._delay_s() + owed_s, self._done, outcomes)

    def _done(self, outcomes: list[Outcome]) -> None:
        self._busy = False
        if self._jobs:
            self._begin(self._serve)
        elif self._finishing:
            self._begin(self._end)
        if outcomes:
            self._resolve(outcomes)

    def _delay_s(self) -> float:
        return self._random.uniform(FASTEST_S / 2, SLOWEST_S / 2)
