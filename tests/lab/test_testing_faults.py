"""What befalls servers, handlers and clients in a play of ``bester.testing.lab``."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from tests.lab.plays import handler_of, make_counter, started

from bester import Client, Reply, SendClients
from bester.protocol.reports import ConnectionClosed
from bester.testing import LabWorld, ProcessDied, lab


@lab(seeds=2)
async def test_servers_know_each_other_and_can_be_cut_off(world: LabWorld) -> None:
    config: dict[str, Any] = {"handlers": {"typeMap": {"far": {}}}}
    one = world.server("one.example", handlers=[make_counter], config=config)
    two = world.server("two.example", handlers=[make_counter], config=config)
    await world.start()
    ann, bob = await world.client(one, "ann"), await world.client(two, "bob")
    order = {"server": "two.example", "user": "bob"}
    await ann.send("far", order)
    assert (await bob.receive()).data == ["one.example", True]
    world.cut(one, two)
    assert (await ann.send("far", order)).results[0].status == "queued"
    with pytest.raises(TimeoutError):
        await bob.receive(60)
    world.heal()
    assert (await bob.receive(60)).data == ["one.example", True]
    world.cut(one, two, one_way=True)
    await ann.send("far", order)
    with pytest.raises(TimeoutError):
        await bob.receive(60)
    world.heal()
    assert (await bob.receive(60)).data == ["one.example", True]


@lab(seeds=2)
async def test_ways_can_be_slow_and_connections_reset(world: LabWorld) -> None:
    shop, ann = await started(world)
    world.slow(ann, shop, latency_s=2.0)
    begun = world.now
    await ann.ask("count")
    assert 4 < world.now - begun < 7
    world.heal()
    await asyncio.sleep(3)
    begun = world.now
    await ann.ask("count")
    assert world.now - begun < 0.1
    asking = asyncio.create_task(ann.ask("do"))
    await asyncio.sleep(0)
    world.cut(ann)
    await asyncio.sleep(0.1)
    world.reset(ann, shop)
    with pytest.raises(ConnectionClosed):
        await asking


@lab(seeds=2)
async def test_processes_pause_and_clocks_are_wrong(world: LabWorld) -> None:
    shop, ann = await started(world, handler_of(lambda _: Reply(time.time())))
    true = (await ann.ask("do")).data
    assert true == pytest.approx(time.time(), abs=1)
    shop.set_clock(3600)
    assert (await ann.ask("do")).data == pytest.approx(true + 3600, abs=1)
    for pause in (shop.pause, shop.handlers[0].pause, ann.pause):
        begun = world.now
        pause(7)
        await ann.ask("do")
        assert 7 <= world.now - begun < 8


@lab(seeds=1)
async def test_clients_die_and_come_back(world: LabWorld) -> None:
    shop, ann = await started(world, handler_of(lambda _: SendClients(["ann"], 1)))
    receiving = asyncio.create_task(ann.receive())
    await asyncio.sleep(1)
    ann.kill()
    with pytest.raises(ProcessDied):
        await receiving
    with pytest.raises(ProcessDied):
        await ann.send("do")
    async with Client(shop.url("bob")) as bob:  # of the play's own process
        assert (await bob.send("do")).good
    await ann.restart()
    async for message in ann:
        assert message.data == 1
        break
    other = await world.client(shop, "ann", mail=False)
    assert [str(one) for one in world.clients] == ["ann", "ann-2"]
    assert "do" in await other.run(lambda client: client.list_types())
    await other.close()


@lab(seeds=5)
async def test_after_trouble_everything_works(world: LabWorld) -> None:
    shop, ann = await started(world)
    async with world.trouble(0.5) as trouble:
        await asyncio.sleep(30)
    assert trouble.count > 20
    assert shop.running
    assert all(handler.running for handler in shop.handlers)
    await asyncio.sleep(60)
    assert (await ann.ask("count")).data == [1, 1]
