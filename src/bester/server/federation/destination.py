"""One other server, as a destination of messages (docs/protocol.md, sections 4.5 and 8).

A destination is in one of two states. Without a backlog, messages go straight to the transport. With one, there is
something on disk that must go first: new messages go to disk, behind it, and a task reads them back and sends them,
page by page. It ends where a page is empty and nothing is on its way to disk; that is seen and acted upon in one turn
of the loop, so nothing is reordered.

So the second one begins only when nothing is under way that was never on disk, since that could come back, and would
then stand behind what came after it.

Each part has its state: :class:`Pending` the messages in memory, :class:`Backlog` those on disk, :class:`Recovery` how
it went lately and when the server is tried again, :class:`Sender` the transport, :class:`BacklogReader` the reading of
the disk, :class:`Worker` the task. This module opens the transport, and lets the task do what comes next.

In a cluster one node at a time has the destination's lease, and sends. On the others the transport leads to that node
(:class:`Relay`), and what they have put on disk is that node's to send: it is told of it.
"""

from __future__ import annotations

import logging
import math

from bester.core.effects import Forward
from bester.errors import BesterError, Internal, ServerUnreachable, ShuttingDown
from bester.server.federation.backlog import Backlog
from bester.server.federation.backlog_reader import BacklogReader
from bester.server.federation.classic import ClassicTransport
from bester.server.federation.dial import open_link
from bester.server.federation.link import Link
from bester.server.federation.outbound import Settle
from bester.server.federation.outbox import Outbox
from bester.server.federation.peer_route import PeerRoute
from bester.server.federation.pending import Pending
from bester.server.federation.ports import PeerLeases
from bester.server.federation.recovery import Recovery
from bester.server.federation.relay import HolderGone, Relay
from bester.server.federation.sender import Sender
from bester.server.federation.transport import PeerTransport
from bester.server.federation.worker import Worker
from bester.server.runtime import Runtime
from bester.store.ports import MessageStore

log = logging.getLogger("bester.servers")

TAKE_OVER_S = 0.5
"""How often it is tried to get the lease of a node that is gone."""


