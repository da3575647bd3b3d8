"""Sends requests to a handler of the classic form, each on its own connection (docs/protocol.md, section 3)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import struct
from collections.abc import Sequence
from pathlib import Path

from bester.protocol.framing import Framer, frame
from bester.timeouts import within
from bester.workbench.answers import Answer, classic_answer
from bester.workbench.bench import QUIET_S, Bench
from bester.workbench.contract import MAX_FRAME, Failed, Form, Gone, Late, Options
from bester.workbench.process import Process

AT_ONCE = 16
"""The most connections that a server opens to one type at the same time: the default of ``concurrency``."""
RETRY_S = 0.02
"""The pause between attempts to connect to a handler that is starting, or is slow to accept connections."""
_READ_BYTES = 64 * 1024
_SLOW_READ_BYTES = 2 * 1024


class ClassicBench(Bench):
    """The bench of a classic handler; without a command, another process must listen on the socket."""

    form = Form.CLASSIC

    def __init__(self, command: Sequence[str], folder: Path, options: Options, path: Path | None = None) -> None:
        super().__init__(command, folder, options)
        self.path = path or folder / "socket"

    async def open(self) -> None:
        if self.command:
            environment = {"BESTER_SOCKET": str(self.path), "BESTER_TYPE": self.options.type}
            self.process = await Process.start(self.command, environment)
            await self._appeared()

    async def _appeared(self) -> None:
        """Waits for the socket's file, without connecting, which may confuse a simple handler."""
        assert self.process is not None
        deadline = asyncio.get_running_loop().time() + self.options.reattach_s
        while not is_socket(self.path):
            if self.process.ended.done() or asyncio.get_running_loop().time() > deadline:
                raise Failed(f"the handler did not listen on BESTER_SOCKET within {self.options.reattach_s:g} s")
            await asyncio.sleep(RETRY_S)

    @property
    def at_once(self) -> int:
        return AT_ONCE

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connects, and tries again as a server does if the handler is slow to accept.

        Raises:
            Failed: the handler cannot be reached in time.
        """
        deadline = asyncio.get_running_loop().time() + self.options.timeout_s
        while True:
            try:
                return await asyncio.open_unix_connection(sock=_connected(self.path), limit=_READ_BYTES // 4)
            except OSError as error:
                ended = self.process is not None and self.process.ended.done()
                if ended or asyncio.get_running_loop().time() > deadline:
                    raise Gone(f"cannot connect to the handler's socket: {error.strerror or error}") from error
            await asyncio.sleep(RETRY_S)

    async def ask(self, data: bytes, *, piece: int = 0, slowly: bool = False, quiet: bool = False) -> Answer:
        """Asks as :meth:`Bench.ask` does; ``quiet`` checks that there is only one answer."""
        reader, writer = await self.connect()
        try:
            with contextlib.suppress(OSError):  # the handler does not read; it may have answered nevertheless
                await self.write(writer, frame(data), piece)
            if slowly:
                await asyncio.sleep(0.3)
            return classic_answer(await self._read_frame(reader, writer, slowly, quiet))
        finally:
            writer.close()

    async def _read_frame(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, slowly: bool, quiet: bool
    ) -> bytes:
        framer = Framer(MAX_FRAME)
        timeout_s = self.options.timeout_s
        try:
            async with within(timeout_s):
                while not (bodies := framer.feed(await self._read(reader, slowly), 1)):
                    if framer.failure is not None:
                        raise Failed(f"the answer is not a frame: {framer.failure.message}")
        except TimeoutError:
            raise Late(f"no answer within {timeout_s:g} s" + await self._late(reader, writer)) from None
        self.transcript.came(frame(bodies[0]))
        if quiet:
            more = b""
            with contextlib.suppress(TimeoutError, OSError):
                async with within(QUIET_S):
                    more = await reader.read(_READ_BYTES)
            if framer.buffered or more:
                raise Failed("after its answer the handler sent more")
        return bodies[0]

    async def _read(self, reader: asyncio.StreamReader, slowly: bool) -> bytes:
        try:
            data = await reader.read(_SLOW_READ_BYTES if slowly else _READ_BYTES)
        except OSError:
            data = b""
        if not data:
            raise Gone("the handler closed the connection before its answer was complete")
        return data

    async def _late(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        """Distinguishes a handler that waits for the end of its input from one that does not answer at all."""
        with contextlib.suppress(OSError, TimeoutError):
            writer.write_eof()
            async with within(QUIET_S * 5):
                if await reader.read(_READ_BYTES):
                    return "; it answered only after the server's end was closed, but a server closes after the answer"
        return ""

    async def cut_request(self, data: bytes) -> None:
        _, writer = await self.connect()
        whole = frame(data)
        await self.write(writer, whole[: len(whole) // 2])
        await self._hang_up(writer)

    async def cut_answer(self, data: bytes, *, begun: bool) -> None:
        _, writer = await self.connect()
        await self.write_and_cut(writer, frame(data), begun=begun)

    async def throw(self, raw: bytes) -> None:
        reader, writer = await self.connect()
        with contextlib.suppress(OSError):
            await self.write(writer, raw)
        with contextlib.suppress(TimeoutError, OSError):
            async with within(QUIET_S):
                await reader.read(_READ_BYTES)  # the handler may answer, or close, or wait for more
        await self._hang_up(writer)

    async def _hang_up(self, writer: asyncio.StreamWriter) -> None:
        self.transcript.note("the server cuts the connection")
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    def pid(self) -> int | None:
        """Returns the id of the process that listens, if the system tells it."""
        if not hasattr(socket, "SO_PEERCRED"):
            return None
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(self.path))
                pid: int = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
            except OSError:
                return None
        return pid or None

    async def close(self) -> None:
        self.stopping = True
        if self.process is not None:
            await self.process.end()
            self.path.unlink(missing_ok=True)


def _connected(path: Path) -> socket.socket:
    """Connects at once or fails, because asyncio would take a full backlog for an accepted connection.

    Raises:
        OSError: the handler cannot be connected to at once.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.connect(str(path))
    except BaseException:
        made.close()
        raise
    return made


def is_socket(path: str | os.PathLike[str]) -> bool:
    """Returns whether there is a socket at this path."""
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False
