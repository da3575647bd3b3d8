"""Plays the server's end of a handler's standard input and output, in lines (docs/protocol.md, section 6.11)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from bester.errors import Malformed
from bester.protocol.framing import frame
from bester.protocol.messages import BadAnswer
from bester.protocol.stdio import LineFramer, as_lines, read_answer
from bester.timeouts import within
from bester.workbench.answers import Answer, judge
from bester.workbench.bench import QUIET_S, Bench
from bester.workbench.connection import READ_BYTES, request
from bester.workbench.contract import MAX_FRAME, Failed, Form, Gone, Options, Skipped
from bester.workbench.process import Process

AT_ONCE = 4
"""The most requests at the same time; a handler that answers them one after the other may take its time."""
_SLOW_READ_BYTES = 2 * 1024


class StdioBench(Bench):
    """One process, which gets lines and writes lines."""

    form = Form.STDIO

    def __init__(self, command: Sequence[str], folder: Path, options: Options) -> None:
        super().__init__(command, folder, options)
        self._next_id = count(1).__next__
        self._asked: dict[str, asyncio.Future[Answer]] = {}
        """The answers that are waited for, by the ids of their requests, oldest first."""
        self._wrong: Failed | None = None
        self._reading = asyncio.Event()
        self._reading.set()
        self._slow = False
        self._task: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        ours, its = socket.socketpair()
        environment = {"BESTER_STDIO": "lines", "BESTER_TYPE": self.options.type}
        try:
            self.process = await Process.start(self.command, environment, its.fileno())
        except BaseException:
            ours.close()
            raise
        finally:
            its.close()
        reader, self._writer = await asyncio.open_unix_connection(sock=ours, limit=READ_BYTES // 4)
        self._task = asyncio.create_task(self._read(reader))

    @property
    def at_once(self) -> int:
        return AT_ONCE

    async def ask(self, data: bytes, *, piece: int = 0, slowly: bool = False) -> Answer:
        if self._writer is None or (self._task is not None and self._task.done()):
            raise Gone("the handler has closed its output")
        id = str(self._next_id())
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked[id] = future
        with contextlib.suppress(OSError):
            await self.write(self._writer, as_lines([request(id, self.options.type, data)]), piece)
        try:
            async with within(self.options.timeout_s):
                return await future
        except TimeoutError:
            if self._wrong is not None:
                raise self._wrong from None
            raise Failed(f"no answer within {self.options.timeout_s:g} s") from None

    async def ask_all(self, many: Sequence[bytes], *, slowly: bool = False) -> list[Answer]:
        if slowly:
            self._slow = True
            self._reading.clear()
            asyncio.get_running_loop().call_later(0.3, self._reading.set)
        try:
            return await super().ask_all(many)
        finally:
            self._slow = False

    async def _read(self, reader: asyncio.StreamReader) -> None:
        framer = LineFramer(MAX_FRAME)
        failure: Failed = Gone("the handler ended, or closed its output, and did not answer")
        with contextlib.suppress(OSError):
            while data := await reader.read(_SLOW_READ_BYTES if self._slow else READ_BYTES):
                for body in framer.feed(data):
                    self.transcript.came(frame(body))
                    self._received(body)
                if framer.failure is not None:
                    failure = self._wrong = Failed(framer.failure.message)
                    break
                await self._reading.wait()
        for future in self._asked.values():
            _fail(future, failure)
        self._asked.clear()

    def _received(self, body: bytes) -> None:
        id = ""
        try:
            message = read_answer(body)
            if isinstance(message, str) or message.header.message_type == "push":
                return
            id = message.header.id or ""
            answer: Answer | Failed = judge(message)
        except BadAnswer as error:
            id, answer = error.id, Failed(f"the answer does not have the form of section 3.2: {error.detail}")
        except Malformed as error:
            answer = Failed(
                f"it printed a line that is no answer ({error.message}); such lines belong on standard error"
            )
        except Failed as failure:
            answer = failure
        id = id or next(iter(self._asked), "")
        future = self._asked.pop(id, None)
        if future is None:
            self._wrong = Failed("it printed an answer to nothing that it was asked")
        elif isinstance(answer, Failed):
            _fail(future, answer)
        elif not future.done():
            future.set_result(answer)

    async def end_of_input(self) -> None:
        """Ends the handler's input, and returns when its process has ended.

        Raises:
            Failed: it has not ended in time.
        """
        assert self._writer is not None
        assert self.process is not None
        self.stopping = True
        self._writer.write_eof()
        await asyncio.wait({self.process.ended}, timeout=self.options.timeout_s)
        if not self.process.ended.done():
            raise Failed(f"it did not end within {self.options.timeout_s:g} s of the end of its input")

    async def cut_request(self, data: bytes) -> None:
        raise Skipped("a program has one input and output for all that it is asked")

    async def cut_answer(self, data: bytes, *, begun: bool) -> None:
        raise Skipped("a program has one input and output for all that it is asked")

    async def throw(self, raw: bytes) -> None:
        raise Skipped("a server writes nothing else than lines of JSON")

    def settle(self) -> None:
        if self._wrong is not None:
            raise self._wrong
        super().settle()

    async def close(self) -> None:
        self.stopping = True
        self._reading.set()
        if self._writer is not None:
            self._writer.transport.abort()
        if self.process is not None:
            await self.process.end()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=QUIET_S)
            self._task.cancel()


def _fail(future: asyncio.Future[Answer], failure: Failed) -> None:
    if not future.done():
        future.set_exception(failure)
        future.exception()  # perhaps nobody waits for it any more