class Destination:
    """Sends messages to one address, and keeps the ones that have to wait.

    Args:
        runtime: time, tasks, and the configuration.
        route: how it is reached.
        store: where its messages wait.
        outbox: writes them there.
        leases: knows which node sends to it.
        settle: is told what became of a message.
    """

    def __init__(
        self,
        runtime: Runtime,
        route: PeerRoute,
        store: MessageStore,
        outbox: Outbox,
        leases: PeerLeases,
        settle: Settle,
    ) -> None:
        self.key = route.destination
        self.route = route
        self.worker = Worker(runtime.spawn, self._work)
        self.pending = Pending()
        self.backlog = Backlog(runtime, self.key, outbox, leases, settle, self.worker)
        self.recovery = Recovery(runtime, self.pending, self.backlog, outbox, self.worker)
        self.sender = Sender(
            runtime, route, self.pending, self.backlog, self.recovery, outbox, settle, self.worker, self.release_lease
        )
        self._backlog_reader = BacklogReader(
            runtime, self.key, store, outbox, self.pending, self.backlog, self.recovery, self.sender, self.worker
        )
        self._leases = leases

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost if it were forgotten."""
        return (
            not self.worker.running
            and self.pending.is_empty
            and not self.backlog.writing
            and not self.backlog.active
            and not self._backlog_reader.expects_some
            and self.sender.link is None
            and self.recovery.retry_in_s <= 0
        )

    # -- what is shown -------------------------------------------------------------------------------------------

    @property
    def link(self) -> Link | None:
        """The link, where there is one."""
        return self.sender.link

    @property
    def is_classic(self) -> bool:
        """Whether messages go there in the classic form now."""
        return self.sender.transport is not None and self.sender.transport.classic

    @property
    def in_flight(self) -> int:
        """Messages that the transport has, without their outcome."""
        return self.pending.in_flight

    @property
    def fresh(self) -> int:
        """Messages that wait in memory for the transport."""
        return len(self.pending.fresh)

    @property
    def last_error(self) -> str:
        return self.recovery.last_error

    @property
    def failures(self) -> int:
        """How often the server was tried in vain since it last took a message."""
        return self.recovery.failures

    def retry_in_s(self) -> float | None:
        """Seconds until the next try; None where none is waiting for its time."""
        wait_s = self.recovery.retry_in_s
        return wait_s if wait_s > 0 and (self.backlog.active or self.pending.fresh) else None

    # -- the task ------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while not self.worker.stopped:
            try:
                if not await self._step():
                    break
            except Exception:
                log.exception("sending to %s failed", self.key)
                error = Internal()
                self.recovery.note_error(error)
                self.recovery.fail_over(error)

    async def _step(self) -> bool:
        """Does the next step, or waits until there is one; returns whether there is more to do."""
        backlog, pending, recovery, sender = self.backlog, self.pending, self.recovery, self.sender
        if sender.lease_is_over:
            sender.end_lease()
        transport = sender.transport
        if recovery.failing_over:
            await self.worker.wait()
        elif not backlog.active and not pending.fresh:
            return False
        elif transport is None:
            wait_s = recovery.dial_in_s
            if wait_s > 0:
                await self.worker.wait(wait_s)
            else:
                await self._open()
        elif pending.fresh:
            before = len(pending.fresh)
            sender.pump()
            if not backlog.active:
                return False
            if len(pending.fresh) == before:
                await self.worker.wait()
        elif (wait_s := recovery.retry_in_s) > 0:
            await self.worker.wait(wait_s)
        elif isinstance(transport, Relay):
            await self._hand_over(transport)
        else:
            await self._backlog_reader.send()
        return True

    async def _open(self) -> None:
        self.recovery.dials()
        try:
            transport = await self._connect()
        except BesterError as error:
            self.recovery.dial_failed(error, TAKE_OVER_S if isinstance(error, HolderGone) else None)
            return
        if self.worker.stopped:
            transport.retire()
            return
        self.sender.transport = transport
        self.sender.take_care()

    async def _connect(self) -> PeerTransport:
        had_lease = self._leases.has(self.key)
        relay = await self._leases.open_relay(self.route, self.sender)
        self.sender.usable_until = self._leases.good_until(self.key) if relay is None else math.inf
        if relay is not None:
            return relay
        if not had_lease and not self.backlog.active and await self._backlog_reader.any_wait():
            self.backlog.active = True
            self.recovery.fail_over(ServerUnreachable("messages for this server wait before it"), pause=False)
        link = await open_link(self.route, self.sender)
        return link if link is not None else ClassicTransport(self.route, self.sender)

    async def _hand_over(self, relay: Relay) -> None:
        """Leaves the messages on disk to the node that has the lease."""
        backlog, sender, failovers = self.backlog, self.sender, self.recovery.failovers
        while (backlog.writing or relay.ending) and sender.undisturbed(relay, failovers):
            await self.worker.wait()
        if sender.undisturbed(relay, failovers):
            relay.look(backlog.stored)
            backlog.stored = 0
            backlog.active = False
            self.pending.suspects.clear()
            sender.pump()

    # -- from outside --------------------------------------------------------------------------------------------

    def send(self, forward: Forward) -> None:
        """Sends a message, or keeps it."""
        self.sender.send(forward)

    def look(self) -> None:
        """Sends the messages on disk first; somebody may have put some there."""
        self.recovery.look()

    def hurry(self) -> None:
        """Tries the other server at once, because it is there."""
        self.recovery.hurry()

    def begin(self, stored: int, waiting: bool, delay_s: float) -> None:
        """Begins to send messages on disk that nobody sends, because the server starts, or a node is gone."""
        self.backlog.stored = stored
        if waiting:
            self.recovery.delay(delay_s)
            self.recovery.look()

    def told(self, node: str, stored: int, hurry: bool) -> None:
        """Hears from another node that it has put messages on disk; or, with ``hurry``, that the server is there."""
        transport = self.sender.transport
        if isinstance(transport, Relay) and transport.node == node:
            transport.end_soon()
        self.backlog.stored += stored
        if not hurry:
            self.recovery.look()
        self.recovery.hurry()

    def release_lease(self) -> None:
        """Lets other nodes have the lease, if there is nothing to do."""
        if self._leases.shared and self.idle and not isinstance(self.sender.transport, Relay):
            self.sender.retire()
            self.sender.usable_until = 0.0
            self._leases.give_back(self.key)

    def stop(self) -> None:
        """Stops sending, because the server stops; messages under way go to disk, unless their outcome comes first."""
        self._backlog_reader.stop()
        self.worker.stop()
        self.recovery.reason = ShuttingDown()
        self.sender.give_back(ServerUnreachable("this server is stopping"))
        if not self.pending.in_flight:
            self.recovery.recover()
