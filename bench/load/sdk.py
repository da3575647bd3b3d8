"""Clients and handlers with a library at both ends, ours and nats-py: ``python -m bench.load.sdk KIND ADDRESS [PLAN]``.

Kinds: ``bester-handler SOCKET``, ``nats-handler PORT``, ``bester PORT PLAN``, ``nats PORT PLAN``. The work is the
same: 64 bytes to the handler and back, as bytes, which neither library encodes or decodes; a client of ours has the
reply (``on_message``) before the report it awaits.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvloop

from bench.load.dialects import TYPE, account, token
from bench.machine import cpu_seconds

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from bester import ReceivedMessage, Reply, Request

DATA = b'"' + b"x" * 62 + b'"'


@dataclass(frozen=True)
class Plan:
    """The work of the load."""

    clients: int
    outstanding: int
    seconds: float
    warm_up: float
    server: list[int]
    handler: list[int]


Ask = Callable[[], Awaitable[None]]
"""One round trip, whose answer is checked."""


def bester_handler(address: str) -> None:
    """Echoes, with our library."""
    from bester import Handler, Reply

    class Saying(Handler):
        async def wait(self) -> None:
            await self.start()
            print("ready", flush=True)
            await asyncio.Event().wait()

    handler = Saying(address, concurrency=4096)

    @handler.on(TYPE)
    def echo(message: Request) -> Reply:
        return Reply(message.raw)

    uvloop.run(handler.wait())


async def nats_handler(port: str) -> None:
    """Echoes, with nats-py."""
    import nats

    connection = await nats.connect(f"nats://127.0.0.1:{port}")

    async def echo(message: Msg) -> None:
        await message.respond(message.data)

    await connection.subscribe(TYPE, cb=echo)
    await connection.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()


async def bester_client(port: str, number: int) -> Ask:
    """Returns what makes a round trip over a new client of ours."""
    from msgspec import Raw

    from bester import Client

    data = Raw(DATA)
    got: list[Raw] = []

    def received(message: ReceivedMessage) -> None:
        got.append(message.raw)

    url = f"bester://127.0.0.1:{port}"
    client = Client(url, username=account(number), token=token(number), on_message=received)
    await client.open()
    clients.append(client)

    async def ask() -> None:
        report = await client.send(TYPE, data)
        if not report.good or bytes(got.pop()) != DATA:
            raise RuntimeError("a wrong reply")

    return ask


async def nats_client(port: str, number: int) -> Ask:
    """Returns what makes a round trip over a new client of nats-py."""
    import nats

    connection = await nats.connect(f"nats://127.0.0.1:{port}")
    clients.append(connection)

    async def ask() -> None:
        if (await connection.request(TYPE, DATA)).data != DATA:
            raise RuntimeError("a wrong reply")

    return ask


clients: list[object] = []
"""Kept alive."""


async def load(make: Callable[[str, int], Awaitable[Ask]], port: str, plan: Plan) -> None:
    """Makes round trips for the time of the plan, and prints one line of JSON."""
    asks = [await make(port, number) for number in range(plan.clients)]
    for ask in asks:
        await ask()
    latencies: list[float] = []
    clock = time.perf_counter

    async def work(ask: Ask) -> None:
        while True:
            began = clock()
            await ask()
            latencies.append(clock() - began)

    tasks = [asyncio.ensure_future(work(ask)) for ask in asks for _ in range(plan.outstanding)]
    await asyncio.sleep(plan.warm_up)
    latencies.clear()
    processes = {"cpuUs": plan.server, "handlerUs": plan.handler, "clientUs": [os.getpid()]}
    began, before = clock(), {name: cpu_seconds(pids) for name, pids in processes.items()}
    await asyncio.sleep(plan.seconds)
    seconds, count = clock() - began, len(latencies)
    used = {name: 1e6 * (cpu_seconds(pids) - before[name]) / count for name, pids in processes.items()}
    for task in tasks:
        if task.done():
            task.result()
    figures = {"rate": count / seconds, "p50Us": 1e6 * statistics.median(latencies)} | used
    print(json.dumps(figures), flush=True)


def main(kind: str, address: str, plan: str = "{}") -> None:
    """Runs one of the kinds."""
    if kind == "bester-handler":
        bester_handler(address)
    elif kind == "nats-handler":
        uvloop.run(nats_handler(address))
    else:
        make = bester_client if kind == "bester" else nats_client
        uvloop.run(load(make, address, Plan(**json.loads(plan))))


if __name__ == "__main__":
    main(*sys.argv[1:])
