"""Plays the server's end of the handler socket for a handler that attaches (docs/protocol.md, section 6).

The handler may open a new connection at any time; :attr:`AttachedBench.connection` is the one on which it is attached
now. Request ids are not reused unless a check does so, so that an answer to a request of an earlier connection is
detected.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from urllib.parse import quote

from bester.errors import ShuttingDown
from bester.net.selfsigned import make_certificate
from bester.protocol import frames
from bester.protocol.messages import AttachData, AttachMessage
from bester.timeouts import within
from bester.tls import server_context
from bester.workbench.answers import Answer
from bester.workbench.bench import QUIET_S, Bench
from bester.workbench.connection import READ_BYTES, Connection, request
from bester.workbench.contract import TOKEN, USER, Failed, Form, Options
from bester.workbench.described import Described
from bester.workbench.process import Process
from bester.workbench.stream import Stream

_HOST = "127.0.0.1"
AT_ONCE = 128
"""The most outstanding requests, even if the handler allows more."""


class AttachedBench(Bench):
    """A handler socket with one handler."""

    form = Form.ATTACHED

    def __init__(self, command: Sequence[str], folder: Path, options: Options) -> None:
        super().__init__(command, folder, options)
        self.path = folder / "handlers"
        self.connection: Connection | None = None
        self.wrong: list[Failed] = []
        """The faults on any connection that do not belong to a request."""
        self.pushes = 0
        """How often the handler has pushed commands."""
        self.reading = asyncio.Event()
        """Nothing is read while this is not set."""
        self.reading.set()
        self.slow = False
        """Whether the connection is read in small pieces."""
        self.connected = False
        """Whether the handler has ever connected."""
        self._server: asyncio.Server | None = None
        self._port = 0
        self._next_id = count(1).__next__
        self._attached = asyncio.Event()
        self._trouble = asyncio.Event()
        self._readers: set[asyncio.Task[None]] = set()
        self._connections: dict[Connection, None] = {}
        self._described: tuple[AttachData, Described] | None = None

    async def open(self) -> None:
        await self.listen()
        environment = {"BESTER_HANDLERS": self.address, "BESTER_TYPE": self.options.type}
        self.process = await Process.start(self.command, environment)
        await self.attached("the handler did not attach")

    async def listen(self) -> None:
        """Begins to listen, so that the handler can connect."""
        if not self.options.tls:
            self._server = await asyncio.start_unix_server(self._connected, self.path, limit=READ_BYTES // 4)
            return
        certificate, key = self.folder / "server.pem", self.folder / "server.key"
        if not self._port:
            made, its_key, _ = make_certificate(_HOST)
            certificate.write_bytes(made)
            key.write_bytes(its_key)
        self._server = await asyncio.start_server(
            self._connected, _HOST, self._port, limit=READ_BYTES // 4, ssl=server_context(certificate, key)
        )
        self._port = self._server.sockets[0].getsockname()[1]

    @property
    def address(self) -> str:
        """The value of ``BESTER_HANDLERS``."""
        if not self.options.tls:
            return str(self.path)
        return f"tls://{USER}:{TOKEN}@{_HOST}:{self._port}?cafile={quote(str(self.folder / 'server.pem'))}"

    async def stop_listening(self) -> None:
        """Ends the listener and all connections, as a server that goes away does."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            self.path.unlink(missing_ok=True)
        for connection in list(self._connections):
            await connection.end()
        self._attached.clear()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:  # the handler connected just before the listener ended
            writer.transport.abort()
            return
        self.connected = True
        self.take(Connection(self, reader, writer))

    def take(self, connection: Connection) -> Connection:
        """Reads what comes on a connection, until its end; returns the connection."""
        task = asyncio.create_task(connection.read())
        self._connections[connection] = None
        self._readers.add(task)
        task.add_done_callback(lambda _: self._gone(connection, task))
        return connection

    def _gone(self, connection: Connection, task: asyncio.Task[None]) -> None:
        self._connections.pop(connection, None)
        self._readers.discard(task)

    def came(self, connection: Connection) -> None:
        """Notes that a connection is attached."""
        self.connection = connection
        self._attached.set()

    def pushed(self) -> None:
        """Counts a push."""
        self.pushes += 1

    def went_wrong(self, failure: Failed) -> None:
        """Notes a fault that does not belong to a request."""
        self.wrong.append(failure)
        self._trouble.set()

    async def attached(self, otherwise: str = "the handler did not attach again") -> Connection:
        """Waits until a connection is attached, and returns it.

        Raises:
            Failed: no connection is attached in time.
        """
        if self.connection is not None and self.connection.lost.is_set():
            self._attached.clear()
        waiting = [asyncio.create_task(self._attached.wait()), asyncio.create_task(self._trouble.wait())]
        ended = [self.process.ended] if self.process is not None else []
        await asyncio.wait([*waiting, *ended], timeout=self.options.reattach_s, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        if not self._attached.is_set() or self.connection is None:
            self.settle()
            raise Failed(f"{otherwise} within {self.options.reattach_s:g} s")
        return self.connection

    @property
    def hello(self) -> AttachMessage:
        """The attach message of the present connection."""
        assert self.connection is not None
        assert self.connection.hello is not None
        return self.connection.hello

    @property
    def told(self) -> AttachData:
        """The data of the attach message."""
        assert self.connection is not None
        assert self.connection.attached is not None
        return self.connection.attached

    @property
    def type(self) -> str:
        """The type of the requests: the one in the options if the handler serves it, otherwise its first type."""
        types = self.told.types
        return self.options.type if self.options.type in types else types[0]

    @property
    def at_once(self) -> int:
        return min(self.told.concurrency, AT_ONCE)

    @property
    def described(self) -> Described:
        """What the handler says of its types."""
        if self._described is None or self._described[0] is not self.told:
            self._described = (self.told, Described(self.told, self.type))
        return self._described[1]

    @property
    def sample(self) -> bytes:
        if self.options.sample is None and self.connection is not None and self.described.samples:
            return self.described.samples[0]
        return super().sample

    async def features(self) -> tuple[str, ...]:
        """Returns the features that the handler has listed."""
        return (await self.attached()).features

    def new_id(self) -> str:
        """Returns the id of the next request."""
        return str(self._next_id())

    async def ask(
        self,
        data: bytes,
        *,
        piece: int = 0,
        slowly: bool = False,
        id: str | None = None,
        header: Mapping[str, object] | None = None,
        client_id: str = "c1",
    ) -> Answer:
        """Asks as :meth:`Bench.ask` does, with a given id, additional header members or another client id."""
        connection = await self.attached()
        chosen = self.new_id() if id is None else id
        whole = request(chosen, self.type, data, header, client_id)
        return await self.ask_frame(connection, chosen, whole, piece, guards=bool(header and "guards" in header))

    async def ask_frame(
        self, connection: Connection, id: str, whole: bytes, piece: int = 0, *, guards: bool = False
    ) -> Answer:
        """Sends a whole request, which may ask a guard, and returns the answer to this id.

        Raises:
            Failed: see :meth:`Bench.ask`.
        """
        future = connection.expect(id, guards=guards)
        await connection.write(whole, piece)
        return await connection.answer_to(future)

    async def ask_in_parts(self, data: bytes, parts: int) -> Stream:
        """Sends a request whose answer may come in so many parts, and does not wait for it."""
        connection = await self.attached()
        stream = connection.expect_parts(self.new_id(), parts)
        await connection.write(request(stream.id, self.type, data, {"parts": parts}))
        return stream

    async def ask_all(self, many: Sequence[bytes], *, slowly: bool = False) -> list[Answer]:
        if not slowly:
            return await super().ask_all(many)
        self.slow = True
        self.reading.clear()
        asyncio.get_running_loop().call_later(0.3, self.reading.set)
        try:
            return await super().ask_all(many)
        finally:
            self.reading.set()
            self.slow = False

    async def cut_request(self, data: bytes) -> None:
        connection = await self.attached()
        whole = request(self.new_id(), self.type, data)
        await connection.write(whole[: len(whole) // 2])
        await connection.end()
        await self.attached()

    async def cut_answer(self, data: bytes, *, begun: bool) -> None:
        connection = await self.attached()
        id = self.new_id()
        connection.expect(id)  # the answer may come before the end
        self.reading.clear()
        try:
            await self.write_and_cut(connection.writer, request(id, self.type, data), begun=begun)
        finally:
            self.reading.set()
        await connection.lost.wait()
        await self.attached()

    async def throw(self, raw: bytes) -> None:
        connection = await self.attached()
        await connection.write(raw)
        with contextlib.suppress(TimeoutError):
            async with within(QUIET_S):
                await connection.lost.wait()  # most handlers close the connection, but they need not
        await connection.end()
        await self.attached()

    async def end_in_order(self) -> None:
        """Ends the handler's connection as a server that stops does, and returns when the handler is attached again.

        Raises:
            Failed: the handler did not attach again.
        """
        connection = await self.attached()
        await connection.end(frames.fatal(ShuttingDown()))
        await self.attached()

    def settle(self) -> None:
        if self.wrong:
            raise self.wrong[0]
        super().settle()

    async def close(self) -> None:
        self.stopping = True
        self.reading.set()
        await self.stop_listening()
        if self.process is not None:
            await self.process.end()
        if self._readers:
            await asyncio.wait(set(self._readers))
