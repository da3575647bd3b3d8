"""Draws plans from seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

from lab.drawclusters import with_clusters
from lab.plan import LIES, Account, Errand, Fault, Hand, Message, Plan, Session, Site, Weather, account_name
from lab.trouble import HAND_KINDS, KINDS, SESSION_KINDS

TYPES = ("t0", "t1")
KIB = 1024


def draw(
    seed: int, wanted: Mapping[str, float] | None = None, points: tuple[str, ...] = (), *, clusters: bool = False
) -> Plan:
    """Returns the plan of a seed.

    Args:
        seed: the seed.
        wanted: by kind of fault, how much more often than others it is to be drawn.
        points: the named fault points.
        clusters: whether each plan has a cluster, unless it is too large; else some have one.
    """
    wanted = wanted or {}
    return with_clusters(_Drawing(seed, wanted, points).plan(), wanted, clusters)


class _Drawing:
    def __init__(self, seed: int, wanted: Mapping[str, float], points: tuple[str, ...]) -> None:
        self.seed = seed
        self.chance = chance = Random(f"plan {seed}")
        self.wanted = wanted
        self.points = points
        self.many = chance.random() < 0.03
        self.servers = chance.randint(10, 40) if self.many else chance.choices((1, 2, 3, 4, 5), (5, 6, 4, 2, 1))[0]
        self.length_s = chance.choice((3.0, 6.0, 10.0, 20.0, 40.0))
        self.weather = self._weather()
        # Where each byte costs a callback, there are few.
        fine = self.weather.mtu < 1000 or 0 < self.weather.read_bytes < 100
        self.sizes = (0, 0, 100, 1000, 3000) if fine else (0, 100, 5000, 60_000, 300_000)
        self.accounts: list[Account] = []
        self.sessions: list[Session] = []
        self.bursts = [self._time() for _ in range(chance.randint(1, 3))] if chance.random() < 0.3 and not fine else []
        """When most messages are sent."""
        self.spread_s = chance.choice((0.0, 0.5, 2.0))
        """How long that takes."""
        self.stream: tuple[int, Errand] | None = None
        """The session that sends them all, and what all are to do, where they go to one other server in a stream."""
        self.again = chance.choice((0.1, 0.1, 0.8))
        """How many of the messages are sent again after their report."""
        self.times: list[float] = []
        """When messages are sent."""

    def plan(self) -> Plan:
        chance = self.chance
        for server in range(self.servers):
            for _ in range(1 if self.many else chance.randint(1, 3)):
                self._account(server)
        if self.bursts and self.servers > 1 and chance.random() < 0.5:
            self.stream = self._stream()
        proven = self.servers > 1 and chance.random() < 0.6
        hands = tuple(one for server in range(self.servers) for one in self._hands(server))
        self.hand_count = len(hands)
        count = 40 if self.many else 150 if self.bursts else chance.choice((5, 20, 60, 150))
        messages = sorted((self._message() for _ in range(count)), key=lambda one: one.at)
        self.times = [message.at for message in messages]
        drawn = [one for _ in range(self._fault_count()) for one in self._faults()]
        if self.stream is not None:
            drawn += [self._cut_of_stream(self.stream) for _ in range(chance.randint(1, 3))]
        faults = sorted(drawn, key=lambda one: one.at)
        return Plan(
            seed=self.seed,
            servers=tuple(Site(self._settings()) for _ in range(self.servers)),
            hands=hands,
            accounts=tuple(self.accounts),
            sessions=tuple(self.sessions),
            messages=tuple(messages),
            faults=tuple(faults),
            weather=self.weather,
            proven=proven,
            names=chance.random() < 0.5,
            length_s=self.length_s,
        )

    def _settings(self) -> dict[str, Any]:
        chance = self.chance
        limits: dict[str, Any] = {"handlerTimeout": chance.choice((1, 3, 30))}
        federation: dict[str, Any] = {}
        if chance.random() < (0.4 if self.bursts else 0.1):
            # Fewer, and servers that send to each other in a circle wait for each other until federation.reportTimeout.
            limits["maxInFlight"] = chance.choice((4, 8, 16))
        if chance.random() < 0.1:
            limits["mailboxMessages"] = chance.choice((1, 5, 20))
        if chance.random() < 0.1:
            limits["maxHops"] = chance.choice((1, 3))
        if chance.random() < 0.1:
            federation["maxQueued"] = chance.choice((1, 5, 20))
        if chance.random() < 0.3:
            federation["retryMin"] = 0.05
        if chance.random() < 0.15 and self.weather.latency_s < 0.1:  # else no report would come in time, for ever
            federation["reportTimeout"] = chance.choice((0.5, 2))
        if chance.random() < 0.1:
            federation["idleTimeout"] = chance.choice((0.05, 0.5))
        return {"limits": limits, **({"federation": federation} if federation else {})}

    def _account(self, server: int) -> None:
        chance = self.chance
        index = len(self.accounts)
        self.accounts.append(Account(server))
        sure = chance.random() < 0.85
        for _ in range(chance.choices((1, 2, 3), (8, 2, 1))[0]):
            self.sessions.append(
                Session(
                    account=index,
                    library=chance.random() < 0.4,
                    ack=sure,
                    mail=chance.random() < 0.95,
                    away=self._away(),
                    slow_s=chance.choice((0.0, 0.0, 0.0, 0.0, 0.01, 0.2, 3.0)),
                )
            )

    def _away(self) -> tuple[tuple[float, float], ...]:
        chance = self.chance
        if chance.random() < 0.5:
            return ()
        times = sorted(self._time() for _ in range(2 * chance.randint(1, 3)))
        if chance.random() < 0.3:
            times[-1] = self.length_s
        return tuple(zip(times[::2], times[1::2], strict=True))

    def _time(self) -> float:
        return round(self.chance.uniform(0, self.length_s), 3)

    def _hands(self, server: int) -> list[Hand]:
        chance = self.chance
        hands = [self._hand(server, TYPES)]
        while chance.random() < 0.25 and not self.many:
            hands.append(self._hand(server, (chance.choice(TYPES),)))
        return hands

    def _hand(self, server: int, types: tuple[str, ...]) -> Hand:
        chance = self.chance
        return Hand(
            server=server,
            types=types,
            library=chance.random() < 0.3,
            concurrency=chance.choice((64, 64, 1, 3)) if self.stream is None else 64,
            late_s=chance.choice((0.0, 0.0, 0.0, 0.05, 0.5)) if self.stream is None else 0.0,
        )

    # -- messages ------------------------------------------------------------------------------------------------

    def _message(self) -> Message:
        chance = self.chance
        burst = chance.choice(self.bursts) if self.bursts and chance.random() < 0.8 else None
        if burst is not None and self.stream is not None:
            by, errand = self.stream
            return Message(at=self._time_in(burst), by=by, type=TYPES[0], errand=errand)
        by = chance.randrange(len(self.sessions)) if burst is None else int(burst * 1000) % len(self.sessions)
        home = self._home(by)
        return Message(
            at=self._time_of_message() if burst is None else self._time_in(burst),
            by=by,
            type=chance.choice(TYPES),
            errand=self._errand(home, chance.randint(0, 2)),
            once=chance.random() < 0.8,
            size=chance.choices(self.sizes, (20, 10, 3, 1, 0.3))[0],
            dry=chance.random() < 0.03,
            again=chance.random() < self.again,
        )

    def _stream(self) -> tuple[int, Errand]:
        chance = self.chance
        by = chance.randrange(len(self.sessions))
        home = self._home(by)
        other = chance.choice([server for server in range(self.servers) if server != home])
        return by, Errand(servers=(other,), then=Errand(clients=self._names(other)))

    def _home(self, session: int) -> int:
        return self.accounts[self.sessions[session].account].server

    def _time_in(self, burst: float) -> float:
        return round(burst + self.spread_s * self.chance.random(), 4)

    def _time_of_message(self) -> float:
        return round(self.chance.choice((self.length_s, self.length_s / 4)) * self.chance.random(), 3)

    def _errand(self, server: int | None, depth: int) -> Errand:
        chance = self.chance
        lie = ""
        if chance.random() < 0.06:
            lie = chance.choice(LIES)
        servers: tuple[int, ...] = ()
        handler = ""
        then = None
        if depth and self.servers > 1 and chance.random() < 0.7:
            servers = tuple(chance.sample(range(self.servers), chance.choice((1, 1, 1, min(2, self.servers)))))
            then = self._errand(servers[0] if len(servers) == 1 else None, depth - 1)
        elif depth and chance.random() < 0.3:
            handler = chance.choice(TYPES)
            then = self._errand(server, depth - 1)
        return Errand(
            wait_s=chance.choice((0.0, 0.0, 0.0, 0.01, 0.3)),
            clients=self._names(server),
            transient=chance.random() < 0.05,
            servers=servers,
            handler=handler,
            then=then,
            circle=len(servers) == 1 and chance.random() < 0.04,
            reply=chance.random() < 0.1,
            lie=lie,
        )

    def _names(self, server: int | None) -> tuple[str, ...]:
        chance = self.chance
        here = [account_name(at) for at, one in enumerate(self.accounts) if server is None or one.server == server]
        names = chance.sample(here, min(len(here), chance.choice((0, 1, 1, 1, 2))))
        if chance.random() < 0.03:
            names.append("nobody")
        return tuple(names)

    # -- faults --------------------------------------------------------------------------------------------------

    def _fault_count(self) -> int:
        return self.chance.choice((0, 1, 1, 2, 3, 5, 8))

    def _faults(self) -> Iterator[Fault]:
        """Yields a fault, and perhaps one that follows from it."""
        one = self._fault()
        yield one
        if one.kind == "clock" and self.chance.random() < 0.5:  # a start is when a wrong date does most
            yield Fault(at=one.at + 0.1, kind="kill", who=one.who, for_s=0.1)
        if one.kind in ("reset", "kill", "powerCut", "partition") and self.chance.random() < 0.2:
            at = one.at + self.chance.choice((1.5, one.for_s)) * self.chance.random()  # something waits on disk by then
            yield Fault(at=round(at, 4), kind="reload", who=self.chance.randrange(self.servers))

    def _cut_of_stream(self, stream: tuple[int, Errand]) -> Fault:
        """Returns a fault of the connections between the servers of a stream, while messages are under way."""
        by, errand = stream
        chance = self.chance
        after_s = chance.choice((0.02, 0.2, self.spread_s)) * chance.random()
        kind = chance.choice(("reset", "reset", "partition"))
        return Fault(round(chance.choice(self.bursts) + after_s, 4), kind, self._home(by), errand.servers[0], 0.1)

    def _time_of_fault(self) -> float:
        """Returns any time, or that of a message, so that it is under way."""
        if self.times and self.chance.random() < 0.5:
            return round(self.chance.choice(self.times) + self.chance.choice((0.01, 0.1)) * self.chance.random(), 4)
        return self._time()

    def _fault(self) -> Fault:
        chance = self.chance
        weights = [self.wanted.get(kind, 1.0) for kind in KINDS]
        kind = chance.choices(KINDS, weights)[0]
        return Fault(
            at=self._time_of_fault(),
            kind=kind,
            who=chance.randrange(self._how_many(kind)),
            other=chance.randrange(self.servers),
            for_s=round(chance.choice((0.0, 0.1, 1.0, 10.0, 40.0)) * chance.random(), 3),
            count=self._fault_size(kind),
            amount=self._amount(kind),
            point=chance.choice(self.points) if kind == "dieAt" and self.points else "",
        )

    def _how_many(self, kind: str) -> int:
        if kind in HAND_KINDS:
            return self.hand_count
        return len(self.sessions) if kind in SESSION_KINDS else self.servers

    def _fault_size(self, kind: str) -> int:
        chance = self.chance
        if kind in ("syncFails", "writeFails"):
            return chance.choice((1, 2, 5, 20))
        if kind == "dieAt":
            return chance.choice((1, 1, 2, 5))
        if kind == "diskFull":
            return chance.choice((0, 64 * KIB, 1024 * KIB))
        if kind == "slowLink":
            return chance.choice((0, 1, 100, 1400))
        return 0

    def _amount(self, kind: str) -> float:
        chance = self.chance
        if kind == "clock":
            return chance.choice((-3e7, -3600.0, 1.0, 90.0, 3600.0, 1e8))
        if kind == "slowLink":
            return chance.choice((0.02, 0.3, 3.0))
        if kind == "slowDisk":
            return chance.choice((0.01, 0.2, 2.0))
        return 0.0

    def _weather(self) -> Weather:
        chance = self.chance
        sync_s = chance.choice((0.0, 0.0, 0.005, 0.05, 0.5))
        grain_s = chance.choice((0.0, 0.0, 0.001, 0.02))
        if chance.random() < 0.5:
            return Weather(sync_s=sync_s, grain_s=grain_s)
        return Weather(
            latency_s=chance.choice((0.0001, 0.001, 0.02, 0.2)),
            jitter_s=chance.choice((0.0, 0.001, 0.05)),
            mtu=chance.choice((1 << 20, 1400, 100, 1 << 20)),
            bytes_per_s=chance.choice((0.0, 0.0, 1e6, 1e5)),
            read_bytes=chance.choice((0, 0, 40, 1000)),
            sync_s=sync_s,
            grain_s=grain_s,
        )
