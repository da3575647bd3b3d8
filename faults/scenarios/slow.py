"""Receivers that do not read, beside those that do."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

from faults.ledger import Ledger
from faults.players import Handler, Player, Receiver, Sender
from faults.plays import PATIENCE_S, judge
from faults.run import Run
from faults.servers import Besterd, config

HALF = 100
"""Receivers of each kind."""
SIZE = 8 * 1024
"""Bytes of each message to the receivers that do not read, so that their sockets fill up."""
SECONDS = 15.0
HEALTHY_PER_S = 200
DEAF_PER_S = 400
P99_MS = 100.0
GROWTH_MIB = 300
"""The memory that the server may take in addition: for each receiver that does not read, 1 MiB that it was given and
1 MiB that waits, and half as much again."""


class Deaf(Receiver):
    """Logs in, and reads nothing more until it is told to."""

    buffer_bytes = 1024

    def __init__(self, server: Besterd, ledger: Ledger, name: str) -> None:
        super().__init__(server, ledger, name)
        self.reads = asyncio.Event()

    async def connection(self) -> None:
        async with self.logged_in() as (wire, batch):
            await self.reads.wait()
            while True:
                self._take(wire, batch)
                batch = await wire.batch()


class Timed(Receiver):
    """Notes how long each message took."""

    def __init__(
        self, server: Besterd, ledger: Ledger, name: str, since: dict[str, float], took_ms: list[float]
    ) -> None:
        """Makes a receiver; ``since`` has the time at which each message was sent, until it comes."""
        super().__init__(server, ledger, name)
        self._since = since
        self._took_ms = took_ms

    def _record(self, batch: list[Any]) -> list[str]:
        now = time.monotonic()
        for message in batch:
            if message["header"].get("messageType") == "receivedMessage":
                sent = self._since.pop(message["payload"]["data"]["key"], None)
                if sent is not None:
                    self._took_ms.append((now - sent) * 1000)
        return super()._record(batch)


async def slow(run: Run) -> None:
    """The whole scenario."""
    await beside(run, 20 if run.quick else HALF, 4.0 if run.quick else SECONDS)


async def beside(run: Run, half: int, seconds: float, p99_ms: float = P99_MS) -> None:
    """Lets half of the receivers not read for some seconds; then they read, and must find everything."""
    server = run.server(run.folder(), config(limits={"mailboxMessages": 10_000}))
    await server.start()
    ledger = Ledger()
    took_ms: list[float] = []
    since: dict[str, float] = {}
    healthy = [Timed(server, ledger, f"reads{n}", since, took_ms) for n in range(half)]
    deaf = [Deaf(server, ledger, f"deaf{n}") for n in range(half)]
    to_healthy, to_deaf = Sender(server, ledger, "s", 10_000), Sender(server, ledger, "d", 256)
    players: list[Player] = [Handler(server, ledger), to_healthy, to_deaf, *healthy, *deaf]
    run.say(f"{2 * half} log in")
    for player in players:
        run.spawn(player.play())
    for player in players:
        await player.was_in.wait()
    before_kib = server.memory_kib()
    run.say("some do not read")
    began = time.monotonic()
    healthy_count = deaf_count = 0
    while (now := time.monotonic() - began) < seconds:
        while healthy_count < now * HEALTHY_PER_S:
            key = to_healthy.give(healthy[healthy_count % half].name)
            since[key] = time.monotonic()
            healthy_count += 1
        while deaf_count < now * DEAF_PER_S:
            to_deaf.give(deaf[deaf_count % half].name, SIZE)
            deaf_count += 1
        await asyncio.sleep(0.005)  # the load's own pace
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            while since:
                await asyncio.sleep(0.005)
    held_up = len(since)
    grown_mib = (server.peak_kib() - before_kib) / 1024
    run.say("and then do")
    for one in deaf:
        one.reads.set()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(to_healthy.idle.wait(), to_deaf.idle.wait())
    await ledger.all_came(PATIENCE_S)
    judge(run, "", [ledger])
    run.at_most("messages to those who read that came only after the others read", held_up, 0)
    took_ms.sort()
    run.at_most("p99 of those who read", took_ms[int(len(took_ms) * 0.99)], p99_ms, "ms")
    run.at_most("memory of the server beyond what it had", grown_mib, GROWTH_MIB, "MiB")
    run.notes.append(
        f"slow: {healthy_count:,} messages to {half} who read, {deaf_count:,} of {SIZE // 1024} KiB to {half} who do "
        f"not, in {seconds:g} s; p50 of those who read {took_ms[len(took_ms) // 2]:.1f} ms."
    )
