"""The messages of one destination that are on disk, or on their way there (docs/protocol.md, section 4.5)."""

from __future__ import annotations

from collections.abc import Sequence

from bester.errors import BesterError, NotAllowed, ServerRefused, StorageFull
from bester.server.federation.outbound import OutboundMessage, Settle
from bester.server.federation.outbox import Outbox
from bester.server.federation.ports import PeerLeases
from bester.server.federation.worker import Worker
from bester.server.runtime import Runtime


class Backlog:
    """Counts what is on disk for one destination, and puts more there.

    Args:
        runtime: has the configuration.
        key: the destination.
        outbox: what writes to disk.
        leases: knows which node sends what is there.
        settle: is told what became of a message.
        worker: is notified when something is there.
    """

    def __init__(
        self, runtime: Runtime, key: str, outbox: Outbox, leases: PeerLeases, settle: Settle, worker: Worker
    ) -> None:
        self.active = False
        """Whether new messages go to disk, because something there goes first."""
        self.stored = 0
        """How many messages are on disk, or on their way there; about, because of dead letters."""
        self.writing = 0
        """How many messages are on their way to disk."""
        self.written = 0
        """How many messages were ever on their way to disk."""
        self.read_to = 0
        """The position behind which the disk is read on."""
        self.missed = False
        """Whether a message waits before ``read_to``, because it was a dead letter until now, or had stepped aside."""
        self._runtime = runtime
        self._key = key
        self._outbox = outbox
        self._leases = leases
        self._settle = settle
        self._worker = worker

    @property
    def retries(self) -> bool:
        """Whether messages are kept for another try."""
        return self._runtime.config.federation.retry_for > 0

    def store(self, items: Sequence[OutboundMessage], why: BesterError) -> None:
        """Puts messages on disk, in their order; settles the messages that are not to be kept.

        Args:
            items: the messages.
            why: why they cannot be sent, for the messages that have no error of their own.
        """
        most = self._runtime.config.federation.max_queued
        for item in items:
            error = item.error or why
            if isinstance(error, NotAllowed):
                self._settle(item, "failed", error)  # another try would end in the same way
            elif item.transient:
                refused = isinstance(item.error, ServerRefused)
                kept = item.dry and self.retries and item.forward is not None and not item.forward.transient
                status = "failed" if refused else "queued" if kept else "skipped"
                self._settle(item, status, item.error if refused else None)
            elif not self.retries:
                self._settle(item, "failed", error)
            elif (away := self._outbox.away) is not None:
                self._settle(item, "failed", away)
            elif self.stored >= most:
                self._settle(item, "failed", StorageFull(f"{most} messages wait for this server, and no more may"))
            else:
                self.stored += 1
                self.writing += 1
                self.written += 1
                self.active = True
                self._outbox.enqueue(self._key, item, self._stored)

    def _stored(self, item: OutboundMessage, error: BesterError | None) -> None:
        self.writing -= 1
        if error is None:
            if item.forward is not None:
                item.forward.envelope.durable = True
            if item.position <= self.read_to:
                self.missed = True
            self._settle(item, "queued")
            if self._worker.stopped:
                self._leases.tell_all(self._key)
        else:
            self.stored -= 1
            self._settle(item, "failed", error)
        self._worker.notify()

    def sent(self, item: OutboundMessage) -> None:
        """Removes a message that the other server has."""
        if item.position:
            self._outbox.sent(item.position)
            self.stored = max(0, self.stored - 1)  # other nodes may have put it there

    def recount(self, stored: int) -> None:
        """Corrects the count of messages on disk, unless some are on their way there."""
        if not self.writing:
            self.stored = stored
