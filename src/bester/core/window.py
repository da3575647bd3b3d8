"""The windows of sessions: messages that they were given and have not acknowledged yet (docs/protocol.md, section 4).

A session *has* a message when it has acknowledged it; without ``ack``, when its socket has taken it. Until then the
message is in the session's window, which is bounded.
"""

from __future__ import annotations

from bester.core.batch import Batch
from bester.core.effects import RemoveLetter
from bester.core.model import Delivery, Envelope
from bester.core.reports import Reports
from bester.core.session import Session
from bester.errors import BesterError
from bester.protocol import frames
from bester.protocol.messages import Data

WINDOW_MESSAGES = 1024
WINDOW_BYTES = 1024 * 1024
"""The bounds of a window, which holds at least one message of any size."""
_OVERHEAD = 256
"""About how many bytes a delivery takes beside its data."""


class UnackedWindow:
    """Gives messages to sessions, and keeps their windows."""

    __slots__ = ("batch", "in_sockets", "owing", "reports")

    def __init__(self, batch: Batch, reports: Reports) -> None:
        self.batch = batch
        self.reports = reports
        self.in_sockets: list[Session] = []
        """Sessions without ``ack`` that have all their messages as soon as their socket has taken this batch."""
        self.owing: dict[Session, None] = {}
        """Sessions that do not have all their messages."""

    def new_delivery(
        self,
        envelope: Envelope,
        slot: int,
        to: str,
        username: str,
        type: str,
        data: Data,
        transient: bool,
        place: str,
    ) -> Delivery:
        """Returns a new delivery, whose result has its place already."""
        batch = self.batch
        number = batch.new_number()
        id = f"{batch.boot}-{number:x}" if envelope.once is None else envelope.once.delivery_id(place, username)
        return Delivery(envelope, slot, to, username, id, type, data, transient, batch.now, number)

    def has_room(self, session: Session) -> bool:
        """Whether a session's window has room."""
        unacked = session.unacked
        return not unacked or (len(unacked) < WINDOW_MESSAGES and session.unacked_bytes < WINDOW_BYTES)

    # -- into windows --------------------------------------------------------------------------------------------

    def give(self, session: Session, delivery: Delivery, reply_to: bytes | None = None) -> None:
        """Writes a message to a session; ``reply_to`` is the id of the message that a reply answers, as JSON."""
        head = frames.received_head(delivery.type)
        if session.acknowledges:
            self.batch.write(session, frames.received_once(head, delivery.data, delivery.id, reply_to))
        else:
            self.batch.write(session, frames.received(head, delivery.data))
        delivery.since = self.batch.now
        self.record_given(session, delivery)

    def record_given(self, session: Session, delivery: Delivery) -> None:
        """Puts a message into a session's window."""
        earlier = session.unacked.pop(delivery.id, None)
        if earlier is not None:  # a ``once`` message that failed in part was repeated, or another node brought it, too
            session.unacked_bytes -= size_of(earlier)
            if not earlier.settled and earlier is not delivery:
                several = (*(delivery.earlier or ()), *(earlier.earlier or ()), earlier)
                # One level, however many there are, and never itself: nothing collects a circle of these.
                delivery.earlier = tuple(one for one in dict.fromkeys(several) if one is not delivery)
                earlier.earlier = None
        session.unacked[delivery.id] = delivery
        session.unacked_bytes += size_of(delivery)
        self.owing[session] = None
        if session.acknowledges or session.blocked:
            self.wait_for_recipient(delivery)
        else:
            self.in_sockets.append(session)
            self.batch.awaits_write = True

    def wait_for_recipient(self, delivery: Delivery) -> None:
        """Lets the report wait for its recipient alone, which delays no later message of the sender."""
        envelope = delivery.envelope
        if envelope is not None and not delivery.awaits_ack and not delivery.settled:
            delivery.awaits_ack = True
            envelope.awaiting += 1
            if envelope.awaiting == envelope.pending:
                self.reports.release_slot(envelope)

    # -- out of windows ------------------------------------------------------------------------------------------

    def received_all(self, session: Session) -> None:
        """A session has all its messages."""
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
        """An account has a message."""
        delivery.received = True
        if delivery.in_mailbox:
            self.batch.effects.append(RemoveLetter(delivery.username, delivery.id))
        self.settle(delivery, "delivered")

    def settle(self, delivery: Delivery, status: str, error: BesterError | None = None) -> None:
        """Settles a delivery's result; only the first one counts."""
        if delivery.earlier is not None:
            self._settle_earlier(delivery, delivery.earlier, status, error)
        if delivery.settled:
            return
        delivery.settled = True
        envelope = delivery.envelope
        assert envelope is not None  # a delivery without an envelope is settled from the beginning
        if status == "delivered":
            self.batch.counters.deliveries += 1
        if delivery.awaits_ack:
            envelope.awaiting -= 1
        self.reports.settled(envelope, delivery.slot, delivery.to, status, error)

    def _settle_earlier(
        self, delivery: Delivery, earlier: tuple[Delivery, ...], status: str, error: BesterError | None
    ) -> None:
        delivery.earlier = None
        for one in earlier:
            if delivery.received:
                self.received(one)
            else:
                self.settle(one, status, error)


def size_of(delivery: Delivery) -> int:
    """Returns about how many bytes a delivery takes in memory."""
    return len(delivery.data) + _OVERHEAD
