"""Redelivers messages that sessions leave unacknowledged, and gives them up at last (docs/protocol.md, section 4.3).

A message that a session read and did not acknowledge within :data:`ACK_S` makes room for those behind it: it is *late*,
and waits in the mailbox until it is given again, after a pause that doubles each time. So a message that a session
leaves does not keep others from it.

A message that is never acknowledged becomes a dead letter after :data:`TRIES` tries. A try counts only against a
message that the session *passed over* for newer ones, or that it is *stuck* at, as the first that it leaves. A message
that waits in a slow client behind another one has had no try.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from bester.core.batch import Batch
from bester.core.effects import Bury, RemoveLetter
from bester.core.metrics import Drop
from bester.core.model import Delivery
from bester.core.presence import Presence
from bester.core.replay import MailboxReplay
from bester.core.session import Phase, Session
from bester.core.window import UnackedWindow, size_of

ACK_S = 30.0
"""How long a session may leave a message unacknowledged; this is also the first pause."""
PAUSE_S = 3600.0
"""The longest pause between the times that a message is given."""
TRIES = 12
"""After how many tries a message is given up; they take some five hours."""
LOOK_S = 5.0
"""The least time between two searches of a mailbox, from its beginning, for messages that are due."""
MAX_UNACKNOWLEDGED = 100_000
"""How many unacknowledged messages are remembered; the oldest make room."""


class Unacknowledged(Struct, gc=False, eq=False):
    """A message that was given to a session and not acknowledged in time."""

    first: float
    """When it was given for the first time, which tells its place among the other messages."""
    given: int = 0
    """How often it was given; to several sessions at a time counts once."""
    tries: int = 0
    """How many of these times were tries."""
    counted: float = 0.0
    """When the last of these times was counted."""
    tried: bool = False
    """Whether the last of these times was a try."""


class Look(Struct, gc=False, eq=False):
    """The next search of a session's mailbox."""

    due: float
    """When the next message is to be given again."""
    after: float = 0.0
    """The search does not begin before this time."""


class Redelivery:
    """Counts how often messages were given, and gives them again."""

    __slots__ = ("batch", "late", "presence", "replay", "unacknowledged", "window")

    def __init__(self, batch: Batch, presence: Presence, window: UnackedWindow, replay: MailboxReplay) -> None:
        self.batch = batch
        self.presence = presence
        self.window = window
        self.replay = replay
        self.unacknowledged: dict[str, Unacknowledged] = {}
        """By delivery id. Outlives the sessions, so that a client cannot begin anew by connecting again."""
        self.late: dict[Session, Look] = {}
        """Sessions with messages that are to be given again."""

    def acknowledged(self, session: Session, ids: Sequence[str]) -> None:
        """A session has acknowledged these delivery ids; unknown ones are ignored."""
        unacknowledged = self.unacknowledged
        if session.reading_mail:
            session.received_meanwhile.update(id for id in ids if id in session.unacked or id in session.late)
        for id in ids:
            delivery = session.unacked.pop(id, None)
            if delivery is not None:
                session.unacked_bytes -= size_of(delivery)
                if delivery.since > session.passed:
                    known = unacknowledged.get(id)
                    session.passed = delivery.since if known is None else max(known.first, session.passed)
                self.window.received(delivery)
            elif (late := session.late.pop(id, None)) is not None:
                if late.delivery is not None:
                    self.window.received(late.delivery)
                else:
                    self.batch.effects.append(RemoveLetter(session.username, id))
            if unacknowledged:
                unacknowledged.pop(id, None)
                if session.stuck == id:
                    session.stuck = ""

    def let_pass(self, session: Session) -> None:
        """Takes back messages that were not acknowledged in time, to make room for those behind them."""
        now = self.batch.now
        overdue = []
        for delivery in session.unacked.values():
            if now - delivery.since < ACK_S:
                break
            overdue.append(delivery)
        for delivery in overdue:
            self._not_acknowledged(session, delivery)
            del session.unacked[delivery.id]  # only now, so that the mailbox has it before later messages
            session.unacked_bytes -= size_of(delivery)

    def _not_acknowledged(self, session: Session, delivery: Delivery) -> None:
        if delivery.transient:
            self.replay.deposit_again(delivery)
            return
        known = self._count(session, delivery)
        if known.tries >= TRIES:
            self._give_up(delivery, known.given)
            return
        due = delivery.since + pause_s(known.given)
        self.replay.let_wait(session, self.replay.deposit_again(delivery), due)
        look = self.late.get(session)
        if look is None:
            self.late[session] = Look(due)
        else:
            look.due = min(look.due, due)

    def _count(self, session: Session, delivery: Delivery) -> Unacknowledged:
        """Counts that a message was given, and that this was a try if it was."""
        id = delivery.id
        known = self.unacknowledged.get(id)
        if known is None:
            if len(self.unacknowledged) >= MAX_UNACKNOWLEDGED:
                del self.unacknowledged[next(iter(self.unacknowledged))]
            known = self.unacknowledged[id] = Unacknowledged(delivery.since)
        if not session.stuck or (session.stuck not in session.late and session.stuck not in session.unacked):
            session.stuck = id
        if delivery.since >= known.counted:  # else another session was given it at the same time, which was counted
            known.given += 1
            known.counted = self.batch.now
            known.tried = False
        if not known.tried and (session.stuck == id or known.first < session.passed):
            known.tries += 1
            known.tried = True
        return known

    def _give_up(self, delivery: Delivery, given: int) -> None:
        """Makes a dead letter of a message that is never acknowledged."""
        id = delivery.id
        del self.unacknowledged[id]
        self.batch.counters.drops.count(Drop.LETTER_UNACKNOWLEDGED)
        self.batch.effects.append(Bury(delivery, given))
        for reading in self.presence.all_sessions(delivery.username):
            if reading.reading_mail:
                reading.received_meanwhile.add(id)  # the page that is being read may still hold it

    # -- time ----------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Gives messages again that are due; called a few times a second."""
        now = self.batch.now
        for session, look in list(self.late.items()):
            if session.closed or not session.late:
                del self.late[session]
                continue
            for late in session.late.values():
                if late.delivery is not None and late.delivery.stored:
                    late.delivery = None
            if now >= look.due and now >= look.after and not session.blocked and session.phase is not Phase.STALLED:
                look.after = now + LOOK_S
                look.due = self._look_again(session)

    def _look_again(self, session: Session) -> float:
        """Searches the mailbox from its beginning for messages that are due; returns when the next one will be."""
        next_due = float("inf")
        for late in session.late.values():
            if late.due <= self.batch.now:
                late.due = 0.0
            else:
                next_due = min(next_due, late.due)
        if session.phase is Phase.LIVE:
            self.replay.catch_up(session)
        else:
            session.position = 0
            if self.replay.has_room(session):
                self.replay.read(session)
        return next_due


def pause_s(given: int) -> float:
    """Returns the pause after which a message that was given this often is given again."""
    return min(PAUSE_S, ACK_S * 2.0 ** min(given - 1, 30))
