"""What other nodes of the same server ask for (docs/scale.md): a handler's answer, a message brought to an account.

Both are envelopes whose origin is a :class:`~bester.core.endpoints.NodePeer`. Their outcome is told to that node, which
executes the answer, and reports to the sender.
"""

from __future__ import annotations

from msgspec import Raw

from bester.core.delivery import Delivering, Written
from bester.core.endpoints import NodePeer, Phase
from bester.core.presence import Attendance
from bester.core.route import Trail
from bester.core.work import Delivery, Envelope, Relayed, Request
from bester.errors import HandlerUnavailable
from bester.protocol import frames


class ForNodes(Delivering):
    """Does here what other nodes need."""

    def ask_here(self, node: NodePeer, number: int, type: str, head: bytes, data: Raw, *, dry: bool = False) -> None:
        """Another node asks a handler of this one; ends in a ``TellNode`` with the answer, or why there is none.

        Args:
            node: who asks.
            number: what it knows the request by.
            type: whose handler.
            head: the request's frame between its id and its data.
            data: the message's.
            dry: whether it is a dry run.
        """
        self.counters.for_nodes += 1
        node.in_flight += 1
        envelope = Relayed(node, "", type, self.now, plain=False, trace="relayed", number=number, head=head)
        if dry:
            envelope.trail = Trail(dry=True)
        handlers = self.types.get(type)
        if handlers is None or not (handlers.attached or handlers.classic):
            envelope.error = HandlerUnavailable("the node no longer serves this type")
            self.step_done(envelope)
        else:
            self.hand_on(Request(envelope, handlers, data, 0, self.now, len(data) + len(head)))

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
            whether the account has a session here; if not, nothing was done.
        """
        attendance = self.presence.find(username)
        if attendance is None:
            return False
        username = attendance.username
        if copy:
            delivery = Delivery(None, 0, to, username, id, type, data, transient, self.now, settled=True)
        else:
            self.counters.for_nodes += 1
            node.in_flight += 1
            envelope = Envelope(node, str(number), type, self.now, plain=False)
            if attendance.plain:
                self._bring_plainly(
                    envelope, attendance, Written(envelope, [to or username], 0, type, data, transient, "", id)
                )
                return True
            slot = self.await_result(envelope)
            delivery = Delivery(envelope, slot, to, username, id, type, data, transient, self.now)
        self.hand_to_all(attendance.sessions, delivery)
        if delivery.envelope is not None:
            self.step_done(delivery.envelope)
        return True

    def _bring_plainly(self, envelope: Envelope, attendance: Attendance, written: Written) -> None:
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

    def mail_came(self, username: str) -> None:
        """There may be something in an account's mailbox that none of its sessions here knows of."""
        for session in self.presence.sessions(username):
            if session.phase is Phase.LIVE:
                self.queue_to_mailbox(session)
            elif session.reading_mail:
                session.more_mail = True
