"""Goes on from the disk when sending to another server fails (docs/protocol.md, section 4.5).

Whatever the failure, the destination *fails over* to the disk: it sends no more; when all that is under way has its
outcome, the messages that came back go to disk in their order, with the fresh ones behind them, and the server is tried
again after a pause. So the order on disk is the order in which the messages came.
"""

from __future__ import annotations

import asyncio

from bester.backoff import Backoff, pause_after
from bester.errors import BesterError, NotAllowed, ServerUnreachable
from bester.server.federation.backlog import Backlog
from bester.server.federation.outbound import OutboundMessage
from bester.server.federation.outbox import Outbox
from bester.server.federation.pending import Pending
from bester.server.federation.worker import Worker
from bester.server.runtime import Runtime

TRIES = 3
"""How often a message is tried in its place before it steps aside."""
DIAL_S = 1.0
"""No more than one dial in this time."""


class Recovery:
    """How it went with one other server lately, and when it is tried again.

    Args:
        runtime: has the configuration.
        pending: the messages in memory.
        backlog: the messages on disk.
        outbox: is told which messages on disk failed by themselves.
        worker: tries the server again.
    """

    def __init__(self, runtime: Runtime, pending: Pending, backlog: Backlog, outbox: Outbox, worker: Worker) -> None:
        self.reason: BesterError = ServerUnreachable()
        """Why messages go to disk."""
        self.last_error = ""
        self.failures = 0
        """How often the server was tried in vain since it last took a message."""
        self.failing_over = False
        """Whether no more is sent until all that is under way has its outcome."""
        self.failovers = 0
        """How often there was one."""
        self.next_try = 0.0
        """When the server may be tried again, in the loop's time."""
        self._runtime = runtime
        self._pending = pending
        self._backlog = backlog
        self._outbox = outbox
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        federation = runtime.config.federation
        self._backoff = Backoff(federation.retry_min, federation.retry_max, spread=(0.75, 1.25))
        self._rescan = False
        """Whether the disk is read after the failover, as messages may have been put there."""
        self._may_dial = 0.0
        self._may_hurry = 0.0
        self._hurried = False
        """Whether :meth:`hurry` was called since the last dial."""

    # -- something goes wrong ------------------------------------------------------------------------------------

    def fail_over(self, error: BesterError, *, pause: bool = True) -> None:
        """Sends no more until all that is under way has its outcome; then goes on from the disk."""
        self.reason = error
        if not self.failing_over:
            self.failing_over = True
            self.failovers += 1
            if pause:
                self.failures += 1
                self.pause()
        self._worker.notify()
        self.go_on()
        self._worker.start()

    def note_error(self, error: BesterError) -> None:
        """Remembers an error, for operators."""
        self.last_error = f"{error.code}: {error.message}"

    def go_on(self) -> None:
        """Ends a failover if no message is under way any more."""
        if self.failing_over and not self._pending.in_flight:
            self.recover()

    def recover(self) -> None:
        """Puts all messages without an outcome on disk; nothing is under way."""
        self.failing_over = False
        backlog, pending = self._backlog, self._pending
        returned = pending.take_returned()
        for item in returned:
            if item.position:
                backlog.active = True
                if item.failure and not item.server_wide:
                    self._note_failure(item)
        backlog.store([*(item for item in returned if not item.position), *pending.take_fresh()], self.reason)
        if backlog.stored or self._rescan:
            backlog.active = True
        self._rescan = False
        if not backlog.active:
            pending.suspects.clear()  # all have their outcome
        self._worker.notify()
        self._worker.start()

    def _note_failure(self, item: OutboundMessage) -> None:
        """Notes that a message on disk failed by itself; after some tries it steps aside, to let the others pass."""
        tries = item.tries + 1
        next_try = 0.0
        if tries >= TRIES:
            federation = self._runtime.config.federation
            next_try = self._runtime.steady.now() + pause_after(tries, federation.retry_min, federation.retry_max)
        self._outbox.failed(item.position, next_try, item.failure)

    def look(self) -> None:
        """Sends the messages on disk first, because another node or an operator may have put some there."""
        if self._worker.stopped:
            return
        if self._backlog.active:
            self._backlog.missed = True
        elif self._pending.any_never_stored:
            # What comes from now on goes to disk, behind what is there: nothing may come back later and go behind it.
            self._rescan = True
            self.fail_over(ServerUnreachable("other messages for this server wait on disk"), pause=False)
        else:
            self._backlog.active = True
        self._worker.start()

    # -- the next try --------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Sets the time of the next try; each time twice as far away."""
        self.next_try = self._loop.time() + self._backoff.next_s()

    def succeeded(self) -> None:
        """Notes that the other server has taken a message."""
        self._backoff.reset()
        self.failures = 0

    @property
    def retry_in_s(self) -> float:
        """Seconds until the server may be tried again; not above 0 where it may be now."""
        return self.next_try - self._loop.time()

    @property
    def dial_in_s(self) -> float:
        """Seconds until the server may be dialled; not above 0 where it may be now."""
        return max(self.next_try, self._may_dial) - self._loop.time()

    def dials(self) -> None:
        """Notes that the server is being dialled."""
        self._may_dial = self._loop.time() + min(DIAL_S, self._runtime.config.federation.retry_min)
        self._hurried = False

    def dial_failed(self, error: BesterError, retry_in_s: float | None = None) -> None:
        """Fails over because the server could not be reached; tries it after its pause, or after a given time."""
        self.note_error(error)
        self.fail_over(error, pause=retry_in_s is None)
        if retry_in_s is not None:
            self.next_try = self._loop.time() + retry_in_s
        elif self._hurried:
            self.hurry()

    def hurry(self) -> None:
        """Tries the other server at once, because it is there; at most once in :data:`DIAL_S`."""
        now = self._loop.time()
        self._hurried = True
        at = max(now, self._may_hurry)
        if (self._backlog.active or self._pending.fresh) and self.next_try > at:
            self._may_hurry = at + DIAL_S
            self._may_dial = self.next_try = at
            self._worker.notify()

    def delay(self, seconds: float) -> None:
        """Tries the server no sooner than after some seconds."""
        self.next_try = self._loop.time() + seconds

    def reconfigure(self) -> None:
        """Goes by the new configuration: a destination that was forbidden may be allowed now."""
        federation = self._runtime.config.federation
        self._backoff.first_s, self._backoff.longest_s = federation.retry_min, federation.retry_max
        if isinstance(self.reason, NotAllowed):
            self.reason = ServerUnreachable()
            self._backoff.reset()
            self.next_try = 0.0
            self._worker.notify()
