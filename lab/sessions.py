"""Sessions of accounts: they send what the plan says, and take what comes."""

from __future__ import annotations

import asyncio
import heapq
from abc import ABC, abstractmethod
from collections.abc import Iterator
from random import Random
from typing import Any

import msgspec
from faults.wire import Lost, Wire

from bester import AuthenticationError, Client, ClientError, Report
from bester.errors import BesterError
from bester.lab.process import Process
from bester.protocol.received import ReceivedMessage
from bester.timeouts import within
from lab.ledger import Attempt, Copy, Receipt, attempt_of
from lab.plan import Message, Session, account_name
from lab.stage import PORT, Stage
from lab.wire import PASSWORD, dial

AGAIN_S = 0.2
"""How long a lost session waits before it logs in again, and a message that was refused for now, before it is sent."""
FULL_S = 2.0
"""How long a message waits that is refused because something is full, after all faults are over."""
REPEATED_S = (0.0, 0.5, 3.0, 10.0)
"""After how long a message is sent once more that has its report."""


class SessionPlayer(ABC):
    """A session, as one process after the other; its unreported messages outlive its processes."""

    def __init__(self, stage: Stage, index: int, session: Session) -> None:
        self.stage = stage
        self.index = index
        self.session = session
        self.server = stage.plan.accounts[session.account].server
        self.account = account_name(session.account)
        self.machine = stage.world.machine(f"c{index}")
        self.process: Process | None = None
        self.chance: Random = stage.world.random(f"session {index}")
        self.due: list[tuple[float, int]] = []
        """Messages that are to be sent, by time."""
        self.open: dict[int, Message] = {}
        """``once`` messages that were sent and are not settled."""
        self.changed = asyncio.Event()
        self.was_in = asyncio.Event()
        """Whether it was let in once, so that its account is there."""
        self.connected = False
        self.connection = 0
        """The number of its newest connection."""
        self.lost = 0
        """How many connections it lost otherwise than by leaving."""
        self._starts = 0
        self._repeated: set[int] = set()
        """Messages that were sent once more after their report."""

    def start(self) -> None:
        """Starts it, unless it runs."""
        if self.machine.on and (self.process is None or not self.process.alive):
            self._starts += 1
            self.connected = False
            self.process = self.machine.process(f"c{self.index}#{self._starts}")
            self.process.start(self._play())

    def kill(self) -> None:
        """Ends it as ``kill -9`` does; ``once`` messages without a report are sent again by the next process."""
        if self.process is not None:
            self.stage.note(f"{self.process} is killed")
            self.process.kill()
            self.connected = False
            self.lost += 1
            self.stage.ledger.lost_connections.add(self.connection)

    def give(self, number: int, at: float) -> None:
        """Gives it a message to be sent; before it starts."""
        heapq.heappush(self.due, (at, number))

    @property
    def idle(self) -> bool:
        """Whether it has nothing to send and awaits nothing, but what may be refused without an end."""
        waiting = [*self.open, *(number for _, number in self.due)]
        return all(self.stage.ledger.is_full(number) for number in waiting)

    # -- coming and going ----------------------------------------------------------------------------------------

    def _away_until(self) -> float:
        """Returns until when it is away; 0: it is not."""
        for start, end in self._absences():
            if start <= self.stage.now < end:
                return end
        return 0.0

    def _stays_s(self) -> float:
        return min((start for start, _ in self._absences() if start > self.stage.now), default=1e9) - self.stage.now

    def _absences(self) -> Iterator[tuple[float, float]]:
        began = self.stage.began
        if not self.stage.settling:
            for start, end in self.session.away:
                yield began + start, began + end

    async def _play(self) -> None:
        for number in list(self.open):
            heapq.heappush(self.due, (0.0, number))
        self.open.clear()
        while not self.stage.over:
            until = self._away_until()
            if until:
                await asyncio.sleep(until - self.stage.now + 1e-6)
                continue
            try:
                async with within(self._stays_s()):
                    await self._connection()
            except TimeoutError:
                pass
            except (Lost, ClientError, OSError, BesterError):
                self.lost += 1
                await asyncio.sleep(AGAIN_S * self.chance.uniform(0.5, 1.5))
            finally:
                self.connected = False

    @abstractmethod
    async def _connection(self) -> None:
        """Plays one connection, from its beginning to its end."""

    # -- what both kinds do --------------------------------------------------------------------------------------

    def _take_due(self, connection: int) -> Iterator[tuple[int, Message, Any]]:
        """Yields what is to be sent now."""
        while self.due and self.due[0][0] <= self.stage.now:
            _, number = heapq.heappop(self.due)
            message = self.stage.plan.messages[number]
            if message.once and not message.dry:
                self.open[number] = message
            self.stage.ledger.sends(number, self.index, connection, self.stage.now)
            data = {"m": number, "w": "", "e": msgspec.to_builtins(message.errand), "pad": "x" * message.size}
            yield number, message, data

    async def _until_due(self) -> None:
        """Returns when something is to be sent."""
        while not self.due or self.due[0][0] > self.stage.now:
            self.changed.clear()
            wait_s = min(self.due[0][0] - self.stage.now, 3600.0) if self.due else 3600.0
            timer = asyncio.get_running_loop().call_later(wait_s, self.changed.set)
            try:
                await self.changed.wait()
            finally:
                timer.cancel()

    def _reported(self, number: int, connection: int, attempt: Attempt) -> None:
        self.stage.note(f"c{self.index} has a report on {number}: {attempt.code or 'good'}")
        self.stage.ledger.reported(number, connection, attempt, self.stage.now)
        message = self.open.pop(number, None)
        if message is not None and attempt.temporary and not attempt.good:
            full = self.stage.settling and self.stage.ledger.is_full(number)
            heapq.heappush(self.due, (self.stage.now + (FULL_S if full else AGAIN_S), number))
        elif message is not None and message.again and number not in self._repeated:
            self._repeated.add(number)
            heapq.heappush(self.due, (self.stage.now + self.chance.choice(REPEATED_S), number))
        self.changed.set()

    def _came(self, data: Any, delivery_id: str, connection: int) -> None:
        if "r" in data:
            return
        copy = Copy(data["m"], data["w"], self.server, self.account)
        self.stage.note(f"c{self.index} gets {copy.message}{copy.way}")
        self.stage.ledger.came(copy, Receipt(self.index, delivery_id, self.stage.now, connection))


