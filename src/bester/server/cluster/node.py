"""All that joins this node with the others: what comes from them goes to the exchange, what it decides goes to them."""

from __future__ import annotations

import logging
import secrets
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from os import getpid
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from bester.bus.connection import Bus, BusDown
from bester.cluster.items import (
    Asked,
    Bring,
    Claimed,
    End,
    Hello,
    Kind,
    Look,
    Mail,
    Named,
    Part,
    Replied,
    Seen,
    Settled,
    ToServer,
    Unreadable,
    numbers,
    read,
    unpack,
)
from bester.cluster.subjects import Subjects
from bester.config.cluster import MAX_NODE_CHARACTERS
from bester.core.effects import AskRemote, Deposit, Recall, Share, TellNode
from bester.core.endpoint import NodePeer
from bester.core.metrics import Drop, TypeMetrics
from bester.core.model import Delivery, Envelope, Relayed
from bester.errors import BadConfiguration, BesterError
from bester.protocol.frames import result as result_entry
from bester.server.cluster.batcher import Batcher
from bester.server.cluster.interest import AccountInterest
from bester.server.cluster.leases import Leases
from bester.server.cluster.membership import MAX_NODES, Member, Membership
from bester.server.cluster.once_claims import OnceClaims
from bester.server.cluster.presence import ClusterPresence
from bester.server.cluster.queries import ClusterQueries
from bester.server.cluster.relay import Relays
from bester.server.cluster.remote_delivery import RemoteDelivery
from bester.server.cluster.remote_handlers import RemoteHandlers
from bester.server.ports import Answer, Gathered, NodeFigures, PresenceWatcher

if TYPE_CHECKING:
    from bester.config.cluster import Cluster
    from bester.server.runtime import Runtime
    from bester.store.ports import LeaseStore

log = logging.getLogger("bester.nodes")

DELIVERED = b'"status":"delivered"}'
ROOM_BYTES = 128 * 1024
"""What a NATS message must hold beside the largest message of a client."""
MAX_TYPES_CHARS = 1024
"""How long the names of the types of letters may be together, for other nodes to be told them."""


def node_name(cluster: Cluster) -> str:
    """Returns what this node is called."""
    if cluster.node is not None:
        return cluster.node
    host = socket.gethostname().encode("ascii", "replace").decode().replace(" ", "-") or "node"
    name = f"{host[: MAX_NODE_CHARACTERS - 20]}-{getpid()}-{secrets.token_hex(3)}"
    return "".join(char if char.isprintable() else "-" for char in name)


