"""One run: its peers, how long it measures, and where its figures go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.figures import SERVER_BUSY, Figures
from bench.generators import clients_command, fan_command
from bench.load import clients, fan
from bench.machine import cpu_seconds, waited_seconds
from bench.peers import Peers, Running
from bench.programs import Program, program


class Load:
    """A load that runs: what it tells, and the processor time that all take meanwhile.

    Both are per window, which begins when the load says so, and ends with its line of JSON.
    """

    def __init__(self, source: Program, server: Running) -> None:
        self._source = source
        self._pids = {"server": server.pids, "handler": server.handler, "client": [source.pid]}
        source.until("begin".__eq__)
        self._before = self._used()

    def _used(self) -> dict[str, float]:
        used = {who: cpu_seconds(pids) for who, pids in self._pids.items()}
        return used | {"waited": waited_seconds(self._pids["server"]), "time": time.perf_counter()}

    def result(self) -> dict[str, Any]:
        """Returns the next window.

        ``busy`` is the part of it in which the server had something to do: it ran, or others had its core.
        """
        found = self._source.result()
        before, self._before = self._before, self._used()
        used = {name: now - before[name] for name, now in self._before.items()}
        found["rate"] = found["count"] / found["seconds"]
        found["cpuUs"] = 1e6 * used["server"] / found["count"]
        found["waited"] = used["waited"] / used["time"]
        found["busy"] = min(1.0, found["waited"] + used["server"] / used["time"])
        return found | {f"{who}Share": used[who] / used["time"] for who in self._pids}

    def rates(self) -> list[float]:
        """Ends the load, and returns the rates of the windows until then."""
        return [found["count"] / found["seconds"] for found in self._source.rest()]


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
        self, server: Running, count: int, outstanding: int, size: int = 64, seconds: float | None = None
    ) -> dict[str, Any]:
        """Puts a server under lean load, and returns the result of that."""
        with self.loading(server, count, outstanding, size, seconds or self.seconds) as load:
            return load.result()

    @contextmanager
    def loading(
        self, server: Running, count: int, outstanding: int, size: int, seconds: float, windows: int = 1
    ) -> Iterator[Load]:
        """Lets a lean load run, which tells what it finds after each window of so many seconds."""
        plan = clients.Plan(
            server.dialect, server.port, count, outstanding, size, seconds, self.warm_up, windows=windows
        )
        with program(*clients_command(plan, self.peers.new_folder()), cores=server.cores.load) as source:
            yield Load(source, server)

    def fan(self, server: Running, count: int, size: int, slow: int, seconds: float) -> dict[str, Any]:
        """Lets one client send to many, some of which are slow, and returns the result of that."""
        plan = fan.Plan(
            server.dialect, server.port, server.handler_socket, count, size, seconds, self.warm_up, slow=slow
        )
        with program(*fan_command(plan, self.peers.new_folder()), cores=server.cores.load) as source:
            return Load(source, server).result()

    def add(self, scenario: str, peer: str, found: dict[str, Any], *others: str) -> None:
        """Adds what a load on a server has found.

        Args:
            scenario, peer: of the figures.
            found: as :meth:`Load.result` gives it.
            others: those whose time is told too, ``handler`` and ``client``.
        """
        add = self.figures.add
        add(scenario, peer, "CPU µs", found["cpuUs"])
        add(scenario, peer, "1/s", found["rate"])
        add(scenario, peer, SERVER_BUSY, 100 * found["busy"])
        self.figures.waited = max(self.figures.waited, found["waited"])
        for who in others:
            add(scenario, peer, f"{who} %", 100 * found[f"{who}Share"])

    def alternate(self, servers: Sequence[Running], measure: Callable[[Running], None]) -> None:
        """Measures servers in turns, so that other work of the machine disturbs all of them alike."""
        for round in range(self.rounds):
            for server in servers[round % len(servers) :] + servers[: round % len(servers)]:  # type: ignore[operator]
                self.progress(server.name)
                measure(server)


Scenario = Callable[[Run, ExitStack], None]
