"""NATS servers in a simulated world, and the nodes of one Bester server that they connect."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from bester.lab.machine import Machine
from bester.lab.nats.connection import Settings
from bester.lab.nats.faults import Fates, as_usual
from bester.lab.nats.server import NatsCluster, NatsServer
from bester.lab.process import Process
from bester.lab.server import PORT, TLS_PORT, LabServer
from bester.lab.world import World

NATS_PORT = 4222
MAX_PAYLOAD = 2 * 1024 * 1024


class LabNats:
    """One simulated NATS server, on a machine of its own.

    Args:
        world: its world.
        cluster: what the NATS servers share.
        name: its name, and its machine's.
    """

    def __init__(self, world: World, cluster: NatsCluster, name: str) -> None:
        self._world = world
        self.machine: Machine = world.machine(name)
        self.server = NatsServer(cluster, name, f"{self.machine.address}:{NATS_PORT}")
        self.process: Process | None = None
        self._starts = 0

    @property
    def url(self) -> str:
        """Its address for the configuration of a node."""
        return f"nats://{self.machine.address}:{NATS_PORT}"

    async def start(self) -> None:
        """Starts it; what was acknowledged before is there."""
        self._starts += 1
        self.process = self.machine.process(f"{self.machine.name}#{self._starts}")
        self._world.trace.note(f"{self.process} starts")
        await self.process.call(self._listen())

    async def _listen(self) -> None:
        self.server.start()
        await asyncio.get_running_loop().create_server(self.server.make_protocol, self.machine.address, NATS_PORT)

    def kill(self) -> None:
        """Ends it as ``kill -9`` does."""
        if self.process is not None and self.process.alive:
            self._world.trace.note(f"{self.process} is killed")
            self.process.enter().run(self.server.stop)
            self.process.kill()


class LabCluster:
    """A Bester server of several nodes, and its NATS servers.

    The server's name is a host name too, which leads to any of the nodes.

    Args:
        world: its world.
        name: the server's name.
        nodes: how many nodes.
        nats: how many NATS servers.
        overrides: more of the nodes' configuration.
        proven: whether the nodes prove their server's name to other servers.
        fates: what happens to each request to JetStream.
    """

    def __init__(
        self,
        world: World,
        name: str,
        nodes: int = 3,
        nats: int = 1,
        overrides: Mapping[str, Any] | None = None,
        *,
        proven: bool = False,
        fates: Fates = as_usual,
    ) -> None:
        self.name = name
        settings = Settings(max_payload=MAX_PAYLOAD)
        self.shared = NatsCluster(world.random("NATS"), world.wall, fates=fates, settings=settings)
        self.nats = [LabNats(world, self.shared, f"nats{number}.{name}") for number in range(1, nats + 1)]
        self.nodes = [
            LabServer(world, name, overrides, proven=proven, machine=f"node{number}.{name}")
            for number in range(1, nodes + 1)
        ]
        world.network.alias(name, *(node.machine for node in self.nodes))
        for number, node in enumerate(self.nodes):
            nearest = self.nats[number % nats :] + self.nats[: number % nats]
            known = {"nats": [one.url for one in nearest], "node": f"node{number + 1}"}
            node.configure({"cluster": known | ({"replicas": nats} if nats in (3, 5) else {})})

    @property
    def address(self) -> str:
        """Its address for other servers."""
        return f"{self.name}:{PORT if self.fingerprint is None else TLS_PORT}"

    @property
    def fingerprint(self) -> str | None:
        """What its nodes prove its name by."""
        return self.nodes[0].fingerprint

    async def start(self) -> None:
        """Starts the NATS servers, then the nodes.

        Raises:
            bester.errors.BadConfiguration: a node cannot start.
        """
        for nats in self.nats:
            await nats.start()
        for node in self.nodes:
            await node.start()
