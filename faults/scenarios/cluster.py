"""Nodes of one server, and the NATS servers between them, that are killed in turns under load."""

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path

from faults.ledger import Ledger
from faults.nats import nats_cluster
from faults.players import Handler, Player, Receiver, Sender
from faults.plays import PATIENCE_S, judge
from faults.run import Run
from faults.servers import Besterd, config

NODES = 3
FULL_S, QUICK_S = 300.0, 15.0
EVERY_S, QUICK_EVERY_S = 10.0, 5.0
DOWN_S = 1.0
"""How long what was killed stays away."""
RATE = 200
"""Messages in a second, of all senders."""
TICK_S = 0.05
BACK_S = {"node": 5.0, "NATS server": 12.0}
"""A stream whose leader has died has none for 4 to 9 s, which NATS does not let anyone configure; asking again and
keeping is the rest."""


class Front:
    """What stands before the nodes: whoever connects comes to one that is there, another one each time."""

    def __init__(self, nodes: list[Besterd]) -> None:
        self._nodes = nodes
        self._turns = itertools.count()
        self.up = asyncio.Event()

    def _next(self) -> Besterd:
        there = [node for node in self._nodes if node.up.is_set()] or self._nodes
        return there[next(self._turns) % len(there)]

    @property
    def clients(self) -> Path:
        return self._next().clients

    @property
    def handlers(self) -> Path:
        return self._next().handlers


class Timed(Ledger):
    """Knows how long each sender waited for good news."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}
        self.pauses: list[tuple[float, float]] = []
        """When a sender had its last good news, and how long it was until the next ones; of a second and more."""

    def reported_good(self, key: str, status: str) -> None:
        super().reported_good(key, status)
        sender = key.rpartition(".")[0]
        now = time.monotonic()
        pause = now - self._last.get(sender, now)
        if pause >= 1.0:
            self.pauses.append((now - pause, pause))
        self._last[sender] = now

    def longest(self, since: float, until: float) -> float:
        """Returns the longest pause that began between these."""
        return max((pause for at, pause in self.pauses if since <= at < until), default=0.0)


async def cluster(run: Run) -> None:
    """The whole scenario."""
    await killed(run, QUICK_S if run.quick else FULL_S, QUICK_EVERY_S if run.quick else EVERY_S)


async def killed(run: Run, seconds: float, every_s: float) -> None:
    """Kills a node, then a NATS server, and so on; each is started again a second later."""
    servers = await nats_cluster(run)
    nodes = []
    for number in range(NODES):
        urls = [one.url for one in servers[number:] + servers[:number]]
        made = config(cluster={"nats": urls, "node": f"n{number}", "replicas": 3})
        nodes.append(run.server(run.folder(), made))
    for node in nodes:
        await node.start()
    ledger, front = Timed(), Front(nodes)
    senders = [Sender(front, ledger, f"s{n}", 16) for n in range(4)]
    here = [Receiver(front, ledger, f"here{n}") for n in range(4)]
    comes = lambda: run.random.randint(20, 200)  # noqa: E731
    away = [Receiver(front, ledger, f"away{n}", comes) for n in range(2)]
    receivers = [*here, *away]
    players: list[Player] = [*senders, *receivers, *(Handler(node, ledger, ("chat",)) for node in nodes)]
    front.up.set()
    for player in players:
        run.spawn(player.play())
    async with asyncio.timeout(PATIENCE_S):
        for player in players:
            await player.was_in.wait()
    load = run.spawn(_load(senders, [one.name for one in receivers]))
    began = time.monotonic()
    kills: list[tuple[float, str]] = []
    for number in itertools.count():
        kind = "NATS server" if number % 2 else "node"
        which = number // 2 % NODES
        since = time.monotonic()
        kills.append((since - TICK_S, kind))
        run.say(f"{kind} {which + 1} is killed")
        if number % 2:
            await servers[which].kill()
            await asyncio.sleep(DOWN_S)
            await servers[which].start()
        else:
            await nodes[which].kill()
            await asyncio.sleep(DOWN_S)
            await nodes[which].start()
        await asyncio.sleep(max(0.0, since + every_s - time.monotonic()))
        if time.monotonic() - began >= seconds:
            break
    load.cancel()
    for sender in senders:
        async with asyncio.timeout(PATIENCE_S):
            await sender.idle.wait()
    for receiver in receivers:
        receiver.stay()
    if not await ledger.all_came(PATIENCE_S):
        run.notes.append(f"{run.scenario}: not everything came within {PATIENCE_S:g} s.")
    worst = {kind: 0.0 for _, kind in kills}
    for (since, kind), (until, _) in itertools.pairwise([*kills, (time.monotonic(), "")]):
        worst[kind] = max(worst[kind], ledger.longest(since, until))
    judge(run, "", [ledger])
    for kind, pause_s in worst.items():
        run.at_most(f"a sender's longest wait for good news after a {kind} was killed", pause_s, BACK_S[kind], "s")


async def _load(senders: list[Sender], names: list[str]) -> None:
    """Lets the senders send as many in a second as they are to; what is not reported yet holds up what is new."""
    turns = itertools.cycle([(sender, name) for name in names for sender in senders])
    began, given = time.monotonic(), 0
    while True:
        wanted = int((time.monotonic() - began) * RATE)
        for sender, name in itertools.islice(turns, wanted - given):
            if len(sender.todo) < RATE:
                sender.give(name)
        given = wanted
        await asyncio.sleep(TICK_S)
