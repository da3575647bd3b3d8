"""The servers of a plan as they run: single ones, and clusters with their NATS servers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
from contextvars import Context
from random import Random
from sqlite3 import DatabaseError, connect
from typing import Any

from bester.bus.connection import Bus
from bester.bus.options import BusOptions
from bester.errors import BesterError
from bester.lab.cluster import LabCluster, LabNats
from bester.lab.machine import Machine
from bester.lab.nats.faults import USUAL, Fate
from bester.lab.network import Link
from bester.lab.server import LabServer
from bester.store.jetstream.messages import JetStreamMessages
from bester.store.jetstream.names import Names
from bester.store.jetstream.partitions import Layout
from bester.timeouts import within
from lab.invariants import Left
from lab.keeper import Keeper
from lab.plan import Site, account_name, server_name
from lab.stage import Stage

MANY = 1_000_000
READ_S = 60.0
"""How long it may take to read what is left in NATS."""
LATE_S = (0.05, 4.0)


class NatsKeeper:
    """Keeps one NATS server running."""

    def __init__(self, stage: Stage, lab: LabNats) -> None:
        self._stage = stage
        self.lab = lab
        self._down_until = 0.0

    def kill(self, for_s: float) -> None:
        """Ends it as ``kill -9`` does, for so long."""
        loop = self._stage.world.loop
        self._down_until = self._stage.now + for_s
        self.lab.kill()
        loop.call_later(for_s, self._back, context=Context())

    def _back(self) -> None:
        if self._stage.now >= self._down_until:
            self.up()

    def up(self) -> None:
        """Lets it come back now."""
        if self.lab.process is None or not self.lab.process.alive:
            self._stage.world.loop.create_task(self.lab.start(), context=Context())


class Troubles:
    """Decides the fates of requests to JetStream; as usual, until :attr:`rate` is set."""

    def __init__(self, chance: Random) -> None:
        self.rate = 0.0
        """The share of requests that something happens to."""
        self._chance = chance

    def __call__(self, subject: str) -> Fate:
        chance = self._chance
        if not self.rate or chance.random() >= self.rate:
            return USUAL
        late = Fate(delay_s=chance.uniform(*LATE_S))
        return chance.choice([Fate(lost=True), Fate(ignored=True), Fate(nobody=True), late])


class SitePlayer:
    """One server of the plan: its processes, whose keepers start them again, and what they leave on disk.

    Args:
        stage: the play.
        index: the server's place in the plan.
        settings: more of its configuration than the plan has.
    """

    def __init__(self, stage: Stage, index: int, settings: dict[str, Any]) -> None:
        world, plan = stage.world, stage.plan
        self._stage = stage
        self.index = index
        self.site: Site = plan.servers[index]
        name = server_name(index)
        self.cluster: LabCluster | None = None
        self.nats: list[NatsKeeper] = []
        self.troubles = Troubles(world.random(f"fates of {name}"))
        if self.site.nodes:
            self.cluster = LabCluster(
                world, name, self.site.nodes, self.site.nats, settings, proven=plan.proven, fates=self.troubles
            )
            self.nats = [NatsKeeper(stage, one) for one in self.cluster.nats]
            self.labs = self.cluster.nodes
        else:
            self.labs = [LabServer(world, name, settings, proven=plan.proven)]
        for lab in self.labs:
            lab.configure(self.site.settings)
        self.keepers = [Keeper(stage, index, lab) for lab in self.labs]
        self.join_up()

    @property
    def host(self) -> str:
        """What clients connect to."""
        return self.labs[0].machine.address if self.cluster is None else self.cluster.name

    @property
    def machines(self) -> list[Machine]:
        """Those of its nodes."""
        return [lab.machine for lab in self.labs]

    def join_up(self) -> None:
        """Connects its nodes with NATS as within one house, whatever the network is like elsewhere."""
        for machine in self.machines:
            for nats in self.nats:
                self._stage.world.network.set_link(machine, nats.lab.machine, Link())

    def know(self, others: Sequence[SitePlayer]) -> None:
        """Tells it where other servers are."""
        for lab in self.labs:
            lab.know(*(other.cluster or other.labs[0] for other in others))

    async def start_nats(self) -> None:
        """Starts its NATS servers, if it has any."""
        for one in self.nats:
            await one.lab.start()

    # -- at the end ----------------------------------------------------------------------------------------------

    async def left(self) -> Left:
        """Returns what it has on disk; nothing of it runs any more, but for NATS."""
        return self._left_in_file() if self.cluster is None else await self._left_in_nats(self.cluster)

    def _left_in_file(self) -> Left:
        path = self.labs[0].folder / "bester.db"
        try:
            with closing(connect(path)) as database:
                letters = database.execute("SELECT username, delivery_id, data FROM letter").fetchall()
                outgoing = database.execute("SELECT destination, dead, data FROM outgoing").fetchall()
                problems = [row[0] for row in database.execute("PRAGMA integrity_check") if row[0] != "ok"]
        except DatabaseError as error:
            return Left([], [], [repr(error)])
        return Left(letters, outgoing, problems)

    async def _left_in_nats(self, cluster: LabCluster) -> Left:
        process = cluster.nats[0].machine.process(f"reader of {cluster.name}")
        try:
            async with within(READ_S):
                return await process.call(self._read(cluster))
        except (BesterError, TimeoutError) as error:
            return Left([], [], [f"NATS cannot be read: {error!r}"])
        finally:
            process.kill()

    async def _read(self, cluster: LabCluster) -> Left:
        bus = Bus(BusOptions((cluster.nats[0].url,)), "reader")
        await bus.open()
        clock = asyncio.get_running_loop().time
        layout = Layout(len(cluster.nats) if len(cluster.nats) in (3, 5) else 1)
        store = JetStreamMessages(bus, Names(cluster.name), layout, clock)
        await store.open()
        letters = [
            (name, letter.delivery_id, letter.data)
            for name in (account_name(at) for at in range(len(self._stage.plan.accounts)))
            for letter in await store.read_mailbox(name, 0, MANY, 1 << 40, 0.0)
        ]
        rows = await store.list_queue(limit=MANY)
        await store.close()
        await bus.close()
        return Left(letters, [(row.message.destination, int(row.dead), row.message.data) for row in rows], [])
