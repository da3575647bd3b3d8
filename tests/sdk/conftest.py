"""A server that a test plays by hand: it reads and writes frames on a real socket."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.waiting import PATIENCE_S

from bester.protocol.framing import frame

GOOD = {"messageType": "statusReport", "status": "good"}
BAD = {"messageType": "statusReport", "status": "bad"}


class Connection:
    """One accepted connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def receive_body(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            size = int.from_bytes(await self.reader.readexactly(4), "little")
            return await self.reader.readexactly(size)

    async def receive(self) -> Any:
        return json.loads(await self.receive_body())

    def send_body(self, *bodies: bytes) -> None:
        self.writer.write(b"".join(frame(body) for body in bodies))

    def send(self, *messages: Any) -> None:
        self.send_body(*(json.dumps(message).encode() for message in messages))

    def report(self, id: str, **payload: Any) -> None:
        self.send({"header": BAD if "error" in payload else GOOD, "payload": {"id": id, **payload}})

    def deliver(self, type: str, data: Any, **payload: Any) -> None:
        header = {"messageType": "receivedMessage"}
        self.send({"header": header, "payload": {"type": type, "data": data, **payload}})

    def request(self, id: str, type: str, data: Any, **header: Any) -> None:
        sender = {"user": "t", "server": "j.example", "verified": True}
        head = {"messageType": "request", "id": id, "scope": "client", "from": sender, "hops": 0, **header}
        self.send({"header": head, "payload": {"type": type, "id": "tag", "data": data}})

    def fatal(self, code: str, message: str) -> None:
        header = {"messageType": "fatal", "status": "bad"}
        self.send({"header": header, "payload": {"error": {"code": code, "message": message}}})

    async def at_end(self) -> bool:
        """Says whether the other end closed, and sent nothing more."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


class Peer:
    """Listens on a Unix socket, and gives its connections to the test."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.connections: list[Connection] = []
        self._accepted: asyncio.Queue[Connection] = asyncio.Queue()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._connected, self.path)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        self.connections.append(connection)
        self._accepted.put_nowait(connection)

    async def accept(self) -> Connection:
        async with asyncio.timeout(PATIENCE_S):
            return await self._accepted.get()

    async def welcome(self, **payload: Any) -> Connection:
        """Accepts a client and lets it in."""
        connection = await self.accept()
        await connection.receive()
        connection.report("auth_special", **{"features": ["replyTo"], **payload})
        return connection

    async def attach(self) -> Connection:
        """Accepts a handler and lets it in."""
        connection = await self.accept()
        attach = await connection.receive()
        connection.report(attach["payload"]["id"])
        return connection

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in self.connections:
            await connection.close()
        self.connections.clear()

    @property
    def url(self) -> str:
        return f"bester+unix://t:secret@{self.path}"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path, since those of sockets are limited."""
    with tempfile.TemporaryDirectory(prefix="bester-") as name:
        yield Path(name)


@pytest.fixture
async def peer(folder: Path) -> AsyncIterator[Peer]:
    peer = Peer(str(folder / "s"))
    await peer.open()
    yield peer
    await peer.close()


@pytest.fixture
def make_peer() -> type[Peer]:
    """The class itself, for a test that has its loop elsewhere."""
    return Peer
