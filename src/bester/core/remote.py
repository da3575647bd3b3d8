"""Requests between the nodes of one server (docs/scale.md): for a handler's answer, or for a delivery to an account.

A request of another node is an envelope whose origin is a :class:`~bester.core.endpoint.NodePeer`. Its outcome is told
to that node, which reports to the sender.

A handler's answer is carried out here if it only sends to clients, and all of them are here and nowhere else. Otherwise
it goes back, and the node that asked carries it out. An answer that goes back must not be overtaken by a later message
of its sender that is carried out here; :class:`~bester.core.order.Order` prevents this.
"""

from __future__ import annotations

from bester.core.batch import Batch
from bester.core.commands import CommandExecutor
from bester.core.delivery import Deliveries, DirectWrite
from bester.core.dispatch import Dispatcher, answer_locally, settle_order
from bester.core.endpoint import NodePeer
from bester.core.gate import Gates
from bester.core.metrics import Drop
from bester.core.model import Delivery, Envelope, Relayed
from bester.core.presence import AccountPresence, Presence
from bester.core.redelivery import ACK_S
from bester.core.reports import Reports
from bester.core.routing import RemoteHandler, Request
from bester.core.trail import Trail
from bester.errors import BesterError, HandlerTimeout, HandlerUnavailable
from bester.protocol import frames
from bester.protocol.messages import Command, Data, HandlerMessage

CARRY_S = ACK_S + 10.0
"""How long another node may take to say what became of an answer that it carries out."""
BACK_S = 600.0
"""How long it is remembered that an answer went back; no earlier request is still under way then."""


