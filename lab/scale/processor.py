"""The processor of one server: it handles what has come in turns, each of which takes time.

All that came while it was busy is one batch, which is where the real server's throughput comes from. The decisions are
made at the beginning of a turn, and what they lead to leaves at its end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from bester.server.runtime import SWEEP_S, Runtime
from lab.scale.costs import Costs
from lab.scale.engine import Engine

SWEEPS = 2
"""How many sweeps come after a server's last turn; none where messages wait for a handler that never answers."""


class Port(Protocol):
    """A socket of the server."""

    waits: bool
    """Whether it stands in line for the next turn."""

    def take(self) -> bool:
        """Handles what came, as much as one turn allows; returns whether more is there."""


class Processor:
    """One processor, which is one server's alone.

    Args:
        engine: the time.
        runtime: the server's; its turns begin and end with those here.
        costs: what its work takes.
        sweep: looks at the server's deadlines; called four times a second, but not where nothing has happened.
    """

    __slots__ = (
        "_due",
        "_line",
        "_out",
        "_spent",
        "_sweep",
        "_sweeps",
        "_worked",
        "busy_s",
        "busy_until",
        "costs",
        "engine",
        "longest_s",
        "runtime",
        "turns",
    )

    def __init__(self, engine: Engine, runtime: Runtime, costs: Costs, sweep: Callable[[], None]) -> None:
        self.engine = engine
        self.runtime = runtime
        self.costs = costs
        self.busy_s = 0.0
        self.busy_until = 0.0
        self.longest_s = 0.0
        """The longest turn."""
        self.turns = 0
        self._line: list[Port] = []
        self._out: list[tuple[Callable[[float, bytes], None], bytes]] = []
        self._spent = 0.0
        self._sweep = sweep
        self._sweeps = 0
        """How many sweeps are still to come."""
        self._due = False
        """Whether a turn is to come."""
        self._worked = False
        """Whether it has work in the present event."""

    def line_up(self, port: Port) -> None:
        """A port has something for the next turn."""
        if not port.waits:
            port.waits = True
            self._line.append(port)
            self._expect()

    def _expect(self) -> None:
        if not self._due:
            self._due = True
            self.engine.at(max(self.engine.now, self.busy_until), self._turn)

    def charge(self, seconds: float) -> None:
        """Adds to the time that the present turn takes; a turn of its own, if there is none."""
        self._spent += seconds
        if not self._worked:
            self._worked = True
            self.engine.worked.append(self)

    def write(self, depart: Callable[[float, bytes], None], data: bytes) -> None:
        """Writes to a socket once; ``depart`` is called with the time at which the turn ends."""
        costs = self.costs
        self._out.append((depart, data))
        self.charge(costs.write + costs.byte * len(data))

    def _turn(self) -> None:
        self._due = False
        if self.engine.now < self.busy_until:  # a task has worked meanwhile
            self._expect()
            return
        self.turns += 1
        if not self._sweeps:
            self.engine.at(self.engine.now + SWEEP_S, self._swept)
        self._sweeps = SWEEPS
        self.charge(self.costs.turn)
        self.runtime.turn()
        line, self._line = self._line, []
        read = self.costs.read
        for port in line:
            self._spent += read
            port.waits = False
            if port.take() and not port.waits:
                port.waits = True
                self._line.append(port)

    def _swept(self) -> None:
        self._sweeps -= 1
        self._sweep()
        if self._sweeps:
            self.engine.at(self.engine.now + SWEEP_S, self._swept)

    def end_turn(self) -> None:
        """The event is over: what it took is known."""
        self._worked = False
        spent, self._spent = self._spent, 0.0
        self.busy_s += spent
        self.longest_s = max(self.longest_s, spent)
        self.busy_until = ends = max(self.engine.now, self.busy_until) + spent
        out, self._out = self._out, []
        for depart, data in out:
            depart(ends, data)
        if self._line:
            self._expect()
