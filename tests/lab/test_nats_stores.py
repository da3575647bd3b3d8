"""Our stores keep what they acknowledged, once, whatever a seed lets happen to NATS."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from random import Random
from typing import TypeVar

import pytest

from bester.bus.connection import Bus
from bester.bus.options import BusOptions
from bester.errors import Overloaded
from bester.lab.cluster import LabNats
from bester.lab.nats import USUAL, Fate, NatsCluster
from bester.lab.world import World
from bester.store.jetstream.leases import JetStreamLeases
from bester.store.jetstream.messages import JetStreamMessages
from bester.store.jetstream.names import Names
from bester.store.jetstream.partitions import Layout
from bester.store.ports import Letter, MailboxBounds, Outgoing

NOW = 1_000_000.0
BOUNDS = MailboxBounds(10**6, 10**9, 1e7)
PLENTY = 10**9
LEASE_S = 3
T = TypeVar("T")


class Fates:
    """Decides the fates of requests at random."""

    def __init__(self, random: Random) -> None:
        self.rate = 0.0
        self._random = random

    def __call__(self, subject: str) -> Fate:
        if self._random.random() >= self.rate:
            return USUAL
        late = Fate(delay_s=self._random.uniform(0.05, 4.0))
        return self._random.choice([Fate(lost=True), Fate(ignored=True), Fate(nobody=True), late])


async def unless_overloaded(what: Awaitable[T]) -> T | None:
    try:
        return await what
    except Overloaded:
        return None


class Node:
    """A node's stores, and what it was told about its letters, its outgoing messages and its lease."""

    def __init__(self, name: str, random: Random) -> None:
        self.name = name
        self.stored: dict[str, bool] = {}
        """The letters that it deposited, and whether it was told that they are there."""
        self.removed: dict[str, bool] = {}
        self.queued: dict[str, int | None] = {}
        """The positions of its outgoing messages; None: it was not told."""
        self.lease_until = 0.0
        self._random = random

    async def open(self, urls: tuple[str, ...], layout: Layout) -> None:
        clock = asyncio.get_running_loop().time
        self.bus = Bus(BusOptions(urls), self.name)
        await self.bus.open()
        self.messages = JetStreamMessages(self.bus, Names("test"), layout, clock)
        self.leases = JetStreamLeases(self.bus, Names("test"), layout.replicas)
        await self.messages.open()
        await self.leases.open()
        if self._random.random() < 0.5:  # it publishes in batches
            for stream in (*self.messages.letters.streams, self.messages.outgoing):
                stream.publisher.message_s = 1.0

    async def play(self, others: list[Node]) -> None:
        await asyncio.gather(self._deposit(), self._enqueue(), self._remove(), self._lead(others))

    async def _deposit(self) -> None:
        for turn in range(12):
            ids = [f"{self.name}-{turn}-{number}" for number in range(self._random.randrange(1, 8))]
            self.stored |= dict.fromkeys(ids, False)
            letters = [Letter("user", id, "t", id.encode()) for id in ids]
            done = await unless_overloaded(self.messages.deposit(letters, BOUNDS, NOW))
            if done is not None:
                assert done == [None] * len(ids)
                self.stored |= dict.fromkeys(ids, True)
            await asyncio.sleep(self._random.random())

    async def _enqueue(self) -> None:
        for turn in range(10):
            ids = [f"{self.name}-{turn}-{number}" for number in range(self._random.randrange(1, 5))]
            messages = [Outgoing("host:1", id, "t", b"{}", 0) for id in ids]
            positions = await unless_overloaded(self.messages.enqueue(messages, NOW))
            self.queued |= dict(zip(ids, positions, strict=True)) if positions else dict.fromkeys(ids)
            await asyncio.sleep(self._random.random())

    async def _remove(self) -> None:
        for _ in range(8):
            await asyncio.sleep(1.5 * self._random.random())
            there = [id for id, sure in self.stored.items() if sure and id not in self.removed]
            some = there[: self._random.randrange(4)]
            self.removed |= dict.fromkeys(some, False)
            with suppress(Overloaded):
                await self.messages.remove_letters([("user", id) for id in some])
                self.removed |= dict.fromkeys(some, True)

    async def _lead(self, others: list[Node]) -> None:
        clock = asyncio.get_running_loop().time
        for _ in range(12):
            asked = clock()
            lease = await unless_overloaded(self.leases.take("job", self.name, LEASE_S))
            if lease is not None and lease.node == self.name:
                self.lease_until = asked + LEASE_S
                if self.lease_until > clock():
                    assert all(one.lease_until <= clock() for one in others if one is not self)
                if self._random.random() < 0.5:
                    self.lease_until = 0.0
                    await unless_overloaded(self.leases.give_back(lease))
            await asyncio.sleep(2 * self._random.random())


