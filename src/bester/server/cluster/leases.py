"""The leases of this node: to which other servers it, and no other node, sends (docs/scale.md).

The node that has a destination's lease dials it, and reads and changes what the outbox has for it. NATS ends a lease
that was not renewed in time. Nothing else takes it away, not even that its node is gone for the others: a node that
NATS does not see may still have a link, and two nodes that send at once would mix up the order. So a holder stops
:data:`MARGIN_S` before NATS could end its lease, by its own clock, from before it asked.

Every few seconds each node looks which leases there are. Where one has ended, its node may have died with messages in
the outbox, and the nodes that see it try to take it over.
"""

from __future__ import annotations

import asyncio
import logging

from bester.clock import elapsed
from bester.errors import BesterError, ShuttingDown
from bester.server.federation.ports import LeaseUser
from bester.server.runtime import Runtime
from bester.store.ports import Lease, LeaseStore

log = logging.getLogger("bester.nodes")

LEASE_S = 10
RENEWALS = 3
"""How often a lease is renewed in its time."""
MARGIN_S = 2.0
"""How long before a lease can end its node sends no more."""
LOOK_S = 3.0
"""How often this node looks which leases there are."""


class _Held:
    """A lease of this node."""

    __slots__ = ("asked_at", "lease", "renewing")

    def __init__(self, lease: Lease, asked_at: float) -> None:
        self.lease = lease
        self.asked_at = asked_at
        self.renewing = False

    @property
    def good_until(self) -> float:
        return self.asked_at + LEASE_S - min(MARGIN_S, LEASE_S / 4)


class Leases:
    """The leases of one node.

    Args:
        runtime: runs what must wait for NATS.
        store: where they are kept.
        node: the name of this node.
    """

    def __init__(self, runtime: Runtime, store: LeaseStore, node: str) -> None:
        self.store = store
        self._runtime = runtime
        self._user: LeaseUser | None = None
        self.node = node
        self.seen: dict[str, str] = {}
        """The node that has each lease, as of the last look."""
        self._loop = asyncio.get_running_loop()
        self._held: dict[str, _Held] = {}
        self._taking: dict[str, asyncio.Task[str]] = {}
        self._giving: dict[str, asyncio.Task[None]] = {}
        self._look_at = 0.0
        self._looking = False
        self._stopping = False

    async def open(self) -> None:
        """Gets ready; the bus is open.

        Raises:
            BadConfiguration: leases cannot be kept.
        """
        await self.store.open()
        await self.look()

    async def close(self) -> None:
        """Closes the store; the second time it does nothing."""
        self._stopping = True
        await self.store.close()

    def serve(self, user: LeaseUser) -> None:
        """Sets who is told which leases are renewed, and which have ended."""
        self._user = user

    # -- having one ----------------------------------------------------------------------------------------------

    def good_until(self, name: str) -> float:
        """Until when this node may act upon a lease, by `elapsed`, which counts sleep; 0 where it has none."""
        held = self._held.get(name)
        return held.good_until if held is not None else 0.0

    def has(self, name: str) -> bool:
        """Whether this node has a lease now."""
        return elapsed() < self.good_until(name)

    async def take(self, name: str) -> str:
        """Takes a lease, if nobody has it, and returns which node has it then.

        Raises:
            BesterError: that cannot be known now.
        """
        if self.has(name):
            return self.node
        if self._stopping:
            raise ShuttingDown
        taking = self._taking.get(name)
        if taking is None:
            taking = self._taking[name] = self._loop.create_task(self._take(name))
            taking.add_done_callback(lambda done: self._taken(name, done))
        return await asyncio.shield(taking)  # who waits may be cancelled, and then it must be known all the same

    def _taken(self, name: str, taking: asyncio.Task[str]) -> None:
        del self._taking[name]
        if not taking.cancelled():
            taking.exception()  # it may be that nobody waits for it

    async def _take(self, name: str) -> str:
        if (giving := self._giving.get(name)) is not None:
            await asyncio.wait({giving})
        asked_at = elapsed()
        lease = await self.store.take(name, self.node, LEASE_S)
        if lease.node == self.node:
            self._held[name] = _Held(lease, asked_at)
        self.seen[name] = lease.node
        return lease.node

    def give_back(self, name: str) -> None:
        """Lets others have a lease, if this node has it."""
        held = self._held.pop(name, None)
        if held is not None and name not in self._giving:
            self.seen.pop(name, None)
            giving = self._giving[name] = self._runtime.spawn(self._give_back(held.lease))
            giving.add_done_callback(lambda _: self._giving.pop(name))

    async def give_back_all(self) -> None:
        """Lets others have all leases, because this node stops; returns when they can take them."""
        self._stopping = True
        if self._taking:
            await asyncio.wait(set(self._taking.values()))
        for name in list(self._held):
            self.give_back(name)
        if self._giving:
            await asyncio.wait(set(self._giving.values()))

    async def _give_back(self, lease: Lease) -> None:
        try:
            await self.store.give_back(lease)
        except BesterError as error:
            log.info("the lease of %s ends by itself: %s", lease.name, error.inside)

    # -- time ----------------------------------------------------------------------------------------------------

    def sweep(self, bus_up: bool) -> None:
        """Renews leases when it is time, and ends those that could have ended; called a few times a second."""
        now = elapsed()
        for name, held in list(self._held.items()):
            if now >= held.good_until:
                self._ended(name, "it could not be renewed in time")
            elif bus_up and not held.renewing and now >= held.asked_at + LEASE_S / RENEWALS:
                held.renewing = True
                self._runtime.spawn(self._renew(held))
        if bus_up and not self._looking and not self._stopping and now >= self._look_at:
            self._looking = True
            self._runtime.spawn(self._look_around())

    async def _renew(self, held: _Held) -> None:
        name = held.lease.name
        asked_at = elapsed()
        try:
            renewed = await self.store.renew(held.lease, LEASE_S)
        except BesterError as error:
            log.info("the lease of %s was not renewed: %s", name, error.inside)
            return
        finally:
            held.renewing = False
        if (now_held := self._held.get(name)) is not held:
            if renewed is not None and now_held is None and name not in self._taking:
                await self._give_back(renewed)  # it was given back, or given up, meanwhile
        elif renewed is None:
            self._ended(name, "another node may have it")
        else:
            held.lease, held.asked_at = renewed, asked_at
            if self._user is not None:
                self._user.lease_renewed(name, held.good_until)

    def _ended(self, name: str, why: str) -> None:
        del self._held[name]
        log.warning("nothing more is sent to %s from here: the lease has ended, for %s", name, why)
        if self._user is not None:
            self._user.lease_ended(name)

    # -- those of others -----------------------------------------------------------------------------------------

    async def look(self) -> list[str]:
        """Looks which leases there are, and returns the ones that have ended since the last time.

        Raises:
            BesterError: that cannot be known now.
        """
        found = {lease.name: lease.node for lease in await self.store.list()}
        ended = [name for name in self.seen if name not in found and name not in self._held]
        self.seen = found
        return ended

    async def holders(self) -> dict[str, str]:
        """Returns which node sends to which destination: now, or as it was when NATS was last there."""
        try:
            return {lease.name: lease.node for lease in await self.store.list()}
        except BesterError:
            return dict(self.seen)

    async def _look_around(self) -> None:
        try:
            ended = await self.look()
            if ended and self._user is not None:
                await self._user.take_over(ended)
        except BesterError as error:
            log.info("it is not known which leases there are: %s", error.inside)
        finally:
            self._looking = False
            self._look_at = elapsed() + LOOK_S
