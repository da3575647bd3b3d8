"""The server's end of an attached handler's connection (docs/protocol.md, section 6), which judges what it receives."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Protocol

from bester.errors import BesterError, Malformed
from bester.protocol import frames
from bester.protocol.framing import Framer, frame
from bester.protocol.messages import AttachData, AttachMessage, BadAnswer, HandlerMessage, attach_data, decode_attach
from bester.protocol.names import RESERVED_TYPES, type_name
from bester.protocol.stdio import LineFramer, as_lines
from bester.timeouts import within
from bester.workbench.answers import Answer, attached_message, judge, printed_message
from bester.workbench.contract import MAX_FRAME, TOKEN, USER, Failed, Gone, Late, Options
from bester.workbench.stream import Stream
from bester.workbench.transcript import Transcript

READ_BYTES = 64 * 1024
_SLOW_READ_BYTES = 2 * 1024
_ORIGIN = {"user": "t", "server": "j.example", "verified": True}
_TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def request(
    id: str, type: str, data: bytes, header: Mapping[str, object] | None = None, client_id: str = "c1"
) -> bytes:
    """Returns a request as a frame, with the additional header members."""
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


class Owner(Protocol):
    """The bench that a connection belongs to."""

    options: Options
    transcript: Transcript
    reading: asyncio.Event
    """Set while the handler's output is read."""
    slow: bool
    """Whether the handler's output is read slowly."""

    async def write(self, writer: asyncio.StreamWriter, data: bytes, piece: int = 0) -> None:
        """Writes to the handler, in pieces of ``piece`` bytes if that is not 0."""

    def came(self, connection: Connection) -> None:
        """Notes that the connection is attached."""

    def pushed(self) -> None:
        """Notes that the handler has pushed commands."""

    def went_wrong(self, failure: Failed) -> None:
        """Notes a breach of the contract that does not belong to a request."""


