"""Brings messages to accounts: to their sessions now, or to their mailboxes (docs/protocol.md, section 4).

A *plain* account is one whose sessions all take messages at once and acknowledge nothing: for it a frame is appended
to each session, and that is all. The frames are written at the end of the batch, and only then reported
(:meth:`Delivering.written`).

Everybody else has a :class:`~bester.core.work.Delivery` for each message. A session gets it

- at once, when it is live and its socket has room. It *has* it when it acknowledged it; without ``ack``, when the
  socket took it;
- from the session's short queue, when its socket is full or too much is not acknowledged;
- through the mailbox, behind what is there already, when that takes too long, the queue is full, or the session still
  reads its mailbox.

The first session that has it settles its result. What a session was given and does not have when it ends goes to the
mailbox.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec import Raw

from bester.core.dispatch import Dispatch
from bester.core.endpoints import Endpoint, Phase, Session
from bester.core.limits import Limits
from bester.core.presence import Attendance, Presence
from bester.core.work import CatchUp, CutOff, Delivery, Deposit, Envelope, PresenceChanged, Take
from bester.errors import BesterError, InvalidName
from bester.protocol import frames
from bester.protocol.names import username

ACK_S = 30.0
"""How long a session may leave something unacknowledged."""
SERVER_S = 1.0
"""How long another server's report waits for an acknowledgement: then the message is kept as well, because its link
carries only so many messages without a report."""
UNREAD_S = 2.0
"""How long a session without ``ack`` may leave its socket full before its messages go to the mailbox."""
CUT_OFF_S = 30.0
"""How long a session may leave its socket full after that, before it is cut off as a slow consumer."""
GIVEN_MESSAGES = 1024
GIVEN_BYTES = 1024 * 1024
"""What a session may be given without having it; at least one message of any size."""
QUEUE_MESSAGES = 4096
QUEUE_BYTES = 1024 * 1024
"""What waits in memory for a session's room, before it goes to the mailbox."""
_OVERHEAD = 256
"""What a delivery takes beside its data in bytes, about."""
_MAX_PAGE = 256


class Letter(NamedTuple):
    """A message from a mailbox, as the exchange takes it."""

    position: int
    id: str
    type: str
    data: bytes


class Written(NamedTuple):
    """Frames for plain accounts that are written at the end of the batch; their report follows."""

    envelope: Envelope
    names: list[str]
    """The recipients as the handler wrote them, also those that are no plain accounts."""
    first: int
    """Where their results begin."""
    type: str
    data: Raw
    transient: bool
    place: str

    def find(self, account: str) -> tuple[int, str] | None:
        """Returns an account's place in the results, and its name as the handler wrote it."""
        slot = self.first
        seen: set[str] = set()
        for name in self.names:
            try:
                canonical = username(name)
            except InvalidName:
                canonical = name
            if canonical == account:
                return slot, name
            if canonical not in seen:
                seen.add(canonical)
                slot += 1
        return None


