"""Presence on the whole server, for the watchers at this node's informer (docs/protocol.md, section 9).

A node whose account's first session came, or whose last one of it went, says so on a subject on which only nodes listen
where somebody watches. What it says is a hint: those who hear it ask NATS whether anybody listens for the account now,
and tell what has changed. So it does not matter in which order the hints of two nodes come, and nobody has to ask
anything where nobody watches. A node that dies gives no hints: then all accounts that are not here are looked at.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from bester.bus.errors import BusDown, BusLost, NoResponders
from bester.server.cluster.batcher import Batcher
from bester.server.cluster.interest import NO_SESSION
from bester.server.cluster.membership import Membership
from bester.server.cluster.queries import ClusterQueries
from bester.server.ports import PresenceWatcher
from bester.server.runtime import Runtime

if TYPE_CHECKING:
    from bester.bus.subscription import MessageCallback, Subscription

log = logging.getLogger("bester.nodes")

SOON_S = 0.5
SETTLE_S = 3.0
"""How long after NATS was away the other nodes have come back, too."""
LOOK_S = 1.0
LOOK_SILENT_S = 0.25
"""How long it takes at most while a node is silent, which may be the one that does not answer."""
LOOKS, LOOK_PAUSE_S = 3, 0.05
LOOKS_AT_ONCE = 200


class ClusterPresence:
    """Watches the whole server, as long as there are watchers.

    Args:
        runtime: whose sessions are known without asking.
        batcher: how the other nodes are reached.
        membership: who they are.
        queries: asks them for their accounts.
        heard: called with what comes on the subject for watchers.
    """

    def __init__(
        self,
        runtime: Runtime,
        batcher: Batcher,
        membership: Membership,
        queries: ClusterQueries,
        heard: MessageCallback,
    ) -> None:
        self._runtime = runtime
        self._batcher = batcher
        self._membership = membership
        self._queries = queries
        self._heard = heard
        self._watchers: list[PresenceWatcher] = []
        self._listening: Subscription | None = None
        self._online: set[str] = set()
        """The accounts that are connected as far as the watchers know."""
        self._opening: asyncio.Lock = asyncio.Lock()
        self._looks: dict[str, None] = {}
        """The accounts that are to be looked at, in the order of their hints."""
        self._looking: set[str] = set()
        self._again_at: float | None = None
        """When everything is looked at again."""

    # -- who is there now ----------------------------------------------------------------------------------------

    async def usernames(self) -> list[str]:
        """Returns the accounts with sessions on any node that answers, sorted."""
        gathered = await self._queries.ask("usernames")
        return sorted({name for names in gathered.answers.values() for name in names})

    async def is_online(self, username: str) -> bool:
        """Whether an account has a session on any node.

        Raises:
            BusDown: it has none here, and the others cannot be asked.
        """
        if self._runtime.exchange.presence.find(username) is not None:
            return True
        subject = self._batcher.subjects.account(username)
        timeout_s = LOOK_SILENT_S if self._membership.some_silent else LOOK_S
        for _ in range(LOOKS):
            try:
                answer = await self._batcher.bus.request(subject, b"", timeout_s=timeout_s)
            except NoResponders:
                return False
            except BusLost as error:
                raise BusDown from error
            if answer.data != NO_SESSION:
                return True
            # A login is under way there, and perhaps a session somewhere else was only slower to answer.
            await asyncio.sleep(LOOK_PAUSE_S)
        return False

    # -- watching ------------------------------------------------------------------------------------------------

    async def watch(self, watcher: PresenceWatcher) -> list[str]:
        """Tells a watcher what changes from now on, until :meth:`unwatch`; returns who is there now, sorted."""
        async with self._opening:
            if self._listening is None:
                await self._open()
        self._watchers.append(watcher)
        return sorted(self._online)

    async def _open(self) -> None:
        self._listening = self._batcher.bus.subscribe(self._batcher.subjects.presence, self._heard)
        try:
            self._online = set(await self.usernames())
        except BaseException:
            self._close()
            raise

    def _close(self) -> None:
        if self._listening is not None:
            self._batcher.bus.unsubscribe(self._listening)
            self._listening = None
        self._online.clear()
        self._looks.clear()

    def unwatch(self, watcher: PresenceWatcher) -> None:
        """Tells a watcher no more."""
        self._watchers.remove(watcher)
        if not self._watchers and not self._opening.locked():
            self._close()

    def presence_changed(self, username: str, online: bool) -> None:
        """Notes that an account's first session at this node came, or its last one went."""
        if self._listening is None:
            return
        if online:
            self._tell(username, True)
        else:
            self.changed(username)

    def changed(self, username: str) -> None:
        """Takes the hint of a node that something has changed for an account."""
        if self._listening is not None:
            self._looks.pop(username, None)
            self._looks[username] = None
            self._go_on()

    def look_again(self) -> None:
        """Looks at all accounts soon, because nodes came or went without a hint for each account."""
        if self._listening is not None and self._again_at is None:
            self._again_at = self._runtime.clock() + SOON_S

    def bus_up(self) -> None:
        """Looks at all accounts as soon as the other nodes had the time to come back to NATS."""
        self._again_at = self._runtime.clock() + SETTLE_S

    def sweep(self, now: float) -> None:
        """Looks at all accounts when it is time, and at those that could not be looked at before."""
        if self._listening is None:
            return
        if self._again_at is not None and now >= self._again_at and self._batcher.bus.up:
            self._again_at = None
            self._runtime.spawn(self._look_at_all())
        self._go_on()

    async def _look_at_all(self) -> None:
        there = set(await self.usernames())
        presence = self._runtime.exchange.presence
        for name in sorted(there ^ self._online | {name for name in self._online if presence.find(name) is None}):
            self.changed(name)

    def _go_on(self) -> None:
        if not self._batcher.bus.up:
            return
        for username in [name for name in self._looks if name not in self._looking]:
            if len(self._looking) >= LOOKS_AT_ONCE:
                break
            del self._looks[username]
            self._looking.add(username)
            self._runtime.spawn(self._look(username))

    async def _look(self, username: str) -> None:
        try:
            online = await self.is_online(username)
        except BusDown:
            self._looking.discard(username)
            self._looks.setdefault(username)  # the next sweep looks again
            return
        self._looking.discard(username)
        if self._runtime.exchange.presence.find(username) is not None:
            online = True
        if username not in self._looks:  # else something has changed meanwhile
            self._tell(username, online)
        self._go_on()

    def _tell(self, username: str, online: bool) -> None:
        if (username in self._online) is online:
            return
        if online:
            self._online.add(username)
        else:
            self._online.discard(username)
        for watcher in list(self._watchers):
            watcher(username, online)