class ClusterNode:
    """This node among the others.

    Args:
        runtime: the rest of this node.
        bus: the connection to NATS, which is open already at :meth:`open`.
        name: what this node is called.
        leases: where it is kept which node sends to which other server.
    """

    def __init__(self, runtime: Runtime, bus: Bus, name: str, leases: LeaseStore) -> None:
        self.runtime = runtime
        self.bus = bus
        self.name = name
        runtime.exchange.count_from(next(numbers()))
        subjects = Subjects(runtime.config.server.name)
        self.post = Batcher(bus, subjects, name, runtime.exchange.counters.drops)
        self.members = Membership(runtime, self.post, self._member_gone, self._member_back)
        self.asking = RemoteHandlers(runtime, self.post)
        self.bringing = RemoteDelivery(runtime, self.post, self.members)
        self.claiming = OnceClaims(runtime, self.post, self.members)
        self.sharing = AccountInterest(runtime, self.post, self.members, self._heard)
        self.holding = Leases(runtime, leases, name)
        self.relays = Relays(runtime, self.post, self.members, self.holding)
        self.gathering = ClusterQueries(runtime, self.post, self.members)
        self.watching = ClusterPresence(runtime, self.post, self.members, self.gathering, self._heard)
        self._takes: dict[int, Callable[[str, int, bytes, bytes], None]] = {
            Kind.ASK: self._asked,
            Kind.ANSWER: lambda node, number, note, body: self.asking.answer(number, body),
            Kind.ANSWERED: lambda node, number, note, body: self.asking.answered(number),
            Kind.DONE: lambda node, number, note, body: self.asking.done(number, note, body),
            Kind.FAILED: lambda node, number, note, body: self.asking.failed(number, note),
            Kind.BRING: self._brought,
            Kind.HAND: self._handed,
            Kind.TAKEN: lambda node, number, note, body: self.bringing.taken(node, number),
            Kind.GONE: lambda node, number, note, body: self.bringing.gone(node, number),
            Kind.OUTCOME: lambda node, number, note, body: self.bringing.outcome(node, number, body),
            Kind.CLAIM: lambda node, number, note, body: self.claiming.asked(node, number, body),
            Kind.CLAIMED: lambda node, number, note, body: self.claiming.answered(
                node, number, read(note, Claimed).known, body
            ),
            Kind.REPLIED: lambda node, number, note, body: self.claiming.replied(
                node, number, read(note, Replied), body
            ),
        }
        """Of the kinds that are many."""
        self._peers: dict[str, NodePeer] = {}
        """Nodes that asked for something before they said who they are, until they have all that they asked for."""

    async def open(self) -> None:
        """Begins to hear the others.

        Raises:
            BadConfiguration: NATS takes no messages that are large enough, or forbids them.
        """
        needed = self.runtime.config.limits.max_message + ROOM_BYTES
        if self.bus.max_payload < needed:
            raise BadConfiguration(
                f"the NATS servers take messages of up to {self.bus.max_payload} bytes, and limits.maxMessage needs "
                f"{needed}: set max_payload in their configuration, or a smaller limits.maxMessage"
            )
        subjects = self.post.subjects
        self.members.unsure()
        self.bringing.open()
        self.bus.listen(subjects.all, self._heard)
        self.bus.listen(subjects.node(self.name), self._heard)
        await self.bus.check_permitted(subjects.node(self.name))  # a ping, which this node answers itself
        self.bus.changed.append(self._bus_changed)
        self.claiming.open()
        self.sharing.open()
        self.members.sweep(self.runtime.clock())
        self.post.flush()  # the others hear of this node before it has listeners
        self.runtime.presence_watchers += [self.sharing.presence_changed, self.watching.presence_changed]
        log.info("this is node %s", ascii(self.name))

    def leave(self) -> None:
        """The server stops: the others ask for nothing more, and bring nothing."""
        if self.bus.up:
            self.sharing.leave()
            self.members.leave()
            self.post.flush()

    def left(self) -> None:
        """The server has stopped, and soon the bus is closed."""
        if self.bus.up:
            self.members.gone()
            self.post.flush()

    def sweep(self, now: float) -> None:
        """Called a few times a second."""
        self.members.sweep(now)
        self.bringing.sweep(now)
        self.claiming.sweep(now)
        self.sharing.sweep(now)
        self.holding.sweep(self.bus.up)
        self.relays.sweep()
        self.watching.sweep(now)
        self.asking.sweep()
        if self._peers:
            self._peers = {node: peer for node, peer in self._peers.items() if peer.busy}

    def flush(self) -> None:
        """Sends what this turn of the loop has for others."""
        self.relays.flush()
        exchange = self.runtime.exchange
        if exchange.for_nodes:
            fresh, exchange.for_nodes = exchange.for_nodes, []
            for envelope in fresh:
                if envelope.pending:
                    self._tell_taken(envelope)
        self.bringing.flush()
        self.claiming.flush()
        self.post.flush()

    def _bus_changed(self, up: bool) -> None:
        self.runtime.exchange.now = self.runtime.clock()
        self.members.unsure()
        if up:
            self.members.sweep(self.runtime.exchange.now)
            self.bringing.bus_up()
            self.claiming.bus_up()
            self.sharing.bus_up()
            self.runtime.federation.bus_up()
            self.watching.bus_up()
        else:
            self.members.forget_all()
            self.bringing.bus_down()
            self.claiming.bus_down()
            self.sharing.bus_down()
            self.relays.bus_down()
        self.runtime.flush_soon()

    def _member_gone(self, member: Member) -> None:
        self.bringing.node_gone(member.node, silent=member.quiet)
        self.claiming.node_gone(member.node)
        self.sharing.node_gone(member.node)
        self.relays.node_gone(member.node)
        self.gathering.member_gone(member.node)
        self.watching.look_again()

    def _member_back(self, member: Member) -> None:
        self.sharing.node_back(member.node)
        self.watching.look_again()
        self.runtime.flush_soon()

    # -- what the exchange decided -------------------------------------------------------------------------------

    def deposit(self, effect: Deposit) -> bool:
        return self.bringing.bring(effect)

    def recall(self, effect: Recall) -> bool:
        self.claiming.recall(effect)
        return True

    def ask_handler(self, effect: AskRemote) -> None:
        self.asking.ask(effect)

    def share(self, effect: Share) -> None:
        self.bringing.share(effect.delivery)

    def tell(self, effect: TellNode) -> None:
        """Tells another node what became of what it asked for."""
        envelope = effect.envelope
        if isinstance(envelope, Relayed):
            self.asking.tell(effect.node, envelope)
        else:
            self._tell_outcome(effect.node, envelope)

    def _tell_taken(self, envelope: Envelope) -> None:
        """Tells the node that asked for it that its outcome comes later."""
        peer = envelope.origin
        assert isinstance(peer, NodePeer)
        if isinstance(envelope, Relayed):
            self.asking.tell_answered(peer.node, envelope)
        else:
            self.post.to_node(peer.node, Kind.TAKEN, int(envelope.id))

    def _tell_outcome(self, node: str, envelope: Envelope) -> None:
        number = int(envelope.id)
        result = envelope.results[0] if envelope.results else result_entry("", "failed")
        if result.endswith(DELIVERED):
            self.post.to_node(node, Kind.OUTCOME, number)
        else:
            self.post.to_node(node, Kind.OUTCOME, number, None, result)

    def stored(self, letters: dict[str, set[str]]) -> None:
        """Letters of these types were put into the accounts' mailboxes: sessions on other nodes look into them."""
        for username, types in letters.items():
            told = sorted(types) if sum(map(len, types)) <= MAX_TYPES_CHARS else []
            self.post.to_account(username, Kind.MAIL, Mail(username, told))
        self.runtime.flush_soon()

    def end_sessions(self, username: str, why: str, roles: tuple[str, ...] | None = None) -> None:
        """An account has changed: its sessions on other nodes end, or go on with their new roles.

        All nodes are told: those with sessions that take no messages do not listen to what is for the account.
        """
        note = End(username, why, list(roles) if roles is not None else None)
        self.post.to_all(Kind.END, note)
        self.runtime.flush_soon()

    # -- what the rest of this node asks for (server/ports.py) ---------------------------------------------------

    async def meet(self, username: str) -> None:
        await self.sharing.meet(username)

    def arriving(self, username: str) -> AbstractContextManager[None]:
        return self.sharing.arriving(username)

    def counted_here(self) -> int:
        return self.sharing.counted_here()

    async def usernames(self) -> list[str]:
        return await self.watching.usernames()

    async def is_online(self, username: str) -> bool:
        return await self.watching.is_online(username)

    async def watch(self, watcher: PresenceWatcher) -> list[str]:
        return await self.watching.join(watcher)

    def unwatch(self, watcher: PresenceWatcher) -> None:
        self.watching.leave(watcher)

    @property
    def bus_up(self) -> bool:
        return self.bus.up

    @property
    def bus_why(self) -> str:
        return self.bus.why

    @property
    def others(self) -> Mapping[str, str]:
        return {member.node: member.hello.version for member in self.members.others.values()}

    @property
    def figures(self) -> NodeFigures | None:
        return NodeFigures(1 + len(self.members.others), self.asking.count, self.bringing.brought, self.bus.losses)

    def answer_with(self, answer: Answer) -> None:
        self.gathering.answer = answer

    async def ask(
        self,
        question: str,
        args: dict[str, Any] | None = None,
        nodes: Iterable[str] | None = None,
        timeout_s: float | None = None,
    ) -> Gathered:
        return await self.gathering.ask(question, args, nodes, timeout_s)

    async def recent(self, question: str) -> Gathered:
        return await self.gathering.recent(question)

    async def holders(self) -> dict[str, str]:
        return await self.holding.holders()

    def served_elsewhere(self, metrics: TypeMetrics) -> TypeMetrics | None:
        return self.asking.elsewhere.get(metrics)

    # -- what other nodes sent -----------------------------------------------------------------------------------

    def _heard(self, subject: str, reply: str, headers: bytes, data: bytes) -> None:
        if not data:  # a ping
            if reply:
                try:
                    self.bus.publish(reply, self.sharing.ping_answer(subject))
                except BusDown:
                    log.debug("a ping was not answered")
            return
        exchange = self.runtime.exchange
        exchange.now = self.runtime.clock()
        try:
            node, items = unpack(data)
        except Unreadable as error:
            self._drop(Drop.NODE_UNREADABLE)
            log.warning("what came from another node cannot be read: %s", error)
            return
        if node == self.name:
            for kind, number, _, _ in items:
                if kind == Kind.BRING:
                    self.bringing.came_back(number)
            return
        self.members.heard(node)
        for kind, number, note, body in items:
            take = self._takes.get(kind)
            try:
                if take is not None:
                    take(node, number, note, body)
                else:
                    self._take_rare(node, kind, number, note, body)
            except (Unreadable, BesterError) as error:
                self._drop(Drop.NODE_UNREADABLE)
                log.warning("an item from node %s cannot be read: %s", ascii(node), error)
            except Exception:
                log.exception("an item from node %s could not be handled", ascii(node))
        self.runtime.flush_soon()

    def _take_rare(self, node: str, kind: int, number: int, note: bytes, body: bytes) -> None:
        match kind:
            case Kind.HELLO:
                self._met(node, read(note, Hello))
            case Kind.LEAVING:
                self.members.left(node)
                self.bringing.node_leaves(node)
            case Kind.LEFT:
                self.members.stopped(node)
            case Kind.HERE:
                here = read(note, Named)
                self.sharing.here(node, here)
                self.bringing.found(here.username)
            case Kind.BYE:
                self.sharing.bye(node, read(note, Named).username)
            case Kind.MAIL:
                mail = read(note, Mail)
                self.runtime.mailboxes.came(mail.username)
                self.runtime.exchange.mail_came(mail.username, mail.types)
            case Kind.END:
                self._ended(read(note, End))
            case Kind.FORWARD:
                self.relays.asked(node, number, read(note, ToServer), body)
            case Kind.FORWARDED:
                self.relays.settled(node, number, read(note, Settled), body)
            case Kind.LOOK:
                look = read(note, Look)
                self.runtime.federation.look(look.destination, node, look.stored, look.hurry)
            case Kind.COMMAND:
                self.gathering.asked(node, number, read(note, Asked), body)
            case Kind.RESULT:
                self.gathering.result(node, number, read(note, Part), body)
            case Kind.PRESENCE:
                self.watching.changed(read(note, Seen).username)

    def _met(self, node: str, hello: Hello) -> None:
        before = self.members.others.get(node)
        self.members.met(node, hello)
        member = self.members.others.get(node)
        if member is not None and member is not before:
            self.claiming.node_came(member)
            self.watching.look_again()

    def _drop(self, drop: Drop) -> None:
        self.runtime.exchange.counters.drops.count(drop)

    def _peer(self, node: str) -> NodePeer:
        member = self.members.others.get(node)
        if member is not None:
            return member.peer
        peer = self._peers.get(node) or NodePeer(node)
        if len(self._peers) < MAX_NODES:
            self._peers[node] = peer
        return peer

    def _asked(self, node: str, number: int, note: bytes, body: bytes) -> None:
        self.asking.asked(self._peer(node), number, note, body)

    def _handed(self, node: str, number: int, note: bytes, body: bytes) -> None:
        self._brought(node, number, note, body, alone=True)

    def _brought(self, node: str, number: int, note: bytes, body: bytes, alone: bool = False) -> None:
        bring = read(note, Bring)
        username, data = bring.username, Raw(body)
        here = self.runtime.exchange.bring_here(
            self._peer(node),
            number,
            username,
            bring.id,
            bring.type,
            data,
            to=bring.to,
            transient=bring.transient,
            copy=bring.copy,
        )
        if bring.copy:
            return
        if not here:
            self.post.to_node(node, Kind.GONE, number)
        elif alone and self.sharing.is_shared(username):
            self.bringing.share(Delivery(None, 0, bring.to, username, bring.id, bring.type, data, bring.transient))

    def _ended(self, end: End) -> None:
        if end.roles is not None:
            self.runtime.accounts.roles_changed(end.username, tuple(end.roles))
        else:
            self.runtime.accounts.sessions_ended(end.username, end.why)
