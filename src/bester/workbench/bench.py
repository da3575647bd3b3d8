"""The test bench of a handler: the operations that checks of both forms use."""

from __future__ import annotations

import abc
import array
import asyncio
import contextlib
import fcntl
import socket
import termios
from collections.abc import Callable, Sequence
from pathlib import Path

from bester.timeouts import within
from bester.workbench.answers import Answer, same_value
from bester.workbench.contract import SAMPLE, Failed, Form, Gone, Options
from bester.workbench.process import Process
from bester.workbench.transcript import Transcript

QUIET_S = 0.1
"""How long the bench waits to see that nothing more arrives."""
ENDING_S = 1.0
"""How long the bench waits for the end of a process whose connection is gone, to report how it ended."""
GAP_S = 0.001
"""The shortest pause between the pieces of a frame that is sent in pieces."""
LONG_GAP_S = 0.03
"""The longest pause, used while the handler does not seem to read the pieces."""


class Bench(abc.ABC):
    """One handler; :meth:`open` it first."""

    form: Form

    def __init__(self, command: Sequence[str], folder: Path, options: Options) -> None:
        self.command = command
        self.folder = folder
        self.options = options
        self.transcript = Transcript()
        self.process: Process | None = None
        self.note = ""
        """A remark of the present check, besides its outcome."""
        self.stopping = False
        """Whether the handler was asked to end, so that its end is not a fault."""

    @property
    def sample(self) -> bytes:
        """The data of a request, as JSON."""
        return SAMPLE if self.options.sample is None else self.options.sample

    @abc.abstractmethod
    async def open(self) -> None:
        """Starts the handler, and returns when it accepts requests.

        Raises:
            Failed: the handler does not attach or listen.
            OSError: there is no such program.
        """

    @abc.abstractmethod
    async def ask(self, data: bytes, *, piece: int = 0, slowly: bool = False) -> Answer:
        """Sends one request and returns its answer.

        Args:
            data: JSON.
            piece: write the request in pieces of this many bytes, with a pause after each; 0: in one piece.
            slowly: read the answer late, and in small pieces.

        Raises:
            Failed: there is no answer in time, or it is malformed.
        """

    @abc.abstractmethod
    async def cut_request(self, data: bytes) -> None:
        """Ends a connection in the middle of a request, and returns when the handler accepts requests again."""

    @abc.abstractmethod
    async def cut_answer(self, data: bytes, *, begun: bool) -> None:
        """Ends a connection while the handler answers, and returns when the handler accepts requests again.

        Args:
            data: JSON; it must be large if ``begun``.
            begun: whether the handler gets time to begin its answer, of which only a part is read.
        """

    @abc.abstractmethod
    async def throw(self, raw: bytes) -> None:
        """Sends bytes that break the protocol, ends the connection, and returns when the handler accepts requests."""

    @property
    @abc.abstractmethod
    def at_once(self) -> int:
        """The most requests at the same time."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Ends the handler, if it was started here."""

    async def ask_all(self, many: Sequence[bytes], *, slowly: bool = False) -> list[Answer]:
        """Sends all requests at the same time, and returns their answers in the same order.

        Raises:
            Failed: see :meth:`ask`; for any of the requests.
        """
        tasks = [asyncio.create_task(self.ask(data, slowly=slowly)) for data in many]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def ask_sample(self, data: bytes | None = None, *, piece: int = 0) -> Answer:
        """Sends the sample, or other data; compares the returned data if the handler echoes.

        Raises:
            Failed: see :meth:`ask`; or the handler does not accept the sample, and should.
        """
        answer = await self.ask(self.sample if data is None else data, piece=piece)
        if data is None and self.options.sample is not None and not answer.good:
            raise Failed(f"the sample was answered with {answer.refusal}")
        self.compare(self.sample if data is None else data, answer)
        return answer

    def compare(self, sent: bytes, answer: Answer, comparison: Callable[[bytes, Answer], None] = same_value) -> None:
        """Compares the returned data with the sent data, if the handler echoes.

        Raises:
            Failed: the data differ.
        """
        if self.options.echo:
            comparison(sent, answer)

    def settle(self) -> None:
        """Makes the final tests after each check.

        Raises:
            Failed: the handler sent something without a request, or its process has ended.
        """
        if self.process is not None and not self.stopping and self.process.how_it_ended():
            raise Failed(self.process.how_it_ended())

    async def serves_on(self) -> None:
        """Sends the sample now and again a little later, because an earlier fault may take effect late.

        Raises:
            Failed: there is no good answer, or the handler sent something else.
        """
        await self.ask_sample()
        await self.quiet()
        await self.ask_sample()

    async def quiet(self) -> None:
        """Waits a moment, in which nothing may arrive.

        Raises:
            Failed: something arrived.
        """
        await asyncio.sleep(QUIET_S)
        self.settle()

    async def explained(self, failure: Exception) -> str:
        """Returns a failure's text, and how the process ended if it has ended or is about to."""
        text = str(failure)
        if self.process is None:
            return text
        if isinstance(failure, Gone):
            await asyncio.wait({self.process.ended}, timeout=ENDING_S)
        ended = self.process.how_it_ended()
        return f"{text}; {ended}" if ended and ended not in text else text

    async def write(self, writer: asyncio.StreamWriter, data: bytes, piece: int = 0) -> None:
        """Writes data, and returns when the system has all of it.

        Raises:
            Failed: the handler does not read.
            OSError: the connection is gone.
        """
        self.transcript.sent(data, f"in pieces of {piece} bytes" if piece else "")
        if not self.options.tls:  # asyncio's TLS does not go on writing below such a limit
            # With a limit of 0, draining waits until the system has all of the data.
            writer.transport.set_write_buffer_limits(0)
        pieces = len(data) // piece if piece else 1
        try:
            async with within(self.options.timeout_s + pieces * LONG_GAP_S):
                for start in range(0, len(data), piece or len(data)):
                    writer.write(data[start : start + piece] if piece else data)
                    await writer.drain()
                    if piece:
                        await _taken(writer)
        except TimeoutError:
            raise Failed(f"the handler did not read the data within {self.options.timeout_s:g} s") from None

    async def write_and_cut(self, writer: asyncio.StreamWriter, data: bytes, *, begun: bool) -> None:
        """Writes data, and cuts the connection at once, or after an answer has begun.

        Raises:
            Failed: the handler does not read.
        """
        with contextlib.suppress(OSError):
            await self.write(writer, data[:-1])
            if not begun:
                # From here on the handler's writes fail, however quick it is.
                writer.get_extra_info("socket").shutdown(socket.SHUT_RD)
            writer.write(data[-1:])
            if begun:
                await asyncio.sleep(QUIET_S)
        self.transcript.note("the server cuts the connection")
        writer.transport.abort()


async def _taken(writer: asyncio.StreamWriter) -> None:
    """Waits until the other end has read the written bytes, so that it does not read them together with the next."""
    for _ in range(round(LONG_GAP_S / GAP_S)):
        await asyncio.sleep(GAP_S)
        if not _unread(writer):
            return


def _unread(writer: asyncio.StreamWriter) -> bool:
    """Returns whether the other end has not read everything; False if the system cannot tell."""
    count = array.array("i", [0])
    try:
        fcntl.ioctl(writer.get_extra_info("socket").fileno(), termios.TIOCOUTQ, count)
    except (OSError, ValueError):  # the system lacks this, or the connection is closed
        return False
    return count[0] > 0
