"""Plays the server's end of a handler's standard input and output, in lines (docs/protocol.md, section 6.11)."""

from __future__ import annotations

import asyncio
import socket

from bester.protocol.messages import AttachData
from bester.workbench.attached import AttachedBench
from bester.workbench.connection import READ_BYTES, Connection
from bester.workbench.contract import Failed, Form, Gone, Skipped
from bester.workbench.process import Process

AT_ONCE = 4
"""The most requests at the same time; a handler that answers them one after the other may take its time."""
_ONE_STREAM = "a program has one input and output for all that it is asked"


class StdioBench(AttachedBench):
    """One process, which gets lines and writes lines; it counts as attached from the start."""

    form = Form.STDIO

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
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=READ_BYTES // 4)
        self.connection = self.take(Connection(self, reader, writer, lines=True))

    async def attached(self, otherwise: str = "") -> Connection:
        assert self.connection is not None
        if self.connection.lost.is_set():
            self.settle()
            raise Gone("the handler has closed its output")
        return self.connection

    async def features(self) -> tuple[str, ...]:
        connection = await self.attached()
        if not connection.begun:  # its attach message, if it sends one, comes before its first answer
            await self.ask(self.sample)
        return connection.features

    @property
    def told(self) -> AttachData:
        connection = self.connection
        if connection is None or connection.attached is None:
            return AttachData([self.options.type])
        return connection.attached

    @property
    def type(self) -> str:
        return self.options.type

    @property
    def at_once(self) -> int:
        return AT_ONCE

    async def end_of_input(self) -> None:
        """Ends the handler's input, and returns when its process has ended.

        Raises:
            Failed: it has not ended in time.
        """
        connection = await self.attached()
        assert self.process is not None
        self.stopping = True
        connection.writer.write_eof()
        await asyncio.wait({self.process.ended}, timeout=self.options.timeout_s)
        if not self.process.ended.done():
            raise Failed(f"it did not end within {self.options.timeout_s:g} s of the end of its input")

    async def cut_request(self, data: bytes) -> None:
        raise Skipped(_ONE_STREAM)

    async def cut_answer(self, data: bytes, *, begun: bool) -> None:
        raise Skipped(_ONE_STREAM)

    async def throw(self, raw: bytes) -> None:
        raise Skipped(_ONE_STREAM)
