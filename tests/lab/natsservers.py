"""Simulated NATS servers that listen on loopback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from tests.ports import free_ports

from bester.bus.connection import Bus
from bester.bus.options import BusOptions
from bester.lab.nats import NatsCluster, NatsServer


class Running:
    """A cluster that listens on loopback."""

    def __init__(self, cluster: NatsCluster, count: int) -> None:
        self.cluster = cluster
        self.servers = [NatsServer(cluster, f"nats{number or ''}") for number in range(count)]
        self.ports = free_ports(count)
        self.urls = tuple(f"nats://127.0.0.1:{port}" for port in self.ports)
        self._listening: dict[str, asyncio.Server] = {}

    async def start(self, server: NatsServer) -> None:
        """Starts a server, or starts it again."""
        server.start()
        port = self.ports[self.servers.index(server)]
        listening = asyncio.get_running_loop().create_server(server.make_protocol, "127.0.0.1", port)
        self._listening[server.name] = await listening

    def kill(self, server: NatsServer) -> None:
        """Ends a server, and lets nobody connect to it."""
        listening = self._listening.pop(server.name, None)
        if listening is not None:
            listening.close()
            server.stop()


@asynccontextmanager
async def running(count: int = 1, seed: int = 1, **options: Any) -> AsyncIterator[Running]:
    """Runs simulated servers."""
    made = Running(NatsCluster(Random(seed), time.time, **options), count)
    for server in made.servers:
        await made.start(server)
    try:
        yield made
    finally:
        for server in made.servers:
            made.kill(server)


@asynccontextmanager
async def connected(*urls: str) -> AsyncIterator[Bus]:
    bus = Bus(BusOptions(urls), "test")
    await bus.open()
    try:
        yield bus
    finally:
        await bus.close()
