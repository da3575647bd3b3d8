"""Gives messages to sessions, and knows what each of them does not have yet (docs/protocol.md, section 4).

A session *has* what it acknowledged; without ``ack``, what its socket took.
"""

from __future__ import annotations

from msgspec import Raw

from bester.core.effects import RemoveLetter
from bester.core.limits import Limits
from bester.core.model import Delivery, Envelope
from bester.core.outcomes import Outcomes
from bester.core.presence import Presence
from bester.core.session import Session
from bester.errors import BesterError
from bester.protocol import frames

GIVEN_MESSAGES = 1024
GIVEN_BYTES = 1024 * 1024
"""What a session may be given without having it; at least one message of any size."""
_OVERHEAD = 256
"""What a delivery takes beside its data in bytes, about."""


class Giving(Outcomes):
    """Who is connected, and what they were given."""

    def __init__(self, server_name: str, limits: Limits, boot: str) -> None:
        super().__init__(server_name, limits, boot)
        self.presence = Presence()
        self.plain_given: list[Session] = []
        """Sessions without ``ack`` whose ``given`` is settled when the socket has taken it."""
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
        """Returns a message on its way to an account, whose outcome has its place already."""
        number = self.new_number()
        id = f"{self.boot}-{number:x}" if envelope.once is None else envelope.once.delivery_id(place, username)
        return Delivery(envelope, slot, to, username, id, type, data, transient, self.now, number)

    def has_room(self, session: Session) -> bool:
        """Whether a session may be given more."""
        given = session.given
        return not given or (len(given) < GIVEN_MESSAGES and session.given_bytes < GIVEN_BYTES)

    def give(self, session: Session, delivery: Delivery, reply_to: str | None = None) -> None:
        """Writes a message to a session, which does not have it yet; ``reply_to`` says what a reply answers."""
        head = frames.received_head(delivery.type)
        if session.acknowledges:
            self.write(session, frames.received_once(head, delivery.data, delivery.id, reply_to))
        else:
            self.write(session, frames.received(head, delivery.data))
        delivery.since = self.now
        self.record_given(session, delivery)

    def record_given(self, session: Session, delivery: Delivery) -> None:
        """A session was given this."""
        earlier = session.given.pop(delivery.id, None)
        if earlier is not None:  # a repeat of a ``once`` message, some of which failed
            session.given_bytes -= size_of(earlier)
        session.given[delivery.id] = delivery
        session.given_bytes += size_of(delivery)
        self.owing[session] = None
        if session.acknowledges or session.blocked:
            self.wait_for_recipient(delivery)
        else:
            self.plain_given.append(session)

    def wait_for_recipient(self, delivery: Delivery) -> None:
        """The report waits for nothing but who receives it, and that holds up nothing behind the message."""
        envelope = delivery.envelope
        if envelope is not None and not delivery.awaits_ack and not delivery.settled:
            delivery.awaits_ack = True
            envelope.awaiting += 1
            if envelope.awaiting == envelope.pending:
                self.only_waits(envelope)

    def session_has_all(self, session: Session) -> None:
        """A session has all that it was given."""
        if session.reading_mail:
            session.had.update(session.given, session.late)
        had = [*session.given.values(), *(late.delivery for late in session.late.values() if late.delivery is not None)]
        session.given.clear()
        session.given_bytes = 0
        session.late.clear()
        for delivery in had:
            self.account_has(delivery)

    def account_has(self, delivery: Delivery) -> None:
        """The account has it."""
        delivery.done = True
        if delivery.kept:
            self.effects.append(RemoveLetter(delivery.username, delivery.id))
        self.settle(delivery, "delivered")

    def settle(self, delivery: Delivery, status: str, error: BesterError | None = None) -> None:
        """A delivery has its result; the first one counts."""
        envelope = delivery.envelope
        if delivery.settled:
            return
        delivery.settled = True
        if envelope is None:
            return
        if status == "delivered":
            self.counters.deliveries += 1
        if delivery.awaits_ack:
            envelope.awaiting -= 1
        self.settled(envelope, delivery.slot, delivery.to, status, error)

    def refresh(self, session: Session) -> None:
        """A session changed: its account may be plain, or no longer."""
        attendance = self.presence.find(session.username)
        if attendance is not None:
            attendance.refresh()


def size_of(delivery: Delivery) -> int:
    """Returns what a delivery takes in memory, in bytes, about."""
    return len(delivery.data) + _OVERHEAD
