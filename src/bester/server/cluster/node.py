"""This node of the cluster: carries out what concerns other nodes, and knows them for the rest of this node."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from bester.bus.connection import Bus
from bester.cluster.items import End, Kind, Mail, numbers
from bester.cluster.subjects import Subjects
from bester.config.cluster import MAX_NODE_CHARACTERS
from bester.config.cluster import Cluster as ClusterConfig
from bester.core.effects import AskRemote, Deposit, Recall, Share, TellHandler, TellNode, TellPart
from bester.core.endpoint import NodePeer
from bester.core.metrics import TypeMetrics
from bester.core.model import Envelope, Relayed
from bester.errors import BadConfiguration
from bester.protocol.frames import result as result_entry
from bester.server.accounts.service import AccountService
from bester.server.cluster.batcher import Batcher
from bester.server.cluster.incoming import Incoming
from bester.server.cluster.interest import AccountInterest
from bester.server.cluster.leases import Leases
from bester.server.cluster.membership import Member, Membership
from bester.server.cluster.once_claims import OnceClaims
from bester.server.cluster.presence import ClusterPresence
from bester.server.cluster.queries import ClusterQueries
from bester.server.cluster.relays import Relays
from bester.server.cluster.remote_delivery import RemoteDelivery
from bester.server.cluster.remote_handlers import RemoteHandlers
from bester.server.mailboxes import Mailboxes
from bester.server.ports import Answer, Gathered, NodeFigures, PresenceWatcher
from bester.server.runtime import Runtime
from bester.store.ports import LeaseStore, MessageStore

log = logging.getLogger("bester.nodes")

DELIVERED = b'"status":"delivered"}'
ROOM_BYTES = 128 * 1024
"""Bytes that a NATS message must hold beside the largest message of a client."""
MAX_TYPES_CHARS = 1024
"""Up to how many characters the types of an account's letters are told to other nodes."""


def node_name(cluster: ClusterConfig) -> str:
    """Returns the name of this node."""
    if cluster.node is not None:
        return cluster.node
    host = socket.gethostname().encode("ascii", "replace").decode().replace(" ", "-") or "node"
    name = f"{host[: MAX_NODE_CHARACTERS - 20]}-{os.getpid()}-{secrets.token_hex(3)}"
    return "".join(char if char.isprintable() else "-" for char in name)


