"""One other server, as a destination of messages (docs/protocol.md, sections 4.5 and 8).

A destination is in one of two states. Without a ``backlog``, messages go straight to the carrier, through ``fresh``.
With one, there is something on disk that must go first: new messages go to disk, behind it, and a task reads them back
and sends them, page by page. It ends where a page is empty and nothing is on its way to disk; that is seen and acted
upon in one turn of the loop, so nothing is reordered.

So the second one begins only when nothing is under way that was never on disk, since that could come back, and would
then stand behind what came after it.

What goes to the transport, and what becomes of it, is in :mod:`bester.server.federation.sender`; what is done when
something goes wrong, in :mod:`bester.server.federation.recovery`.

In a cluster one node at a time has the destination's lease, and sends. On the others the carrier leads to that node
(:mod:`bester.server.cluster.relay`), and what they have put on disk is that node's to send: it is told of it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING

from bester.clock import elapsed
from bester.errors import BesterError, Internal, ServerUnreachable, ShuttingDown
from bester.server.cluster.relay import HolderGone, Relay
from bester.server.federation.classic import ClassicTransport
from bester.server.federation.link import PeerTransport
from bester.server.federation.outbox import item_on_disk
from bester.server.federation.peer_route import PeerRoute, open_link
from bester.server.federation.sender import Sender
from bester.timeouts import within

if TYPE_CHECKING:
    from bester.server.federation.federation import Federation

log = logging.getLogger("bester.servers")

PAGE = 256
PAGE_BYTES = 4 * 1024 * 1024
"""What is read from disk at a time."""
DIAL_S = 1.0
"""No more than one dial in this time."""
TAKE_OVER_S = 0.5
"""How often it is tried to get the lease of a node that is gone."""


class Destination(Sender):
    """What is under way to one address, and what waits for it."""

    def __init__(self, federation: Federation, way: PeerRoute) -> None:
        super().__init__(federation, way)
        self._aside: asyncio.TimerHandle | None = None
        """When the next one that stepped aside is due."""
        self._may_dial = 0.0
        self._may_hurry = 0.0
        self._hurried = False
        """Whether somebody has asked for a try since the last one began."""

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost if it were forgotten."""
        return (
            self.task is None
            and not self.in_flight
            and not self.fresh
            and not self.returned
            and not self.spilling
            and not self.backlog
            and self._aside is None
            and self.link is None
            and self.next_try <= self.loop.time()
        )

    def rest(self) -> None:
        self.federation.let_go(self)

    # -- the task ------------------------------------------------------------------------------------------------

    def work(self) -> None:
        if self.task is None and not self.stopping:
            self.task = self.runtime.spawn(self._run())

    async def _run(self) -> None:
        try:
            while not self.stopping:
                try:
                    if not await self._step():
                        break
                except Exception:
                    log.exception("sending to %s failed", self.key)
                    error = Internal()
                    self.last_error = f"{error.code}: {error.message}"
                    self.turn(error)
        finally:
            self.task = None

    async def _step(self) -> bool:
        """Waits for what comes next, or does it; returns whether there is more."""
        if self.carrier is not None and elapsed() >= self.good_until:
            self.lease_ended()
        if self.turning:
            await self._signal()
        elif not self.backlog and not self.fresh:
            return False
        elif self.carrier is None:
            wait_s = max(self.next_try, self._may_dial) - self.loop.time()
            if wait_s > 0:
                await self._signal(wait_s)
            else:
                await self._open()
        elif self.fresh:
            before = len(self.fresh)
            self.pump()
            if not self.backlog:
                return False
            if len(self.fresh) == before:
                await self._signal()
        elif (wait_s := self.next_try - self.loop.time()) > 0:
            await self._signal(wait_s)
        elif isinstance(self.carrier, Relay):
            await self._hand_over(self.carrier)
        else:
            await self._send_backlog()
        return True

    async def _signal(self, timeout_s: float | None = None) -> None:
        """Waits until something has happened."""
        self.event.clear()
        try:
            async with within(timeout_s):
                await self.event.wait()
        except TimeoutError:
            pass

    async def _open(self) -> None:
        self._may_dial = self.loop.time() + min(DIAL_S, self.runtime.config.federation.retry_min)
        self._hurried = False
        try:
            carrier = await self._way_there()
        except BesterError as error:
            self.last_error = f"{error.code}: {error.message}"
            self.turn(error, pause=not isinstance(error, HolderGone))
            if isinstance(error, HolderGone):
                self.next_try = self.loop.time() + TAKE_OVER_S
            elif self._hurried:
                self.hurry()
            return
        if self.stopping:
            carrier.retire()
            return
        self.carrier = carrier
        self.take_care()

    async def _way_there(self) -> PeerTransport:
        if (nodes := self.runtime.nodes) is not None:
            had = nodes.holding.has(self.key)
            relay = await nodes.relays.open(self.way, self)
            self.good_until = nodes.holding.good_until(self.key) if relay is None else math.inf
            if relay is not None:
                return relay
            if not had and not self.backlog and await self.runtime.messages.list_queue(self.key, False, 0, 1):
                self.backlog = True
                self.turn(ServerUnreachable("messages for this server wait before it"), pause=False)
        link = await open_link(self.way, self)
        return link if link is not None else ClassicTransport(self.way, self)

    async def _hand_over(self, relay: Relay) -> None:
        """Leaves what is on disk to the node that has the lease."""
        turns = self.turns
        while (self.spilling or relay.ending) and self._goes_on(relay, turns):
            await self._signal()
        if self._goes_on(relay, turns):
            relay.look(self.stored)
            self.stored = 0
            self.backlog = False
            self.suspects.clear()
            self.pump()

    # -- the backlog ---------------------------------------------------------------------------------------------

    async def _send_backlog(self) -> None:
        """Sends what is on disk, from its beginning, until it ends or something goes wrong."""
        self.read_to = 0
        self.behind = False
        carrier, turns = self.carrier, self.turns
        await self.outbox.written()  # what was removed, or stepped aside, is not read again
        while carrier is not None and self._goes_on(carrier, turns):
            if self.behind:
                self.behind = False
                self.read_to = 0
                await self.outbox.written()
            spilled = self.spilled
            try:
                page = await self.runtime.messages.read_outbox(
                    self.key, self.read_to, PAGE, PAGE_BYTES, self.runtime.steady.now()
                )
            except BesterError as error:
                about = {"server": self.key}
                log.error("the outbox for %s cannot be read: %s", self.key, error.inside, extra=about)
                self.pause()
                return
            if not self._goes_on(carrier, turns):
                return
            if not page and not self.spilling and not self.behind and spilled == self.spilled:
                self.backlog = False
                self.suspects.intersection_update(self.by_id)  # the others are gone
                self.take_care()
                self.pump()
                await self._expect_aside()
                return
            if not page:
                while self.spilling and self._goes_on(carrier, turns):
                    await self._signal()
            for row in page:
                self.read_to = row.position
                if row.position in self.rows:
                    continue
                while self._goes_on(carrier, turns) and not carrier.has_room:
                    await self._signal()
                if not self._goes_on(carrier, turns):
                    return
                item = item_on_disk(row)
                self.rows.add(row.position)
                first = self.by_id.get(item.message_id)
                if first is not None:
                    first.repeats += (item,)
                    continue
                self.by_id[item.message_id] = item
                self.carry(carrier, item)

    def _goes_on(self, carrier: PeerTransport, turns: int) -> bool:
        """Whether nothing went wrong meanwhile."""
        return self.carrier is carrier and self.turns == turns and not self.stopping and elapsed() < self.good_until

    async def _expect_aside(self) -> None:
        """Finds out when those that stepped aside are due."""
        try:
            aside = await self.runtime.messages.list_queue(self.key, False, 0, PAGE)
        except BesterError:
            return
        due = [row.next_try for row in aside if row.next_try > 0 and row.position not in self.rows]
        if due:
            self._set_aside(max(0.0, min(due) - self.runtime.steady.now()))

    def _set_aside(self, seconds: float) -> None:
        if self._aside is not None:
            self._aside.cancel()
        self._aside = self.loop.call_later(seconds, self._aside_due)

    def _aside_due(self) -> None:
        self._aside = None
        self.look()

    # -- from outside --------------------------------------------------------------------------------------------

    def look(self) -> None:
        if self.stopping:
            return
        if self.backlog:
            self.behind = True
        elif any(not item.position for item in self.by_id.values()):
            # What comes from now on goes to disk, behind what is there: nothing may come back later and go behind it.
            self.rescan = True
            self.turn(ServerUnreachable("other messages for this server wait on disk"), pause=False)
        else:
            self.backlog = True
        self.work()

    def begin(self, stored: int, waiting: bool, delay_s: float) -> None:
        """There are messages for this destination on disk, which nobody sends: the server starts, or a node is gone."""
        self.stored = stored
        if waiting:
            self.next_try = self.loop.time() + delay_s
            self.look()

    def hurry(self) -> None:
        """The other server is there: it is tried at once, or a second after the last time that this was said."""
        now = self.loop.time()
        self._hurried = True
        at = max(now, self._may_hurry)
        if (self.backlog or self.fresh) and self.next_try > at:
            self._may_hurry = at + DIAL_S
            self._may_dial = self.next_try = at
            self.event.set()

    def told(self, node: str, stored: int, hurry: bool) -> None:
        """Another node has put something on disk, or leaves it; or, with ``hurry``, says that the server is there."""
        if isinstance(self.carrier, Relay) and self.carrier.node == node:
            self.carrier.end_soon()
        self.stored += stored
        if not hurry:
            self.look()
        self.hurry()

    def recount(self, stored: int) -> None:
        """So many are on disk."""
        if not self.spilling:
            self.stored = stored

    def retry_in_s(self) -> float | None:
        """Seconds until the next try; None where none is waiting for its time."""
        wait_s = self.next_try - self.loop.time()
        return wait_s if wait_s > 0 and (self.backlog or self.fresh) else None

    def stop(self) -> None:
        """The server stops: what is under way goes to disk, unless its outcome comes first; nothing more is sent."""
        self.stopping = True
        if self._aside is not None:
            self._aside.cancel()
            self._aside = None
        if self.task is not None:
            self.task.cancel()
        self.why = ShuttingDown()
        carrier, self.carrier = self.carrier, None
        if carrier is not None:
            carrier.give_back(ServerUnreachable("this server is stopping"))
        if not self.in_flight:
            self.turned()
