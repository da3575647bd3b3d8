"""Faults at random moments, by the seed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from random import Random
from typing import Any, Literal, Protocol, get_args

from bester.lab.actors import LabClient, LabHandler, Site
from bester.lab.process import ProcessDied

Kind = Literal["kill", "kill handler", "power", "pause", "cut", "one way", "reset", "slow"]
KINDS: tuple[Kind, ...] = get_args(Kind)
EVERY_S = 1.0
SHORTEST_S, LONGEST_S = 0.05, 6.0
"""How long a fault lasts."""


class Stage(Protocol):
    """The world whose parts fail."""

    @property
    def sites(self) -> list[Site]:
        """The servers."""

    @property
    def clients(self) -> list[LabClient]:
        """The clients, which are never killed: their play could not go on."""

    def cut(self, some: Any, others: Any = None, *, one_way: bool = False) -> None:
        """Lets nothing through."""

    def slow(self, some: Any, others: Any = None, *, latency_s: float = 1.0, bytes_per_s: float = 1e6) -> None:
        """Makes a way slow."""

    def reset(self, some: Any, others: Any = None) -> None:
        """Resets connections."""

    def heal(self) -> None:
        """Ends cuts and slowness."""


class Trouble:
    """A block within which faults happen; they may overlap, and each is mended after a time.

    Args:
        stage: the world.
        chance: decides what happens when.
        every_s: the mean time from one fault to the next.
        kinds: the faults that may happen.

    Raises:
        ValueError: a kind is unknown, or the time not positive.
    """

    def __init__(self, stage: Stage, chance: Random, every_s: float, kinds: Iterable[Kind]) -> None:
        self._stage = stage
        self._chance = chance
        self._every_s = every_s
        self._kinds: Sequence[Kind] = tuple(kinds)
        unknown = [kind for kind in self._kinds if kind not in KINDS]
        if unknown or not self._kinds:
            raise ValueError(f"kinds of trouble are {', '.join(KINDS)}; got {', '.join(unknown) or 'none'}")
        if every_s <= 0:
            raise ValueError(f"every_s must be positive; got {every_s}")
        self._tasks: list[asyncio.Task[None]] = []
        self.count = 0
        """How many faults there were."""

    async def __aenter__(self) -> Trouble:
        self._spawn(self._go_on())
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        done = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._stage.heal()
        for site in self._stage.sites:
            await site.start()
        for one in done:
            if isinstance(one, Exception):
                raise one

    def _spawn(self, work: Any) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(self._chance.expovariate(1 / self._every_s))
            self.count += 1
            self._happen(self._chance.choice(self._kinds))

    def _happen(self, kind: Kind) -> None:
        stage, chance = self._stage, self._chance
        for_s = chance.uniform(SHORTEST_S, LONGEST_S)
        site = chance.choice(stage.sites)
        places: list[Site | LabClient] = [*stage.sites, *stage.clients]
        one, other = chance.sample(places, 2) if len(places) > 1 else (site, None)
        if kind == "kill":
            site.kill(handlers=chance.random() < 0.5)
            self._later(for_s, site.start)
        elif kind == "power":
            site.cut_power()
            self._later(for_s, site.start)
        elif kind == "kill handler":
            handlers: list[LabHandler] = [handler for each in stage.sites for handler in each.handlers]
            if handlers:
                chance.choice(handlers).kill()
                self._later(for_s, site.start)
        elif kind == "pause":
            one.pause(for_s)
        elif kind == "reset":
            stage.reset(one, other)
        elif kind == "slow":
            stage.slow(one, other, latency_s=chance.uniform(0.01, 1.0), bytes_per_s=1e5)
            self._later(for_s, self._heal)
        else:
            stage.cut(one, other, one_way=kind == "one way")
            self._later(for_s, self._heal)

    async def _heal(self) -> None:
        self._stage.heal()

    def _later(self, seconds: float, mend: Callable[[], Any]) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            with suppress(ProcessDied):  # what killed it again mends it again
                await mend()

        self._spawn(wait())
