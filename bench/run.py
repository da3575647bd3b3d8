"""One run: its peers, how long it measures, and where its figures go."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.figures import Figures
from bench.peers import Peers, Running
from bench.programs import Program, module, program


@dataclass
class Run:
    """The state that the scenarios share."""

    peers: Peers
    seconds: float
    """How long one measurement takes."""
    rounds: int
    """How many measurements there are of each thing."""
    crowd: int
    """How many clients are a lot of clients."""
    minutes: float
    """How long the long load is."""
    progress: Callable[[str], None]
    """Told what begins now."""
    figures: Figures = field(default_factory=Figures)
    keep: Path | None = None
    """Where profiles are kept, if they are."""

    @property
    def warm_up(self) -> float:
        return min(0.5, self.seconds / 2)

    def load(
        self, server: Running, clients: int, outstanding: int, size: int = 64, seconds: float | None = None
    ) -> dict[str, Any]:
        """Puts a server under lean load, and returns the result of that."""
        with self.loading(server, clients, outstanding, size, seconds or self.seconds) as load:
            return load.result()

    @contextmanager
    def loading(
        self, server: Running, clients: int, outstanding: int, size: int, seconds: float, windows: int = 1
    ) -> Iterator[Program]:
        """Lets a lean load run, which tells what it finds after each window of so many seconds."""
        plan = {
            "dialect": server.dialect,
            "port": server.port,
            "clients": clients,
            "outstanding": outstanding,
            "size": size,
            "seconds": seconds,
            "windows": windows,
            "warm_up": self.warm_up,
            "server": server.pids,
            "handler": server.handler,
        }
        with program(*module("clients", json.dumps(plan)), core=server.core) as load:
            yield load

    def alternate(self, servers: Sequence[Running], measure: Callable[[Running], None]) -> None:
        """Measures servers in turns, so that other work of the machine disturbs all of them alike."""
        for round in range(self.rounds):
            for server in servers[round % len(servers) :] + servers[: round % len(servers)]:  # type: ignore[operator]
                self.progress(server.name)
                measure(server)


Scenario = Callable[[Run, ExitStack], None]
