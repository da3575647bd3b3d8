"""Publishes to a stream, in batches if that is faster.

If NATS syncs before it acknowledges, it syncs each message separately. So messages that come while others are being
published are collected, and many of them are published as one atomic batch (NATS 2.12), which is synced once. If the
batch is refused, each message is published separately, which shows the one that was the reason.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bester.bus.connection import Bus
from bester.bus.errors import BusDown, BusLost, NoResponders
from bester.bus.headers import header_block
from bester.errors import Internal, Overloaded, StorageFull
from bester.protocol.values import decode_text
from bester.store.jetstream.api import StreamApi
from bester.store.jetstream.errors import NoLeader, SubjectTaken, WrongLastSequence
from bester.store.jetstream.retrying import decode_answer

log = logging.getLogger("bester.jetstream")

COMMIT_S = 2.0
"""The wait for the answer to a batch."""
RECONNECT_S = 1.0
"""The wait for a lost connection, before messages are refused."""
IN_PROCESS_S = 0.05
IN_PROCESS_TRIES = 100
"""The pause between tries, and their number, while another message is being published to the same subject."""

_SUBJECT_TAKEN = "maximum messages per subject exceeded"
_WRONG_SEQUENCE = 10071
_IN_PROCESS = 10164
_STORAGE_FULL = frozenset({10023, 10047})


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """The conditions and limits for publishing messages as a batch."""

    messages: int = 1000
    """The most messages that NATS accepts as one batch."""
    bytes: int = 16 * 1024 * 1024
    cost_s: float = 0.05
    """The approximate overhead of a batch: messages become one if publishing them separately would take longer."""
    single: int = 64
    """The most messages in flight that are published separately."""
    measured: int = 16
    """How many of these are needed to measure their duration."""


LIMITS = BatchLimits()


class Pending:
    """A message that waits to be published."""

    __slots__ = ("data", "done", "headers", "subject")

    def __init__(self, subject: str, data: bytes, headers: dict[str, str], done: asyncio.Future[int]) -> None:
        self.subject = subject
        self.data = data
        self.headers = headers
        self.done = done

    def resolve(self, sequence: int) -> None:
        if not self.done.done():
            self.done.set_result(sequence)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class Publisher:
    """Publishes messages to one stream, in the order of the calls.

    Args:
        bus: the connection.
        api: the stream's servers.
        limits: when messages become a batch.
    """

    def __init__(self, bus: Bus, api: StreamApi, limits: BatchLimits = LIMITS) -> None:
        self.atomic = False
        """Whether the stream accepts atomic batches."""
        self.message_s = 0.0
        """The recent duration of publishing a message separately."""
        self._bus = bus
        self._api = api
        self._limits = limits
        self._pending: list[Pending] = []
        self._task: asyncio.Task[None] | None = None

    def publish(self, subject: str, data: bytes, headers: dict[str, str]) -> asyncio.Future[int]:
        """Publishes a message after those before it; returns the future of its sequence."""
        self._api.publishing.check_open()
        pending = Pending(subject, data, headers, asyncio.get_running_loop().create_future())
        self._pending.append(pending)
        if self._task is None:
            self._task = asyncio.create_task(self._publish_pending())
        return pending.done

    async def _publish_pending(self) -> None:
        try:
            while self._pending:
                await self._bus.wait_until_up(RECONNECT_S)  # changing over to another NATS server takes a moment
                some = self._next()
                del self._pending[: len(some)]
                if len(some) == 1 or not self._batch_pays(len(some)) or not await self._publish_batch(some):
                    await self._publish_each(some)
        finally:
            self._task = None

    def _batch_pays(self, count: int) -> bool:
        return self.atomic and count * self.message_s > self._limits.cost_s

    def _next(self) -> list[Pending]:
        """Returns the messages to publish next, as a batch or separately."""
        limits = self._limits
        most, size = (limits.messages if self._batch_pays(len(self._pending)) else limits.single), 0
        for count, pending in enumerate(self._pending[:most]):
            size += len(pending.data)
            if count and size > limits.bytes:
                return self._pending[:count]
        return self._pending[:most]

    # -- as a batch ----------------------------------------------------------------------------------------------

    async def _publish_batch(self, some: Sequence[Pending]) -> bool:
        """Publishes messages as an atomic batch; False if the stream does not have them, as far as is known."""
        batch, count = secrets.token_hex(12), len(some)
        try:
            for number, pending in enumerate(some[:-1], 1):
                headers = {**pending.headers, "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
                self._bus.publish(pending.subject, pending.data, headers=header_block(headers))
            headers = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(count), "Nats-Batch-Commit": "1"}
            last = some[-1]
            block = header_block({**last.headers, **headers})
            answer = decode_text((await self._bus.request(last.subject, last.data, block, COMMIT_S)).data)
        except (BusDown, BusLost, NoResponders):
            # If the stream has the messages nevertheless, publishing them separately recognises them.
            await self._bus.wait_until_up(RECONNECT_S)
            return False
        if answer.get("count") != count:
            return False  # one of them is refused
        for sequence, pending in enumerate(some, int(answer["seq"]) - count + 1):
            pending.resolve(sequence)
        return True

    # -- separately ----------------------------------------------------------------------------------------------

    async def _publish_each(self, some: Sequence[Pending]) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        await asyncio.gather(*(self._publish_alone(pending) for pending in some))
        if len(some) >= self._limits.measured:
            self.message_s = (clock() - began) / len(some)

    async def _publish_alone(self, pending: Pending) -> None:
        try:
            sequence = await self._sequence_of(pending)
        except Exception as error:
            pending.fail(error)
        else:
            pending.resolve(sequence)

    async def _sequence_of(self, pending: Pending) -> int:
        """Publishes a message, and returns its sequence."""
        block = header_block(pending.headers) if pending.headers else b""

        async def request(timeout_s: float) -> dict[str, Any]:
            answer = decode_answer(await self._bus.request(pending.subject, pending.data, block, timeout_s))
            taken = answer.get("error", {}).get("description") == _SUBJECT_TAKEN
            if taken and not await self._has_message(pending.subject):
                # This node's first try blocks the subject, at a leader that is cut off and will never store it.
                raise NoLeader
            return answer

        answer = await self._api.publishing.repeat(request)
        for _ in range(IN_PROCESS_TRIES):  # it may be this node's earlier try, whose answer was lost
            if answer.get("error", {}).get("err_code") != _IN_PROCESS:
                break
            await asyncio.sleep(IN_PROCESS_S)
            answer = await self._api.publishing.repeat(request)
        error = answer.get("error")
        if error is not None:
            self._refuse(error)
        return int(answer["seq"])

    async def _has_message(self, subject: str) -> bool:
        answer = await self._api.call("STREAM.MSG.GET", {"last_by_subj": subject})
        if answer.get("error", {}).get("code") == 404:
            return False
        return self._api.checked(answer).get("message") is not None

    def _refuse(self, error: dict[str, Any]) -> None:
        text, code = str(error.get("description", "")), error.get("err_code")
        if code == _WRONG_SEQUENCE:
            raise WrongLastSequence
        if text == _SUBJECT_TAKEN:
            raise SubjectTaken
        if code == _IN_PROCESS:
            raise Overloaded("what this server keeps is being written by others")
        if code in _STORAGE_FULL or "maximum" in text or "insufficient" in text or "no space" in text:
            log.error("the stream %s is full: %s", self._api.name, text)
            raise StorageFull
        log.error("the stream %s refuses a message: %s", self._api.name, text)
        raise Internal
