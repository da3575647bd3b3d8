"""One other server, as a destination of messages (docs/protocol.md, sections 4.5 and 8).

A destination is in one of two states. Without a ``backlog``, messages go straight to the carrier, through ``fresh``.
With one, there is something on disk that must go first: new messages go to disk, behind it, and a task reads them back
and sends them, page by page. It ends where a page is empty and nothing is on its way to disk; that is seen and acted
upon in one turn of the loop, so nothing is reordered.

Whatever goes wrong is a *turn*: no more is sent; when all that is under way has its outcome, what came back goes to
disk in its order, with what is fresh behind it, and the destination is tried again after its pause. So the order on
disk is the order in which the messages came.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bester.core.work import Forward
from bester.errors import BesterError, Internal, Overloaded, ServerRefused, ServerUnreachable, ShuttingDown, StorageFull
from bester.protocol.link import ServerReport, route_of
from bester.server.classic_peers import ClassicCarrier
from bester.server.link import Carrier, Link, quoted
from bester.server.links import Way, open_link
from bester.server.outbox import Item, item_of, item_on_disk

if TYPE_CHECKING:
    from bester.server.forwarding import Forwarding

log = logging.getLogger("bester.servers")

MAX_FRESH = 10_000
MAX_FRESH_BYTES = 32 * 1024 * 1024
"""What waits in memory for the carrier; beyond it everything goes to disk, and beyond twice that it fails."""
PAGE = 256
PAGE_BYTES = 4 * 1024 * 1024
"""What is read from disk at a time."""
TRIES = 3
"""How often a message is tried in its place before it steps aside."""
DIAL_S = 1.0
"""No more than one dial in this time."""
FOR_ALL = frozenset({"overloaded", "shuttingDown", "storageFull", "throttled"})
"""The temporary refusals that mean the server, and not the message."""


class Destination:
    """What is under way to one address, and what waits for it."""

    def __init__(self, forwarding: Forwarding, way: Way) -> None:
        self.forwarding = forwarding
        self.hall = forwarding.hall
        self.outbox = forwarding.outbox
        self.way = way
        self.key = way.destination
        self.carrier: Carrier | None = None
        self.backlog = False
        """Whether new messages go to disk, because something there goes first."""
        self.in_flight = 0
        """Messages that a carrier has, without their outcome."""
        self.stored = 0
        """How many are on disk, or on their way there; with dead letters, about."""
        self.last_error = ""
        self.next_try = 0.0
        """When it may be dialled again, in the loop's time."""
        self._loop = asyncio.get_running_loop()
        self._fresh: deque[Item] = deque()
        self._fresh_bytes = 0
        self._order = 0
        self._by_id: dict[str, Item] = {}
        """What is fresh or under way; another one of the same id waits for its outcome."""
        self._suspects: set[str] = set()
        """Ids of what was under way when the other server ended the link over something that it was sent; as long as
        there are any, messages go one at a time."""
        self._rows: set[int] = set()
        """The positions of those under way that are on disk."""
        self._returned: list[Item] = []
        self._turning = False
        self._turns = 0
        """How often something went wrong."""
        self._why: BesterError = ServerUnreachable()
        self._spilling = 0
        """How many are on their way to disk."""
        self._spilled = 0
        """How many ever were."""
        self._read_to = 0
        """The position behind which the backlog is read on."""
        self._behind = False
        """Whether something waits before that, because it was dead until now, or had stepped aside."""
        self._rescan = False
        """Whether there is something on disk that goes behind what is fresh."""
        self._aside: asyncio.TimerHandle | None = None
        """When the next one that stepped aside is due."""
        self._pause_s = 0.0
        self._may_dial = 0.0
        self._may_hurry = 0.0
        self._event = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def link(self) -> Link | None:
        """The link, where there is one."""
        return self.carrier if isinstance(self.carrier, Link) else None

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost if it were forgotten."""
        return (
            self._task is None
            and not self.in_flight
            and not self._fresh
            and not self._returned
            and not self._spilling
            and not self.backlog
            and not self._rescan
            and self._aside is None
            and self.link is None
            and self.next_try <= self._loop.time()
        )

    # -- messages come -------------------------------------------------------------------------------------------

    def send(self, forward: Forward) -> None:
        """A message for this destination."""
        if (refusal := self.way.refusal()) is not None:
            self.forwarding.settle(forward, "failed", refusal)
            return
        self._order += 1
        item = item_of(forward, self._order)
        if self.backlog or self._rescan or self._stopping or self._away():
            self._spill([item], self._why)
            self._work()
            return
        first = self._by_id.get(item.message_id)
        if first is not None:
            first.repeats += (item,)
            return
        if len(self._fresh) >= 2 * MAX_FRESH or self._fresh_bytes > 2 * MAX_FRESH_BYTES:
            self._settle(item, "failed", Overloaded("too much waits for this server"))
            return
        self._by_id[item.message_id] = item
        self._fresh.append(item)
        self._fresh_bytes += item.size
        self.pump()
        if len(self._fresh) > MAX_FRESH or self._fresh_bytes > MAX_FRESH_BYTES:
            self._turn(ServerUnreachable("the other server is slower than what is sent to it"), pause=False)

    def _away(self) -> bool:
        """Whether it has just failed, and its pause is not over."""
        return self.carrier is None and self.next_try > self._loop.time()

    def pump(self) -> None:
        """Gives the carrier what it takes."""
        carrier = self.carrier
        if self._turning or self._stopping:
            return
        fresh = self._fresh
        if isinstance(carrier, ClassicCarrier) and not self.in_flight and not self._is_classic():
            carrier.retire()  # it may grant links by now
            carrier = self.carrier = None
        if carrier is not None:
            while fresh and carrier.has_room:
                item = fresh.popleft()
                self._fresh_bytes -= item.size
                if item.dry and not (isinstance(carrier, Link) and carrier.routes):
                    for one in self._released(item):
                        self._settle(one, "notAsked")
                    continue
                self._carry(carrier, item)
        if carrier is None and fresh:
            self._work()
        if self._rescan and not fresh:
            self._rescan = False
            self.backlog = True
            self._work()
        if self._task is not None:
            self._event.set()

    def _carry(self, carrier: Carrier, item: Item) -> None:
        self.in_flight += 1
        try:
            carrier.send(item)
        except Exception:
            log.exception("a message cannot be sent to %s", self.key)
            if self._by_id.get(item.message_id) is item:
                self.refused(item, Internal())

    def _is_classic(self) -> bool:
        return self.way.kinds.is_classic(self.key, self._loop.time())

    # -- what becomes of them ------------------------------------------------------------------------------------

    def reported(self, item: Item, report: ServerReport | None) -> None:
        self._cleared(item)
        route = route_of(report) if report is not None and item.trail is not None else b""
        # COMPAT: a classic server may close without a report; then "sent" is all that can be known.
        if report is None or report.good:
            self._pause_s = 0.0
            for one in self._ended(item):
                if one.position:
                    self.outbox.sent(one.position)
                    self.stored -= 1
                self._settle(one, "planned" if one.dry else "sent", route=route)
            self._go_on()
            return
        said = report.payload.error
        error = ServerRefused(f"the other server reported {quoted(said)}" if said is not None else None)
        again = False
        for one in self._ended(item):
            if said is not None and said.temporary and not one.transient and self._retries:
                one.error = error
                one.failure = quoted(said)
                one.whole = said.code in FOR_ALL
                self._returned.append(one)
                again = True
            else:
                self._give_up(one, error, quoted(said), route)
        if again:
            self.last_error = quoted(said)
            self._turn(error)
        else:
            self._go_on()

    def refused(self, item: Item, error: BesterError, why: str = "") -> None:
        self._cleared(item)
        for one in self._ended(item):
            self._give_up(one, error, why or f"{error.code}: {error.message}")
        self._go_on()

    def unknown(self, item: Item, error: BesterError) -> None:
        self._cleared(item)
        self.last_error = f"{error.code}: {error.message}"
        for one in self._ended(item):
            self._give_up(one, error, f"{self.last_error}; it may have been handled")
        self._go_on()

    def lost(self, carrier: Carrier, items: Sequence[Item], error: BesterError) -> None:
        if self.carrier is carrier:
            self.carrier = None
        if isinstance(carrier, Link) and carrier.offence and items:
            if carrier.careful and len(items) == 1:
                # It was alone under way both times: it is this message that the other server does not take.
                self.refused(items[0], ServerRefused(f"the other server ended the link over it: {carrier.offence}"))
                items = ()
            else:
                self._suspects = {item.message_id for item in items}
        for item in items:
            for one in self._ended(item):
                one.error = one.error or error
                self._returned.append(one)
        if items:
            self.last_error = f"{error.code}: {error.message}"
            self._turn(error)
        else:
            # Nothing is lost with a link that had nothing to carry; what is fresh dials a new one.
            self._go_on()
            self._event.set()
            if self._fresh or self.backlog:
                self._work()

    def _ended(self, item: Item) -> tuple[Item, ...]:
        """The carrier is done with a message; returns it with its repeats."""
        self.in_flight -= 1
        return self._released(item)

    def _released(self, item: Item) -> tuple[Item, ...]:
        del self._by_id[item.message_id]
        found, item.repeats = (item, *item.repeats), ()
        for one in found:
            self._rows.discard(one.position)
        return found

    def _give_up(self, item: Item, error: BesterError, why: str, route: bytes = b"") -> None:
        if item.position:
            self.outbox.bury(item.position, why)
        self._settle(item, "failed", error, route)

    def _cleared(self, item: Item) -> None:
        """The other server ends no link over this message."""
        if self._suspects:
            self._suspects.discard(item.message_id)
            self._take_care()

    def _take_care(self) -> None:
        if self.link is not None:
            self.link.careful = bool(self._suspects)

    def _go_on(self) -> None:
        if self._turning and not self.in_flight:
            self._turned()

    @property
    def _retries(self) -> bool:
        return self.hall.config.federation.retry_for > 0

    def _settle(self, item: Item, status: str, error: BesterError | None = None, route: bytes = b"") -> None:
        forward, item.forward = item.forward, None
        if forward is not None:
            self.forwarding.settle(forward, status, error, route)

    # -- what goes wrong -----------------------------------------------------------------------------------------

    def _turn(self, error: BesterError, *, pause: bool = True) -> None:
        """Sends no more until all that is under way has its outcome; then goes on from the disk."""
        self._why = error
        if not self._turning:
            self._turning = True
            self._turns += 1
            if pause:
                self._pause()
        self._event.set()
        self._go_on()
        self._work()

    def _pause(self) -> None:
        federation = self.hall.config.federation
        self._pause_s = min(max(2 * self._pause_s, federation.retry_min), federation.retry_max)
        self.next_try = self._loop.time() + self._pause_s * random.uniform(0.75, 1.25)

    def _turned(self) -> None:
        self._turning = False
        returned, self._returned = self._returned, []
        returned.sort(key=lambda item: item.order)
        for item in returned:
            if item.position:
                self.backlog = True
                if item.failure and not item.whole:
                    self._note(item)
        fresh = [one for item in self._fresh for one in self._released(item)]
        self._fresh.clear()
        self._fresh_bytes = 0
        self._rescan = False
        self._spill([*(item for item in returned if not item.position), *fresh], self._why)
        if self.stored:
            self.backlog = True
        if not self.backlog:
            self._suspects.clear()  # all have their outcome
        self._event.set()
        self._work()

    def _note(self, item: Item) -> None:
        """A message on disk failed by itself: after some tries in its place, it does not hold up those behind it."""
        tries = item.tries + 1
        next_try = 0.0
        if tries >= TRIES:
            federation = self.hall.config.federation
            pause_s = min(federation.retry_max, federation.retry_min * 2 ** min(tries, 30))
            next_try = time.time() + pause_s * random.uniform(0.75, 1.25)
        self.outbox.failed(item.position, next_try, item.failure)

    def _spill(self, items: Sequence[Item], why: BesterError) -> None:
        """Puts messages on disk, in their order; those that are not to be kept have their outcome now."""
        most = self.hall.config.federation.max_queued
        for item in items:
            error = item.error or why
            if item.transient:
                refused = isinstance(item.error, ServerRefused)
                kept = item.dry and self._retries and item.forward is not None and not item.forward.transient
                status = "failed" if refused else "queued" if kept else "skipped"
                self._settle(item, status, item.error if refused else None)
            elif not self._retries:
                self._settle(item, "failed", error)
            elif self.stored >= most:
                self._settle(item, "failed", StorageFull(f"{most} messages wait for this server, and no more may"))
            else:
                self.stored += 1
                self._spilling += 1
                self._spilled += 1
                self.backlog = True
                self.outbox.enqueue(self.key, item, self._on_disk)

    def _on_disk(self, item: Item, error: BesterError | None) -> None:
        self._spilling -= 1
        if error is None:
            if item.forward is not None:
                item.forward.envelope.durable = True
            if item.position <= self._read_to:
                self._behind = True
            self._settle(item, "queued")
        else:
            self.stored -= 1
            self._settle(item, "failed", error)
        self._event.set()

    # -- the task ------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        """Sees to it that a task does what must wait for something."""
        if self._task is None and not self._stopping:
            self._task = self.hall.spawn(self._run())

    async def _run(self) -> None:
        try:
            while not self._stopping:
                try:
                    if not await self._step():
                        break
                except Exception:
                    log.exception("sending to %s failed", self.key)
                    error = Internal()
                    self.last_error = f"{error.code}: {error.message}"
                    self._turn(error)
        finally:
            self._task = None

    async def _step(self) -> bool:
        """Waits for what comes next, or does it; returns whether there is more."""
        if self._turning:
            await self._signal()
        elif not self.backlog and not self._fresh:
            return False
        elif self.carrier is None:
            wait_s = max(self.next_try, self._may_dial) - self._loop.time()
            if wait_s > 0:
                await self._signal(wait_s)
            else:
                await self._open()
        elif self._fresh:
            before = len(self._fresh)
            self.pump()
            if not self.backlog:
                return False
            if len(self._fresh) == before:
                await self._signal()
        elif (wait_s := self.next_try - self._loop.time()) > 0:
            await self._signal(wait_s)
        else:
            await self._send_backlog()
        return True

    async def _signal(self, timeout_s: float | None = None) -> None:
        """Waits until something has happened."""
        self._event.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            pass

    async def _open(self) -> None:
        self._may_dial = self._loop.time() + min(DIAL_S, self.hall.config.federation.retry_min)
        try:
            link = await open_link(self.way, self)
        except BesterError as error:
            self.last_error = f"{error.code}: {error.message}"
            self._turn(error)
            return
        if self._stopping:
            if link is not None:
                link.retire()
            return
        self.carrier = link if link is not None else ClassicCarrier(self.way, self)
        self._take_care()

    async def _send_backlog(self) -> None:
        """Sends what is on disk, from its beginning, until it ends or something goes wrong."""
        self._read_to = 0
        self._behind = False
        carrier, turns = self.carrier, self._turns
        await self.outbox.written()  # what was removed, or stepped aside, is not read again
        while carrier is not None and self._goes_on(carrier, turns):
            if self._behind:
                self._behind = False
                self._read_to = 0
                await self.outbox.written()
            spilled = self._spilled
            try:
                page = await self.hall.messages.read_outbox(self.key, self._read_to, PAGE, PAGE_BYTES, time.time())
            except BesterError as error:
                log.error("the outbox for %s cannot be read: %s", self.key, error.message)
                self._pause()
                return
            if not self._goes_on(carrier, turns):
                return
            if not page and not self._spilling and not self._behind and spilled == self._spilled:
                self.backlog = False
                self._suspects.intersection_update(self._by_id)  # the others are gone
                self._take_care()
                self.pump()
                await self._expect_aside()
                return
            if not page:
                while self._spilling and self._goes_on(carrier, turns):
                    await self._signal()
            for row in page:
                self._read_to = row.position
                if row.position in self._rows:
                    continue
                while self._goes_on(carrier, turns) and not carrier.has_room:
                    await self._signal()
                if not self._goes_on(carrier, turns):
                    return
                item = item_on_disk(row)
                self._rows.add(row.position)
                first = self._by_id.get(item.message_id)
                if first is not None:
                    first.repeats += (item,)
                    continue
                self._by_id[item.message_id] = item
                self._carry(carrier, item)

    def _goes_on(self, carrier: Carrier, turns: int) -> bool:
        """Whether nothing went wrong meanwhile."""
        return self.carrier is carrier and self._turns == turns and not self._stopping

    async def _expect_aside(self) -> None:
        """Finds out when those that stepped aside are due."""
        try:
            aside = await self.hall.messages.list_queue(self.key, False, 0, PAGE)
        except BesterError:
            return
        due = [row.next_try for row in aside if row.next_try > 0 and row.position not in self._rows]
        if due:
            self._set_aside(max(0.0, min(due) - time.time()))

    def _set_aside(self, seconds: float) -> None:
        if self._aside is not None:
            self._aside.cancel()
        self._aside = self._loop.call_later(seconds, self._aside_due)

    def _aside_due(self) -> None:
        self._aside = None
        self.look()

    # -- from outside --------------------------------------------------------------------------------------------

    def look(self) -> None:
        """There may be something on disk that is due."""
        if self._stopping:
            return
        if self._fresh:
            self._rescan = True
        else:
            self.backlog = True
            self._work()

    def begin(self, stored: int, waiting: bool, delay_s: float) -> None:
        """The server starts, with messages for this destination on disk."""
        self.stored = stored
        if waiting:
            self.next_try = self._loop.time() + delay_s
            self.look()

    def hurry(self) -> None:
        """The other server is there: it is tried at once, but not more often than once in a second."""
        now = self._loop.time()
        if (self.backlog or self._fresh) and self.next_try > now >= self._may_hurry:
            self._may_hurry = now + DIAL_S
            self._may_dial = self.next_try = now
            self._event.set()

    def recount(self, stored: int) -> None:
        """So many are on disk."""
        if not self._spilling:
            self.stored = stored

    def retry_in_s(self) -> float | None:
        """Seconds until the next try; None where none is waiting for its time."""
        wait_s = self.next_try - self._loop.time()
        return wait_s if wait_s > 0 and (self.backlog or self._fresh) else None

    def stop(self) -> None:
        """The server stops: what is under way goes to disk, unless its outcome comes first; nothing more is sent."""
        self._stopping = True
        if self._aside is not None:
            self._aside.cancel()
            self._aside = None
        if self._task is not None:
            self._task.cancel()
        self._why = ShuttingDown()
        carrier, self.carrier = self.carrier, None
        if carrier is not None:
            carrier.give_back()
        if not self.in_flight:
            self._turned()
