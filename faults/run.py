"""One run: where its servers live, what it found, and what it could not do."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults.servers import Besterd, Start, start


class Skipped(Exception):
    """What a scenario needs is not there; the text says what."""


@dataclass(frozen=True)
class Check:
    """One thing that was counted or measured, and its bound."""

    scenario: str
    what: str
    value: float
    bound: float
    unit: str = ""
    at_least: bool = False

    @property
    def reached(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def as_json(self) -> dict[str, Any]:
        return {
            "scenario": self.scenario,
            "name": self.what,
            "value": round(self.value, 3),
            "bound": self.bound,
            "unit": self.unit,
            "atLeast": self.at_least,
            "reached": self.reached,
        }


@dataclass
class Run:
    """What the scenarios share. It ends what was started for it."""

    scenario: str
    quick: bool = False
    say: Callable[[str], None] = lambda line: None
    """Told what begins now."""
    seed: int = 1
    start: Start = start
    """How servers are started."""
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What must be known beside the checks."""

    def __post_init__(self) -> None:
        self.random = random.Random(f"{self.scenario} {self.seed}")
        self.ending = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Run:
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.ending.aclose()

    def folder(self) -> Path:
        """Returns a new folder, which goes with the run; short, because sockets are in it."""
        return Path(self.ending.enter_context(tempfile.TemporaryDirectory(prefix="bf-")))

    def server(self, folder: Path, config: dict[str, Any], **environment: str) -> Besterd:
        """Returns a server, which is not started yet; at the end of the run it is killed."""
        server = Besterd(folder, config, environment, start=self.start)
        self.ending.push_async_callback(server.kill)
        return server

    def spawn(self, work: Awaitable[None]) -> asyncio.Task[None]:
        """Lets something go on beside the scenario until its end."""
        task = asyncio.ensure_future(work)
        assert isinstance(task, asyncio.Task)
        self._tasks.append(task)
        return task

    def at_most(self, what: str, value: float, bound: float, unit: str = "") -> None:
        """Notes what was found, and how much it may be."""
        self.checks.append(Check(self.scenario, what, value, bound, unit))

    def at_least(self, what: str, value: float, bound: float, unit: str = "") -> None:
        """Notes what was found, and how much it has to be."""
        self.checks.append(Check(self.scenario, what, value, bound, unit, at_least=True))

    def missed(self) -> list[Check]:
        """Returns what was not reached."""
        return [check for check in self.checks if not check.reached]