class Connection:
    """One connection of the handler; it is attached when :attr:`hello` is set.

    Args:
        bench: the owner.
        reader, writer: the handler's end.
        lines: whether it is a program's input and output, in lines (section 6.11), which need not attach.
    """

    def __init__(
        self, bench: Owner, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, lines: bool = False
    ) -> None:
        self.bench = bench
        self.writer = writer
        self.hello: AttachMessage | None = None
        self.attached: AttachData | None = None
        """The data of the attach message."""
        self.lost = asyncio.Event()
        self.detaching = asyncio.Event()
        self.hold_detach = False
        """Whether a ``detach`` is reported only by :meth:`report_detach`, not at once."""
        self.pending: dict[str, asyncio.Future[Answer]] = {}
        self.streams: dict[str, Stream] = {}
        """The requests with ``parts``, by their ids."""
        self._lines = lines
        self._unsure = False
        """Whether an answer in a line was wrong, so that nobody can tell what those behind it answer."""
        self.begun = False
        """Whether a message has come."""
        self._reader = reader
        self._answered: set[str] = set()
        self._verdicts: set[str] = set()
        """The ids of requests whose answers are verdicts."""
        self._detach_id = ""

    # -- to the handler -------------------------------------------------------------------------------------------

    def expect(self, id: str, *, guards: bool = False) -> asyncio.Future[Answer]:
        """Returns the future of the answer to a request that is about to be sent, and perhaps asks a guard.

        Raises:
            Failed: the connection is lost.
        """
        if self.lost.is_set():
            raise Gone("the handler has closed its connection")
        self._answered.discard(id)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.pending[id] = future
        if guards:
            self._verdicts.add(id)
        return future

    def expect_parts(self, id: str, parts: int) -> Stream:
        """Returns what comes for a request with ``parts`` that is about to be sent.

        Raises:
            Failed: the connection is lost.
        """
        stream = self.streams[id] = Stream(id, parts, self.expect(id))
        return stream

    async def write(self, data: bytes, piece: int = 0) -> None:
        """Sends frames, or a piece of one; if the connection is lost, the callers that wait for answers learn it."""
        with contextlib.suppress(OSError):
            await self.bench.write(self.writer, as_lines([data]) if self._lines else data, piece)

    async def answer_to(self, future: asyncio.Future[Answer]) -> Answer:
        """Returns an expected answer.

        Raises:
            Failed: the answer does not come in time, or is wrong.
        """
        timeout_s = self.bench.options.timeout_s
        try:
            async with within(timeout_s):
                return await future
        except TimeoutError:
            raise Late(f"no answer within {timeout_s:g} s") from None

    def report_detach(self) -> None:
        """Reports the handler's ``detach`` good."""
        self._send(frames.good_report(frames.encode_text(self._detach_id)))

    async def grant(self, stream: Stream, parts: int) -> None:
        """Grants more parts."""
        stream.credit += parts
        await self.write(frames.more(stream.id, parts))

    async def end(self, last: bytes = b"") -> None:
        """Closes the connection, after a last frame if there is one."""
        if last:
            await self.write(last)
        self.bench.transcript.note("the server closes the connection")
        self.writer.close()
        await self.lost.wait()

    def _send(self, data: bytes) -> None:
        data = as_lines([data]) if self._lines else data
        self.bench.transcript.sent(data)
        self.writer.write(data)

    # -- from the handler -----------------------------------------------------------------------------------------

    async def read(self) -> None:
        """Reads until the end of the connection."""
        framer = LineFramer(MAX_FRAME) if self._lines else Framer(MAX_FRAME)
        try:
            while True:
                await self.bench.reading.wait()
                data = await self._reader.read(_SLOW_READ_BYTES if self.bench.slow else READ_BYTES)
                if not data:
                    break
                for body in framer.feed(data):
                    self.bench.transcript.came(body + b"\n" if self._lines else frame(body))
                    self._received(body)
                if framer.failure is not None:
                    self.bench.transcript.came(data)
                    raise Failed(f"not a {'line' if self._lines else 'frame'}: {framer.failure.message}")
                if self.bench.slow:
                    await asyncio.sleep(0)
        except Failed as failure:
            self._fail(failure, wrong=True)
            with contextlib.suppress(OSError):
                if not self._lines:
                    self.writer.write(frames.fatal(Malformed(str(failure))))
        except OSError:
            pass
        finally:
            self.lost.set()
            self.writer.close()
            self._fail(Gone("the handler closed its connection and did not answer"))

    def _received(self, body: bytes) -> None:
        first, self.begun = not self.begun, True
        if first and (not self._lines or _attaches(body)):
            self._attach(body)
            return
        try:
            message = printed_message(body) if self._lines else attached_message(body)
        except BadAnswer as error:
            id = error.id or self._oldest()
            self._answer(id, Failed(f"the answer does not have the form of section 3.2: {error.detail}"))
            return
        if isinstance(message, str):
            self._detach_id = message
            self.detaching.set()
            if not self.hold_detach:
                self.report_detach()
        elif message.header.message_type == "push":
            self.bench.pushed()
            self._send(frames.good_report(frames.encode_text(message.header.id or "")))
        else:
            self._judge(message.header.id or self._oldest(), message)

    def _oldest(self) -> str:
        """Returns the id of the request that an answer without an id answers."""
        return next(iter(self.pending), "") if self._lines else ""

    def _judge(self, id: str, message: HandlerMessage) -> None:
        try:
            answer = judge(message, guards=id in self._verdicts)
            # A server looks at more in no other case.
            part = answer.good and message.header.more is True and "parts" in self.features
            if not part or id not in self.pending:
                self._answer(id, answer)
            elif id in self.streams:
                self.streams[id].part(answer)
            else:
                raise Failed("the answer says more, but its request has no header.parts: it must be the only one")
        except Failed as failure:
            self._answer(id, failure)

    @property
    def features(self) -> tuple[str, ...]:
        """The features that the handler has listed."""
        return self.hello.header.features if self.hello is not None else ()

    def _attach(self, body: bytes) -> None:
        try:
            hello = decode_attach(body)
        except Malformed as error:
            raise Failed(f"the first frame is not an attach message: {error.message}") from error
        if hello.header.scope != "handler":
            raise Failed('header.scope of the first frame must be "handler"')
        claim = hello.header.authentication
        if self.bench.options.tls and (claim is None or (claim.username, claim.token) != (USER, TOKEN)):
            raise Failed("header.authentication of the first frame must have the username and the token of the URL")
        try:
            self.attached = attach_data(hello.payload)
        except BesterError as error:
            raise Failed(f"the attach message: {error.message}") from error
        for name in self.attached.types:
            try:
                type_name(name)
            except BesterError as error:
                raise Failed(f"the attach message: {error.message}") from error
            if name in RESERVED_TYPES:
                raise Failed(f"the attach message: the type {name} belongs to the server")
        self.hello = hello
        self._send(frames.good_report(frames.encode_text(hello.payload.id if hello.payload is not None else "")))
        self.bench.came(self)

    def _answer(self, id: str, answer: Answer | Failed) -> None:
        future = self.pending.pop(id, None)
        if future is None and self._lines and not id:
            if not self._unsure:
                self._fail(Failed("it printed an answer to nothing that it was asked"), wrong=True)
            return
        if future is None:
            what = "a second time" if id in self._answered else "which no request on this connection has"
            self._fail(Failed(f"the handler answered the id {id!r}, {what}"), wrong=True)
            return
        self._answered.add(id)
        if future.done():
            return
        if isinstance(answer, Failed):
            self._unsure = self._lines
            _failed(future, answer)
        else:
            future.set_result(answer)

    def _fail(self, failure: Failed, *, wrong: bool = False) -> None:
        if wrong:
            self.bench.went_wrong(failure)
        for future in self.pending.values():
            if not future.done():
                _failed(future, failure)
        self.pending.clear()


def _attaches(line: bytes) -> bool:
    """Returns whether a program's first line is an attach message."""
    try:
        payload = decode_attach(line).payload
    except Malformed:
        return False
    return payload is not None and payload.type == "attach"


def _failed(future: asyncio.Future[Answer], failure: Failed) -> None:
    """Fails a future, and marks its exception as retrieved, because perhaps nobody waits for it any more."""
    future.set_exception(failure)
    future.exception()
