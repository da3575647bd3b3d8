"""Messages to another server go to its carrier, and what becomes of them (docs/protocol.md, section 8)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bester.clock import elapsed
from bester.core.effects import Forward
from bester.core.metrics import Drop
from bester.errors import BesterError, Internal, NotAllowed, Overloaded, ServerRefused, ServerUnreachable
from bester.protocol.link import ServerReport, route_of
from bester.protocol.names import RESERVED_TYPES
from bester.server.federation.classic import ClassicTransport
from bester.server.federation.link import Link, PeerTransport, quoted
from bester.server.federation.outbox import OutboundMessage, item_of
from bester.server.federation.peer_route import PeerRoute
from bester.server.federation.recovery import Recovery

if TYPE_CHECKING:
    from bester.server.federation.federation import Federation

log = logging.getLogger("bester.servers")

MAX_FRESH = 10_000
MAX_FRESH_BYTES = 32 * 1024 * 1024
"""What waits in memory for the carrier; beyond it everything goes to disk, and beyond twice that it fails."""
FOR_ALL = frozenset({"overloaded", "shuttingDown", "storageFull", "throttled"})
"""The temporary refusals that mean the server, and not the message."""


class Sender(Recovery):
    """Sends what is fresh, in its order; is a carrier's :class:`~bester.server.federation.link.Owner`."""

    def __init__(self, federation: Federation, way: PeerRoute) -> None:
        super().__init__(federation, way)
        self._order = 0

    @property
    def link(self) -> Link | None:
        """The link, where there is one."""
        return self.carrier if isinstance(self.carrier, Link) else None

    # -- messages come -------------------------------------------------------------------------------------------

    def send(self, forward: Forward) -> None:
        """A message for this destination."""
        if (refusal := self.way.refusal()) is not None:
            self.federation.settle(forward, "failed", refusal)
            return
        self._order += 1
        item = item_of(forward, self._order)
        if self.backlog or self.stopping or self._away():
            self.spill([item], self.why)
            self.work()
            return
        first = self.by_id.get(item.message_id)
        if first is not None:
            first.repeats += (item,)
            return
        if len(self.fresh) >= 2 * MAX_FRESH or self.fresh_bytes > 2 * MAX_FRESH_BYTES:
            self.settle(item, "failed", Overloaded("too much waits for this server"))
            return
        self.by_id[item.message_id] = item
        self.fresh.append(item)
        self.fresh_bytes += item.size
        self.pump()
        if len(self.fresh) > MAX_FRESH or self.fresh_bytes > MAX_FRESH_BYTES:
            self.turn(ServerUnreachable("the other server is slower than what is sent to it"), pause=False)

    def _away(self) -> bool:
        """Whether it has just failed, and its pause is not over."""
        return self.carrier is None and self.next_try > self.loop.time()

    def pump(self) -> None:
        """Gives the carrier what it takes."""
        carrier = self.carrier
        if self.turning or self.stopping or (carrier is not None and elapsed() >= self.good_until):
            return
        fresh = self.fresh
        if isinstance(carrier, ClassicTransport) and not self.in_flight and not self._is_classic():
            carrier.retire()  # it may grant links by now
            carrier = self.carrier = None
        if carrier is not None:
            while fresh and carrier.has_room:
                item = fresh.popleft()
                self.fresh_bytes -= item.size
                if item.dry and not carrier.routes:
                    for one in self.released(item):
                        self.settle(one, "notAsked")
                    continue
                self.carry(carrier, item)
        if carrier is None and fresh:
            self.work()
        if self.task is not None:
            self.event.set()

    def carry(self, carrier: PeerTransport, item: OutboundMessage) -> None:
        """Gives the carrier a message that it has room for."""
        self.in_flight += 1
        if item.type in RESERVED_TYPES:
            # No handler's command comes this far. What is on disk may be from before it was so, or another node's.
            self.refused(item, NotAllowed(f"the type {item.type} is a server's own, and goes to no other server"))
            return
        try:
            carrier.send(item)
        except Exception:
            about = {"server": self.key, "message_id": item.message_id, "trace": item.trace}
            log.exception("a message cannot be sent to %s", self.key, extra=about)
            if self.by_id.get(item.message_id) is item:
                self.refused(item, Internal())

    def _is_classic(self) -> bool:
        return self.way.kinds.is_classic(self.key, self.loop.time())

    # -- what becomes of them ------------------------------------------------------------------------------------

    def reported(self, item: OutboundMessage, report: ServerReport | None) -> None:
        self._cleared(item)
        route = route_of(report) if report is not None and item.trail is not None else b""
        # COMPAT: a classic server may close without a report; then "sent" is all that can be known.
        if report is None or report.good:
            self.went_well()
            for one in self._ended(item):
                if one.position:
                    self.outbox.sent(one.position)
                    self.stored = max(0, self.stored - 1)  # other nodes may have put it there
                self.settle(one, "planned" if one.dry else "sent", route=route)
            self.go_on()
            return
        said = report.payload.error
        error = ServerRefused(f"the other server reported {quoted(said)}" if said is not None else None)
        again = False
        for one in self._ended(item):
            if said is not None and said.temporary and not one.transient and self.retries:
                one.error = error
                one.failure = quoted(said)
                one.whole = said.code in FOR_ALL
                self.returned.append(one)
                again = True
            else:
                self._give_up(one, error, quoted(said), route)
        if again:
            self.last_error = quoted(said)
            self.turn(error)
        else:
            self.go_on()

    def refused(self, item: OutboundMessage, error: BesterError, why: str = "") -> None:
        self._cleared(item)
        for one in self._ended(item):
            self._give_up(one, error, why or f"{error.code}: {error.message}")
        self.go_on()

    def unknown(self, item: OutboundMessage, error: BesterError) -> None:
        self._cleared(item)
        self.last_error = f"{error.code}: {error.message}"
        for one in self._ended(item):
            self._give_up(one, error, f"{self.last_error}; it may have been handled")
        self.go_on()

    def settled(self, item: OutboundMessage, status: str, error: BesterError | None, route: bytes) -> None:
        self.went_well()
        for one in self._ended(item):
            self.settle(one, status, error, route)
        self.go_on()

    def lost(self, carrier: PeerTransport, items: Sequence[OutboundMessage], error: BesterError) -> None:
        if self.carrier is carrier:
            self.carrier = None
        if isinstance(carrier, Link) and carrier.offence and items:
            if carrier.careful and len(items) == 1:
                # It was alone under way both times: it is this message that the other server does not take.
                self.refused(items[0], ServerRefused(f"the other server ended the link over it: {carrier.offence}"))
                items = ()
            else:
                self.suspects = {item.message_id for item in items}
        for item in items:
            for one in self._ended(item):
                one.error = one.error or error
                self.returned.append(one)
        if items:
            self.last_error = f"{error.code}: {error.message}"
            self.turn(error)
        else:
            # Nothing is lost with a link that had nothing to carry; what is fresh dials a new one.
            self.go_on()
            self.event.set()
            if self.fresh or self.backlog:
                self.work()
            else:
                self.rest()

    def rest(self) -> None:
        """There is nothing to do for now."""
        raise AssertionError

    def look(self) -> None:
        raise AssertionError

    def lease_ended(self) -> None:
        """Another node may send from now on."""
        self.good_until = 0.0
        carrier, self.carrier = self.carrier, None
        if carrier is not None:
            carrier.give_back(ServerUnreachable("another node sends to this server from now on"))

    def _ended(self, item: OutboundMessage) -> tuple[OutboundMessage, ...]:
        """The carrier is done with a message; returns it with its repeats."""
        self.in_flight -= 1
        return self.released(item)

    def _give_up(self, item: OutboundMessage, error: BesterError, why: str, route: bytes = b"") -> None:
        if item.position:
            self.runtime.exchange.batch.counters.drops.count(Drop.OUTGOING_REFUSED, code=error.code)
            self.outbox.bury(item.position, why)
        self.settle(item, "failed", error, route)

    def _cleared(self, item: OutboundMessage) -> None:
        """The other server ends no link over this message."""
        if self.suspects:
            self.suspects.discard(item.message_id)
            self.take_care()

    def take_care(self) -> None:
        """Says to the link whether one message at a time is sent."""
        if self.link is not None:
            self.link.careful = bool(self.suspects)
