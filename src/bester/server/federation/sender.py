"""Gives messages to the transport of another server, and settles them (docs/protocol.md, section 8)."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

from bester.clock import elapsed
from bester.core.effects import Forward
from bester.core.metrics import Drop
from bester.errors import BesterError, Internal, NotAllowed, Overloaded, ServerRefused, ServerUnreachable
from bester.protocol.link import ServerReport, route_of
from bester.protocol.names import RESERVED_TYPES
from bester.server.federation.backlog import Backlog
from bester.server.federation.classic import ClassicTransport
from bester.server.federation.link import Link, quoted
from bester.server.federation.outbound import OutboundMessage, Settle, from_forward
from bester.server.federation.outbox import Outbox
from bester.server.federation.peer_route import PeerRoute
from bester.server.federation.pending import Pending
from bester.server.federation.recovery import Recovery
from bester.server.federation.transport import PeerTransport
from bester.server.federation.worker import Worker
from bester.server.runtime import Runtime

log = logging.getLogger("bester.servers")

SERVER_WIDE = frozenset({"overloaded", "shuttingDown", "storageFull", "throttled"})
"""The temporary refusals that mean the server, and not the message."""


class Sender:
    """Sends fresh messages in their order; owns the transport.

    Args:
        runtime: counts what is given up.
        route: how the other server is reached.
        pending: the messages in memory.
        backlog: the messages on disk.
        recovery: fails over to the disk when something goes wrong.
        outbox: writes to disk.
        settle: tells the sender of a message its outcome.
        worker: does what must wait for something.
        unused: called when the transport is lost, and nothing is left to be sent.
    """

    def __init__(
        self,
        runtime: Runtime,
        route: PeerRoute,
        pending: Pending,
        backlog: Backlog,
        recovery: Recovery,
        outbox: Outbox,
        settle: Settle,
        worker: Worker,
        unused: Callable[[], None],
    ) -> None:
        self.transport: PeerTransport | None = None
        self.usable_until = math.inf
        """Until when the transport may be given anything, by `elapsed`: with other nodes, as long as the lease."""
        self._drops = runtime.exchange.batch.counters.drops
        self._route = route
        self._pending = pending
        self._backlog = backlog
        self._recovery = recovery
        self._outbox = outbox
        self._settle = settle
        self._worker = worker
        self._unused = unused
        self._order = 0

    @property
    def link(self) -> Link | None:
        """The link, where there is one."""
        return self.transport if isinstance(self.transport, Link) else None

    @property
    def lease_is_over(self) -> bool:
        """Whether nothing may be sent over the transport any more."""
        return self.usable_until != math.inf and self.transport is not None and elapsed() >= self.usable_until

    def undisturbed(self, transport: PeerTransport, failovers: int) -> bool:
        """Whether a transport is still in use, and there was no failover since the count was taken."""
        return (
            self.transport is transport
            and self._recovery.failovers == failovers
            and not self._worker.stopped
            and elapsed() < self.usable_until
        )

    # -- messages come -------------------------------------------------------------------------------------------

    def send(self, forward: Forward) -> None:
        """Sends a message, or puts it on disk."""
        self._order += 1
        item = from_forward(forward, self._order)
        if (refusal := self._route.refusal()) is not None:
            self._settle(item, "failed", refusal)
            return
        recovery, pending = self._recovery, self._pending
        away = self.transport is None and recovery.retry_in_s > 0 and not recovery.failing_over
        if self._backlog.active or self._worker.stopped or away:
            self._backlog.store([item], recovery.reason)
            self._worker.start()
            return
        if pending.join(item):
            return
        if pending.is_full:
            self._settle(item, "failed", Overloaded("too much waits for this server"))
            return
        pending.add_fresh(item)
        self.pump()
        if pending.overflows:
            error = ServerUnreachable("the other server is slower than what is sent to it")
            recovery.fail_over(error, pause=False)

    def pump(self) -> None:
        """Gives the transport as many fresh messages as it has room for."""
        if self._recovery.failing_over or self._worker.stopped or self.lease_is_over:
            return
        transport, pending = self.transport, self._pending
        if isinstance(transport, ClassicTransport) and not pending.in_flight and not self._route.is_classic():
            transport.retire()  # the other server may grant links by now
            transport = self.transport = None
        if transport is not None:
            while pending.fresh and transport.has_room:
                item = pending.pop_fresh()
                if item.dry and not transport.routes:
                    for one in pending.release(item):
                        self._settle(one, "notAsked")
                    continue
                self.carry(transport, item)
        if transport is None and pending.fresh:
            self._worker.start()
        if self._worker.running:
            self._worker.notify()

    def carry(self, transport: PeerTransport, item: OutboundMessage) -> None:
        """Gives the transport a message that it has room for."""
        self._pending.in_flight += 1
        if item.type in RESERVED_TYPES:
            # No handler's command comes this far. What is on disk may be from before it was so, or another node's.
            self.refused(item, NotAllowed(f"the type {item.type} is a server's own, and goes to no other server"))
            return
        try:
            transport.send(item)
        except Exception:
            key = self._route.destination
            about = {"server": key, "message_id": item.message_id, "trace": item.trace}
            log.exception("a message cannot be sent to %s", key, extra=about)
            if self._pending.has(item):
                self.refused(item, Internal())

    # -- what becomes of them ------------------------------------------------------------------------------------

    def reported(self, item: OutboundMessage, report: ServerReport | None) -> None:
        self._cleared(item)
        route = route_of(report) if report is not None and item.trail is not None else b""
        # COMPAT: a classic server may close without a report; then "sent" is all that can be known.
        if report is None or report.good:
            self._recovery.succeeded()
            for one in self._pending.finish(item):
                self._backlog.sent(one)
                self._settle(one, "planned" if one.dry else "sent", route=route)
            self._recovery.go_on()
            return
        said = report.payload.error
        error = ServerRefused(f"the other server reported {quoted(said)}" if said is not None else None)
        again = False
        for one in self._pending.finish(item):
            if said is not None and said.temporary and not one.transient and self._backlog.retries:
                one.error = error
                one.failure = quoted(said)
                one.server_wide = said.code in SERVER_WIDE
                self._pending.give_back(one)
                again = True
            else:
                self._give_up(one, error, quoted(said), route)
        if again:
            self._recovery.last_error = quoted(said)
            self._recovery.fail_over(error)
        else:
            self._recovery.go_on()

    def refused(self, item: OutboundMessage, error: BesterError) -> None:
        self._cleared(item)
        for one in self._pending.finish(item):
            self._give_up(one, error, f"{error.code}: {error.message}")
        self._recovery.go_on()

    def unknown(self, item: OutboundMessage, error: BesterError) -> None:
        self._cleared(item)
        self._recovery.note_error(error)
        for one in self._pending.finish(item):
            self._give_up(one, error, f"{self._recovery.last_error}; it may have been handled")
        self._recovery.go_on()

    def settled(self, item: OutboundMessage, status: str, error: BesterError | None, route: bytes) -> None:
        self._recovery.succeeded()
        for one in self._pending.finish(item):
            self._settle(one, status, error, route)
        self._recovery.go_on()

    def lost(self, transport: PeerTransport, items: Sequence[OutboundMessage], error: BesterError) -> None:
        if self.transport is transport:
            self.transport = None
        if isinstance(transport, Link) and transport.offence and items:
            if transport.careful and len(items) == 1:
                # It was alone under way both times: it is this message that the other server does not take.
                self.refused(items[0], ServerRefused(f"the other server ended the link over it: {transport.offence}"))
                items = ()
            else:
                self._pending.suspects = {item.message_id for item in items}
        for item in items:
            for one in self._pending.finish(item):
                one.error = one.error or error
                self._pending.give_back(one)
        if items:
            self._recovery.note_error(error)
            self._recovery.fail_over(error)
            return
        # Nothing is lost with a link that had nothing to carry; what is fresh dials a new one.
        self._recovery.go_on()
        self._worker.notify()
        if self._pending.fresh or self._backlog.active:
            self._worker.start()
        else:
            self._unused()

    def look(self) -> None:
        self._recovery.look()

    def end_lease(self) -> None:
        """Ends the transport, because another node may send from now on."""
        self.usable_until = 0.0
        self.give_back(ServerUnreachable("another node sends to this server from now on"))

    def give_back(self, error: BesterError) -> None:
        """Ends the transport; messages without a report go to disk, unless their outcome is unknown."""
        transport, self.transport = self.transport, None
        if transport is not None:
            transport.give_back(error)

    def retire(self) -> None:
        """Ends the transport, with nothing under way."""
        transport, self.transport = self.transport, None
        if transport is not None:
            transport.retire()

    def _give_up(self, item: OutboundMessage, error: BesterError, why: str, route: bytes = b"") -> None:
        if item.position:
            self._drops.count(Drop.OUTGOING_REFUSED, code=error.code)
            self._outbox.bury(item.position, why)
        self._settle(item, "failed", error, route)

    def _cleared(self, item: OutboundMessage) -> None:
        """Clears a message of the suspicion that the other server ends links because of it."""
        if self._pending.suspects:
            self._pending.suspects.discard(item.message_id)
            self.take_care()

    def take_care(self) -> None:
        """Tells the link whether to send one message at a time."""
        if self.link is not None:
            self.link.careful = bool(self._pending.suspects)
