"""Simulated NATS servers that listen on loopback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from bester.bus.connection import Bus
from bester.bus.options import BusOptions
from bester.lab.nats import NatsCluster, NatsServer


class Running:
    """A cluster that listens on loopback."""

    def __init__(self, cluster: NatsCluster, servers: list[NatsServer], ports: list[int]) -> None:
        self.cluster = cluster
        self.servers = servers
        self.ports = ports
        self.urls = tuple(f"nats://127.0.0.1:{port}" for port in ports)

    def restart(self) -> None:
        """Kills all servers, and starts them again."""
        for server in self.servers:
            server.stop()
        for server in self.servers:
            server.start()


@asynccontextmanager
async def running(count: int = 1, seed: int = 1, **options: Any) -> AsyncIterator[Running]:
    """Runs simulated servers."""
    cluster = NatsCluster(Random(seed), time.time, **options)
    servers = [NatsServer(cluster, f"nats{number or ''}") for number in range(count)]
    loop = asyncio.get_running_loop()
    listening = [await loop.create_server(server.make_protocol, "127.0.0.1", 0) for server in servers]
    for server in servers:
        server.start()
    try:
        yield Running(cluster, servers, [one.sockets[0].getsockname()[1] for one in listening])
    finally:
        for server, listener in zip(servers, listening, strict=True):
            listener.close()
            server.stop()


@asynccontextmanager
async def connected(*urls: str) -> AsyncIterator[Bus]:
    bus = Bus(BusOptions(urls), "test")
    await bus.open()
    try:
        yield bus
    finally:
        await bus.close()
