"""Clients and handlers that speak the protocol by hand, so that the server is judged without our library.

Each is a task that connects, plays its part, and connects again when the connection is lost. They record the messages
that they see in the :class:`~faults.ledger.Ledger`.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from faults.ledger import Ledger
from faults.wire import READ_BYTES, Lost, Wire, framed

PASSWORD = "secret"
AGAIN_S = 0.05
"""How long a message that was refused for now waits."""


@asynccontextmanager
async def connected(path: Path, buffer_bytes: int = READ_BYTES) -> AsyncIterator[Wire]:
    """Connects to a Unix socket; closes at the end. Twice the buffer is read ahead.

    Raises:
        Lost: nobody is there.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=buffer_bytes)
    except OSError as error:
        raise Lost from error
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


class Place(Protocol):
    """The place that players connect to: a server, or a front of several."""

    up: asyncio.Event

    @property
    def clients(self) -> Path: ...

    @property
    def handlers(self) -> Path: ...


class Player:
    """A client or handler that connects again and again."""

    def __init__(self, server: Place, ledger: Ledger) -> None:
        self.server = server
        self.ledger = ledger
        self.was_in = asyncio.Event()
        """Whether it has been let in once, so that its account is there."""

    async def play(self) -> None:
        """Plays its part until it is cancelled."""
        while True:
            await self.server.up.wait()
            try:
                await self.connection()
            except Lost:
                # Until it is noticed that the server's process has ended.
                await asyncio.sleep(0.005)

    async def connection(self) -> None:
        """Plays one connection, from its beginning to its end."""
        raise NotImplementedError


class Client(Player):
    """An account's session."""

    features: tuple[str, ...] = ("token",)
    buffer_bytes = READ_BYTES

    def __init__(self, server: Place, ledger: Ledger, name: str) -> None:
        super().__init__(server, ledger)
        self.name = name
        self._token: str | None = None

    @asynccontextmanager
    async def logged_in(self) -> AsyncIterator[tuple[Wire, list[Any]]]:
        """Yields a session, and the messages that came with the report on its beginning.

        Raises:
            Lost: not now.
        """
        async with connected(self.server.clients, self.buffer_bytes) as wire:
            proof = {"password": PASSWORD} if self._token is None else {"token": self._token}
            authentication = {"username": self.name, **proof}
            header = {"scope": "client", "features": self.features, "authentication": authentication}
            wire.send({"header": header})
            report, *rest = await wire.batch()
            payload = report.get("payload", {})
            if report["header"]["status"] != "good":
                if payload["error"]["code"] == "authenticationFailed" and self._token is not None:
                    self.ledger.tokens_lost += 1
                    self._token = None
                await asyncio.sleep(AGAIN_S)  # so as not to look like someone who guesses passwords
                raise Lost
            self._token = payload.get("token", self._token)
            self.was_in.set()
            yield wire, rest


class Sender(Client):
    """Sends ``once`` messages, and each again until there is a report on it."""

    def __init__(self, server: Place, ledger: Ledger, name: str, window: int = 32) -> None:
        super().__init__(server, ledger, name)
        self.window = window
        self.todo: deque[tuple[str, bytes]] = deque()
        self.open: dict[str, bytes] = {}
        """Messages without a report, which are sent again over the next connection."""
        self.idle = asyncio.Event()
        self.idle.set()
        self._header = {"once": True}
        self._resting: set[str] = set()
        self._sent_at: dict[str, float] = {}
        self._count = 0
        self._wire: Wire | None = None

    def once(self, wanted: bool) -> None:
        """Sets whether the messages that are given from now on are sent with ``once``."""
        self._header = {"once": True} if wanted else {}

    def give(self, recipient: str, size: int = 64, type: str = "chat", **more: Any) -> str:
        """Takes one more message to be sent, and returns its key."""
        key = f"{self.name}.{self._count}"
        self._count += 1
        data = {"to": recipient, "key": key, "pad": "x" * size, **more}
        message = {"header": self._header, "payload": {"type": type, "id": key, "data": data}}
        self.ledger.sent.add(key)
        self.todo.append((key, framed(message)))
        self.idle.clear()
        self._fill()
        return key

    async def connection(self) -> None:
        async with self.logged_in() as (wire, batch):
            self._resting.clear()
            wire.send(*self.open.values())
            self.ledger.again.update(self.open)
            self._sent_at = dict.fromkeys(self.open, time.monotonic())
            self._wire = wire
            self._fill()
            try:
                while True:
                    self._take(batch)
                    batch = await wire.batch()
            finally:
                self._wire = None

    def _take(self, batch: list[Any]) -> None:
        for message in batch:
            if message["header"].get("messageType") != "statusReport":
                continue
            payload = message["payload"]
            key = payload["id"]
            if key not in self.open:
                continue
            error = payload.get("error")
            if error is None:
                results = payload.get("results", ())
                self.ledger.reported_good(key, results[0]["status"] if results else "good")
            elif error["temporary"]:
                self.ledger.refused_for_now(key, error["code"], time.monotonic() - self._sent_at[key])
                self._resting.add(key)
                asyncio.get_running_loop().call_later(AGAIN_S, self._again, key)
                continue
            else:
                self.ledger.reported_bad(key, error["code"])
            del self.open[key], self._sent_at[key]
        self._fill()
        if not self.open and not self.todo:
            self.idle.set()

    def _again(self, key: str) -> None:
        if key in self._resting and key in self.open and self._wire is not None:
            self._resting.discard(key)
            self._sent_at[key] = time.monotonic()
            self._wire.send(self.open[key])

    def _fill(self) -> None:
        if self._wire is None:
            return
        frames = []
        while self.todo and len(self.open) < self.window:
            key, frame = self.todo.popleft()
            self.open[key] = frame
            self._sent_at[key] = time.monotonic()
            frames.append(frame)
        if frames:
            self._wire.send(*frames)


