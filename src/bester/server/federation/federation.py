"""The destinations of messages to other servers, and which servers are let in (docs/protocol.md, section 8)."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable

from bester.core.effects import Forward
from bester.core.metrics import Drop
from bester.errors import BadAddress, BesterError, Overloaded, ServerUnreachable, SessionEnded
from bester.net.identity import Identities
from bester.net.peers import Remote
from bester.protocol.addresses import Address, parse_address
from bester.server.federation.destination import Destination
from bester.server.federation.incoming import IncomingLink
from bester.server.federation.outbound import OutboundMessage
from bester.server.federation.outbox import Outbox
from bester.server.federation.peer_route import Dials, PeerCapabilities, PeerRoute
from bester.server.federation.ports import PeerLeases
from bester.server.federation.relay import RelayedForward
from bester.server.federation.trust import Trust
from bester.server.rate_limit import Buckets
from bester.server.runtime import Runtime
from bester.store.ports import MessageStore, account_of

log = logging.getLogger("bester.servers")

MAX_DESTINATIONS = 10_000
"""Destinations with something under way or on disk."""
START_S = 1.0
"""Within this time from the start, those with a backlog are tried."""
TAKE_OVER_S = 0.5
"""Within this time, nodes try to take over what another one has left."""
GIVE_UP_AT_ONCE = 1000
GIVE_UP_EVERY_S = 30.0


class Federation:
    """Sends to other servers, and says which may send here.

    Args:
        runtime: the configuration, and the exchange that is told what became of messages.
        store: where messages wait for servers that cannot be reached.
        leases: which of this server's nodes sends to which other server.
    """

    def __init__(self, runtime: Runtime, store: MessageStore, leases: PeerLeases) -> None:
        self.runtime = runtime
        self.sent = 0
        self.queued = 0
        self.skipped = 0
        self.failed = 0
        self.trust = Trust(runtime)
        self.outbox = Outbox(runtime, store, leases)
        self.destinations: dict[str, Destination] = {}
        self.incoming: dict[IncomingLink, None] = {}
        """The links that other servers have opened."""
        self._store = store
        self._leases = leases
        self._capabilities = PeerCapabilities()
        self._dials = Dials()
        self._stopping = False
        self._giving_up: asyncio.Task[None] | None = None
        self._leaving: asyncio.Task[None] | None = None
        federation = runtime.config.federation
        self._buckets = Buckets(federation.rate, federation.burst)
        leases.serve(self)

    # -- from start to stop --------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Begins to send the messages on disk; called when the store is open, before any message comes."""
        for size in await self._store.queue_sizes():
            if account_of(size.destination) is not None or self._leases.is_elsewhere(size.destination):
                continue
            destination = self._on_disk(size.destination)
            if destination is not None:
                delay_s = random.uniform(0, min(START_S, self.runtime.config.federation.retry_min))
                destination.begin(size.waiting + size.dead, bool(size.waiting), delay_s)
        self._giving_up = self.runtime.spawn(self._give_up())

    def stop(self) -> None:
        """Puts messages without a report on disk, each of which is settled when it is there; sends no more."""
        self._stopping = True
        if self._giving_up is not None:
            self._giving_up.cancel()
        for destination in list(self.destinations.values()):
            destination.stop()
        if self._leases.shared:
            self._leaving = self.runtime.spawn(self._leave_all())

    async def close(self) -> None:
        """Stops, and returns when all is on disk; the store is still open."""
        if not self._stopping:
            self.stop()
        await self.outbox.written()
        if self._leaving is not None:
            await asyncio.wait({self._leaving})

    def reconfigure(self) -> None:
        """Goes by the new configuration."""
        federation = self.runtime.config.federation
        self._buckets = Buckets(federation.rate, federation.burst)
        for destination in self.destinations.values():
            destination.recovery.reconfigure()

    def judge(self, identities: Identities) -> None:
        """Goes by new identities and the present configuration; ends links that they would not make."""
        doubted = list(self.trust.doubted)
        self.trust.use(identities)
        for destination in list(self.destinations.values()):
            if destination.link is not None:
                destination.link.judge()
        for key in doubted:
            if key in self.destinations:
                self.destinations[key].hurry()  # it may be put right

    def disconnect(self, server: str) -> int:
        """Ends the links to and from a server, by its name or address; returns how many there were."""
        ended = 0
        for key in self._keys_of(server):
            destination = self.destinations.get(key)
            if destination is not None and (link := destination.link) is not None:
                link.give_back(ServerUnreachable("an operator has ended the link"))
                ended += 1
        for connection in list(self.incoming):
            if connection.goes_by(server):
                connection.fail(SessionEnded("the link was ended by an operator"))
                ended += 1
        return ended

    # -- who is let in -------------------------------------------------------------------------------------------

    def admits(self, remote: Remote) -> bool:
        """Whether a server from there can be let in at all, whatever it calls itself."""
        return self.trust.may_enter(remote)

    def within_rate(self, remote: Remote, now: float) -> bool:
        """Whether one more message from that address is within its rate; machine-local and verified ones have none."""
        return remote.local or bool(remote.names) or self._buckets.take(remote.address, now)

    def connected(self, name: str) -> None:
        """Tries a server at once that has connected under this name."""
        if not name or (not self.destinations and not self._leases.shared):
            return
        for key in self._keys_of(name.lower()):
            destination = self.destinations.get(key)
            if destination is not None:
                destination.hurry()
            self._leases.hurry(key)

    def _keys_of(self, name: str) -> Iterable[str]:
        """A server's destinations: its name, and its address in the configuration."""
        known = self.runtime.config.federation.servers.get(name)
        return dict.fromkeys((name, _canonical(known.address) if known is not None else name))

    # -- messages ------------------------------------------------------------------------------------------------

    def send(self, forward: Forward) -> None:
        """Sends one message, or keeps it; its outcome goes to ``Reports.settled``."""
        key = str(forward.address)
        destination = self.destinations.get(key)
        if destination is None:
            if len(self.destinations) >= MAX_DESTINATIONS:
                self._forget_idle()
            if len(self.destinations) >= MAX_DESTINATIONS:
                self.settle(forward, "failed", Overloaded("messages wait for too many servers"))
                return
            destination = self._destination(key, forward.address)
            if self._stopping:
                destination.stop()
        destination.send(forward)

    def _settle_message(
        self, item: OutboundMessage, status: str, error: BesterError | None = None, route: bytes = b""
    ) -> None:
        """Settles a message for another server; ``route`` is the route that the other server told."""
        forward, item.forward = item.forward, None
        if forward is not None:
            self.settle(forward, status, error, route)

    def settle(self, forward: Forward, status: str, error: BesterError | None = None, route: bytes = b"") -> None:
        """Tells the sender of a message its outcome."""
        if isinstance(forward, RelayedForward):
            self._leases.answer(forward, status, error, route)
            return
        trail = forward.envelope.trail
        if trail is None or not trail.dry:  # of a dry run nothing was sent
            self._count(status)
        exchange = self.runtime.turn()
        exchange.reports.settled(forward.envelope, forward.slot, forward.to, status, error, route)

    def _count(self, status: str) -> None:
        match status:
            case "sent":
                self.sent += 1
            case "queued":
                self.queued += 1
            case "skipped":
                self.skipped += 1
            case _:
                self.failed += 1

    def _destination(self, key: str, address: Address) -> Destination:
        route = PeerRoute(self.runtime, address, self.trust, self._capabilities, self._dials)
        destination = Destination(self.runtime, route, self._store, self.outbox, self._leases, self._settle_message)
        self.destinations[key] = destination
        return destination

    def _forget_idle(self) -> None:
        for key, destination in list(self.destinations.items()):
            destination.release_lease()
            if destination.idle and not destination.backlog.stored:
                del self.destinations[key]
                destination.sender.retire()

    # -- what is on disk -----------------------------------------------------------------------------------------

    def _on_disk(self, key: str) -> Destination | None:
        """A destination of the outbox; None where it cannot be one."""
        destination = self.destinations.get(key)
        if destination is not None:
            return destination
        try:
            return self._destination(key, parse_address(key))
        except BadAddress:
            log.error("the outbox has messages for %s, which is no address", ascii(key))
            return None

    async def changed(self, keys: Iterable[str]) -> None:
        """Looks at the disk, where an operator has changed messages for these destinations."""
        for key in keys:
            destination = self._on_disk(key) if account_of(key) is None else None
            if destination is not None:
                destination.look()
                destination.hurry()
        await self._recount()

    async def _recount(self) -> None:
        await self.outbox.written()
        queues = await self._store.queue_sizes()
        sizes = {size.destination: size for size in queues if account_of(size.destination) is None}
        for key, destination in self.destinations.items():
            size = sizes.get(key)
            elsewhere = self._leases.is_elsewhere(key)
            destination.backlog.recount(size.waiting + size.dead if size is not None and not elsewhere else 0)
        if self._leases.shared:
            self._begin(key for key, size in sizes.items() if size.waiting and self._is_overlooked(key))

    async def _give_up(self) -> None:
        """Makes dead letters of messages that were tried for too long."""
        while True:
            retry_for_s = self.runtime.config.federation.retry_for
            await asyncio.sleep(min(GIVE_UP_EVERY_S, max(0.1, retry_for_s / 10)))
            why = f"gave up after {_duration(retry_for_s)}"
            try:
                before = self.runtime.steady.now() - retry_for_s
                for key in self._own():
                    while count := await self._store.give_up_before(before, why, GIVE_UP_AT_ONCE, key):
                        self.runtime.exchange.batch.counters.drops.count(Drop.OUTGOING_EXPIRED, count)
                        log.warning("%d messages for other servers are given up", count)
                await self._recount()
            except BesterError as error:
                log.error("the outbox cannot be cleared of what is too old: %s", error.inside)
            except Exception:
                log.exception("the outbox cannot be cleared of what is too old")
            self._forget_idle()

    # -- with other nodes ----------------------------------------------------------------------------------------

    def _own(self) -> list[str | None]:
        """The destinations whose messages this node alone may give up; None: all."""
        if not self._leases.shared:
            return [None]
        return [key for key in self.destinations if self._leases.has(key)]

    def _is_overlooked(self, key: str) -> bool:
        destination = self.destinations.get(key)
        if destination is None or destination.idle:
            return True
        return destination.link is not None and not destination.backlog.active

    async def _leave_all(self) -> None:
        """Lets other nodes go on, when all messages are on disk."""
        await self.outbox.written()
        await self._leases.give_back_all()
        for key, destination in self.destinations.items():
            if destination.backlog.active or destination.backlog.stored:
                self._leases.tell_all(key)

    def look(self, key: str, node: str, stored: int, hurry: bool) -> None:
        destination = None if self._stopping else self._on_disk(key)
        if destination is not None:
            destination.told(node, stored, hurry)

    def lease_renewed(self, key: str, good_until: float) -> None:
        destination = self.destinations.get(key)
        if destination is not None:
            destination.sender.usable_until = good_until

    def lease_ended(self, key: str) -> None:
        destination = self.destinations.get(key)
        if destination is not None:
            destination.sender.end_lease()

    async def take_over(self, keys: Iterable[str]) -> None:
        left = [key for key in keys if await self._store.list_queue(key, False, 0, 1)]
        self._begin(left)

    def _begin(self, keys: Iterable[str]) -> None:
        """Sends the messages on disk for destinations, unless other nodes do."""
        for key in list(keys):
            if self._stopping or self._leases.is_elsewhere(key):
                continue
            destination = self._on_disk(key)
            if destination is not None:
                destination.begin(destination.backlog.stored, True, random.uniform(0, TAKE_OVER_S))

    def bus_up(self) -> None:
        for destination in list(self.destinations.values()):
            if destination.sender.transport is not None or not destination.idle:
                destination.look()
                destination.hurry()


def _canonical(address: str) -> str:
    try:
        return str(parse_address(address))
    except BadAddress:
        return address


def _duration(seconds: float) -> str:
    for unit_s, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= unit_s:
            count = seconds / unit_s
            return f"{count:g} {unit}" if count == 1 else f"{count:g} {unit}s"
    return f"{seconds:g} s"
