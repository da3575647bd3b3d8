"""Handlers that die, hang, send garbage, are slow or are not there, beside one that is well."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from faults.ledger import Ledger
from faults.players import Client, Handler, Player, connected
from faults.run import Run
from faults.servers import Besterd, config
from faults.wire import Lost, framed

TIMEOUT_S = 1.0
LATE_S = 0.5
"""How much later than its time limit a report may be: deadlines are looked at four times a second."""
SLOW_S = 0.3
SECONDS = 8.0
PER_S = 200
TO_BAD_PER_S = 20
BAD = ("dies", "hangs", "garbage", "slow", "absent")


async def handlers(run: Run) -> None:
    """The whole scenario."""
    await beside(run, 3.0 if run.quick else SECONDS)


class Bad(Player):
    """A handler of one bad habit, which attaches again and again."""

    def __init__(self, server: Besterd, ledger: Ledger, habit: str) -> None:
        super().__init__(server, ledger)
        self.habit = habit

    async def connection(self) -> None:
        async with connected(self.server.handlers) as wire:
            data = {"types": [self.habit], "concurrency": 4096}
            wire.send({"header": {"scope": "handler"}, "payload": {"type": "attach", "id": "a", "data": data}})
            while True:
                for message in await wire.batch():
                    if message["header"].get("messageType") != "request":
                        self.was_in.set()
                        continue
                    answer = framed({"header": {"id": message["header"]["id"], "status": "0", "commands": []}})
                    if self.habit == "dies":
                        raise Lost
                    if self.habit == "garbage":
                        wire.send(b"\x05\x00\x00\x00hello")
                    elif self.habit == "slow":
                        asyncio.get_running_loop().call_later(SLOW_S, _late, wire, answer)


def _late(wire: Any, answer: bytes) -> None:
    if not wire.writer.is_closing():
        wire.send(answer)


class Asking(Client):
    """Sends messages of one type, and notes how long each report took."""

    def __init__(self, server: Besterd, ledger: Ledger, type: str) -> None:
        super().__init__(server, ledger, f"asks-{type}")
        self.type = type
        self.took_ms: list[float] = []
        self.codes: dict[str, int] = {}
        self.open: dict[str, float] = {}
        self.twice = 0
        self._count = 0
        self._wire: Any = None

    def ask(self) -> None:
        key = str(self._count)
        self._count += 1
        self.open[key] = time.monotonic()
        data = {"to": self.name, "key": f"{self.name}.{key}"}
        self._wire.send({"payload": {"type": self.type, "id": key, "data": data}})

    async def connection(self) -> None:
        async with self.logged_in() as (wire, batch):
            self._wire = wire
            while True:
                now = time.monotonic()
                for message in batch:
                    if message["header"].get("messageType") != "statusReport":
                        continue
                    payload = message["payload"]
                    sent = self.open.pop(payload["id"], None)
                    self.twice += sent is None
                    if sent is not None:
                        self.took_ms.append((now - sent) * 1000)
                        code = payload.get("error", {}).get("code", "good")
                        self.codes[code] = self.codes.get(code, 0) + 1
                batch = await wire.batch()


async def beside(run: Run, seconds: float) -> None:
    """First the healthy one alone, then beside the others."""
    types = {"timeout": TIMEOUT_S}
    served: dict[str, Any] = {"chat": types} | dict.fromkeys(BAD, types)
    server = run.server(run.folder(), config(handlers={"typeMap": served}))
    await server.start()
    ledger = Ledger()
    well = Asking(server, ledger, "chat")
    others = [Asking(server, ledger, name) for name in BAD]
    handling = Handler(server, ledger, ("chat",))
    bad = [Bad(server, ledger, name) for name in BAD if name != "absent"]
    for player in (well, *others, handling):
        run.spawn(player.play())
        await player.was_in.wait()
    run.say("the healthy one alone")
    await _load(seconds, well, [])
    alone = _p99(well)
    for player in bad:
        run.spawn(player.play())
        await player.was_in.wait()
    run.say("beside the others")
    well.took_ms.clear()
    await _load(seconds, well, others)
    # What was sent last still has its time limit before it.
    async with asyncio.timeout(TIMEOUT_S + LATE_S + 5):
        while any(one.open for one in (well, *others)):
            await asyncio.sleep(0.02)
    run.at_most("p99 of the healthy one, by alone", _p99(well) / alone, 2, "x")
    run.at_most("messages without a report", sum(len(one.open) for one in (well, *others)), 0)
    run.at_most("messages with two reports", sum(one.twice for one in (well, *others)), 0)
    run.at_most("the latest report", max(max(one.took_ms) for one in others), (TIMEOUT_S + LATE_S) * 1000, "ms")
    run.at_most("bad reports for the healthy one", sum(well.codes.values()) - well.codes.get("good", 0), 0)
    told = "; ".join(f"{one.type}: {', '.join(f'{c} {n}' for c, n in sorted(one.codes.items()))}" for one in others)
    run.notes.append(f"handlers: the healthy one's p99 {alone:.2f} ms alone, {_p99(well):.2f} ms beside. {told}.")


async def _load(seconds: float, well: Asking, others: list[Asking]) -> None:
    began = time.monotonic()
    asked = asked_bad = 0
    while (now := time.monotonic() - began) < seconds:
        while asked < now * PER_S:
            well.ask()
            asked += 1
        while others and asked_bad < now * TO_BAD_PER_S:
            for one in others:
                one.ask()
            asked_bad += 1
        await asyncio.sleep(0.002)  # the load's own pace


def _p99(one: Asking) -> float:
    return sorted(one.took_ms)[int(len(one.took_ms) * 0.99)]