class RemoteRequests:
    """Carries out other nodes' requests, and takes their outcomes of this node's."""

    __slots__ = ("batch", "commands", "deliveries", "dispatcher", "fresh", "gates", "presence", "reports")

    def __init__(
        self,
        batch: Batch,
        reports: Reports,
        dispatcher: Dispatcher,
        gates: Gates,
        deliveries: Deliveries,
        presence: Presence,
        commands: CommandExecutor,
    ) -> None:
        self.batch = batch
        self.reports = reports
        self.dispatcher = dispatcher
        self.gates = gates
        self.deliveries = deliveries
        self.presence = presence
        self.commands = commands
        self.fresh: list[Envelope] = []
        """Other nodes' requests that this batch carries out; the nodes are told of those that the batch leaves open."""

    # -- requests for handlers here ------------------------------------------------------------------------------

    def ask(
        self,
        node: NodePeer,
        number: int,
        type: str,
        head: bytes,
        data: Data,
        *,
        dry: bool = False,
        guards: bool = False,
        sent_on: bool = False,
        order: int = 0,
        epoch: int = 0,
        parts: int = -1,
    ) -> None:
        """Another node asks a handler of this one; a ``TellNode`` follows with the answer or an error.

        Args:
            node: the node that asks.
            number: the number by which that node knows the request.
            type: the type whose handler is asked.
            head: the request's frame between its id and its data.
            data: the data of the message.
            dry: whether it is a dry run.
            guards: whether the handler is asked as a guard.
            sent_on: whether a handler of another type has sent the message on.
            order, epoch: the sender's order, if the answer may be carried out here.
            parts: how many parts of an answer are granted, which all go back; -1 if it must be one answer.
        """
        self.batch.counters.for_nodes += 1
        node.in_flight += 1
        now = self.batch.now
        envelope = Relayed(
            node,
            b"",
            type,
            now,
            untracked=False,
            trace="relayed",
            number=number,
            head=head,
            guards=guards,
            order=order,
            epoch=epoch,
        )
        if dry:
            envelope.trail = Trail(dry=True)
        if parts >= 0:
            streams = self.dispatcher.streams
            streams.begin(node, b"%d" % number, parts)
            streams.admitted(node, b"%d" % number, envelope)
        route = self.dispatcher.types.get(type)
        if route is None or not (route.attached or route.classic):
            envelope.error = HandlerUnavailable("the node no longer serves this type")
            self.reports.step_done(envelope)
        elif not (guards or sent_on) and (refusal := self.gates.refusal(type, data)) is not None:
            envelope.error = refusal
            self.reports.step_done(envelope)
        else:
            self.dispatcher.hand_on(Request(envelope, route, data, 0, now, len(data) + len(head)))

    def answered(self, envelope: Relayed, request: Request, commands: list[Command], message: HandlerMessage) -> None:
        """A handler has answered another node's request; carries the answer out, or lets it go back."""
        if request.step is not None:
            request.step.end(self.batch.now, "good")
        if not envelope.order:
            envelope.answer = message
        elif self._may_carry_out(envelope, commands):
            envelope.carried = True
            self.fresh.append(envelope)
            for command in commands:
                self.commands.execute(envelope, request.route, 0, command, message, "")
        else:
            envelope.answer = message
            self._remember_that_one_went_back(envelope)
        self.reports.step_done(envelope)

    def _may_carry_out(self, envelope: Relayed, commands: list[Command]) -> bool:
        node = envelope.origin
        assert isinstance(node, NodePeer)
        if node.answered_back and node.answered_back.get(envelope.order, (0,))[0] >= envelope.epoch:
            return False
        for command in commands:
            if command.type == "done":
                continue
            if command.type != "sendClients" or len(command.data) > self.batch.limits.max_recipients:  # type: ignore[arg-type]
                return False
            for name in command.data:  # type: ignore[union-attr]
                account = self.presence.find(name)
                if account is None or account.shared:
                    return False
        return True

    def _remember_that_one_went_back(self, envelope: Relayed) -> None:
        """Lets other answers to the same sender go back, too, if they were asked for before the node knows of this."""
        node = envelope.origin
        assert isinstance(node, NodePeer)
        now = self.batch.now
        back = node.answered_back
        epoch = max(envelope.epoch, back.pop(envelope.order, (0,))[0])
        back[envelope.order] = (epoch, now)
        while now - back[oldest := next(iter(back))][1] >= BACK_S:
            del back[oldest]

    # -- requests for handlers of other nodes --------------------------------------------------------------------

    def came_back(self, request: Request) -> None:
        """Another node's handler has answered, and this node carries the answer out."""
        if request.epoch:
            order = request.envelope.origin.order
            assert order is not None
            if request.epoch == order.epoch:
                order.begin()
            answer_locally(request.envelope, order)
            settle_order(request)

    def answered_remotely(self, handler: RemoteHandler, id: str) -> None:
        """Another node's handler has answered, and that node carries the answer out; :meth:`carried_out` follows."""
        request = handler.outstanding.pop(id, None)
        if request is None:
            self.batch.counters.drops.count(Drop.ANSWER_LATE)
            return
        self._took(request)
        request.since = self.batch.now
        handler.carrying[id] = request
        envelope = request.envelope
        envelope.awaiting += 1
        if envelope.awaiting == envelope.pending:
            self.reports.release_slot(envelope)
        self.dispatcher.pump_all(handler)

    def carried_out(self, handler: RemoteHandler, id: str, results: bytes, error: BesterError | None) -> None:
        """Another node has carried out its handler's answer.

        Args:
            handler: stands for that node.
            id: the request's id.
            results: entries of a report, separated by commas.
            error: the first error.
        """
        request = handler.outstanding.pop(id, None)
        if request is not None:
            self._took(request)
        else:
            request = handler.carrying.pop(id, None)
            if request is None:
                self.batch.counters.drops.count(Drop.ANSWER_LATE)
                return
            request.envelope.awaiting -= 1
        envelope = request.envelope
        if results:
            entries = frames.results_of(results)
            if envelope.results is None:
                envelope.results = entries
            else:
                envelope.results += entries
        if error is not None:
            self.reports.note(envelope, error)
        self.reports.step_done(envelope)
        self.dispatcher.pump_all(handler)

    def _took(self, request: Request) -> None:
        if request.epoch:
            settle_order(request)
        now = self.batch.now
        request.route.progress = now
        request.route.metrics.took(now - request.since)

    # -- messages for accounts here ------------------------------------------------------------------------------

    def bring(
        self,
        node: NodePeer,
        number: int,
        username: str,
        id: str,
        type: str,
        data: Data,
        *,
        to: str = "",
        transient: bool = False,
        copy: bool = False,
    ) -> bool:
        """Another node has a message for an account; a ``TellNode`` follows, unless the message is a copy.

        Args:
            node: the node that brings it.
            number: the number by which that node knows it.
            username, id, type, data: the account, the ``deliveryId``, and the message.
            to: the recipient, as the handler wrote it.
            transient: whether it is never put into a mailbox.
            copy: whether no outcome is to be told.

        Returns:
            Whether the account has a session here that takes it; if not, nothing was done.
        """
        account = self.presence.find(username)
        takers = account.takers(type) if account is not None else []
        if account is None or not takers:
            return False
        batch = self.batch
        username = account.username
        if copy:
            delivery = Delivery(None, 0, to, username, id, type, data, transient, batch.now, settled=True)
            self.deliveries.hand_to_all(takers, delivery)
            return True
        batch.counters.for_nodes += 1
        node.in_flight += 1
        envelope = Envelope(node, b"%d" % number, type, batch.now, untracked=False)
        self.fresh.append(envelope)
        if account.direct:
            write = DirectWrite(envelope, [to or username], 0, type, data, transient, "", id)
            self._bring_directly(envelope, account, write)
            return True
        slot = self.reports.await_result(envelope)
        number = batch.new_number()
        delivery = Delivery(envelope, slot, to, username, id, type, data, transient, batch.now, number)
        self.deliveries.hand_to_all(takers, delivery)
        self.reports.step_done(envelope)
        return True

    def _bring_directly(self, envelope: Envelope, account: AccountPresence, write: DirectWrite) -> None:
        """Writes a message to an account that is written to directly; the node is told when the batch is written."""
        batch = self.batch
        frame = frames.received(frames.received_head(write.type), write.data)
        for session in account.sessions:
            batch.write(session, frame)
        batch.counters.deliveries += 1
        to = write.names[0]
        same = to == account.username
        envelope.results = [account.delivered if same else frames.result(to, "delivered")]
        self.deliveries.direct_writes.append(write)
        batch.awaits_write = True

    # -- time ----------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Fails requests that another node does not finish carrying out; called a few times a second."""
        now = self.batch.now
        for handler in self.dispatcher.handlers:
            if isinstance(handler, RemoteHandler) and handler.carrying:
                for id, request in list(handler.carrying.items()):
                    if now - request.since >= CARRY_S:
                        del handler.carrying[id]
                        request.envelope.awaiting -= 1
                        error = HandlerTimeout("nobody knows what became of the handler's answer")
                        self.dispatcher.fail(request, error)
