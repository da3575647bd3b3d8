"""Handlers: they carry out the errands that messages bring, honestly or not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random
from typing import Any

from faults.wire import Lost, Wire, framed

from bester import Handler, Refuse, Reply, Request, SendClients, SendHandler, SendServers
from bester.lab.process import Process
from lab.ledger import Handled, way_on
from lab.plan import PASSING, Hand
from lab.stage import Stage
from lab.wire import dial

AGAIN_S = 0.1
"""How long a handler waits before it attaches again."""
EXPECTED = "a handler's lie"
"""What the library's log says of it."""
GARBAGE = b"\x08\0\0\0\xff\xfenojson"


class HandPlayer:
    """A handler, as one process after the other."""

    def __init__(self, stage: Stage, index: int, hand: Hand) -> None:
        self._stage = stage
        self.index = index
        self.hand = hand
        lab = stage.node(hand.server, hand.node)
        self.machine = lab.machine
        self._path = lab.handlers_path
        self.process: Process | None = None
        self._chance: Random = stage.world.random(f"hand {index}")
        self._starts = 0
        self._lied: set[tuple[int, str]] = set()
        self._wire: Wire | None = None

    def start(self) -> None:
        """Starts it, unless it runs or its machine is off."""
        if self.machine.on and (self.process is None or not self.process.alive):
            self._starts += 1
            self.process = self.machine.process(f"h{self.index}#{self._starts}")
            self.process.start(self._with_library() if self.hand.library else self._by_hand())

    def kill(self) -> None:
        """Ends it as ``kill -9`` does."""
        if self.process is not None:
            self._stage.note(f"{self.process} is killed")
            self.process.kill()

    def detach(self) -> None:
        """Asks for no more requests, where it speaks by hand."""
        if self._wire is not None and self.process is not None and self.process.alive:
            detach = {"header": {}, "payload": {"type": "detach", "id": "d"}}
            self.process.enter().run(self._wire.send, detach)

    # -- what is to be done --------------------------------------------------------------------------------------

    def _arrived(self, data: Any, connection: int) -> str:
        """Notes a request; returns its way."""
        stage, server = self._stage, self.hand.server
        way = data["w"]
        if way.endswith("s"):
            way += str(server)
        stage.ledger.asked(Handled(data["m"], way, server, self.index, stage.now, connection))
        return str(way)

    def _lie(self, data: Any, way: str) -> str:
        """Returns what is wrong with the answer."""
        lie = str(data["e"].get("lie", ""))
        if lie in PASSING:
            if (data["m"], way) in self._lied:
                return ""
            self._lied.add((data["m"], way))
        return lie

    def _wait_s(self, errand: dict[str, Any]) -> float:
        if self._stage.settling:
            return 0.0
        wait_s = float(errand.get("wait_s", 0.0))
        return wait_s + self._chance.uniform(0, self.hand.late_s) if self.hand.late_s else wait_s

    def _commands(self, data: Any, way: str) -> Iterator[Any]:
        errand = data["e"]
        copy = {"m": data["m"], "w": way, "pad": data.get("pad", "")}
        if clients := errand.get("clients"):
            yield SendClients(clients, copy, transient=bool(errand.get("transient")))
        then = errand if errand.get("circle") else errand.get("then", {})
        if servers := errand.get("servers"):
            on = {**copy, "w": way + "s", "e": then}
            yield SendServers([self._stage.address(one) for one in servers], on)
        if kind := errand.get("handler"):
            yield SendHandler(kind, {**copy, "w": way_on(way, None), "e": then})
        if errand.get("reply"):
            yield Reply({**copy, "r": 1})

    # -- with the library ----------------------------------------------------------------------------------------

    async def _with_library(self) -> None:
        handler = Handler(self._path, concurrency=self.hand.concurrency, retry_first_s=0.1, retry_max_s=1.0)
        connection = self._stage.ledger.new_connection()

        async def handle(request: Request) -> Any:
            data: Any = request.data
            way = self._arrived(data, connection)
            errand = data["e"]
            if wait_s := self._wait_s(errand):
                await asyncio.sleep(wait_s)
            await self._misbehave(self._lie(data, way))
            return list(self._commands(data, way))

        handler.on(*self.hand.types)(handle)
        async with handler:
            await handler.wait_attached()
            await asyncio.get_running_loop().create_future()

    async def _misbehave(self, lie: str) -> None:
        if lie in ("refuse", "refuseNow"):
            raise Refuse("no", code="lab.no", temporary=lie == "refuseNow")
        if lie == "die":
            self._stage.kill_hand(self.index, 0.5)
        if lie in ("die", "hang"):
            await asyncio.sleep(1e6)
        if lie in ("garbage", "shape"):
            raise RuntimeError(EXPECTED)

    # -- by hand -------------------------------------------------------------------------------------------------

    async def _by_hand(self) -> None:
        while not self._stage.over:
            try:
                wire = await dial(self._path)
            except Lost:
                await asyncio.sleep(AGAIN_S)
                continue
            self._wire = wire
            try:
                await self._attached(wire)
            except Lost:
                wire.close()
            self._wire = None
            await asyncio.sleep(AGAIN_S)

    async def _attached(self, wire: Wire) -> None:
        hand = self.hand
        connection = self._stage.ledger.new_connection()
        data = {"types": hand.types, "concurrency": hand.concurrency}
        header = {"scope": "handler", "features": ["dryRun"]}
        wire.send({"header": header, "payload": {"type": "attach", "id": "a", "data": data}})
        loop = asyncio.get_running_loop()
        while True:
            for one in await wire.batch():
                if one["header"].get("messageType") != "request":
                    if "error" in one["payload"]:
                        self._stage.ledger.fatal("to a handler: " + one["payload"]["error"]["code"])
                    continue
                data = one["payload"]["data"]
                way = self._arrived(data, connection)
                wait_s = self._wait_s(data["e"])
                if wait_s:
                    loop.call_later(wait_s, self._answer, wire, one, way)
                else:
                    self._answer(wire, one, way)

    def _answer(self, wire: Wire, request: Any, way: str) -> None:
        data, id = request["payload"]["data"], request["header"]["id"]
        lie = self._lie(data, way)
        if lie == "hang":
            return
        if lie == "die":
            self._stage.kill_hand(self.index, 0.5)
            return
        if lie == "garbage":
            wire.send(GARBAGE)
            return
        header: dict[str, Any] = {"id": id, "status": "0"}
        if lie in ("refuse", "refuseNow"):
            error = {"code": "lab.no", "message": "no", "temporary": lie == "refuseNow"}
            wire.send({"header": {"id": id, "status": "1", "error": error}})
            return
        if lie == "shape":
            wire.send({"header": {**header, "commands": "none"}})
            return
        header["commands"] = [_as_json(one) for one in self._commands(data, way)]
        frame = framed({"header": header, "payload": {"type": request["payload"]["type"]}})
        if lie == "unknown":
            wire.send({"header": {"id": "999999999", "status": "0", "command": {"type": "done"}}})
        wire.send(*[frame] * (2 if lie == "twice" else 1))


def _as_json(command: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"payload": {"data": command.data}}
    if isinstance(command, SendClients):
        made |= {"type": "sendClients", "data": command.to, "transient": command.transient}
    elif isinstance(command, SendServers):
        made |= {"type": "sendServers", "data": command.to}
    elif isinstance(command, SendHandler):
        made |= {"type": "sendHandler", "data": command.to}
    else:
        made |= {"type": "reply"}
    return made
