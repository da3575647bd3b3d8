"""What is done when sending to another server goes wrong (docs/protocol.md, section 4.5).

Whatever it is, it is a *turn*: no more is sent; when all that is under way has its outcome, what came back goes to disk
in its order, with what is fresh behind it, and the server is tried again after its pause. So the order on disk is the
order in which the messages came.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bester.errors import BesterError, NotAllowed, ServerRefused, ServerUnreachable, StorageFull
from bester.server.federation.link import PeerTransport
from bester.server.federation.outbox import OutboundMessage
from bester.server.federation.peer_route import PeerRoute

if TYPE_CHECKING:
    from bester.server.federation.federation import Federation

TRIES = 3
"""How often a message is tried in its place before it steps aside."""


class Recovery:
    """What is under way to one address, and how it gets to disk."""

    def __init__(self, federation: Federation, way: PeerRoute) -> None:
        self.federation = federation
        self.runtime = federation.runtime
        self.outbox = federation.outbox
        self.way = way
        self.key = way.destination
        self.carrier: PeerTransport | None = None
        self.backlog = False
        """Whether new messages go to disk, because something there goes first."""
        self.in_flight = 0
        """Messages that a carrier has, without their outcome."""
        self.stored = 0
        """How many are on disk, or on their way there; with dead letters, about."""
        self.last_error = ""
        self.failures = 0
        """How often the server was tried in vain since it last took a message."""
        self.next_try = 0.0
        """When it may be dialled again, in the loop's time."""
        self.good_until = math.inf if self.runtime.nodes is None else 0.0
        """Until when the carrier may be given anything, by `elapsed`: with other nodes, as long as the lease."""
        self.loop = asyncio.get_running_loop()
        self.fresh: deque[OutboundMessage] = deque()
        self.fresh_bytes = 0
        self.by_id: dict[str, OutboundMessage] = {}
        """What is fresh or under way; another one of the same id waits for its outcome."""
        self.suspects: set[str] = set()
        """Ids of what was under way when the other server ended the link over something that it was sent; as long as
        there are any, messages go one at a time."""
        self.rows: set[int] = set()
        """The positions of those under way that are on disk."""
        self.returned: list[OutboundMessage] = []
        self.turning = False
        self.turns = 0
        """How often something went wrong."""
        self.why: BesterError = ServerUnreachable()
        self.spilling = 0
        """How many are on their way to disk."""
        self.spilled = 0
        """How many ever were."""
        self.read_to = 0
        """The position behind which the backlog is read on."""
        self.behind = False
        """Whether something waits before that, because it was dead until now, or had stepped aside."""
        self.rescan = False
        """Whether the disk is looked at after this turn, because somebody else may have put something there."""
        self.pause_s = 0.0
        self.event = asyncio.Event()
        """Set where something has happened that the task may wait for."""
        self.task: asyncio.Task[None] | None = None
        """What does all that must wait, as long as there is any."""
        self.stopping = False

    def work(self) -> None:
        """Sees to it that the task does what must wait for something."""
        raise AssertionError

    # -- outcomes ------------------------------------------------------------------------------------------------

    def settle(self, item: OutboundMessage, status: str, error: BesterError | None = None, route: bytes = b"") -> None:
        """A message has its outcome; the first one counts."""
        forward, item.forward = item.forward, None
        if forward is not None:
            self.federation.settle(forward, status, error, route)

    def released(self, item: OutboundMessage) -> tuple[OutboundMessage, ...]:
        """A message is neither fresh nor under way any more; returns it with its repeats."""
        del self.by_id[item.message_id]
        found, item.repeats = (item, *item.repeats), ()
        for one in found:
            self.rows.discard(one.position)
        return found

    def go_on(self) -> None:
        """Perhaps all that was under way has its outcome."""
        if self.turning and not self.in_flight:
            self.turned()

    @property
    def retries(self) -> bool:
        """Whether messages are kept for another try."""
        return self.runtime.config.federation.retry_for > 0

    # -- what goes wrong -----------------------------------------------------------------------------------------

    def turn(self, error: BesterError, *, pause: bool = True) -> None:
        """Sends no more until all that is under way has its outcome; then goes on from the disk."""
        self.why = error
        if not self.turning:
            self.turning = True
            self.turns += 1
            if pause:
                self.failures += 1
                self.pause()
        self.event.set()
        self.go_on()
        self.work()

    def went_well(self) -> None:
        """The other server has taken a message."""
        self.pause_s = 0.0
        self.failures = 0

    def pause(self) -> None:
        """Sets the time of the next try; each time twice as far away."""
        federation = self.runtime.config.federation
        self.pause_s = min(max(2 * self.pause_s, federation.retry_min), federation.retry_max)
        self.next_try = self.loop.time() + self.pause_s * random.uniform(0.75, 1.25)

    def reconsider(self) -> None:
        """The configuration has changed: what was forbidden may be allowed now."""
        if isinstance(self.why, NotAllowed):
            self.why = ServerUnreachable()
            self.next_try = self.pause_s = 0.0
            self.event.set()

    def turned(self) -> None:
        """All that was under way has its outcome: the rest goes to disk."""
        self.turning = False
        returned, self.returned = self.returned, []
        returned.sort(key=lambda item: item.order)
        for item in returned:
            if item.position:
                self.backlog = True
                if item.failure and not item.whole:
                    self._note(item)
        fresh = [one for item in self.fresh for one in self.released(item)]
        self.fresh.clear()
        self.fresh_bytes = 0
        self.spill([*(item for item in returned if not item.position), *fresh], self.why)
        if self.stored or self.rescan:
            self.backlog = True
        self.rescan = False
        if not self.backlog:
            self.suspects.clear()  # all have their outcome
        self.event.set()
        self.work()

    def _note(self, item: OutboundMessage) -> None:
        """A message on disk failed by itself: after some tries in its place, it does not hold up those behind it."""
        tries = item.tries + 1
        next_try = 0.0
        if tries >= TRIES:
            federation = self.runtime.config.federation
            pause_s = min(federation.retry_max, federation.retry_min * 2 ** min(tries, 30))
            next_try = self.runtime.steady.now() + pause_s * random.uniform(0.75, 1.25)
        self.outbox.failed(item.position, next_try, item.failure)

    # -- to disk -------------------------------------------------------------------------------------------------

    def spill(self, items: Sequence[OutboundMessage], why: BesterError) -> None:
        """Puts messages on disk, in their order; those that are not to be kept have their outcome now."""
        most = self.runtime.config.federation.max_queued
        for item in items:
            error = item.error or why
            if isinstance(error, NotAllowed):
                self.settle(item, "failed", error)  # another try would end in the same way
            elif item.transient:
                refused = isinstance(item.error, ServerRefused)
                kept = item.dry and self.retries and item.forward is not None and not item.forward.transient
                status = "failed" if refused else "queued" if kept else "skipped"
                self.settle(item, status, item.error if refused else None)
            elif not self.retries:
                self.settle(item, "failed", error)
            elif (away := self.outbox.away) is not None:
                self.settle(item, "failed", away)
            elif self.stored >= most:
                self.settle(item, "failed", StorageFull(f"{most} messages wait for this server, and no more may"))
            else:
                self.stored += 1
                self.spilling += 1
                self.spilled += 1
                self.backlog = True
                self.outbox.enqueue(self.key, item, self._on_disk)

    def _on_disk(self, item: OutboundMessage, error: BesterError | None) -> None:
        self.spilling -= 1
        if error is None:
            if item.forward is not None:
                item.forward.envelope.durable = True
            if item.position <= self.read_to:
                self.behind = True
            self.settle(item, "queued")
            if self.stopping:
                self.federation.leave_to_others(self.key)
        else:
            self.stored -= 1
            self.settle(item, "failed", error)
        self.event.set()
