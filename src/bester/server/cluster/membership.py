"""Membership: the other nodes of this server, and the types that they serve.

A node says who it is when it comes, when what it serves changes, and every few seconds; one that stops says so. Whether
one is still there is NATS's knowledge: a ping that nobody listens to any more says that its node is gone.

A node that is silent may hang, or a network may carry nothing between its NATS server and ours, without a word. What
either of the two has said meanwhile may be lost, so it is *back* when it is heard again, and what is told only once is
then told anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import inf

from msgspec.structs import replace

from bester import __version__
from bester.bus.connection import Bus
from bester.bus.errors import BusDown, BusLost, NoResponders
from bester.cluster.items import Hello, Kind
from bester.core.endpoint import NodePeer
from bester.core.routing import RemoteHandler, TypeRoute
from bester.server.cluster.batcher import Batcher
from bester.server.runtime import Runtime

log = logging.getLogger("bester.nodes")

HELLO_S = 2.0
"""How often a node says who it is, where nothing changes."""
PING_S = 0.5
PINGS = 2
"""How many pings without a listener make a node gone: a single one may fall into a change of NATS's own."""
QUIET_S = 2.0
"""How long a node may say nothing at all, before others stop relying on its hearing them."""
SILENT_S = 4.0
"""How long a node may say nothing, before it is taken for gone."""
PAUSED_S = 1.0
"""After how long a pause of its own a node judges nobody, since it has heard nobody."""
UNSURE_S = 10.0
"""How long a type that nobody serves may still get a handler, after a node came or went: handlers attach again, and
nodes say what they serve."""
MAX_NODES = 1000
MAX_TYPES = 1000
"""The most types of one node that are known."""


class Member:
    """Another node."""

    def __init__(self, node: str, hello: Hello) -> None:
        self.node = node
        self.hello = hello
        self.peer = NodePeer(node)
        self.handlers: dict[str, RemoteHandler] = {}
        """The handlers that stand for it in the exchange, by type."""
        self.unheard = 0
        """How many of its last pings nobody listened to."""
        self.seen = 0.0
        """When it was last heard, in seconds of the exchange's clock."""
        self.pinging = False
        self.quiet = False
        """Whether it has said nothing for a while."""
        self.stops = False
        """Whether it has said that it stops."""


