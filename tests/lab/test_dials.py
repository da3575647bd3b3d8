"""A server that has very many others to dial."""

from __future__ import annotations

import asyncio

import pytest

from bester import Client, Handler, SendClients, SendServers
from bester.lab.server import PORT, LabServer
from bester.lab.world import World
from bester.server.federation.peer_route import MAX_DIALS_AGAIN, MAX_QUICK_DIALS

SILENT = 2 * (MAX_QUICK_DIALS + MAX_DIALS_AGAIN)
CONNECT_S = 10.0


@pytest.mark.parametrize("after_s", [CONNECT_S / 2, 5 * CONNECT_S])
def test_silent_servers_do_not_hold_up_those_that_answer(after_s: float) -> None:
    """Neither those that are dialled for the first time, nor those that are tried again."""
    world = World(1)

    async def play() -> float:
        silent = [world.machine(f"silent{number}") for number in range(SILENT)]
        for machine in silent:
            machine.cut_power()
        overrides = {"federation": {"connectTimeout": CONNECT_S}}
        hub, living = LabServer(world, "hub.example", overrides), LabServer(world, "living.example")
        await hub.start()
        await living.start()
        everybody = [f"{machine.address}:{PORT}" for machine in silent]
        onward, here = Handler(hub.handlers_path), Handler(living.handlers_path)
        onward.on("all")(lambda request: SendServers(everybody, request.data, type="one"))
        onward.on("one")(lambda request: SendServers([living.address], request.data))
        here.on("one")(lambda request: SendClients(["bob"], request.data))
        for server, handler in ((hub, onward), (living, here)):
            await server.machine.process(f"handler of {server.name}").call(handler.start())

        async def bob() -> float:
            async with Client(living.url("bob")) as client:
                await client.receive()
            return world.loop.time()

        async def ann() -> float:
            async with Client(hub.url("ann")) as client:
                sending = asyncio.ensure_future(client.send("all", "hello"))
                await asyncio.sleep(after_s)
                began = world.loop.time()
                await client.send("one", "hello")
                assert {result.status for result in (await sending).results} == {"queued"}
                return began

        reading = world.machine("desk").process("bob").start(bob())
        began = await world.machine("phone").process("ann").call(ann())
        return await reading - began

    assert world.run(play()) < 1.0
