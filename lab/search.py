"""Runs plan after plan on all cores, each of a new seed, until the time is over."""

from __future__ import annotations

import multiprocessing
import queue
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from lab.coverage import Coverage
from lab.draw import draw
from lab.plan import Plan
from lab.points import points
from lab.run import Outcome, run_plan

PLANS_PER_PROCESS = 150
"""After so many plans a worker is replaced."""
HANG_S = 90.0
"""How long a plan may take before its process is ended, and the plan counts as hung."""


@dataclass
class Found:
    """A seed whose plan broke a promise."""

    seed: int
    plan: Plan
    violations: list[str]

    @property
    def broken(self) -> list[str]:
        """The violations but for what stays in memory after a play, and plays that are too long to be judged."""
        return [one for one in self.violations if not one.startswith(("memory: ", "unfinished: "))]


@dataclass
class Result:
    """What a search came to."""

    plans: int = 0
    messages: int = 0
    reports: int = 0
    receipts: int = 0
    simulated_s: float = 0.0
    busy_s: float = 0.0
    took_s: float = 0.0
    found: list[Found] = field(default_factory=list)
    coverage: Coverage = field(default_factory=Coverage)


def search(
    first_seed: int,
    seconds: float,
    jobs: int,
    say: Callable[[str], None],
    *,
    until_found: bool = False,
    clusters: bool = False,
) -> Result:
    """Runs plans for so long.

    Args:
        first_seed: the first plan's; the others have those after it.
        seconds: after which no new plan is begun.
        jobs: how many processes work.
        say: is told of what was found, and now and then of how it goes.
        until_found: whether to end with the first broken promise; what stays in memory is none.
        clusters: whether all plans have clusters, unless they are too large.
    """
    result = Result()
    began = time.monotonic()
    seeds = iter(range(first_seed, 1 << 62))
    context = multiprocessing.get_context("spawn")
    workers = [_Worker(context, clusters) for _ in range(jobs)]
    told = began
    try:
        while any(worker.busy for worker in workers) or time.monotonic() - began < seconds:
            if until_found and any(one.broken for one in result.found):
                break
            for worker in workers:
                if not worker.busy and time.monotonic() - began < seconds:
                    worker.begin(next(seeds), result.coverage.wanted())
            for worker in workers:
                for seed, wanted, outcome in worker.done(0.02 / jobs):
                    _take(result, draw(seed, wanted, points(), clusters=clusters), outcome, say)
            if time.monotonic() - told > 30:
                told = time.monotonic()
                say(f"{told - began:.0f} s: {result.plans} plans, {len(result.found)} found")
    finally:
        for worker in workers:
            worker.end()
    result.took_s = time.monotonic() - began
    return result


def _take(result: Result, plan: Plan, outcome: Outcome, say: Callable[[str], None]) -> None:
    result.plans += 1
    result.messages += outcome.messages
    result.reports += outcome.reports
    result.receipts += outcome.receipts
    result.simulated_s += outcome.simulated_s
    result.busy_s += outcome.took_s
    result.coverage.add(outcome)
    if outcome.violations:
        result.found.append(Found(plan.seed, plan, outcome.violations))
        say(f"seed {plan.seed}: {outcome.violations[0][:300]}")


class _Worker:
    """A process that runs plans, one after the other, and is replaced when it crashed, hangs, or is old."""

    def __init__(self, context: Any, clusters: bool) -> None:
        self._context = context
        self._clusters = clusters
        self._process: Any = None
        self._task: tuple[int, dict[str, float]] | None = None
        self._began = 0.0
        self._ran = 0

    @property
    def busy(self) -> bool:
        return self._task is not None

    def begin(self, seed: int, wanted: dict[str, float]) -> None:
        """Gives it the seed of a plan."""
        if self._process is None:
            self._tasks, self._outcomes = self._context.Queue(), self._context.Queue()
            self._process = self._context.Process(
                target=_work, args=(self._tasks, self._outcomes, self._clusters), daemon=True
            )
            self._process.start()
            self._ran = 0
        self._task = seed, wanted
        self._began = time.monotonic()
        self._tasks.put(self._task)

    def done(self, wait_s: float) -> Iterator[tuple[int, dict[str, float], Outcome]]:
        """Yields the outcome of its plan, if there is one."""
        if self._task is None:
            time.sleep(wait_s)
            return
        seed, wanted = self._task
        try:
            outcome = self._outcomes.get(timeout=wait_s)
        except queue.Empty:
            if not self._process.is_alive():
                outcome = Outcome([f"lab: the process ended with {self._process.exitcode}"])
            elif time.monotonic() - self._began > HANG_S:
                outcome = Outcome([f"lab: nothing came in {HANG_S:g} s of real time"])
            else:
                return
            self.end()
        self._task = None
        self._ran += 1
        if self._ran >= PLANS_PER_PROCESS:
            self.end()
        yield seed, wanted, outcome

    def end(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def _work(tasks: Any, outcomes: Any, clusters: bool) -> None:
    while True:
        seed, wanted = tasks.get()
        outcomes.put(run_safely(draw(seed, wanted, points(), clusters=clusters)))


def run_safely(plan: Plan) -> Outcome:
    """Runs a plan; an error of the lab's own is a violation too."""
    try:
        return run_plan(plan)
    except Exception:
        return Outcome([f"lab: {traceback.format_exc(limit=-4)}"], codes=Counter())
