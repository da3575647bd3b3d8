"""Writing to a stream: what comes while others are being written gathers.

NATS syncs each message alone, where it syncs before it acknowledges. So much of what has gathered is written as one (an
atomic batch, NATS 2.12), which is synced once. If that is refused, each is written alone, and so it shows which one it
was.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence

from bester.bus.connection import Bus
from bester.bus.errors import BusDown, BusLost, NoResponders
from bester.bus.headers import header_block
from bester.protocol.values import decode_text

TOGETHER = 1000
"""The most messages that NATS takes as one."""
TOGETHER_BYTES = 16 * 1024 * 1024
COMMIT_S = 2.0
"""How long it is waited for many that were written as one."""
WORTHWHILE_S = 0.05
"""About what that costs by itself: it is done for those that would take longer one by one, as where each is synced."""
BACK_S = 1.0
"""How long a lost connection is waited for, before those that were to be written are refused."""
APART = 64
"""The most that are under way one by one."""
MEASURED = 16
"""From so many on they show how long each takes."""


class Put:
    """A message that is to be written."""

    __slots__ = ("data", "done", "headers", "subject")

    def __init__(self, subject: str, data: bytes, headers: dict[str, str], done: asyncio.Future[int]) -> None:
        self.subject = subject
        self.data = data
        self.headers = headers
        self.done = done

    def resolve(self, position: int) -> None:
        if not self.done.done():
            self.done.set_result(position)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class Gathering:
    """What is to be written to one stream.

    Args:
        bus: the connection.
        alone: writes one message, and returns its position.
    """

    def __init__(self, bus: Bus, alone: Callable[[Put], Awaitable[int]]) -> None:
        self.atomic = False
        """Whether several messages can be written as one."""
        self.each_s = 0.0
        """How long a message took, of those that were lately written one by one."""
        self._bus = bus
        self._alone = alone
        self._gathered: list[Put] = []
        self._writer: asyncio.Task[None] | None = None

    def add(self, put: Put) -> None:
        """Lets a message be written, after those that were added before."""
        self._gathered.append(put)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())

    async def _write(self) -> None:
        """Writes what has gathered while the last was being written, until there is nothing more."""
        try:
            while self._gathered:
                await self._bus.wait_until_up(BACK_S)  # from one NATS server to another it takes a moment
                some = self._next()
                del self._gathered[: len(some)]
                if len(some) == 1 or not self._pays(len(some)) or not await self._write_together(some):
                    await self._write_apart(some)
        finally:
            self._writer = None

    def _pays(self, count: int) -> bool:
        """Whether so many are better written as one."""
        return self.atomic and count * self.each_s > WORTHWHILE_S

    def _next(self) -> list[Put]:
        """Returns those that are written next: not more than one by one, or as one, is good for."""
        most, size = (TOGETHER if self._pays(len(self._gathered)) else APART), 0
        for count, put in enumerate(self._gathered[:most]):
            size += len(put.data)
            if count and size > TOGETHER_BYTES:
                return self._gathered[:count]
        return self._gathered[:most]

    async def _write_apart(self, puts: Sequence[Put]) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        await asyncio.gather(*(self._write_one(put) for put in puts))
        if len(puts) >= MEASURED:
            self.each_s = (clock() - began) / len(puts)

    async def _write_together(self, puts: Sequence[Put]) -> bool:
        """Writes messages as one, which NATS syncs as one; False if they are not there, as far as is known."""
        batch, last = secrets.token_hex(12), len(puts)
        try:
            for number, put in enumerate(puts[:-1], 1):
                headers = {**put.headers, "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
                self._bus.publish(put.subject, put.data, headers=header_block(headers))
            headers = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(last), "Nats-Batch-Commit": "1"}
            end = puts[-1]
            answer = decode_text(
                (
                    await self._bus.request(end.subject, end.data, header_block({**end.headers, **headers}), COMMIT_S)
                ).data
            )
        except (BusDown, BusLost, NoResponders):
            # Those that are there all the same are recognised when they are written alone.
            await self._bus.wait_until_up(BACK_S)
            return False
        if answer.get("count") != last:
            return False  # one of them cannot be written: it is to be found which
        for position, put in enumerate(puts, int(answer["seq"]) - last + 1):
            put.resolve(position)
        return True

    async def _write_one(self, put: Put) -> None:
        try:
            position = await self._alone(put)
        except Exception as error:
            put.fail(error)
        else:
            put.resolve(position)
