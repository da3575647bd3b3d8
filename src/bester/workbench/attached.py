"""Plays the server's end of the handler socket for a handler that attaches (docs/protocol.md, section 6).

The handler may come back on a new connection at any time; :attr:`AttachedBench.connection` is the one on which it is
attached now. Request ids are never used twice by themselves, so an answer to what was asked on an earlier connection
is found out.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

from bester.errors import BesterError, Malformed, ShuttingDown
from bester.protocol import frames
from bester.protocol.framing import Framer, frame
from bester.protocol.messages import AttachMessage, BadAnswer, decode_attach
from bester.protocol.names import type_name
from bester.workbench.answers import Answer, attached_message, judge
from bester.workbench.bench import QUIET_S, Bench
from bester.workbench.contract import MAX_FRAME, Failed, Form, Gone, Options
from bester.workbench.process import Process

MAX_TYPES = 256
MAX_CONCURRENCY = 65_536
AT_ONCE = 128
"""At most so many requests are outstanding, whatever the handler allows."""
_READ_BYTES = 64 * 1024
_SLOW_READ_BYTES = 2 * 1024
_ORIGIN = {"user": "t", "server": "j.example", "verified": True}
_TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def request(
    id: str, type: str, data: bytes, header: Mapping[str, object] | None = None, client_id: str = "c1"
) -> bytes:
    """Returns a request as a frame, with more members of the header if they are given."""
    whole = {"messageType": "request", "id": id, "scope": "client", "from": _ORIGIN, "hops": 0, "traceparent": _TRACE}
    return frame(
        b"".join(
            (
                b'{"header":',
                frames.encode_text(whole | dict(header or {})),
                b',"payload":{"type":',
                frames.encode_text(type),
                b',"id":',
                frames.encode_text(client_id),
                b',"data":',
                data,
                b"}}",
            )
        )
    )


class Connection:
    """One connection of the handler; it is attached when :attr:`hello` is there."""

    def __init__(self, bench: AttachedBench, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.bench = bench
        self.writer = writer
        self.hello: AttachMessage | None = None
        self.lost = asyncio.Event()
        self.detaching = asyncio.Event()
        self.hold_detach = False
        """Whether a ``detach`` is not reported at once, but with :meth:`report_detach`."""
        self.pending: dict[str, asyncio.Future[Answer]] = {}
        self._reader = reader
        self._answered: set[str] = set()
        self._detach_id = ""

    # -- to the handler -------------------------------------------------------------------------------------------

    def expect(self, id: str) -> asyncio.Future[Answer]:
        """Returns what will be the answer to a request that is about to be sent.

        Raises:
            Failed: the connection is lost.
        """
        if self.lost.is_set():
            raise Gone("the handler has closed its connection")
        self._answered.discard(id)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.pending[id] = future
        return future

    async def write(self, data: bytes, piece: int = 0) -> None:
        """Sends; what cannot be sent any more is found out by whoever waits for an answer."""
        with contextlib.suppress(OSError):
            await self.bench.write(self.writer, data, piece)

    async def answer_to(self, future: asyncio.Future[Answer]) -> Answer:
        """Returns an expected answer.

        Raises:
            Failed: it does not come in time, or is wrong.
        """
        timeout_s = self.bench.options.timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise Failed(f"no answer within {timeout_s:g} s") from None

    def report_detach(self) -> None:
        """Reports the handler's ``detach`` good."""
        self._send(frames.good_report(self._detach_id))

    async def end(self, last: bytes = b"") -> None:
        """Closes the connection, after a last frame if there is one."""
        if last:
            await self.write(last)
        self.bench.transcript.note("the server closes the connection")
        self.writer.close()
        await self.lost.wait()

    def _send(self, data: bytes) -> None:
        self.bench.transcript.sent(data)
        self.writer.write(data)

    # -- from the handler -----------------------------------------------------------------------------------------

    async def read(self) -> None:
        """Reads until the end of the connection."""
        framer = Framer(MAX_FRAME)
        try:
            while True:
                await self.bench.reading.wait()
                data = await self._reader.read(_SLOW_READ_BYTES if self.bench.slow else _READ_BYTES)
                if not data:
                    break
                for body in framer.feed(data):
                    self.bench.transcript.came(frame(body))
                    self._received(body)
                if framer.failure is not None:
                    self.bench.transcript.came(data)
                    raise Failed(f"not a frame: {framer.failure.message}")
                if self.bench.slow:
                    await asyncio.sleep(0)
        except Failed as failure:
            self._fail(failure, wrong=True)
            with contextlib.suppress(OSError):
                self.writer.write(frames.fatal(Malformed(str(failure))))
        except OSError:
            pass
        finally:
            self.lost.set()
            self.writer.close()
            self._fail(Gone("the handler closed its connection and did not answer"))

    def _received(self, body: bytes) -> None:
        if self.hello is None:
            self._attach(body)
            return
        try:
            message = attached_message(body)
        except BadAnswer as error:
            self._answer(error.id, Failed(f"the answer is not of section 3.2's form: {error.detail}"))
            return
        if isinstance(message, str):
            self._detach_id = message
            self.detaching.set()
            if not self.hold_detach:
                self.report_detach()
        elif message.header.message_type == "push":
            self._send(frames.good_report(message.header.id or ""))
        else:
            try:
                self._answer(message.header.id or "", judge(message))
            except Failed as failure:
                self._answer(message.header.id or "", failure)

    def _attach(self, body: bytes) -> None:
        try:
            hello = decode_attach(body)
        except Malformed as error:
            raise Failed(f"the first frame is no attach message: {error.message}") from error
        if hello.header.scope != "handler":
            raise Failed('header.scope of the first frame must be "handler"')
        payload = hello.payload
        if payload is None or payload.type != "attach" or payload.data is None:
            raise Failed("the first message must be of type attach, and its data must name the types")
        data = payload.data
        if not 1 <= len(data.types) <= MAX_TYPES:
            raise Failed(f"the attach message must name 1 to {MAX_TYPES} types")
        if not 1 <= data.concurrency <= MAX_CONCURRENCY:
            raise Failed(f"concurrency must be from 1 to {MAX_CONCURRENCY}")
        for name in data.types:
            try:
                type_name(name)
            except BesterError as error:
                raise Failed(f"the attach message: {error.message}") from error
            if name in ("dummy", "builtin"):
                raise Failed(f"{name} is one of the server's own types")
        self.hello = hello
        self._send(frames.good_report(payload.id))
        self.bench.came(self)

    def _answer(self, id: str, answer: Answer | Failed) -> None:
        future = self.pending.pop(id, None)
        if future is None:
            what = "a second time" if id in self._answered else "which nobody asked on this connection"
            self._fail(Failed(f"the handler answered the id {id!r}, {what}"), wrong=True)
            return
        self._answered.add(id)
        if future.done():
            return
        if isinstance(answer, Failed):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    def _fail(self, failure: Failed, *, wrong: bool = False) -> None:
        if wrong:
            self.bench.went_wrong(failure)
        for future in self.pending.values():
            if not future.done():
                future.set_exception(failure)
                future.exception()  # whoever waits will see it; perhaps nobody does any more
        self.pending.clear()


