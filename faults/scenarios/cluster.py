"""Nodes of one server, and the NATS servers between them, that are killed in turns under load.

A ``once`` message needs a write, because its report is kept; while the stream of reports has no leader, it waits. NATS
takes 4 to 9 s to elect one, which cannot be configured. A message without ``once`` between clients that are connected
needs no write, and so never waits for that.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from faults.ledger import Ledger
from faults.nats import Nats, nats_cluster
from faults.players import Handler, Player, Receiver, Sender
from faults.plays import PATIENCE_S, judge
from faults.run import Run
from faults.servers import Besterd, config

NODES = 3
FULL_S, QUICK_S = 300.0, 25.0
EVERY_S = 10.0
"""The pause between kills, in which an election ends."""
DOWN_S = 1.0
"""How long a server that was killed stays away."""
RATE = 200
"""``once`` messages in a second, of all senders."""
PLAIN_RATE = 50
"""Messages without ``once`` in a second."""
TICK_S = 0.05
COUNTED_S = 0.1
"""The shortest wait that counts."""
BEFORE_S = 0.5
"""A sender's last good news may be so much older than the kill that ends them, on a busy machine."""
NODE, NATS = "node", "NATS server"
BACK_S = {("once", NODE): 5.0, ("plain", NODE): 5.0, ("plain", NATS): 5.0, ("once", NATS): 10.0}
"""The last one is an election, and a second for what has waited."""


class Front:
    """A front of the nodes: each connection goes to the next node that is up."""

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
    """Records how long senders waited: for a good report of any message, and for the last report of each."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}
        self._waits: list[tuple[str, float, float]] = []
        """Waits: the kind of sender, their beginning, and how long they took."""

    def reported_good(self, key: str, status: str) -> None:
        super().reported_good(key, status)
        sender = key.rpartition(".")[0]
        self.waited(sender, self._last.get(sender, time.monotonic()))
        self._last[sender] = time.monotonic()

    def waited(self, sender: str, since: float) -> None:
        """Records that a sender has waited since a time until now."""
        wait_s = time.monotonic() - since
        if wait_s >= COUNTED_S:
            self._waits.append((sender.rstrip("0123456789"), since, wait_s))

    def longest(self, kind: str, since: float, until: float) -> float:
        """Returns the longest wait that began between these."""
        return max((wait_s for of, at, wait_s in self._waits if of == kind and since <= at < until), default=0.0)


class Once(Sender):
    """Sends ``once`` messages, and repeats each until there is a report on it."""

    ledger: Timed

    def __init__(self, server: Front, ledger: Timed, name: str, window: int = 16) -> None:
        super().__init__(server, ledger, name, window)
        self._begun: dict[str, float] = {}

    def _fill(self) -> None:
        super()._fill()
        now = time.monotonic()
        for key in self.open:
            self._begun.setdefault(key, now)

    def _take(self, batch: list[Any]) -> None:
        super()._take(batch)
        for key in self._begun.keys() - self.open.keys():
            self.ledger.waited(self.name, self._begun.pop(key))


class Plain(Once):
    """Sends messages without ``once``, each one time; the outcome of those that a lost connection had is unknown."""

    def __init__(self, server: Front, ledger: Timed, name: str) -> None:
        super().__init__(server, ledger, name)
        self.once(False)

    async def connection(self) -> None:
        self.ledger.sent.difference_update(self.open)
        self._begun.clear()
        self.open.clear()
        await super().connection()

    def _take(self, batch: list[Any]) -> None:
        for message in batch:
            payload = message["payload"]
            key, error = payload.get("id"), payload.get("error")
            if key in self.open and error is not None and error["temporary"]:
                told = self.ledger.temporary
                told[error["code"]] = told.get(error["code"], 0) + 1
                self.ledger.sent.discard(key)
                del self.open[key]
        super()._take(batch)


class Lateness:
    """Measures how late this program itself is, which shows how much of a wait is the machine's."""

    def __init__(self) -> None:
        self._late: list[tuple[float, float]] = []

    async def watch(self) -> None:
        """Looks again and again, until it is cancelled."""
        while True:
            due = time.monotonic() + TICK_S
            await asyncio.sleep(TICK_S)
            self._late.append((due, time.monotonic() - due))

    def worst(self, since: float, until: float) -> float:
        return max((late for at, late in self._late if since <= at < until), default=0.0)