class ClusterNode:
    """This node among the others: the cluster, for the rest of this node (``server/ports.py``).

    Args:
        runtime: the exchange, time and tasks.
        bus: the connection to NATS, which is open already at :meth:`open`.
        name: its name.
        messages: where all nodes keep what accounts have not taken.
        mailboxes: those of this node.
        accounts: end sessions here, where another node says so.
        leases: where it is kept which node sends to which other server.
    """

    def __init__(
        self,
        runtime: Runtime,
        bus: Bus,
        name: str,
        messages: MessageStore,
        leases: LeaseStore,
        mailboxes: Mailboxes,
        accounts: AccountService,
    ) -> None:
        self.name = name
        self.bus = bus
        self._runtime = runtime
        runtime.exchange.dispatcher.count_from(next(numbers()))
        subjects = Subjects(runtime.config.server.name)
        self.batcher = batcher = Batcher(bus, subjects, name, runtime.exchange.batch.counters.drops)
        self.membership = membership = Membership(runtime, batcher, self._member_gone, self._member_back)
        self.remote_handlers = RemoteHandlers(runtime, batcher)
        self.remote_delivery = RemoteDelivery(runtime, mailboxes, batcher, membership)
        self.once_claims = OnceClaims(runtime, mailboxes, batcher, membership)
        self.interest = AccountInterest(runtime, messages, batcher, membership, self._heard)
        self.leases = Leases(runtime, leases, name)
        self.relays = Relays(runtime, batcher, membership, self.leases)
        self.queries = ClusterQueries(runtime, batcher, membership)
        self.presence = ClusterPresence(runtime, batcher, membership, self.queries, self._heard)
        self._incoming = Incoming(
            runtime,
            batcher,
            membership,
            mailboxes=mailboxes,
            accounts=accounts,
            remote_handlers=self.remote_handlers,
            remote_delivery=self.remote_delivery,
            once_claims=self.once_claims,
            interest=self.interest,
            relays=self.relays,
            queries=self.queries,
            presence=self.presence,
        )

    async def open(self) -> None:
        """Begins to hear the others.

        Raises:
            BadConfiguration: NATS takes no messages that are large enough, or forbids them.
        """
        needed = self._runtime.config.limits.max_message + ROOM_BYTES
        if self.bus.max_payload < needed:
            raise BadConfiguration(
                f"the NATS servers take messages of up to {self.bus.max_payload} bytes, and limits.maxMessage needs "
                f"{needed}: set max_payload in their configuration, or a smaller limits.maxMessage"
            )
        subjects = self.batcher.subjects
        self.membership.unsure()
        self.remote_delivery.open()
        self.bus.subscribe(subjects.all, self._heard)
        self.bus.subscribe(subjects.node(self.name), self._heard)
        await self.bus.check_permitted(subjects.node(self.name))  # a ping, which this node answers itself
        self.bus.changed.append(self._bus_changed)
        self.once_claims.open()
        self.interest.open()
        self.membership.sweep(self._runtime.clock())
        self.batcher.flush()  # the others hear of this node before it has listeners
        self._runtime.presence_watchers += [self.interest.presence_changed, self.presence.presence_changed]
        log.info("this is node %s", ascii(self.name))

    def leave(self) -> None:
        """Tells the others that this node stops: they ask for nothing more, and bring nothing."""
        if self.bus.up:
            self.interest.leave()
            self.membership.leave()
            self.batcher.flush()

    def left(self) -> None:
        """Tells the others that this node has stopped; the bus is closed soon."""
        if self.bus.up:
            self.membership.gone()
            self.batcher.flush()

    def sweep(self, now: float) -> None:
        """Does what time demands; called a few times a second."""
        self.membership.sweep(now)
        self.remote_delivery.sweep(now)
        self.once_claims.sweep(now)
        self.interest.sweep(now)
        self.leases.sweep(self.bus.up)
        self.relays.sweep()
        self.presence.sweep(now)
        self.remote_handlers.sweep()
        self._incoming.sweep()

    def flush(self) -> None:
        """Sends the items of this turn of the loop for other nodes."""
        self.relays.flush()
        exchange = self._runtime.exchange
        if exchange.remote.fresh:
            fresh, exchange.remote.fresh = exchange.remote.fresh, []
            for envelope in fresh:
                if envelope.pending:
                    self._tell_taken(envelope)
        self.remote_delivery.flush()
        self.once_claims.flush()
        self.batcher.flush()

    def _bus_changed(self, up: bool) -> None:
        now = self._runtime.turn().batch.now
        self.membership.unsure()
        if up:
            self.membership.sweep(now)
            self.remote_delivery.bus_up()
            self.once_claims.bus_up()
            self.interest.bus_up()
            self.relays.bus_up()
            self.presence.bus_up()
        else:
            self.membership.forget_all()
            self.remote_delivery.bus_down()
            self.once_claims.bus_down()
            self.interest.bus_down()
            self.relays.bus_down()

    def _heard(self, subject: str, reply: str, headers: bytes, data: bytes) -> None:
        self._incoming.heard(subject, reply, headers, data)

    def _member_gone(self, member: Member) -> None:
        self._runtime.exchange.parts.left(member.peer)
        self.remote_delivery.node_gone(member.node, silent=member.quiet)
        self.once_claims.node_gone(member.node)
        self.interest.node_gone(member.node)
        self.relays.node_gone(member.node)
        self.queries.member_gone(member.node)
        self.presence.look_again()

    def _member_back(self, member: Member) -> None:
        self.interest.node_back(member.node)
        self.presence.look_again()
        self._runtime.turn()

    # -- what the exchange decided -------------------------------------------------------------------------------

    def deposit(self, effect: Deposit) -> bool:
        return self.remote_delivery.bring(effect)

    def recall(self, effect: Recall) -> bool:
        self.once_claims.recall(effect)
        return True

    def ask_handler(self, effect: AskRemote) -> None:
        self.remote_handlers.ask(effect)

    def tell_handler(self, effect: TellHandler) -> None:
        self.remote_handlers.tell_handler(effect)

    def tell_part(self, effect: TellPart) -> None:
        self.remote_handlers.tell_part(effect)

    def share(self, effect: Share) -> None:
        self.remote_delivery.share(effect.delivery)

    def tell(self, effect: TellNode) -> None:
        """Tells another node the outcome of a request or a message of its own."""
        envelope = effect.envelope
        if isinstance(envelope, Relayed):
            self.remote_handlers.tell(effect.node, envelope)
        else:
            self._tell_outcome(effect.node, envelope)

    def _tell_taken(self, envelope: Envelope) -> None:
        """Tells the node that sent it that the outcome comes later."""
        peer = envelope.origin
        assert isinstance(peer, NodePeer)
        if isinstance(envelope, Relayed):
            self.remote_handlers.tell_answered(peer.node, envelope)
        else:
            self.batcher.to_node(peer.node, Kind.TAKEN, int(envelope.id))

    def _tell_outcome(self, node: str, envelope: Envelope) -> None:
        number = int(envelope.id)
        result = envelope.results[0] if envelope.results else result_entry("", "failed")
        if result.endswith(DELIVERED):
            self.batcher.to_node(node, Kind.OUTCOME, number)
        else:
            self.batcher.to_node(node, Kind.OUTCOME, number, None, result)

    def stored(self, letters: dict[str, set[str]]) -> None:
        """Lets sessions on other nodes read mailboxes that letters of these types were put into."""
        for username, types in letters.items():
            told = sorted(types) if sum(map(len, types)) <= MAX_TYPES_CHARS else []
            self.batcher.to_account(username, Kind.MAIL, Mail(username, told))
        self._runtime.turn()

    def end_sessions(self, username: str, why: str, roles: tuple[str, ...] | None = None) -> None:
        """Ends an account's sessions on other nodes, or gives them new roles.

        All nodes are told: those with sessions that take no messages do not listen to what is for the account.
        """
        note = End(username, why, list(roles) if roles is not None else None)
        self.batcher.to_all(Kind.END, note)
        self._runtime.turn()

    # -- what the rest of this node asks for (server/ports.py) ---------------------------------------------------

    async def meet(self, username: str) -> None:
        await self.interest.meet(username)

    def arriving(self, username: str) -> AbstractContextManager[None]:
        return self.interest.arriving(username)

    def counted_here(self) -> int:
        return self.interest.counted_here()

    async def usernames(self) -> list[str]:
        return await self.presence.usernames()

    async def is_online(self, username: str) -> bool:
        return await self.presence.is_online(username)

    async def watch(self, watcher: PresenceWatcher) -> list[str]:
        return await self.presence.watch(watcher)

    def unwatch(self, watcher: PresenceWatcher) -> None:
        self.presence.unwatch(watcher)

    @property
    def bus_up(self) -> bool:
        return self.bus.up

    @property
    def bus_why(self) -> str:
        return self.bus.last_error

    @property
    def others(self) -> Mapping[str, str]:
        return {member.node: member.hello.version for member in self.membership.others.values()}

    @property
    def figures(self) -> NodeFigures | None:
        return NodeFigures(
            1 + len(self.membership.others), self.remote_handlers.count, self.remote_delivery.brought, self.bus.losses
        )

    def answer_with(self, answer: Answer) -> None:
        self.queries.answer = answer

    async def ask(
        self,
        question: str,
        args: dict[str, Any] | None = None,
        nodes: Iterable[str] | None = None,
        timeout_s: float | None = None,
    ) -> Gathered:
        return await self.queries.ask(question, args, nodes, timeout_s)

    async def recent(self, question: str) -> Gathered:
        return await self.queries.recent(question)

    async def holders(self) -> dict[str, str]:
        return await self.leases.holders()

    def served_elsewhere(self, metrics: TypeMetrics) -> TypeMetrics | None:
        return self.remote_handlers.served_elsewhere.get(metrics)
