"""The network between the servers: latency, connections, and what a partition does to them.

It is TCP as far as servers notice: what is written comes in order; what cannot come is sent again after 0.2, 0.4, 0.8 s
and so on, and after 30 s without an acknowledgement, or without an answer to keepalives, the connection is lost at both
ends (:mod:`bester.net.keepalive`). A connection attempt is repeated after 1, 2, 4 s, as the kernel does it.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable
from random import Random
from typing import Protocol

from bester.errors import ServerUnreachable
from bester.net.keepalive import COUNT, IDLE_S, INTERVAL_S, UNACKNOWLEDGED_S
from lab.scale.engine import Engine

RESEND_S = 0.2
"""When a packet that was lost is sent again for the first time."""
SYN_AGAIN_S = (0.0, 1.0, 2.0, 4.0, 8.0)
SILENT_S = float(IDLE_S + COUNT * INTERVAL_S)
"""How long an idle connection lasts whose other end is silent."""

Latency = Callable[[int, int], float]
"""Returns the seconds from one server to another."""


def lan(one: int, other: int) -> float:
    """Returns the latency within one building: 0.2 ms there and back."""
    return 0.0001


def continent(one: int, other: int) -> float:
    """Returns the latency within a continent: 10 to 30 ms there and back, always the same for two servers."""
    return 0.005 + 0.01 * _share(one, other)


def world(one: int, other: int) -> float:
    """Returns the latency on earth: every sixth pair is on one continent, and 80 to 150 ms for the others."""
    return continent(one, other) if one % 6 == other % 6 else 0.04 + 0.035 * _share(one, other)


def _share(one: int, other: int) -> float:
    low, high = (one, other) if one < other else (other, one)
    return ((low * 2654435761 ^ high * 2246822519) & 0xFFFF) / 65536


class Host(Protocol):
    """A server, as the network sees it."""

    number: int
    wires: set[Wire]

    def knock(self, wire: Wire) -> bool:
        """A connection has come; False if too many wait to be accepted."""


class End(Protocol):
    """One end of a connection."""

    def arrive(self, data: bytes) -> None:
        """Takes what the other end has written."""

    def cut(self, error: Exception | None) -> None:
        """The connection is gone; without an error the other end closed it."""


class Way:
    """One direction of a connection."""

    __slots__ = ("end", "last", "source", "wire")

    def __init__(self, wire: Wire, source: Host) -> None:
        self.wire = wire
        self.source = source
        self.end: End | None = None
        """Where it leads to; None until there is somebody, or when nobody is there any more."""
        self.last = 0.0
        """When the last piece comes, which nothing overtakes."""

    def depart(self, at: float, data: bytes) -> None:
        """Sends what a server has written."""
        wire = self.wire
        if wire.lost:
            return
        if wire.is_cut:
            wire.stall(at, self, data)
            return
        self.last = arrival = max(self.last, at + wire.latency)
        wire.network.engine.at(arrival, self._arrive, data)

    def _arrive(self, data: bytes) -> None:
        if self.end is not None and not self.wire.lost:
            self.end.arrive(data)


class Wire:
    """A connection between two servers."""

    __slots__ = ("back", "dialler", "forth", "latency", "lost", "network", "stalled", "stalled_at", "target")

    def __init__(self, network: Network, dialler: Host, target: Host) -> None:
        self.network = network
        self.dialler = dialler
        self.target = target
        self.latency = network.latency(dialler.number, target.number)
        self.forth = Way(self, dialler)
        self.back = Way(self, target)
        self.lost = False
        self.stalled: list[tuple[Way, bytes]] = []
        """What was written during a partition, and is not there yet."""
        self.stalled_at = 0.0
        dialler.wires.add(self)
        target.wires.add(self)

    @property
    def is_cut(self) -> bool:
        return self.network.is_cut(self.dialler.number, self.target.number)

    def stall(self, at: float, way: Way, data: bytes) -> None:
        """Keeps what cannot come now; for 30 s at most."""
        if not self.stalled:
            self.stalled_at = at
            self.network.engine.at(at + UNACKNOWLEDGED_S, self._unacknowledged, at)
        self.stalled.append((way, data))

    def _unacknowledged(self, since: float) -> None:
        if self.stalled and self.stalled_at == since:
            self.lose()

    def silent(self, since: float) -> None:
        """Loses the connection if the partition that began then still lasts."""
        if self.is_cut and self.network.cut_at == since:
            self.lose()

    def lose(self) -> None:
        """Both ends see that the other one is gone."""
        self.close(ConnectionResetError("the other end is silent"), 0.0)

    def close(self, error: Exception | None, after_s: float, by: Host | None = None) -> None:
        """Ends the connection; the other end, or both, are told after some time."""
        if self.lost:
            return
        self.lost = True
        self.stalled.clear()
        self.dialler.wires.discard(self)
        self.target.wires.discard(self)
        for way in (self.forth, self.back):
            end, way.end = way.end, None
            if end is not None and (by is None or way.source is by):
                self.network.engine.at(self.network.engine.now + after_s, end.cut, error)

    def heal(self, now: float) -> None:
        """What stalled comes with the next packet that is sent again."""
        if not self.stalled:
            return
        pause = RESEND_S
        again = self.stalled_at + pause
        while again < now:
            pause *= 2
            again += pause
        stalled, self.stalled = self.stalled, []
        for way, data in stalled:
            way.depart(again, data)


class Network:
    """All servers' connections.

    Args:
        engine: the time.
        latency: from one server to another, and back the same.
        random: for the times of keepalives.
    """

    def __init__(self, engine: Engine, latency: Latency, random: Random) -> None:
        self.engine = engine
        self.latency = latency
        self.hosts: dict[str, Host] = {}
        self.dials = array("d")
        """When servers were dialled."""
        self.refused = 0
        """How many dials met a full queue of connections to be accepted."""
        self.cut_at = 0.0
        self._random = random
        self._away: frozenset[int] = frozenset()

    def is_cut(self, one: int, other: int) -> bool:
        """Whether a partition is between two servers."""
        away = self._away
        return bool(away) and (one in away) != (other in away)

    def partition(self, away: frozenset[int]) -> None:
        """Cuts some servers off from all others."""
        self._away = away
        self.cut_at = now = self.engine.now
        wires = {wire: None for number in sorted(away) for wire in self._wires_of(number)}
        for wire in wires:
            if wire.is_cut:
                # The last packet was at most that long ago, or there was none for longer.
                self.engine.at(now + SILENT_S - self._random.uniform(0, IDLE_S), wire.silent, now)

    def _wires_of(self, number: int) -> list[Wire]:
        wires = self.hosts[name_of(number)].wires
        return sorted(wires, key=lambda wire: (wire.dialler.number, wire.target.number, wire.forth.last))

    def heal(self) -> None:
        """Ends the partition."""
        away, self._away = self._away, frozenset()
        now = self.engine.now
        for number in sorted(away):
            for wire in self._wires_of(number):
                wire.heal(now)

    async def dial(self, source: Host, key: str, timeout_s: float) -> Wire:
        """Opens a connection.

        Raises:
            ServerUnreachable: there is no answer in time.
        """
        engine = self.engine
        target = self.hosts[key]
        self.dials.append(engine.now)
        deadline = engine.now + timeout_s
        for pause in SYN_AGAIN_S:
            if engine.now + pause >= deadline:
                break
            if pause:
                await asyncio.sleep(pause)
            if self.is_cut(source.number, target.number):
                continue
            wire = Wire(self, source, target)
            await asyncio.sleep(wire.latency)
            if not target.knock(wire):
                self.refused += 1
                wire.close(None, 0.0, source)
                continue
            await asyncio.sleep(wire.latency)
            return wire
        await asyncio.sleep(max(0.0, deadline - engine.now))
        raise ServerUnreachable("the connection timed out")


def name_of(number: int) -> str:
    """Returns a server's name."""
    return f"s{number:05}"
