"""A world: one clock, one seed, and nothing from outside."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import secrets
import socket
import subprocess
import sys
import threading
import time
import uuid
from typing import Any

import pytest

from bester import Client, Handler, SendClients, SendServers
from bester.lab.loop import START_S, Outside, Stuck
from bester.lab.machine import EPOCH
from bester.lab.process import ProcessDied
from bester.lab.server import LabServer
from bester.lab.world import World


def test_an_hour_passes_at_once() -> None:
    world = World(1)

    async def play() -> float:
        await asyncio.sleep(3600)
        return time.monotonic()

    assert world.run(play()) == START_S + 3600


def test_processes_have_their_machines_clocks() -> None:
    world = World(1)

    async def look() -> tuple[float, float, int]:
        return time.time(), time.clock_gettime(time.CLOCK_MONOTONIC), os.getpid()

    async def play() -> None:
        right, wrong = world.machine("right"), world.machine("wrong")
        wrong.skew_s = -86_400
        assert (await right.process("one").call(look()))[0] == EPOCH
        date, up, pid = await wrong.process("other").call(look())
        assert date == EPOCH - 86_400
        await asyncio.sleep(10)
        later, up_later, other_pid = await wrong.process("third").call(look())
        assert (later - date, up_later - up) == (10, 10)
        assert other_pid != pid

    world.run(play())


def chances() -> list[Any]:
    return [random.random(), os.urandom(4), secrets.token_hex(4), uuid.uuid4(), random.SystemRandom().random()]


def test_all_chance_is_the_seeds() -> None:
    async def play() -> list[Any]:
        return chances()

    assert World(1).run(play()) == World(1).run(play())
    assert World(1).run(play())[0] != World(2).run(play())[0]


def test_everything_is_put_back() -> None:
    before = (time.time, os.urandom, socket.socket, threading.Thread.start, subprocess.Popen.__init__, gc.isenabled())
    state = random.getstate()

    async def play() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        World(1).run(play())
    after = (time.time, os.urandom, socket.socket, threading.Thread.start, subprocess.Popen.__init__, gc.isenabled())
    assert after == before
    assert random.getstate() == state


def test_the_outside_cannot_be_reached() -> None:
    async def play() -> None:
        with pytest.raises(Outside, match="a thread"):
            threading.Thread(target=print).start()
        with pytest.raises(Outside, match="a process"):
            subprocess.run([sys.executable, "-c", ""], check=True)
        with pytest.raises(Outside, match="a process"):
            await asyncio.create_subprocess_exec(sys.executable)

    World(1).run(play())


def test_a_play_that_waits_for_ever_is_stuck() -> None:
    async def play() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Stuck, match="nothing is left to happen"):
        World(1).run(play())


def test_a_play_that_never_lets_time_pass_is_stuck() -> None:
    async def play() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Stuck, match="time does not go on"):
        World(1).run(play())


def test_nothing_of_a_killed_process_runs() -> None:
    world = World(1)
    done: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(10)
            done.append("slept")
        finally:
            done.append("cleaned up")

    async def play() -> None:
        process = world.machine("a").process("worker")
        calling = asyncio.ensure_future(process.call(work()))
        await asyncio.sleep(1)
        process.kill()
        with pytest.raises(ProcessDied):
            await calling
        await asyncio.sleep(20)
        assert done == []

    world.run(play())


def test_a_sleep_that_does_not_yield_holds_its_process_alone() -> None:
    world = World(1)
    order: list[str] = []

    async def sleeper() -> None:
        time.sleep(5)
        order.append("the call returns at once")
        await asyncio.sleep(0)
        order.append(f"and the rest runs at {world.loop.time() - START_S:.0f}")

    async def other() -> None:
        await asyncio.sleep(1)
        order.append("another process does not wait")

    async def play() -> None:
        machine = world.machine("a")
        await asyncio.wait([machine.process("sleeper").start(sleeper()), machine.process("other").start(other())])

    world.run(play())
    assert order == ["the call returns at once", "another process does not wait", "and the rest runs at 5"]


@pytest.mark.parametrize("proven", [False, True])
def test_two_servers_and_a_cut(proven: bool) -> None:
    """The real servers, handlers and clients: all comes through a cut that outlasts every connection, in order."""
    world = World(3)
    texts = [f"number {number}" for number in range(40)]

    async def play() -> None:
        here, there = (LabServer(world, name, proven=proven) for name in ("a.example", "b.example"))
        here.know(there)
        there.know(here)
        for server, command in ((here, lambda data: SendServers(["b.example"], data)), (there, to_bob)):
            await server.start()
            handler = Handler(address=server.handlers_path)
            handler.on("chat")(lambda request, command=command: command(request.data))
            await server.machine.process(f"handler of {server.name}").call(handler.start())
        received: list[str] = []

        async def bob() -> None:
            async with Client(there.url("bob"), reconnect=True, features=["ack"]) as client:
                while len(received) < len(texts):
                    received.append((await client.receive()).data)

        async def ann() -> None:
            async with Client(here.url("ann"), reconnect=True) as client:
                reports = await asyncio.gather(*(client.send("chat", text, once=True) for text in texts))
                assert all(report.good for report in reports)

        reading = world.machine("desk").process("bob").start(bob())
        sending = world.machine("phone").process("ann").start(ann())
        await asyncio.sleep(0.02)
        world.network.cut([here.machine], [there.machine])
        await asyncio.sleep(60)
        world.network.heal()
        await asyncio.wait([sending, reading])
        sending.result()
        assert received == texts
        await here.stop()
        await there.stop()
        assert world.loop.faults == []

    world.run(play())


def to_bob(data: Any) -> SendClients:
    return SendClients(["bob"], data)
