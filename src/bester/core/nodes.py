"""What other nodes of the same server ask for (docs/scale.md): a handler's answer, a message brought to an account.

Both are envelopes whose origin is a :class:`~bester.core.endpoint.NodePeer`. Their outcome is told to that node, which
reports to the sender.

A handler's answer is carried out here if it sends to clients alone, and all of them are here and nowhere else; else it
goes back, and the node that asked carries it out. What goes back must not be overtaken by a later message of its sender
that is carried out here: :class:`~bester.core.order.Order`.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Raw

from bester.core.again import ACK_S
from bester.core.delivery import Written
from bester.core.endpoint import NodePeer
from bester.core.execution import Execution
from bester.core.limits import Limits
from bester.core.metrics import Drop, TypeMetrics
from bester.core.model import Delivery, Envelope, Relayed
from bester.core.presence import AccountPresence
from bester.core.routing import RemoteHandler, Request, TypeRoute
from bester.core.session import Phase
from bester.core.trail import Trail
from bester.errors import BesterError, HandlerTimeout, HandlerUnavailable
from bester.protocol import frames
from bester.protocol.messages import Command, HandlerMessage

CARRY_S = ACK_S + 10.0
"""How long another node may take to say what became of an answer that it carries out."""
LEFT_S = 600.0
"""How long it is remembered that something went back: nothing that was asked before is under way any more then."""
_UNCOUNTED = TypeMetrics()
"""Of what other nodes ask for, which they count."""


class ForNodes(Execution):
    """Does here what other nodes need, and takes what they did."""

    def __init__(self, server_name: str, limits: Limits, boot: str) -> None:
        super().__init__(server_name, limits, boot)
        self.for_nodes: list[Envelope] = []
        """What other nodes asked for in this batch; they are told of what is not finished with it."""

    # -- what handlers here are asked ----------------------------------------------------------------------------

    def ask_here(
        self,
        node: NodePeer,
        number: int,
        type: str,
        head: bytes,
        data: Raw,
        *,
        dry: bool = False,
        order: int = 0,
        epoch: int = 0,
    ) -> None:
        """Another node asks a handler of this one; ends in a ``TellNode`` with the answer, or why there is none.

        Args:
            node: who asks.
            number: what it knows the request by.
            type: whose handler.
            head: the request's frame between its id and its data.
            data: the message's.
            dry: whether it is a dry run.
            order, epoch: of its sender, where the answer may be carried out here.
        """
        self.counters.for_nodes += 1
        node.in_flight += 1
        envelope = Relayed(
            node,
            "",
            type,
            self.now,
            _UNCOUNTED,
            plain=False,
            trace="relayed",
            number=number,
            head=head,
            order=order,
            epoch=epoch,
        )
        if dry:
            envelope.trail = Trail(dry=True)
        handlers = self.types.get(type)
        if handlers is None or not (handlers.attached or handlers.classic):
            envelope.error = HandlerUnavailable("the node no longer serves this type")
            self.step_done(envelope)
        else:
            self.hand_on(Request(envelope, handlers, data, 0, self.now, len(data) + len(head)))

    def answered_for_node(
        self, envelope: Relayed, handlers: TypeRoute, commands: list[Command], message: HandlerMessage
    ) -> None:
        """A handler has answered another node's request: carries the answer out, or lets it go back."""
        if not envelope.order:
            envelope.answer = message
        elif self._may_carry_out(envelope, commands):
            envelope.carried = True
            self.for_nodes.append(envelope)
            for command in commands:
                self.execute(envelope, handlers, 0, command, message, "")
        else:
            envelope.answer = message
            self._leave(envelope)

    def _may_carry_out(self, envelope: Relayed, commands: list[Command]) -> bool:
        node = envelope.origin
        assert isinstance(node, NodePeer)
        if node.left and node.left.get(envelope.order, (0,))[0] >= envelope.epoch:
            return False
        for command in commands:
            if command.type == "done":
                continue
            if command.type != "sendClients" or len(command.data) > self.limits.max_recipients:  # type: ignore[arg-type]
                return False
            for name in command.data:  # type: ignore[union-attr]
                attendance = self.presence.find(name)
                if attendance is None or attendance.shared:
                    return False
        return True

    def _leave(self, envelope: Relayed) -> None:
        """Lets what was asked for the same sender, before that node knows of this, go back too."""
        node = envelope.origin
        assert isinstance(node, NodePeer)
        left = node.left
        epoch = max(envelope.epoch, left.pop(envelope.order, (0,))[0])
        left[envelope.order] = (epoch, self.now)
        while self.now - left[oldest := next(iter(left))][1] >= LEFT_S:
            del left[oldest]

    # -- what handlers elsewhere were asked ----------------------------------------------------------------------

    def left_here(self, request: Request) -> None:
        """A handler of another node has answered, and its answer is carried out here."""
        if request.epoch:
            order = request.envelope.origin.order
            assert order is not None
            if request.epoch == order.epoch:
                order.begin()
            self.leave_here(request.envelope, order)
            self.answered_in_order(request)

    def answered_in_order(self, request: Request) -> None:
        """Nothing is left of a request any more, as far as its sender's order is concerned."""
        order = request.envelope.origin.order
        assert order is not None
        order.answered(request.epoch)
        request.epoch = 0

    def answered_remotely(self, handler: RemoteHandler, id: str) -> None:
        """A handler of another node has answered, and that node carries the answer out: :meth:`carried_out` follows."""
        request = handler.outstanding.pop(id, None)
        if request is None:
            self.counters.drops.count(Drop.ANSWER_LATE)
            return
        self._took(request)
        request.since = self.now
        handler.carrying[id] = request
        envelope = request.envelope
        envelope.awaiting += 1
        if envelope.awaiting == envelope.pending:
            self.only_waits(envelope)
        self._pump_all(handler)

    def carried_out(self, handler: RemoteHandler, id: str, results: bytes, error: BesterError | None) -> None:
        """Another node has carried out what its handler answered.

        Args:
            handler: stands for that node.
            id: of the request.
            results: entries of a report, with commas between them.
            error: the first thing that went wrong.
        """
        request = handler.outstanding.pop(id, None)
        if request is not None:
            self._took(request)
        else:
            request = handler.carrying.pop(id, None)
            if request is None:
                self.counters.drops.count(Drop.ANSWER_LATE)
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
            self.note(envelope, error)
        self.step_done(envelope)
        self._pump_all(handler)

    def _took(self, request: Request) -> None:
        if request.epoch:
            self.answered_in_order(request)
        handlers = request.handlers
        handlers.progress = self.now
        handlers.metrics.took(self.now - request.since)

    def _pump_all(self, handler: RemoteHandler) -> None:
        for handlers in handler.types:
            if handlers.ready:
                self.pump(handlers)

    def sweep(self) -> None:
        super().sweep()
        for handler in list(self.handlers):
            if isinstance(handler, RemoteHandler) and handler.carrying:
                for id, request in list(handler.carrying.items()):
                    if self.now - request.since >= CARRY_S:
                        del handler.carrying[id]
                        request.envelope.awaiting -= 1
                        self.fail(request, HandlerTimeout("nobody knows what became of the handler's answer"))

    # -- messages for accounts here ------------------------------------------------------------------------------

    def bring_here(
        self,
        node: NodePeer,
        number: int,
        username: str,
        id: str,
        type: str,
        data: Raw,
        *,
        to: str = "",
        transient: bool = False,
        copy: bool = False,
    ) -> bool:
        """Another node has a message for an account; ends in a ``TellNode``, unless it is a copy.

        Args:
            node: who brings it.
            number: what it knows it by.
            username, id, type, data: the account, the ``deliveryId``, and what is delivered.
            to: the recipient, as the handler wrote it.
            transient: whether it is never kept.
            copy: whether nobody waits for the outcome.

        Returns:
            whether the account has a session here that takes it; if not, nothing was done.
        """
        attendance = self.presence.find(username)
        takers = attendance.takers(type) if attendance is not None else []
        if attendance is None or not takers:
            return False
        username = attendance.username
        if copy:
            delivery = Delivery(None, 0, to, username, id, type, data, transient, self.now, settled=True)
        else:
            self.counters.for_nodes += 1
            node.in_flight += 1
            envelope = Envelope(node, str(number), type, self.now, _UNCOUNTED, plain=False)
            self.for_nodes.append(envelope)
            if attendance.plain:
                self._bring_plainly(
                    envelope, attendance, Written(envelope, [to or username], 0, type, data, transient, "", id)
                )
                return True
            slot = self.await_result(envelope)
            number = self.new_number()
            delivery = Delivery(envelope, slot, to, username, id, type, data, transient, self.now, number)
        self.hand_to_all(takers, delivery)
        if delivery.envelope is not None:
            self.step_done(delivery.envelope)
        return True

    def _bring_plainly(self, envelope: Envelope, attendance: AccountPresence, written: Written) -> None:
        """Writes it to a plain account's sessions; it is reported when the batch is written."""
        frame = frames.received(frames.received_head(written.type), written.data)
        for session in attendance.sessions:
            self.write(session, frame)
        self.counters.deliveries += 1
        to = written.names[0]
        same = to == attendance.username
        envelope.results = [attendance.delivered if same else frames.result(to, "delivered")]
        self.writing.append(written)

    def share(self, username: str, shared: bool) -> None:
        """An account with a session here has sessions on other nodes too, or no longer."""
        attendance = self.presence.find(username)
        if attendance is not None:
            attendance.shared = shared
            attendance.refresh()

    def mail_came(self, username: str, types: Sequence[str] = ()) -> None:
        """There may be mail of an account, of these types or any, that none of its sessions here knows of."""
        for session in self.presence.sessions(username):
            if types and session.takes is not None and session.takes.isdisjoint(types):
                continue
            if session.phase is Phase.LIVE:
                self.queue_to_mailbox(session)
            elif session.reading_mail:
                session.more_mail = True
