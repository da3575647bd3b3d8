"""What sessions were given and did not acknowledge yet (docs/protocol.md, section 4).

A session *has* what it acknowledged; without ``ack``, what its socket took. Until then a message stands in the
session's window, which is bounded.
"""

from __future__ import annotations

from msgspec import Raw

from bester.core.batch import Batch
from bester.core.effects import RemoveLetter
from bester.core.model import Delivery, Envelope
from bester.core.reports import Reports
from bester.core.session import Session
from bester.errors import BesterError
from bester.protocol import frames

WINDOW_MESSAGES = 1024
WINDOW_BYTES = 1024 * 1024
"""What a session may be given without having it; at least one message of any size."""
_OVERHEAD = 256
"""What a delivery takes beside its data in bytes, about."""


class UnackedWindow:
    """Gives messages to sessions, and knows what each of them does not have yet."""

    __slots__ = ("batch", "in_sockets", "owing", "reports")

    def __init__(self, batch: Batch, reports: Reports) -> None:
        self.batch = batch
        self.reports = reports
        self.in_sockets: list[Session] = []
        """Sessions without ``ack`` that have all they were given when their socket has taken this batch."""
        self.owing: dict[Session, None] = {}
        """Sessions that do not have all that they were given."""

    def new_delivery(
        self,
        envelope: Envelope,
        slot: int,
        to: str,
        username: str,
        type: str,
        data: Raw,
        transient: bool,
        place: str,
    ) -> Delivery:
        """Returns a message on its way to an account, whose result has its place already."""
        batch = self.batch
        number = batch.new_number()
        id = f"{batch.boot}-{number:x}" if envelope.once is None else envelope.once.delivery_id(place, username)
        return Delivery(envelope, slot, to, username, id, type, data, transient, batch.now, number)

    def has_room(self, session: Session) -> bool:
        """Whether a session may be given more."""
        unacked = session.unacked
        return not unacked or (len(unacked) < WINDOW_MESSAGES and session.unacked_bytes < WINDOW_BYTES)

    # -- given ---------------------------------------------------------------------------------------------------

    def give(self, session: Session, delivery: Delivery, reply_to: str | None = None) -> None:
        """Writes a message to a session, which does not have it yet; ``reply_to`` says what a reply answers."""
        head = frames.received_head(delivery.type)
        if session.acknowledges:
            self.batch.write(session, frames.received_once(head, delivery.data, delivery.id, reply_to))
        else:
            self.batch.write(session, frames.received(head, delivery.data))
        delivery.since = self.batch.now
        self.record_given(session, delivery)

    def record_given(self, session: Session, delivery: Delivery) -> None:
        """Puts a message into the window of the session that was given it."""
        earlier = session.unacked.pop(delivery.id, None)
        if earlier is not None:  # a repeat of a ``once`` message, some of which failed
            session.unacked_bytes -= size_of(earlier)
        session.unacked[delivery.id] = delivery
        session.unacked_bytes += size_of(delivery)
        self.owing[session] = None
        if session.acknowledges or session.blocked:
            self.wait_for_recipient(delivery)
        else:
            self.in_sockets.append(session)
            self.batch.unwritten = True

    def wait_for_recipient(self, delivery: Delivery) -> None:
        """Lets the report wait for the recipient alone, which holds up nothing behind the message."""
        envelope = delivery.envelope
        if envelope is not None and not delivery.awaits_ack and not delivery.settled:
            delivery.awaits_ack = True
            envelope.awaiting += 1
            if envelope.awaiting == envelope.pending:
                self.reports.release_slot(envelope)

    # -- taken out -----------------------------------------------------------------------------------------------

    def received_all(self, session: Session) -> None:
        """The session has all that it was given."""
        if session.reading_mail:
            session.received_meanwhile.update(session.unacked, session.late)
        received = [
            *session.unacked.values(),
            *(late.delivery for late in session.late.values() if late.delivery is not None),
        ]
        session.unacked.clear()
        session.unacked_bytes = 0
        session.late.clear()
        for delivery in received:
            self.received(delivery)

    def received(self, delivery: Delivery) -> None:
        """The account has the message."""
        delivery.received = True
        if delivery.in_mailbox:
            self.batch.effects.append(RemoveLetter(delivery.username, delivery.id))
        self.settle(delivery, "delivered")

    def settle(self, delivery: Delivery, status: str, error: BesterError | None = None) -> None:
        """A delivery has its result; the first one counts."""
        if delivery.settled:
            return
        delivery.settled = True
        envelope = delivery.envelope
        assert envelope is not None  # what no report waits for is settled from the beginning
        if status == "delivered":
            self.batch.counters.deliveries += 1
        if delivery.awaits_ack:
            envelope.awaiting -= 1
        self.reports.settled(envelope, delivery.slot, delivery.to, status, error)


def size_of(delivery: Delivery) -> int:
    """Returns what a delivery takes in memory, in bytes, about."""
    return len(delivery.data) + _OVERHEAD