class AttachedBench(Bench):
    """A handler socket with one handler."""

    form = Form.ATTACHED

    def __init__(self, command: Sequence[str], folder: Path, options: Options) -> None:
        super().__init__(command, folder, options)
        self.path = folder / "handlers"
        self.connection: Connection | None = None
        self.wrong: list[Failed] = []
        """What was wrong on any connection, whatever was asked."""
        self.reading = asyncio.Event()
        """While this is not set, nothing is read."""
        self.reading.set()
        self.slow = False
        """Whether it is read in small pieces."""
        self._server: asyncio.Server | None = None
        self._next_id = count(1).__next__
        self._attached = asyncio.Event()
        self._trouble = asyncio.Event()
        self._readers: set[asyncio.Task[None]] = set()
        self._connections: set[Connection] = set()

    async def open(self) -> None:
        await self.listen()
        environment = {"BESTER_HANDLERS": str(self.path), "BESTER_TYPE": self.options.type}
        self.process = await Process.start(self.command, environment)
        await self.attached("the handler did not attach")

    async def listen(self) -> None:
        """Begins to listen; the handler can come."""
        self._server = await asyncio.start_unix_server(self._connected, self.path, limit=_READ_BYTES // 4)

    async def stop_listening(self) -> None:
        """Ends the listener and all connections, as a server that goes away."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            self.path.unlink(missing_ok=True)
        for connection in list(self._connections):
            await connection.end()
        self._attached.clear()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:  # it had just connected
            writer.transport.abort()
            return
        connection = Connection(self, reader, writer)
        task = asyncio.create_task(connection.read())
        self._connections.add(connection)
        self._readers.add(task)
        task.add_done_callback(lambda _: self._gone(connection, task))

    def _gone(self, connection: Connection, task: asyncio.Task[None]) -> None:
        self._connections.discard(connection)
        self._readers.discard(task)

    @property
    def connected(self) -> bool:
        """Whether anybody has connected."""
        return bool(self._connections)

    def came(self, connection: Connection) -> None:
        """A connection is attached."""
        self.connection = connection
        self._attached.set()

    def went_wrong(self, failure: Failed) -> None:
        """Something came that may not come, whatever was asked."""
        self.wrong.append(failure)
        self._trouble.set()

    async def attached(self, otherwise: str = "the handler did not attach again") -> Connection:
        """Returns the connection that is attached, when there is one.

        Raises:
            Failed: there is none in time.
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
    def type(self) -> str:
        """The type that is asked: what was said, if the handler serves it, or its first one."""
        assert self.hello.payload is not None
        assert self.hello.payload.data is not None
        types = self.hello.payload.data.types
        return self.options.type if self.options.type in types else types[0]

    @property
    def at_once(self) -> int:
        assert self.hello.payload is not None
        assert self.hello.payload.data is not None
        return min(self.hello.payload.data.concurrency, AT_ONCE)

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
        """As :meth:`Bench.ask`; with an id of its own, more members of the header, or another id of the sender."""
        connection = await self.attached()
        chosen = self.new_id() if id is None else id
        return await self.ask_frame(connection, chosen, request(chosen, self.type, data, header, client_id), piece)

    async def ask_frame(self, connection: Connection, id: str, whole: bytes, piece: int = 0) -> Answer:
        """Sends a whole request, and returns the answer to this id.

        Raises:
            Failed: as :meth:`Bench.ask`.
        """
        future = connection.expect(id)
        await connection.write(whole, piece)
        return await connection.answer_to(future)

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
        connection.expect(id)  # it may come before the end
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
            async with asyncio.timeout(QUIET_S):
                await connection.lost.wait()  # most will, and need not
        await connection.end()
        await self.attached()

    async def end_in_order(self) -> None:
        """Ends the handler's connection as a server that stops does, and returns when the handler is attached again.

        Raises:
            Failed: it did not come back.
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