class WireSession(SessionPlayer):
    """A session that speaks the protocol by hand."""

    async def _connection(self) -> None:
        stage, session = self.stage, self.session
        wire = await dial((stage.host(self.server, session.node), PORT))
        connection = self.connection = stage.ledger.new_connection()
        sending: asyncio.Task[None] | None = None
        try:
            batch = await self._log_in(wire)
            self.connected = True
            self.was_in.set()
            sending = asyncio.create_task(self._send(wire, connection))
            while True:
                ids = [id for one in batch for id in self._take(one, connection)]
                if session.slow_s and not stage.settling:
                    await asyncio.sleep(session.slow_s)
                if ids:
                    wire.send({"header": {"messageType": "ack"}, "payload": {"ids": ids}})
                batch = await wire.batch()
        finally:
            if sending is not None:
                sending.cancel()
            for number in self.open:
                heapq.heappush(self.due, (0.0, number))
            self.open.clear()
            stage.ledger.lost_connections.add(connection)
            wire.close()

    async def _log_in(self, wire: Wire) -> list[Any]:
        session = self.session
        features = ["ack"] if session.ack and session.mail else []
        authentication = {"username": self.account, "password": PASSWORD}
        header: dict[str, Any] = {"scope": "client", "features": [*features, "route"], "authentication": authentication}
        if not session.mail:
            header["mail"] = False
        wire.send({"header": header})
        report, *rest = await wire.batch()
        if report["header"]["status"] != "good":
            self.stage.ledger.fatal("at login: " + report["payload"]["error"]["code"])
            raise Lost
        return rest

    async def _send(self, wire: Wire, connection: int) -> None:
        while True:
            await self._until_due()
            for number, message, data in self._take_due(connection):
                header: dict[str, Any] = {"dryRun": True} if message.dry else {"once": True} if message.once else {}
                wire.send({"header": header, "payload": {"type": message.type, "id": str(number), "data": data}})

    def _take(self, message: Any, connection: int) -> Iterator[str]:
        kind, payload = message["header"].get("messageType"), message["payload"]
        if kind == "statusReport":
            self._reported(int(payload["id"]), connection, attempt_of(message))
        elif kind == "receivedMessage":
            delivery_id = payload.get("deliveryId", "")
            self._came(payload["data"], delivery_id, connection)
            if delivery_id:
                yield delivery_id
        elif kind == "fatal":
            self.stage.ledger.fatal(payload["error"]["code"])


class LibrarySession(SessionPlayer):
    """A session with :class:`bester.Client`, which connects again by itself."""

    async def _connection(self) -> None:
        stage, session = self.stage, self.session
        connection = self.connection = stage.ledger.new_connection()
        features = ["token", "route", *(["ack"] if session.ack and session.mail else [])]
        client = Client(
            f"bester://{self.account}:{PASSWORD}@{stage.host(self.server, session.node)}:{PORT}",
            features=features,
            mail=session.mail,
            reconnect=True,
            retry_max_s=2.0,
        )
        sending: dict[asyncio.Task[None], None] = {}
        async with client:
            self.connected = True
            self.was_in.set()
            sender = asyncio.create_task(self._send(client, connection, sending))
            try:
                async for message in client:
                    self._take(message, connection)
                    if session.slow_s and not stage.settling:
                        await asyncio.sleep(session.slow_s)
            finally:
                sender.cancel()
                for task in sending:
                    task.cancel()
                for number in self.open:
                    heapq.heappush(self.due, (0.0, number))
                self.open.clear()
                stage.ledger.lost_connections.add(connection)

    async def _send(self, client: Client, connection: int, sending: dict[asyncio.Task[None], None]) -> None:
        while True:
            await self._until_due()
            for number, message, data in self._take_due(connection):
                task = asyncio.create_task(self._send_one(client, number, message, data, connection))
                sending[task] = None
                task.add_done_callback(lambda done: sending.pop(done, None))

    async def _send_one(self, client: Client, number: int, message: Message, data: Any, connection: int) -> None:
        try:
            report = await client.send(
                message.type, data, id=str(number), once=message.once and not message.dry, dry_run=message.dry
            )
        except (ClientError, AuthenticationError, OSError, BesterError):
            self.stage.ledger.gave_up(number, connection)
            return
        self._reported(number, connection, _attempt(report))

    def _take(self, message: ReceivedMessage, connection: int) -> None:
        self._came(message.data, message.delivery_id or "", connection)


def _attempt(report: Report) -> Attempt:
    error = report.error
    results = tuple(
        (one.to, one.status, one.error.code if one.error else "", bool(one.error and one.error.temporary))
        for one in report.results or ()
    )
    return Attempt(report.good, bool(error and error.temporary), error.code if error else "", results)


def make_session(stage: Stage, index: int, session: Session) -> SessionPlayer:
    """Returns the player of a session."""
    return (LibrarySession if session.library else WireSession)(stage, index, session)
