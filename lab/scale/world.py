"""A world: servers, their network, and the ledger of their messages; from one seed."""

from __future__ import annotations

import gc
import random
import resource
import time
from array import array
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bester.config import parse
from lab.scale.costs import Costs
from lab.scale.engine import Engine
from lab.scale.ledger import Ledger
from lab.scale.network import Latency, Network
from lab.scale.server import Server

CONFIG = '{"server": {"name": "s"}, "network": {"tcp4": {"port": 2223}}, "federation": {"policy": "open"}}'


class Begun(NamedTuple):
    """What had happened when the load began that is counted."""

    at: float
    accepted: array[int]
    busy: array[float]


class World:
    """Some servers, each with one client.

    While it is entered, its time runs, and Python's own ``random`` begins with the seed.

    Args:
        count: how many servers there are.
        seed: from which all chance comes.
        latency: between the servers.
        costs: what their work takes.
    """

    def __init__(self, count: int, seed: int, latency: Latency, costs: Costs | None = None) -> None:
        self.engine = Engine()
        self.ledger = Ledger()
        self.costs = costs or Costs()
        self.count = count
        self.seed = seed
        self.network = Network(self.engine, latency, self.random("network"))
        self.servers: list[Server] = []
        self.kib_per_server = 0.0
        """What an idle server takes of this process's memory."""
        self.wall_s = 0.0
        self.cpu_s = 0.0
        self.begun = Begun(0.0, array("i", [0] * count), array("d", [0.0] * count))
        self.on_report: Callable[[int], None] = lambda number: None
        """Called with the number of each message that was reported."""

    def random(self, purpose: str) -> random.Random:
        """Returns the chance for one purpose, which other purposes do not move."""
        return random.Random(f"{self.seed} {purpose}")

    def __enter__(self) -> World:
        self.engine.__enter__()
        self._chance = random.getstate()
        random.seed(self.seed)
        gc.disable()
        began, before = time.perf_counter(), resident_kib()
        config = parse(CONFIG, Path("/"))
        self.servers += [Server(number, config, self.network, self.costs) for number in range(self.count)]
        for server in self.servers:
            server.join(partial(self._received, server.number), self.reported)
        self.engine.settle()
        self.kib_per_server = (resident_kib() - before) / self.count
        self.wall_s = time.perf_counter() - began
        return self

    def __exit__(self, *error: object) -> None:
        self.engine.__exit__()
        random.setstate(self._chance)
        gc.enable()

    # -- what happens --------------------------------------------------------------------------------------------

    def send(self, sender: int, type: str, target: int, wanted: int = 1, size: int = 64) -> int:
        """Lets a server's client send a message now; returns its number."""
        number = self.ledger.send(sender, target, wanted, self.engine.now)
        self.servers[sender].clients[0].send(type, number, size)
        return number

    def run(self, seconds: float) -> None:
        """Lets time pass."""
        began, worked = time.perf_counter(), time.process_time()
        self.engine.advance(self.engine.now + seconds)
        self.wall_s += time.perf_counter() - began
        self.cpu_s += time.process_time() - worked

    def begin(self, at: float | None = None) -> None:
        """Begins to count: what was until now, or until a time shortly before, is not shown."""
        self.begun = Begun(self.engine.now if at is None else at, self.accepted, self.busy)

    def run_until_quiet(self, at_most_s: float) -> None:
        """Lets time pass until all messages are reported, and all are there that were reported good."""
        ends = self.engine.now + at_most_s
        while self.engine.now < ends and (self.ledger.count(0) or self.ledger.lost):
            self.run(0.25)

    def _received(self, recipient: int, number: int, now: float) -> None:
        self.ledger.receive(number, recipient, now)

    def reported(self, number: int, good: bool, now: float) -> None:
        self.ledger.report(number, good, now)
        self.on_report(number)

    # -- what is seen --------------------------------------------------------------------------------------------

    @property
    def accepted(self) -> array[int]:
        """How many messages each server has taken, from clients and from other servers."""
        return array("i", (server.runtime.exchange.batch.counters.accepted for server in self.servers))

    @property
    def busy(self) -> array[float]:
        """For how long each server's processor has worked."""
        return array("d", (server.processor.busy_s for server in self.servers))

    @property
    def stored(self) -> int:
        """How many messages wait on disk for other servers."""
        return sum(len(server.outbox) for server in self.servers)


def resident_kib() -> float:
    """Returns this process's memory."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1024