async def trouble(cluster: NatsCluster, servers: list[LabNats], random: Random) -> None:
    names = [one.server.name for one in servers]
    for name in names:
        cluster.lag(name, random.choice([0.0, 0.2, 1.0]))
    for _ in range(6):
        await asyncio.sleep(3 * random.random())
        kind = random.choice(["kill", "away", "leader", "divide", "cut off"])
        if kind == "kill":
            server = random.choice(servers)
            server.kill()
            await asyncio.sleep(3 * random.random())
            await server.start()
        elif kind == "away":
            cluster.jetstream_away(5 * random.random())
        elif kind == "leader":
            cluster.leader_away(random.choice(list(cluster.leaders.streams)), 8 * random.random())
        elif kind == "divide" and len(servers) > 1:
            cluster.divide([random.choice(names)])
            await asyncio.sleep(8 * random.random())
            cluster.heal()
        else:
            random.choice(servers).server.cut_off("node1")


def played(seed: int) -> tuple[float, list[str]]:
    """Returns when a play ended, and the letters that are left, in their order."""
    world = World(seed)
    random, fates = world.random("test"), Fates(world.random("fates"))

    async def play() -> tuple[float, list[str]]:
        cluster = NatsCluster(world.random("NATS"), world.wall, fates=fates)
        servers = [LabNats(world, cluster, f"nats{number}") for number in range(random.choice([1, 3]))]
        for server in servers:
            await server.start()
        urls = tuple(one.url for one in servers)
        layout = Layout(len(servers), random.choice([1, 3]))
        nodes = [Node(f"node{number}", Random(random.random())) for number in range(2)]
        processes = [world.machine(one.name).process(one.name) for one in nodes]
        for node, process in zip(nodes, processes, strict=True):
            await process.call(node.open(urls, layout))
        fates.rate = random.choice([0.02, 0.1, 0.4])
        playing = [process.call(node.play(nodes)) for node, process in zip(nodes, processes, strict=True)]
        await asyncio.gather(trouble(cluster, servers, random), *playing)
        fates.rate = 0.0
        await asyncio.sleep(30)
        for server in servers:
            cluster.lag(server.server.name, 0.0)
        letters = await processes[0].call(checked(nodes))
        for node, process in zip(nodes, processes, strict=True):
            await process.call(node.bus.close())
        return world.loop.time(), letters

    return world.run(play())


async def checked(nodes: list[Node]) -> list[str]:
    """Returns the letters that are there, after it has checked them and the outgoing messages."""
    messages = nodes[0].messages
    letters = [one.delivery_id for one in await messages.read_mailbox("user", 0, 10_000, PLENTY, NOW)]
    queued = {one.message.message_id: one.position for one in await messages.list_queue(limit=10_000)}
    assert len(letters) == len(set(letters))
    for node in nodes:
        for id, sure in node.stored.items():
            if id in node.removed:
                assert not (node.removed[id] and id in letters)
            else:
                assert id in letters or not sure
        for id, position in node.queued.items():
            assert position is None or queued[id] == position
    return letters


@pytest.mark.parametrize("seed", range(6))
def test_what_was_acknowledged_is_there_once(seed: int) -> None:
    _, letters = played(seed)
    assert letters


def test_the_same_seed_is_the_same_play() -> None:
    assert played(1) == played(1)
