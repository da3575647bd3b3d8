"""Takes the items of other nodes to the parts of this node that they are for."""

from __future__ import annotations

import logging
from collections.abc import Callable

from msgspec import Raw

from bester.bus.errors import BusDown
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
    read,
    unpack,
)
from bester.core.endpoint import NodePeer
from bester.core.metrics import Drop
from bester.core.model import Delivery
from bester.errors import BesterError
from bester.server.accounts.service import AccountService
from bester.server.cluster.batcher import Batcher
from bester.server.cluster.interest import AccountInterest
from bester.server.cluster.membership import MAX_NODES, Membership
from bester.server.cluster.once_claims import OnceClaims
from bester.server.cluster.presence import ClusterPresence
from bester.server.cluster.queries import ClusterQueries
from bester.server.cluster.relays import Relays
from bester.server.cluster.remote_delivery import RemoteDelivery
from bester.server.cluster.remote_handlers import RemoteHandlers
from bester.server.mailboxes import Mailboxes
from bester.server.runtime import Runtime

log = logging.getLogger("bester.nodes")

Take = Callable[[str, int, bytes, bytes], None]
"""Takes the node that sent an item, the item's number, its note and its body."""


class Incoming:
    """Takes the items of other nodes.

    Args:
        runtime: its exchange gets what is brought.
        batcher: how nodes are answered.
        membership: who they are.
        mailboxes, accounts: what concerns accounts.
        remote_handlers, remote_delivery, once_claims, interest, relays, queries, presence: the parts of this node.
    """

    def __init__(
        self,
        runtime: Runtime,
        batcher: Batcher,
        membership: Membership,
        *,
        mailboxes: Mailboxes,
        accounts: AccountService,
        remote_handlers: RemoteHandlers,
        remote_delivery: RemoteDelivery,
        once_claims: OnceClaims,
        interest: AccountInterest,
        relays: Relays,
        queries: ClusterQueries,
        presence: ClusterPresence,
    ) -> None:
        self._runtime = runtime
        self._batcher = batcher
        self._membership = membership
        self._mailboxes = mailboxes
        self._accounts = accounts
        self._remote_handlers = remote_handlers
        self._remote_delivery = remote_delivery
        self._once_claims = once_claims
        self._interest = interest
        self._relays = relays
        self._queries = queries
        self._presence = presence
        self._peers: dict[str, NodePeer] = {}
        """Nodes that asked for something before they said who they are, until they have all that they asked for."""
        self._takes: dict[int, Take] = {
            Kind.ASK: self._asked,
            Kind.ANSWER: lambda node, number, note, body: remote_handlers.answer(number, body),
            Kind.MORE: lambda node, number, note, body: remote_handlers.more(self._peer(node), number, note),
            Kind.CANCEL: lambda node, number, note, body: remote_handlers.cancelled(self._peer(node), number),
            Kind.ANSWERED: lambda node, number, note, body: remote_handlers.answered(number),
            Kind.DONE: lambda node, number, note, body: remote_handlers.done(number, note, body),
            Kind.FAILED: lambda node, number, note, body: remote_handlers.failed(number, note),
            Kind.BRING: self._brought,
            Kind.HAND: self._handed,
            Kind.TAKEN: lambda node, number, note, body: remote_delivery.taken(node, number),
            Kind.GONE: lambda node, number, note, body: remote_delivery.gone(node, number),
            Kind.OUTCOME: lambda node, number, note, body: remote_delivery.outcome(node, number, body),
            Kind.CLAIM: lambda node, number, note, body: once_claims.asked(node, number, body),
            Kind.CLAIMED: lambda node, number, note, body: once_claims.answered(
                node, number, read(note, Claimed).known, body
            ),
            Kind.REPLIED: lambda node, number, note, body: once_claims.replied(node, number, read(note, Replied), body),
        }
        """By the kinds that are many."""

    def sweep(self) -> None:
        """Forgets nodes that have all that they asked for; called a few times a second."""
        if self._peers:
            self._peers = {node: peer for node, peer in self._peers.items() if peer.busy}

    def heard(self, subject: str, reply: str, headers: bytes, data: bytes) -> None:
        """Takes a NATS message on one of the subjects that nodes listen to."""
        if not data:  # a ping
            if reply:
                try:
                    self._batcher.bus.publish(reply, self._interest.ping_answer(subject))
                except BusDown:
                    log.debug("a ping was not answered")
            return
        self._runtime.turn()
        try:
            node, items = unpack(data)
        except Unreadable as error:
            self._drop(Drop.NODE_UNREADABLE)
            log.warning("what came from another node cannot be read: %s", error)
            return
        if node == self._batcher.node:
            for kind, number, _, _ in items:
                if kind == Kind.BRING:
                    self._remote_delivery.came_back(number)
            return
        self._membership.heard(node)
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

    def _take_rare(self, node: str, kind: int, number: int, note: bytes, body: bytes) -> None:
        match kind:
            case Kind.HELLO:
                self._met(node, read(note, Hello))
            case Kind.LEAVING:
                self._membership.left(node)
                self._remote_delivery.node_leaves(node)
            case Kind.LEFT:
                self._membership.stopped(node)
            case Kind.HERE:
                here = read(note, Named)
                self._interest.here(node, here)
                self._remote_delivery.found(here.username)
            case Kind.BYE:
                self._interest.bye(node, read(note, Named).username)
            case Kind.MAIL:
                mail = read(note, Mail)
                self._mailboxes.came(mail.username)
                self._runtime.exchange.replay.mail_came(mail.username, mail.types)
            case Kind.END:
                self._ended(read(note, End))
            case Kind.FORWARD:
                self._relays.asked(node, number, read(note, ToServer), body)
            case Kind.FORWARDED:
                self._relays.settled(node, number, read(note, Settled), body)
            case Kind.LOOK:
                self._relays.looked_for(node, read(note, Look))
            case Kind.COMMAND:
                self._queries.asked(node, number, read(note, Asked), body)
            case Kind.RESULT:
                self._queries.result(node, number, read(note, Part), body)
            case Kind.PRESENCE:
                self._presence.changed(read(note, Seen).username)

    def _met(self, node: str, hello: Hello) -> None:
        before = self._membership.others.get(node)
        self._membership.met(node, hello)
        member = self._membership.others.get(node)
        if member is not None and member is not before:
            self._once_claims.node_came(member)
            self._presence.look_again()

    def _drop(self, drop: Drop) -> None:
        self._runtime.exchange.batch.counters.drops.count(drop)

    def _peer(self, node: str) -> NodePeer:
        member = self._membership.others.get(node)
        if member is not None:
            return member.peer
        peer = self._peers.get(node) or NodePeer(node)
        if len(self._peers) < MAX_NODES:
            self._peers[node] = peer
        return peer

    def _asked(self, node: str, number: int, note: bytes, body: bytes) -> None:
        self._remote_handlers.asked(self._peer(node), number, note, body)

    def _handed(self, node: str, number: int, note: bytes, body: bytes) -> None:
        self._brought(node, number, note, body, alone=True)

    def _brought(self, node: str, number: int, note: bytes, body: bytes, alone: bool = False) -> None:
        bring = read(note, Bring)
        username, data = bring.username, Raw(body)
        here = self._runtime.exchange.remote.bring(
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
            self._batcher.to_node(node, Kind.GONE, number)
        elif alone and self._interest.is_shared(username):
            delivery = Delivery(None, 0, bring.to, username, bring.id, bring.type, data, bring.transient)
            self._remote_delivery.share(delivery)

    def _ended(self, end: End) -> None:
        if end.roles is not None:
            self._accounts.roles_changed(end.username, tuple(end.roles))
        else:
            self._accounts.sessions_ended(end.username, end.why)
