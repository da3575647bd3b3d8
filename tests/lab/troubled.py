"""Plays with much that happens at once, for :mod:`tests.lab.test_same_trace`, and a program that prints a trace."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import sys
from collections.abc import Callable, Coroutine

from bester import Client, Handler, SendClients, SendServers
from bester.errors import BesterError
from bester.lab.cluster import LabCluster
from bester.lab.server import LabServer
from bester.lab.world import World
from bester.protocol.requests import Request

USERS, MESSAGES = 4, 5
ALL_USERS = [f"user{number}" for number in range(USERS)]


async def handle(server: LabServer, others: list[str]) -> None:
    """Attaches a handler that sends to everybody here and on the other servers, after a pause."""
    handler = Handler(address=server.handlers_path)

    @handler.on("chat")
    async def chat(request: Request) -> list[SendClients | SendServers]:
        await asyncio.sleep(0.001)
        return [SendServers(others, request.data, type="arrived"), SendClients(ALL_USERS, request.data)]

    @handler.on("arrived")
    def arrived(request: Request) -> SendClients:
        return SendClients(ALL_USERS, request.data)

    await handler.start()
    await asyncio.Event().wait()


async def use(server: LabServer, name: str) -> None:
    """Is a user: listens, and sends, whatever goes wrong."""
    async with Client(server.url(name)) as client:

        async def listen() -> None:
            async for _ in client:
                pass

        listening = asyncio.create_task(listen())
        for number in range(MESSAGES):
            with contextlib.suppress(BesterError):
                await client.send("chat", f"{name}@{server.name} {number}", once=True)
            await asyncio.sleep(0.5)
        await asyncio.sleep(20)
        listening.cancel()


async def populate(world: World, servers: list[LabServer], others: dict[str, list[str]]) -> None:
    """Starts each server's handler and users; those of one come after those of another have made the accounts."""
    for server in servers:
        server.machine.process("handler").start(handle(server, others[server.name]))
        for name in ALL_USERS:
            where = world.machine(f"{name} of {server.machine.name}")
            where.process(where.name).start(use(server, name))
        await asyncio.sleep(0.3)


async def federated(world: World) -> None:
    """Three servers, of which one is killed, one is stopped, and one loses power."""
    servers = [LabServer(world, f"s{number}.example") for number in range(3)]
    for server in servers:
        world.add_service_record(server.name, server.name, 2223)
        await server.start()
    names = [server.name for server in servers]
    await populate(world, servers, {name: [other for other in names if other != name] for name in names})
    await asyncio.sleep(1.5)
    servers[1].kill()
    world.network.cut([servers[0].machine], [servers[2].machine])
    await asyncio.sleep(1)
    await servers[1].start()
    world.network.heal()
    await asyncio.sleep(2)
    await servers[2].stop()
    await servers[2].start()
    await asyncio.sleep(5)
    servers[0].machine.cut_power()
    await asyncio.sleep(1)
    servers[0].machine.switch_on()
    await servers[0].start()
    await asyncio.sleep(10)
    for server in servers:
        await server.stop()


async def secure(world: World) -> None:
    """Three servers that know each other by their certificates."""
    servers = [LabServer(world, f"s{number}.example", proven=True) for number in range(3)]
    for server in servers:
        server.know(*(other for other in servers if other is not server))
        await server.start()
    names = [server.name for server in servers]
    await populate(world, servers, {name: [other for other in names if other != name] for name in names})
    servers[1].kill()
    await asyncio.sleep(1)
    await servers[1].start()
    await asyncio.sleep(3)
    for server in servers:
        await server.stop()


async def clustered(world: World) -> None:
    """A server of three nodes beside one of one node; a node is killed, and a NATS server."""
    cluster = LabCluster(world, "big.example", nodes=3, nats=3)
    single = LabServer(world, "small.example")
    for node in cluster.nodes:
        world.add_service_record("big.example", node.machine.name, 2223)
    world.add_service_record("small.example", "small.example", 2223)
    await cluster.start()
    await single.start()
    await populate(
        world, [*cluster.nodes, single], {"big.example": ["small.example"], "small.example": ["big.example"]}
    )
    await asyncio.sleep(1.5)
    cluster.nodes[1].kill()
    await asyncio.sleep(2)
    await cluster.nodes[1].start()
    cluster.nats[0].kill()
    await asyncio.sleep(3)
    await cluster.nats[0].start()
    await cluster.nodes[2].stop()
    await asyncio.sleep(10)
    await single.stop()
    for node in cluster.nodes[:2]:
        await node.stop()


END = "-- end of a play --\n"
PLAYS: dict[str, Callable[[World], Coroutine[None, None, None]]] = {
    "clustered": clustered,
    "federated": federated,
    "secure": secure,
}


def main(seed: int, *names: str) -> None:
    """Runs plays in one interpreter, and prints their traces and what chance would be next; ``END`` is between them."""
    logging.disable(logging.CRITICAL)
    for number, name in enumerate(names):
        if number:
            print(END, end="")
        world = World(seed, listener=print)
        world.run(noted(world, PLAYS[name]))


async def noted(world: World, play: Callable[[World], Coroutine[None, None, None]]) -> None:
    await play(world)
    world.trace.note(f"{world.loop.steps} steps, {random.random()}, {world.loop.faults}")


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