class Receiver(Client):
    """Takes messages and acknowledges them; some are away now and then."""

    features: tuple[str, ...] = ("ack", "token")

    def __init__(self, server: Place, ledger: Ledger, name: str, comes: Callable[[], int] | None = None) -> None:
        """Makes a receiver; ``comes`` says in turns how many messages it takes, and for how many reports it leaves."""
        super().__init__(server, ledger, name)
        self._comes = comes
        self._stays = asyncio.Event()
        if comes is None:
            self._stays.set()

    def stay(self) -> None:
        """Lets it come and stay."""
        self._stays.set()

    def leave_for_good(self) -> None:
        """Lets it leave as soon as it has been let in, and come back only to stay."""
        self._comes = itertools.cycle((0, 10**9)).__next__
        self._stays.clear()

    async def connection(self) -> None:
        left = self._comes() if self._comes is not None else 0
        async with self.logged_in() as (wire, batch):
            while self._stays.is_set() or left > 0:
                left -= self._take(wire, batch)
                batch = await wire.batch()
            self._record(batch)  # and leaves without a word, as if its connection was lost
        if self._comes is not None and not self._stays.is_set():
            back = asyncio.ensure_future(self.ledger.at(self.ledger.reports + self._comes()))
            stays = asyncio.ensure_future(self._stays.wait())
            try:
                await asyncio.wait([back, stays], return_when=asyncio.FIRST_COMPLETED)
            finally:
                back.cancel()
                stays.cancel()

    def _take(self, wire: Wire, batch: list[Any]) -> int:
        ids = self._record(batch)
        if ids:
            wire.send({"header": {"messageType": "ack"}, "payload": {"ids": ids}})
        return len(ids)

    def _record(self, batch: list[Any]) -> list[str]:
        ids = []
        for message in batch:
            if message["header"].get("messageType") == "receivedMessage":
                payload = message["payload"]
                ids.append(payload["deliveryId"])
                self.ledger.came(self.name, payload["data"]["key"], payload["deliveryId"])
        return ids


class Handler(Player):
    """Passes each message on to the account that its data name; of the type ``far``, first to the server there."""

    def __init__(self, server: Place, ledger: Ledger, types: tuple[str, ...] = ("chat", "far")) -> None:
        super().__init__(server, ledger)
        self.types = types

    async def connection(self) -> None:
        async with connected(self.server.handlers) as wire:
            data = {"types": self.types, "concurrency": 4096}
            wire.send({"header": {"scope": "handler"}, "payload": {"type": "attach", "id": "a", "data": data}})
            while True:
                batch = await wire.batch()
                answers = [self._answer(one) for one in batch if one["header"].get("messageType") == "request"]
                if len(answers) < len(batch):
                    self.was_in.set()
                wire.send(*answers)

    def _answer(self, request: Any) -> bytes:
        header, payload = request["header"], request["payload"]
        data = payload["data"]
        self.ledger.handled[data["key"]] = self.ledger.handled.get(data["key"], 0) + 1
        if payload["type"] == "far" and header["scope"] == "client":
            command = {"type": "sendServers", "data": [data["server"]]}
        else:
            command = {"type": "sendClients", "data": [data["to"]]}
        return framed({"header": {"id": header["id"], "status": "0", "command": command}, "payload": {"data": data}})