async def cluster(run: Run) -> None:
    """The whole scenario."""
    await killed(run, QUICK_S if run.quick else FULL_S, EVERY_S)


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
    ledger, front, late = Timed(), Front(nodes), Lateness()
    senders = [Once(front, ledger, f"once{n}") for n in range(4)]
    plain = [Plain(front, ledger, f"plain{n}") for n in range(2)]
    here = [Receiver(front, ledger, f"here{n}") for n in range(4)]
    comes = lambda: run.random.randint(20, 200)  # noqa: E731
    away = [Receiver(front, ledger, f"away{n}", comes) for n in range(2)]
    receivers = [*here, *away]
    players: list[Player] = [*senders, *plain, *receivers, *(Handler(node, ledger, ("chat",)) for node in nodes)]
    front.up.set()
    for player in players:
        run.spawn(player.play())
    async with asyncio.timeout(PATIENCE_S):
        for player in players:
            await player.was_in.wait()
    beside = [
        run.spawn(_load(senders, [one.name for one in receivers], RATE)),
        run.spawn(_load(plain, [one.name for one in here], PLAIN_RATE)),
        run.spawn(late.watch()),
    ]
    began = time.monotonic()
    kills: list[tuple[float, str]] = []
    elections: list[float] = []
    for number in itertools.count():
        kind = NATS if number % 2 else NODE
        which = number // 2 % NODES
        since = time.monotonic()
        kills.append((since - BEFORE_S, kind))
        run.say(f"{kind} {which + 1} is killed")
        one: Nats | Besterd = servers[which] if number % 2 else nodes[which]
        at = time.time()
        await one.kill()
        await asyncio.sleep(DOWN_S)
        await one.start()
        await asyncio.sleep(max(0.0, since + every_s - time.monotonic()))
        if number % 2:
            elections += [elected - at for server in servers for elected in server.elections(at)]
        if time.monotonic() - began >= seconds:
            break
    for task in beside:
        if task.done():
            task.result()  # it broke off
        task.cancel()
    for sender in (*senders, *plain):
        async with asyncio.timeout(PATIENCE_S):
            await sender.idle.wait()
    for receiver in receivers:
        receiver.stay()
    if not await ledger.all_came(PATIENCE_S):
        run.notes.append(f"{run.scenario}: not everything came within {PATIENCE_S:g} s.")
    judge(run, "", [ledger])
    _judge_waits(run, ledger, late, [*kills, (time.monotonic(), "")])
    if elections:
        run.notes.append(
            f"{run.scenario}: NATS took {min(elections):.1f} to {max(elections):.1f} s for a new leader of a stream, "
            f"{len(elections)} times, by its logs."
        )


def _judge_waits(run: Run, ledger: Timed, late: Lateness, kills: Sequence[tuple[float, str]]) -> None:
    """Notes the longest waits of each kind of sender after each kind of kill: they count for the last one before."""
    windows = [(kind, since, until) for (since, kind), (until, _) in itertools.pairwise(kills)]
    for (sender, kind), bound_s in BACK_S.items():
        found = [ledger.longest(sender, since, until) for of, since, until in windows if of == kind]
        what = "needs a write (once)" if sender == "once" else "needs none"
        run.at_most(
            f"the longest wait after a {kind} was killed, for what {what}", max(found, default=0.0), bound_s, "s"
        )
        if found:
            run.notes.append(
                f"{run.scenario}: after a {kind} was killed, what {what} waited at most "
                f"{', '.join(f'{wait_s:.1f}' for wait_s in found)} s."
            )
    for kind in (NODE, NATS):
        worst = max((late.worst(since, until) for of, since, until in windows if of == kind), default=0.0)
        run.notes.append(
            f"{run.scenario}: after a {kind} was killed, a timer of {TICK_S * 1000:g} ms in this program was late by "
            f"up to {worst:.2f} s."
        )


async def _load(senders: Sequence[Sender], names: list[str], rate: int) -> None:
    """Lets the senders send at a rate, and less if too many messages have no report."""
    turns = itertools.cycle([(sender, name) for name in names for sender in senders])
    began, given = time.monotonic(), 0
    while True:
        wanted = int((time.monotonic() - began) * rate)
        for sender, name in itertools.islice(turns, wanted - given):
            if len(sender.todo) < rate:
                sender.give(name)
        given = wanted
        await asyncio.sleep(TICK_S)
