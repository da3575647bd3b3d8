"""Sends what is on disk for one destination, page by page (docs/protocol.md, section 4.5)."""

from __future__ import annotations

import asyncio
import logging

from bester.errors import BesterError
from bester.server.federation.backlog import Backlog
from bester.server.federation.outbound import from_disk
from bester.server.federation.outbox import Outbox
from bester.server.federation.pending import Pending
from bester.server.federation.recovery import Recovery
from bester.server.federation.sender import Sender
from bester.server.federation.worker import Worker
from bester.server.runtime import Runtime
from bester.store.ports import MessageStore, Queued

log = logging.getLogger("bester.servers")

PAGE = 256
PAGE_BYTES = 4 * 1024 * 1024
"""Bounds of a page: messages, and bytes of their data."""


class BacklogReader:
    """Reads the backlog of one destination, and gives it to the transport; called by the task.

    Args:
        runtime: the steady clock.
        key: the destination.
        store: where the messages are.
        outbox: writes what changes.
        pending: the messages in memory.
        backlog: what is on disk.
        recovery: is told that the disk cannot be read.
        sender: has the transport.
        worker: waits for room on the transport.
    """

    def __init__(
        self,
        runtime: Runtime,
        key: str,
        store: MessageStore,
        outbox: Outbox,
        pending: Pending,
        backlog: Backlog,
        recovery: Recovery,
        sender: Sender,
        worker: Worker,
    ) -> None:
        self._runtime = runtime
        self._key = key
        self._store = store
        self._outbox = outbox
        self._pending = pending
        self._backlog = backlog
        self._recovery = recovery
        self._sender = sender
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._due: asyncio.TimerHandle | None = None
        """Set while a message that stepped aside waits for its time."""

    @property
    def expects_some(self) -> bool:
        """Whether a message that stepped aside waits for its time."""
        return self._due is not None

    async def any_wait(self) -> bool:
        """Whether there are messages on disk.

        Raises:
            BesterError: the disk cannot be read.
        """
        return bool(await self._store.list_queue(self._key, False, 0, 1))

    async def send(self) -> None:
        """Sends the messages on disk, from the first, until there are no more or something goes wrong."""
        backlog, pending, sender = self._backlog, self._pending, self._sender
        backlog.read_to = 0
        backlog.missed = False
        transport, failovers = sender.transport, self._recovery.failovers
        await self._outbox.written()  # what was removed, or stepped aside, is not read again
        while transport is not None and sender.undisturbed(transport, failovers):
            if backlog.missed:
                backlog.missed = False
                backlog.read_to = 0
                await self._outbox.written()
            written = backlog.written
            page = await self._read_page()
            if page is None or not sender.undisturbed(transport, failovers):
                return
            if not page and not backlog.writing and not backlog.missed and written == backlog.written:
                backlog.active = False
                pending.forget_absent_suspects()
                sender.take_care()
                sender.pump()
                await self._expect_those_aside()
                return
            if not page:
                while backlog.writing and sender.undisturbed(transport, failovers):
                    await self._worker.wait()
            for row in page:
                backlog.read_to = row.position
                if pending.has_position(row.position):
                    continue
                while sender.undisturbed(transport, failovers) and not transport.has_room:
                    await self._worker.wait()
                if not sender.undisturbed(transport, failovers):
                    return
                item = from_disk(row)
                if pending.add_stored(item):
                    sender.carry(transport, item)

    async def _read_page(self) -> list[Queued] | None:
        """Returns the next page; None if the disk cannot be read."""
        now = self._runtime.steady.now()
        try:
            return await self._store.read_outbox(self._key, self._backlog.read_to, PAGE, PAGE_BYTES, now)
        except BesterError as error:
            about = {"server": self._key}
            log.error("the outbox for %s cannot be read: %s", self._key, error.inside, extra=about)
            self._recovery.pause()
            return None

    async def _expect_those_aside(self) -> None:
        """Sets a timer for the first of the messages that stepped aside."""
        try:
            aside = await self._store.list_queue(self._key, False, 0, PAGE)
        except BesterError:
            return
        due = [row.next_try for row in aside if row.next_try > 0 and not self._pending.has_position(row.position)]
        if due:
            self.stop()
            seconds = max(0.0, min(due) - self._runtime.steady.now())
            self._due = self._loop.call_later(seconds, self._one_is_due)

    def _one_is_due(self) -> None:
        self._due = None
        self._recovery.look()

    def stop(self) -> None:
        """Ends the timer for messages that stepped aside."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
