"""Where a handler is checked: what all checks can do with it, whatever its form."""

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
from bester.workbench.contract import Failed, Form, Gone, Options
from bester.workbench.process import Process
from bester.workbench.transcript import Transcript

QUIET_S = 0.1
"""How long nothing more may come where nothing is expected."""
ENDING_S = 1.0
"""How long the process of a handler whose connection is gone is given to end, so that it can be told how."""
GAP_S = 0.001
"""Between the pieces of what is sent in pieces, at least;"""
LONG_GAP_S = 0.03
"""and at most, where the handler is not seen to read them."""


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
        """What the present check wants to tell besides its outcome."""
        self.stopping = False
        """Whether the handler was asked to end, so that its end is in order."""

    @abc.abstractmethod
    async def open(self) -> None:
        """Starts the handler, and returns when it can be asked.

        Raises:
            Failed: it does not come.
            OSError: there is no such program.
        """

    @abc.abstractmethod
    async def ask(self, data: bytes, *, piece: int = 0, slowly: bool = False) -> Answer:
        """Asks one message and returns its answer.

        Args:
            data: JSON.
            piece: write it in pieces of so many bytes, with a pause after each; 0: in one piece.
            slowly: read the answer late, and in small pieces.

        Raises:
            Failed: no answer in time, or one that is not of the right form.
        """

    @abc.abstractmethod
    async def cut_request(self, data: bytes) -> None:
        """Ends a connection in the middle of a request, and returns when the handler can be asked again."""

    @abc.abstractmethod
    async def cut_answer(self, data: bytes, *, begun: bool) -> None:
        """Ends a connection whose request is just answered, and returns when the handler can be asked again.

        Args:
            data: JSON; large, if the answer is to be begun.
            begun: whether the handler is given the time to begin with its answer, of which no more than a part is read.
        """

    @abc.abstractmethod
    async def throw(self, raw: bytes) -> None:
        """Sends what is nothing of the protocol, ends the connection, and returns when the handler can be asked."""

    @property
    @abc.abstractmethod
    def at_once(self) -> int:
        """How many messages may be asked at the same time."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Ends the handler, if it was started here."""

    async def ask_all(self, many: Sequence[bytes], *, slowly: bool = False) -> list[Answer]:
        """Asks all of them at the same time, and returns their answers in this order.

        Raises:
            Failed: as :meth:`ask`, for any of them.
        """
        tasks = [asyncio.create_task(self.ask(data, slowly=slowly)) for data in many]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def ask_sample(self, data: bytes | None = None, *, piece: int = 0) -> Answer:
        """Asks the sample, or this data; compares what comes back, where the handler echoes.

        Raises:
            Failed: as :meth:`ask`; or the handler does not take the sample, and should.
        """
        answer = await self.ask(self.options.sample if data is None else data, piece=piece)
        if data is None and self.options.understood and not answer.good:
            raise Failed(f"the sample was answered with {answer.refusal}")
        self.compare(self.options.sample if data is None else data, answer)
        return answer

    def compare(self, sent: bytes, answer: Answer, comparison: Callable[[bytes, Answer], None] = same_value) -> None:
        """Compares what came back with what was sent, where the handler echoes.

        Raises:
            Failed: it is not the same.
        """
        if self.options.echo:
            comparison(sent, answer)

    def settle(self) -> None:
        """Called after each check.

        Raises:
            Failed: something came that nobody asked for, or the process has ended.
        """
        if self.process is not None and not self.stopping and self.process.how_it_ended():
            raise Failed(self.process.how_it_ended())

    async def serves_on(self) -> None:
        """Asks, also a little later: what happened before may need a moment to have its effect.

        Raises:
            Failed: there is no good answer, or something else came.
        """
        await self.ask_sample()
        await self.quiet()
        await self.ask_sample()

    async def quiet(self) -> None:
        """Waits for what should not come.

        Raises:
            Failed: it came.
        """
        await asyncio.sleep(QUIET_S)
        self.settle()

    async def explained(self, failure: Exception) -> str:
        """Returns what a failure tells, with how the process ended where it has, or is just about to."""
        text = str(failure)
        if self.process is None:
            return text
        if isinstance(failure, Gone):
            await asyncio.wait({self.process.ended}, timeout=ENDING_S)
        ended = self.process.how_it_ended()
        return f"{text}; {ended}" if ended and ended not in text else text

    async def write(self, writer: asyncio.StreamWriter, data: bytes, piece: int = 0) -> None:
        """Writes, and returns when the system has taken all of it.

        Raises:
            Failed: the handler does not read.
            OSError: the connection is gone.
        """
        self.transcript.sent(data, f"in pieces of {piece} bytes" if piece else "")
        # So that draining means that all of it is on its way.
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
            raise Failed(f"the handler did not read what it was sent within {self.options.timeout_s:g} s") from None

    async def write_and_cut(self, writer: asyncio.StreamWriter, data: bytes, *, begun: bool) -> None:
        """Writes, and ends the connection at once, or soon enough for an answer that is not read.

        Raises:
            Failed: the handler does not read.
        """
        with contextlib.suppress(OSError):
            await self.write(writer, data[:-1])
            if not begun:
                # From here on the handler has nobody to write to, however quick it is.
                writer.get_extra_info("socket").shutdown(socket.SHUT_RD)
            writer.write(data[-1:])
            if begun:
                await asyncio.sleep(QUIET_S)
        self.transcript.note("the server cuts the connection")
        writer.transport.abort()


async def _taken(writer: asyncio.StreamWriter) -> None:
    """Waits until the other end has read what was written, so that it does not come together with what follows."""
    for _ in range(round(LONG_GAP_S / GAP_S)):
        await asyncio.sleep(GAP_S)
        if not _unread(writer):
            return


def _unread(writer: asyncio.StreamWriter) -> bool:
    """Whether the system has something that the other end has not read; false where it does not tell."""
    count = array.array("i", [0])
    try:
        fcntl.ioctl(writer.get_extra_info("socket").fileno(), termios.TIOCOUTQ, count)
    except (OSError, ValueError):  # another system; or the connection is closed
        return False
    return count[0] > 0