class Delivering(Dispatch):
    """Who is connected, and what is on its way to accounts."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.presence = Presence()
        self.boot = "0"
        """What begins the ids that are made here: different each time that a server starts."""
        self._last_id = 0
        self._batch = 0
        self.writing: list[Written] = []
        """What is reported when the batch is written."""
        self.plain_given: list[Session] = []
        """Sessions without ``ack`` whose ``given`` is settled when the socket has taken it."""
        self._owing: dict[Session, None] = {}
        """Sessions that do not have all that they were given."""
        self._unread: dict[Session, float] = {}
        """Sessions that are stalled with a full socket, and since when."""
        self._mail_failed: dict[Session, None] = {}
        """Sessions whose mailbox could not be read just now."""
        self._depositing: dict[str, int] = {}
        """How many messages are on their way to a mailbox, by account."""

    def new_id(self) -> str:
        """Returns an id that no other message has, over restarts too."""
        self._last_id += 1
        return f"{self.boot}-{self._last_id:x}"

    def step_done(self, envelope: Envelope) -> None:
        """One of an envelope's steps is finished; the exchange says what that means."""
        raise AssertionError

    def only_waits(self, envelope: Envelope) -> None:
        """Nothing of an envelope is left to be done, but recipients do not have it yet."""
        raise AssertionError

    def note(self, envelope: Envelope, error: BesterError) -> None:
        """Something went wrong with an envelope."""
        if envelope.error is None:
            envelope.error = error

    # -- sessions ------------------------------------------------------------------------------------------------

    def add_session(self, session: Session, *, has_mail: bool = False) -> None:
        """A client has authenticated; ``has_mail`` says whether its mailbox may hold something."""
        if has_mail or session.username in self._depositing:
            session.phase = Phase.CATCHING_UP
        session.joined = self._batch
        session.joined_at = len(self.writing)
        if self.presence.add(session):
            self.effects.append(PresenceChanged(session.username, True))
        if session.phase is Phase.CATCHING_UP:
            self._read_mail(session)

    def remove_session(self, session: Session) -> None:
        """A client's session ended. What it sent goes on, its reports are dropped; what it does not have is kept."""
        session.closed = True
        if self.presence.remove(session):
            self.effects.append(PresenceChanged(session.username, False))
        if session.out and self.writing:
            self._not_written(session)
        self._take_back(session)
        self._unread.pop(session, None)

    def session_blocked(self, session: Session) -> None:
        """The session's socket does not take all that was written just now."""
        session.blocked = True
        if self.writing:
            self._not_written(session)
        for delivery in session.given.values():
            self._wait_for_recipient(delivery)
        self._refresh(session)

    def session_unblocked(self, session: Session) -> None:
        """The session's socket has taken everything."""
        session.blocked = False
        self._unread.pop(session, None)
        if session.closed:
            return
        if not session.acknowledges:
            self._has_all(session)
        self._go_on(session)

    def give_up_waiting(self) -> None:
        """The server stops: what sessions do not have goes to the mailboxes now, rather than when they end."""
        for session in list(self._owing):
            self._stall(session)

    # -- plain accounts ------------------------------------------------------------------------------------------

    def written(self) -> None:
        """All sockets were written to: what they took, their sessions have."""
        plain, self.plain_given = self.plain_given, []
        for session in plain:
            if not session.blocked and not session.closed:
                self._has_all(session)
                self._go_on(session)
        writing, self.writing = self.writing, []
        self._batch += 1
        for entry in writing:
            self.step_done(entry.envelope)

    def _not_written(self, session: Session) -> None:
        """A plain account's session may not get what it was given in this batch."""
        account = session.username
        others = [other for other in self.presence.sessions(account) if other is not session and not other.blocked]
        for number, entry in enumerate(self.writing):
            # One that came in this very batch may have come after the message.
            if any(other.joined != self._batch or other.joined_at <= number for other in others):
                continue
            found = entry.find(account)
            envelope = entry.envelope
            # Its sender's own session reads it before the report, on the same connection.
            if found is None or envelope.origin is session or not envelope.results or not envelope.results[found[0]]:
                continue
            slot, to = found
            envelope.results[slot] = b""
            envelope.pending += 1
            delivery = self._new_delivery(
                envelope, slot, to, account, entry.type, entry.data, entry.transient, entry.place
            )
            if session.closed:
                self._keep_again(delivery)
            else:
                self._record(session, delivery)

    # -- everybody else ------------------------------------------------------------------------------------------

    def deliver(
        self,
        envelope: Envelope,
        to: str,
        attendance: Attendance,
        type: str,
        data: Raw,
        transient: bool,
        place: str,
    ) -> None:
        """Brings a message to an account that is connected."""
        slot = self.await_result(envelope)
        delivery = self._new_delivery(envelope, slot, to, attendance.username, type, data, transient, place)
        keep = False
        for session in attendance.sessions:
            if not self._hand(session, delivery):
                keep = True
        if keep and transient:
            keep = not self._give_out_of_order(attendance, delivery)
        origin = envelope.origin
        if isinstance(origin, Session) and delivery.id in origin.given:
            # The sender's own session reads it before the report, on the same connection; and may ask for it only then.
            self._settle(delivery, "delivered")
        if keep:
            self._keep(delivery)

    def keep(
        self, envelope: Envelope, to: str, username: str, type: str, data: Raw, transient: bool, place: str
    ) -> None:
        """Brings a message to an account that is not connected: to its mailbox, if it exists."""
        slot = self.await_result(envelope)
        self._keep(self._new_delivery(envelope, slot, to, username, type, data, transient, place))

    def reply(self, session: Session, type: str, data: Raw) -> None:
        """Brings a handler's reply to a session with ``ack``: now, before the report, which does not wait for it."""
        delivery = Delivery(None, 0, session.username, session.username, self.new_id(), type, data, settled=True)
        self._give(session, delivery)

    def _new_delivery(
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
        id = self.new_id() if envelope.once is None else envelope.once.delivery_id(place, username)
        return Delivery(envelope, slot, to, username, id, type, data, transient, self.now)

    def _hand(self, session: Session, delivery: Delivery) -> bool:
        """Gives a delivery to a session now or soon; False if it must go through the mailbox."""
        if session.phase is not Phase.LIVE:
            return False
        if not session.blocked and not session.queue and self._has_room(session):
            self._give(session, delivery)
            return True
        size = _size(delivery)
        if len(session.queue) >= QUEUE_MESSAGES or session.queue_bytes + size > QUEUE_BYTES:
            self._queue_to_mailbox(session)
            return False
        delivery.since = self.now
        session.queue.append(delivery)
        session.queue_bytes += size
        self._owing[session] = None
        self._wait_for_recipient(delivery)
        return True

    def _give_out_of_order(self, attendance: Attendance, delivery: Delivery) -> bool:
        """Gives what is never kept to sessions that still read their mailbox; False if there are none."""
        ready = [one for one in attendance.sessions if one.phase is Phase.CATCHING_UP and not one.blocked]
        for session in ready:
            self._give(session, delivery)
        return bool(ready)

    def _has_room(self, session: Session) -> bool:
        given = session.given
        return not given or (len(given) < GIVEN_MESSAGES and session.given_bytes < GIVEN_BYTES)

    def _give(self, session: Session, delivery: Delivery) -> None:
        head = frames.received_head(delivery.type)
        if session.acknowledges:
            self.write(session, frames.received_once(head, delivery.data, delivery.id))
        else:
            self.write(session, frames.received(head, delivery.data))
        delivery.since = self.now
        self._record(session, delivery)

    def _record(self, session: Session, delivery: Delivery) -> None:
        session.given[delivery.id] = delivery
        session.given_bytes += _size(delivery)
        self._owing[session] = None
        if session.acknowledges or session.blocked:
            self._wait_for_recipient(delivery)
        else:
            self.plain_given.append(session)

    def _wait_for_recipient(self, delivery: Delivery) -> None:
        """The report waits for nothing but who receives it, and that holds up nothing behind the message."""
        envelope = delivery.envelope
        if envelope is not None and not delivery.awaits_ack and not delivery.settled:
            delivery.awaits_ack = True
            envelope.awaiting += 1
            if envelope.awaiting == envelope.pending:
                self.only_waits(envelope)

    # -- what sessions have --------------------------------------------------------------------------------------

    def acknowledged(self, session: Session, ids: Iterable[str]) -> None:
        """A session has what it was given under these ids; others are passed over."""
        for id in ids:
            delivery = session.given.pop(id, None)
            if delivery is not None:
                session.given_bytes -= _size(delivery)
                self._has(delivery)
            elif (late := session.late.pop(id, None)) is not None:
                self._has(late)
        self._go_on(session)

    def _has_all(self, session: Session) -> None:
        had = [*session.given.values(), *session.late.values()]
        session.given.clear()
        session.given_bytes = 0
        session.late.clear()
        for delivery in had:
            self._has(delivery)

    def _has(self, delivery: Delivery) -> None:
        """The account has it."""
        delivery.done = True
        if delivery.kept:
            self.effects.append(Take(delivery.username, delivery.id))
        self._settle(delivery, "delivered")

    def _settle(self, delivery: Delivery, status: str, error: BesterError | None = None) -> None:
        envelope = delivery.envelope
        if delivery.settled:
            return
        delivery.settled = True
        if envelope is None:
            return
        if status == "delivered":
            self.count_delivery()
        if delivery.awaits_ack:
            envelope.awaiting -= 1
        self.settled(envelope, delivery.slot, delivery.to, status, error)

    def _go_on(self, session: Session) -> None:
        """There may be room again: for the queue, then for the mailbox."""
        if session.closed or session.blocked:
            return
        while session.queue and self._has_room(session):
            delivery = session.queue.popleft()
            session.queue_bytes -= _size(delivery)
            self._give(session, delivery)
        if not session.given and not session.queue:
            self._owing.pop(session, None)
        if session.phase is Phase.STALLED:
            session.phase = Phase.CATCHING_UP
            session.position = 0
        if session.phase is Phase.CATCHING_UP and self._wants_mail(session):
            self._read_mail(session)
        if not session.acknowledges:
            self._refresh(session)

    def _refresh(self, session: Session) -> None:
        attendance = self.presence.find(session.username)
        if attendance is not None:
            attendance.refresh()

    def _take_back(self, session: Session) -> None:
        """What a session was given and does not have goes to the mailbox, with what waits for its room."""
        session.late = {}  # what it has still not acknowledged of earlier times, it finds in the mailbox
        given, session.given = session.given, {}
        session.given_bytes = 0
        queue, session.queue = session.queue, deque()
        session.queue_bytes = 0
        for delivery in given.values():
            if session.acknowledges or not delivery.settled:
                session.late[delivery.id] = self._keep_again(delivery)
        for delivery in queue:
            self._keep_again(delivery)
        self._owing.pop(session, None)

    # -- the mailbox ---------------------------------------------------------------------------------------------

    def _keep(self, delivery: Delivery) -> None:
        if delivery.kept:
            return
        delivery.kept = True
        username = delivery.username
        self._depositing[username] = self._depositing.get(username, 0) + 1
        self.effects.append(Deposit(delivery))

    def _keep_again(self, delivery: Delivery) -> Delivery:
        """Keeps what one session does not have, though another one may."""
        if delivery.done:
            username, id = delivery.username, delivery.id
            delivery = Delivery(None, 0, username, username, id, delivery.type, delivery.data, settled=True)
        self._keep(delivery)
        if not delivery.settled and not delivery.transient:
            self._send_others_to_mailbox(delivery)
        return delivery

    def deposited(self, delivery: Delivery, status: str, error: BesterError | None = None) -> None:
        """A Deposit has its outcome: ``stored``, ``skipped`` or ``failed``."""
        username = delivery.username
        if status == "stored":
            if delivery.done:
                self.effects.append(Take(username, delivery.id))
        else:
            delivery.kept = False
            if delivery.envelope is None and error is not None:
                self.count_dropped(error)  # nobody waits for a report that could say it
        self._settle(delivery, status, error)
        self._depositing[username] -= 1
        if not self._depositing[username]:
            del self._depositing[username]
            for session in self.presence.sessions(username):
                if session.phase is Phase.CATCHING_UP:
                    self._read_mail(session)

    def _wants_mail(self, session: Session) -> bool:
        return len(session.given) <= GIVEN_MESSAGES // 2 and session.given_bytes <= GIVEN_BYTES // 2

    def _send_others_to_mailbox(self, delivery: Delivery) -> None:
        """No session has it, and it goes to the mailbox: those that came later find it there, before newer ones."""
        for session in self.presence.sessions(delivery.username):
            if (
                session.phase is Phase.LIVE
                and delivery.id not in session.given
                and not any(waiting is delivery for waiting in session.queue)
            ):
                self._queue_to_mailbox(session)

    def _read_mail(self, session: Session) -> None:
        if session.reading_mail or session.closed or session.blocked:
            return
        session.reading_mail = True
        session.read_from = session.position
        self.effects.append(CatchUp(session, session.position, _MAX_PAGE, GIVEN_BYTES))

    def mail(self, session: Session, letters: Sequence[Letter]) -> None:
        """What a CatchUp found: letters behind the position, or none, if there are no more."""
        session.reading_mail = False
        if session.closed or session.phase is not Phase.CATCHING_UP:
            return
        if session.position != session.read_from:
            self._read_mail(session)  # it has begun anew since it was asked
            return
        for position, id, type, data in letters:
            session.position = position
            if id not in session.given:
                delivery = Delivery(None, 0, session.username, session.username, id, type, Raw(data))
                delivery.kept = delivery.settled = True
                self._give(session, delivery)
        if not letters and session.username not in self._depositing:
            session.phase = Phase.LIVE
            self._refresh(session)
        elif letters and session.acknowledges and self._wants_mail(session):
            self._read_mail(session)

    def mail_failed(self, session: Session) -> None:
        """A CatchUp could not read; it is tried again with the next sweep."""
        session.reading_mail = False
        self._mail_failed[session] = None

    def _queue_to_mailbox(self, session: Session) -> None:
        """The session gets its messages from the mailbox, until there are no more."""
        session.phase = Phase.CATCHING_UP
        session.position = 0
        queue, session.queue = session.queue, deque()
        session.queue_bytes = 0
        for delivery in queue:
            self._keep_again(delivery)
        self._refresh(session)
        self._read_mail(session)

    # -- time ----------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        super().sweep()
        for session in list(self._owing):
            if not session.given and not session.queue:
                del self._owing[session]
                continue
            oldest = next(iter(session.given.values()), None) or session.queue[0]
            if self.now - oldest.since >= (ACK_S if session.acknowledges else UNREAD_S):
                self._stall(session)
            else:
                self._keep_for_servers(session)
        failed, self._mail_failed = self._mail_failed, {}
        for session in failed:
            self._read_mail(session)
        for session, since in list(self._unread.items()):
            if self.now - since >= CUT_OFF_S:
                del self._unread[session]
                self.effects.append(CutOff(session))

    def _keep_for_servers(self, session: Session) -> None:
        for delivery in [*session.given.values(), *session.queue]:
            if self.now - delivery.since < SERVER_S:
                continue
            envelope = delivery.envelope
            if envelope is not None and not delivery.settled and envelope.origin.scope == "server":
                self._keep(delivery)

    def _stall(self, session: Session) -> None:
        """The session does not take what it is given: everything goes through the mailbox until it does."""
        session.phase = Phase.STALLED
        self._take_back(session)
        if session.blocked:
            self._unread[session] = self.now
        self._refresh(session)

    # -- for the exchange ----------------------------------------------------------------------------------------

    def await_result(self, envelope: Envelope) -> int:
        """Makes place for one recipient's outcome, and returns where it is."""
        envelope.pending += 1
        if envelope.results is None:
            envelope.results = []
        envelope.results.append(b"")
        return len(envelope.results) - 1

    def settled(
        self,
        envelope: Envelope,
        slot: int,
        to: str,
        status: str,
        error: BesterError | None = None,
        route: bytes = b"",
    ) -> None:
        """One recipient has its outcome: one of the statuses of section 2.

        Args:
            envelope, slot, to, status, error: which recipient, and what became of it.
            route: the other server's steps as JSON, checked, where it told them.
        """
        assert envelope.results is not None
        if envelope.trail is not None:
            envelope.trail.settled(slot, self.now, route)
        envelope.results[slot] = frames.result(to, status, error)
        if status in ("stored", "queued"):
            envelope.durable = True
        if error is not None:
            self.note(envelope, error)
        self.step_done(envelope)

    def count_delivery(self) -> None:
        """An account has a message."""
        raise AssertionError

    def count_dropped(self, error: BesterError) -> None:
        """A message is lost that no report tells of."""
        raise AssertionError

    def write(self, endpoint: Endpoint, frame: bytes) -> None:
        """Lets a whole frame be written to an endpoint, after what is already there."""
        endpoint.out.append(frame)
        if not endpoint.listed:
            endpoint.listed = True
            self.dirty.append(endpoint)


def _size(delivery: Delivery) -> int:
    return len(delivery.data) + _OVERHEAD