class Membership:
    """The other nodes of this server.

    Args:
        runtime: whose exchange asks them.
        batcher: how they are reached.
        gone: called when one is gone.
        back: called when one is heard again that was silent, or taken for gone.
    """

    def __init__(
        self, runtime: Runtime, batcher: Batcher, gone: Callable[[Member], None], back: Callable[[Member], None]
    ) -> None:
        self._runtime = runtime
        self._batcher = batcher
        self.bus: Bus = batcher.bus
        self.others: dict[str, Member] = {}
        self._gone = gone
        self._back = back
        self._lost: dict[str, float] = {}
        """The start times of nodes that were taken for gone while NATS was there."""
        self._pinging: set[str] = set()
        """Silent nodes whose ping has no answer yet."""
        self._silent: dict[str, None] = {}
        """Nodes that were taken out because they answer nothing, while NATS still has their subscriptions."""
        self._swept = 0.0
        self._said = Hello("", 0.0)
        self._hello_due = 0.0
        self._ping_due = 0.0
        self._leaving = False

    # -- what this node says -------------------------------------------------------------------------------------

    def _hello(self, answer: bool = False) -> Hello:
        types: dict[str, int] = {}
        dry: list[str] = []
        for kind in self._runtime.exchange.dispatcher.types.values():
            if (room := _room(kind)) and len(types) < MAX_TYPES:
                types[kind.name] = room
                if any(kind.name in handler.dry_types for handler in kind.attached):
                    dry.append(kind.name)
        return Hello(
            __version__, self._runtime.started_at, types, dry, answer, claims=True, parts=True, losses=self.bus.losses
        )

    def sweep(self, now: float) -> None:
        """Tells the others what has changed, and pings them; called a few times a second."""
        if self._leaving or not self.bus.up:
            return
        paused, self._swept = now - self._swept > PAUSED_S, now
        hello = self._hello()
        if now >= self._hello_due or hello != self._said:
            self._hello_due = now + HELLO_S
            self._said = hello
            self._batcher.to_all(Kind.HELLO, hello)
        if now >= self._ping_due:
            self._ping_due = now + PING_S
            for member in list(self.others.values()):
                if not member.pinging:
                    member.pinging = True
                    self._runtime.spawn(self._ping(member))
                if paused:
                    member.seen = now
                elif now - member.seen > SILENT_S:
                    self._silent[member.node] = None
                    self._forget(member, "it answers nothing any more")
                elif now - member.seen > QUIET_S:
                    member.quiet = True
            for node in [one for one in self._silent if one not in self._pinging]:
                self._pinging.add(node)
                self._runtime.spawn(self._ping_silent(node))

    def unsure(self) -> None:
        """Takes it for possible, for a while, that other nodes serve types that are not known here."""
        self._runtime.exchange.dispatcher.unsure_until = self._runtime.clock() + UNSURE_S if self.bus.up else inf

    def leave(self) -> None:
        """Tells the others that this node stops."""
        self._leaving = True
        self._batcher.to_all(Kind.LEAVING)

    def gone(self) -> None:
        """Tells the others that this node has stopped, so that nobody waits for its answers."""
        self._batcher.to_all(Kind.LEFT)

    # -- what others say -----------------------------------------------------------------------------------------

    def heard(self, node: str) -> None:
        """Notes that something came from a node."""
        self._silent.pop(node, None)
        member = self.others.get(node)
        if member is not None:
            self._hear(member, self._runtime.exchange.batch.now)

    def _hear(self, member: Member, now: float) -> None:
        member.seen = now
        member.unheard = 0
        if member.quiet:
            member.quiet = False
            self._back(member)

    def met(self, node: str, hello: Hello) -> None:
        """Takes a node's introduction: who it is, and what it serves."""
        member = self.others.get(node)
        if member is not None and member.hello.started != hello.started:
            self._forget(member, "it was started anew")  # faster than its death was seen
            member = None
        elif member is not None and member.hello.losses != hello.losses:
            self._forget(member, "it has lost NATS, and is back")  # its answers to what it was asked may be lost
            member = None
        if member is None:
            if len(self.others) >= MAX_NODES or self._leaving:
                return
            member = self.others[node] = Member(node, hello)
            member.seen = self._runtime.exchange.batch.now
            log.info("node %s is there, with release %s", ascii(node), ascii(hello.version))
            if self._lost.pop(node, None) == hello.started:
                self._back(member)
        if not member.handlers and not hello.answer:
            self._batcher.to_node(node, Kind.HELLO, 0, self._hello(answer=True))
        member.hello = hello
        self._serve(member)

    def _serve(self, member: Member) -> None:
        """Lets the exchange ask the node for the types that it serves now."""
        exchange = self._runtime.exchange
        types = dict(list(member.hello.types.items())[:MAX_TYPES])
        for name, handler in list(member.handlers.items()):
            if name not in types:
                del member.handlers[name]
                exchange.dispatcher.detach(handler)
                if not handler.outstanding:
                    exchange.dispatcher.remove(handler)
        for name, room in types.items():
            known = member.handlers.get(name)
            if known is None:
                known = member.handlers[name] = RemoteHandler(
                    member.node, self._runtime.config.server.name, max(1, room), since=exchange.batch.now
                )
                known.dry_types = frozenset({name} if name in member.hello.dry else ())
                known.parts = known.cancels = member.hello.parts
                exchange.dispatcher.attach_remote(known, name, self._runtime.config.limits.handler_timeout)
            else:
                known.concurrency = max(1, room)
                known.dry_types = frozenset({name} if name in member.hello.dry else ())

    def left(self, node: str) -> None:
        """Asks nothing more of a node that stops; it finishes what it has."""
        member = self.others.get(node)
        if member is not None:
            log.info("node %s stops", ascii(node))
            member.stops = True
            member.hello = replace(member.hello, types={}, dry=[])
            self.unsure()
            self._serve(member)

    def stopped(self, node: str) -> None:
        """Takes out a node that has stopped."""
        member = self.others.get(node)
        if member is not None:
            self._forget(member, "it has stopped")

    async def _ping(self, member: Member) -> None:
        try:
            await self.bus.request(self._batcher.subjects.node(member.node), b"", timeout_s=PING_S * 2)
        except NoResponders:
            member.unheard += 1
            if member.unheard >= PINGS:
                self._forget(member, "it is gone")
        except (BusDown, BusLost):
            pass  # it hangs, or NATS is away: seen elsewhere
        else:
            self._hear(member, self._runtime.clock())
        finally:
            member.pinging = False

    async def _ping_silent(self, node: str) -> None:
        try:
            await self.bus.request(self._batcher.subjects.node(node), b"", timeout_s=PING_S * 2)
        except NoResponders:
            self._silent.pop(node, None)
        except (BusDown, BusLost):
            pass
        else:
            self._silent.pop(node, None)
        finally:
            self._pinging.discard(node)

    def forget_all(self) -> None:
        """Takes out all other nodes, because NATS is away."""
        for member in list(self.others.values()):
            self._forget(member, "NATS is away")
        self._silent.clear()
        self._lost.clear()  # all is told anew when it is there again

    @property
    def some_silent(self) -> bool:
        """Whether there is a node that answers nothing, though NATS still delivers to it."""
        return bool(self._silent) or any(member.quiet for member in self.others.values())

    def is_silent(self, node: str) -> bool:
        """Whether this node answers nothing, though NATS still delivers to it."""
        member = self.others.get(node)
        return node in self._silent or (member is not None and member.quiet)

    def all_heard(self, within_s: float) -> bool:
        """Whether no other node is silent, and all were heard not long ago."""
        since = self._runtime.exchange.batch.now - max(within_s, 2 * PING_S)
        return not self.some_silent and all(member.seen >= since for member in self.others.values())

    def _forget(self, member: Member, why: str) -> None:
        if self.others.get(member.node) is not member:
            return
        del self.others[member.node]
        if len(self._lost) < MAX_NODES:
            self._lost[member.node] = member.hello.started
        level = logging.INFO if member.stops else logging.WARNING
        log.log(level, "node %s is taken out: %s", ascii(member.node), why)
        self.unsure()
        exchange = self._runtime.turn()
        for handler in [one for one in exchange.dispatcher.handlers if isinstance(one, RemoteHandler)]:
            if handler.node == member.node:
                exchange.dispatcher.remove(handler)
        member.handlers.clear()
        self._gone(member)


def _room(kind: TypeRoute) -> int:
    """Returns how many requests of a type this node takes from each of the others."""
    if kind.attached:
        return sum(handler.concurrency for handler in kind.attached)
    return kind.rules.classic_concurrency if kind.classic else 0
