"""A whole server that is driven by hand, for what counts its cost.

Its connections are given bytes, and their transports are replaced by one that only counts. So everything from a read to
the write after it is there, and nothing of the kernel.
"""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from struct import pack, unpack_from
from typing import Any

from bester.config import load
from bester.core.session import Session
from bester.server.connections.connection import Connection
from bester.server.connections.handler import HandlerConnection
from bester.server.connections.listener import ListenerConnection
from bester.server.server import Server

MESSAGE = b'{"header":{},"payload":{"type":"echo","id":"abcd","data":%b}}'
ANSWER = b'{"header":{"id":"%b","status":"0","command":{"type":"reply"}},"payload":{"data":%b}}'
RECEIVED = b'{"header":{"messageType":"receivedMessage"},"payload":{"type":"echo","data":%b}}'
REPORT = b'{"header":{"messageType":"statusReport","status":"good"},"payload":{"id":"abcd"}}'
PUSH = b'{"header":{"messageType":"push","id":"p","command":{"type":"sendClients","data":%b}},"payload":{"data":%b}}'
LOGIN = b'{"header":{"scope":"client","authentication":{"username":"t","password":"the password of t"}}}'
ATTACH = (
    b'{"header":{"scope":"handler"},"payload":{"type":"attach","id":"a","data":{"types":["echo"],"concurrency":4096}}}'
)


def text(size: int) -> bytes:
    """A JSON string of so many bytes, its quotes counted."""
    return b'"' + b"x" * (size - 2) + b'"'


def framed(body: bytes) -> bytes:
    return pack("<I", len(body)) + body


class Counting(asyncio.Transport):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: Any) -> None:
        self.written.append(data)

    def writelines(self, list_of_data: Any) -> None:
        self.written.append(b"".join(list_of_data))

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def frames(self) -> list[bytes]:
        """Returns the bodies of what was written since the last call, and forgets them."""
        data, at, bodies = b"".join(self.written), 0, []
        self.written.clear()
        while at < len(data):
            end = at + 4 + unpack_from("<I", data, at)[0]
            bodies.append(data[at + 4 : end])
            at = end
        return bodies


class Desk:
    """A server with a client and an attached handler, driven by hand."""

    def __init__(self, server: Server) -> None:
        self.data = text(64)
        self.joined: list[Counting] = []
        # The steady state of a busy server, which records no more receipts in this second.
        server.runtime.exchange.reports.receipts.good_left = server.runtime.exchange.reports.receipts.bad_left = 0
        self.runtime = server.runtime
        self._services = server.services
        self._client, self.client = self._taken(ListenerConnection)
        self._handler, self.handler = self._taken(HandlerConnection)

    def _taken(self, kind: type[Connection]) -> tuple[Connection, Counting]:
        connection = next(found for found in self._services.connections.all if isinstance(found, kind))
        connection.transport = counting = Counting()
        return connection, counting

    def ask(self, count: int) -> None:
        """So many messages come in one read, and are handed over."""
        self._client.data_received(framed(MESSAGE % self.data) * count)
        self.runtime.end_turn()

    def answers(self) -> list[bytes]:
        """Returns what the handler answers to each message that it has been asked with."""
        ids = (json.loads(body)["header"]["id"].encode() for body in self.handler.frames())
        return [framed(ANSWER % (id, self.data)) for id in ids]

    def replies(self, count: int) -> list[bytes]:
        """What the client gets for so many messages."""
        return [RECEIVED % self.data, REPORT] * count

    def push(self, count: int) -> bytes:
        """What a handler sends, so that so many who have joined get one message."""
        names = json.dumps([f"c{number}" for number in range(count)]).encode()
        return framed(PUSH % (names, self.data))

    def answer(self, answers: bytes) -> None:
        """They come in one read too, and are executed and reported."""
        self._handler.data_received(answers)
        self.runtime.end_turn()

    def fold(self) -> None:
        """Makes of the handlers' times what metrics show of them, which else is done now and then."""
        for metrics in self.runtime.exchange.batch.counters.by_type:
            assert metrics.seconds >= 0

    def join(self, count: int) -> list[Counting]:
        """So many more clients are there."""
        transports = []
        for number in range(count):
            connection = ListenerConnection(self._services)
            connection.transport = counting = Counting()
            connection.endpoint = Session(f"c{number}", "j.example", writer=connection)
            self.runtime.exchange.deliveries.add_session(connection.endpoint)
            transports.append(counting)
        self.runtime.end_turn()
        self.joined += transports
        return transports


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Desk]:
    """Runs a server, whose files are in this folder."""
    (folder / "server.conf").write_text(
        json.dumps(
            {
                "server": {"name": "j.example"},
                "network": {"unix": {"address": "socket"}},
                "accounts": {"registration": "firstUse"},
            }
        )
    )
    server = Server(load(folder / "server.conf"))
    await server.start()
    writers = []
    for name, hello in (("socket", LOGIN), ("besterHandlers", ATTACH)):
        reader, writer = await asyncio.open_unix_connection(str(folder / name))
        writer.write(framed(hello))
        size = unpack_from("<I", await reader.readexactly(4))[0]
        assert b'"status":"good"' in await reader.readexactly(size)
        writers.append(writer)
    real = {connection: connection.transport for connection in server.connections.all}
    try:
        yield Desk(server)
    finally:
        for connection, transport in real.items():
            connection.transport = transport
        for writer in writers:
            writer.close()
        await server.stop()
        gc.unfreeze()
