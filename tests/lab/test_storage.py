"""Real servers in a world, on simulated disks: what they reported is there after any loss of power."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from bester import Client, Handler, SendClients
from bester.errors import BadConfiguration
from bester.lab.disk import Disk
from bester.lab.server import LabServer
from bester.lab.vfs import NoVfs
from bester.lab.world import World


async def started(world: World, server: LabServer) -> None:
    await server.start()
    handler = Handler(address=server.handlers_path)
    handler.on("chat")(lambda request: SendClients(["bob"], request.data))
    await server.machine.process("handler").call(handler.start())


async def stored(world: World, server: LabServer, random: Random) -> list[int]:
    """Sends to an account that is away until the power fails; returns what was reported as stored."""
    reported: list[int] = []
    disk = server.machine.disk
    at = disk.syncs + random.randrange(2, 40)

    def cut(number: int) -> None:
        if number == at:
            server.machine.cut_power()

    disk.before_sync, disk.after_sync = random.choice([(cut, None), (None, cut)])

    async def send(client: Client, number: int) -> None:
        await client.send("chat", number)
        reported.append(number)

    async def ann() -> None:
        async with Client(server.url("ann")) as client:
            for first in range(0, 200, 4):
                await asyncio.gather(*(send(client, number) for number in range(first, first + 4)))
                await asyncio.sleep(0.05)

    sending = world.machine("phone").process("ann").start(ann())
    await asyncio.wait([sending], timeout=120)
    if sending.done():
        sending.exception()
    else:
        sending.cancel()
    disk.before_sync = disk.after_sync = None
    return reported


async def received(world: World, server: LabServer) -> list[int]:
    found: list[int] = []

    async def bob() -> None:
        async with Client(server.url("bob"), features=["ack"]) as client:
            while True:
                found.append((await asyncio.wait_for(client.receive(), 10)).data)

    task = world.machine("desk").process("bob").start(bob())
    await asyncio.wait([task])
    assert isinstance(task.exception(), TimeoutError)
    return found


def play_of(seed: int, trace: list[str] | None = None, careless: bool = False) -> tuple[list[int], list[int], Disk]:
    world = World(seed, None if trace is None else trace.append)
    random = world.random("play")

    async def play() -> tuple[list[int], list[int], Disk]:
        server = LabServer(world, "a.example")
        await started(world, server)
        await world.machine("desk").process("bob").call(register(server))
        server.machine.disk.careless = careless
        reported = await stored(world, server, random)
        if server.machine.on:
            server.machine.cut_power()
        await asyncio.sleep(1)
        server.machine.switch_on()
        await started(world, server)
        found = await received(world, server)
        await server.stop()
        return reported, found, server.machine.disk

    return world.run(play())


async def register(server: LabServer) -> None:
    async with Client(server.url("bob")):
        pass


@pytest.mark.parametrize("seed", range(12))
def test_what_was_reported_is_there_after_a_loss_of_power(seed: int) -> None:
    reported, found, _ = play_of(seed)
    assert set(reported) <= set(found)
    assert len(found) == len(set(found))


def test_one_seed_gives_one_disk() -> None:
    traces: list[list[str]] = [[], []]
    first, second = (play_of(1, trace) for trace in traces)
    assert first[:2] == second[:2]
    assert contents(first[2]) == contents(second[2])
    assert traces[0] == traces[1]


def test_without_simulated_disks_files_are_real(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise NoVfs("there is no SQLite")

    monkeypatch.setattr("bester.lab.storage.simulated", refused)
    world = World(1)

    async def play() -> None:
        server = LabServer(world, "a.example")
        await started(world, server)
        await world.machine("desk").process("bob").call(register(server))
        server.kill()
        await server.start()
        assert (server.folder / "bester.db").stat().st_size > 0
        await server.stop()

    world.run(play())
    assert world.storage.unsimulated == "there is no SQLite"
    assert list(world.machine("a.example").disk) == []


def contents(disk: Disk) -> dict[str, bytes]:
    return {path.rpartition("/")[2]: disk.content(path) for path in disk}


def test_a_disk_that_brings_nothing_loses_what_was_reported() -> None:
    lost = 0
    for seed in range(6):
        try:
            reported, found, _ = play_of(seed, careless=True)
        except BadConfiguration:  # not even a database is left
            lost += 1
        else:
            lost += not set(reported) <= set(found)
    assert lost >= 5
