"""Brings messages to accounts: to their sessions now, or to their mailboxes (docs/protocol.md, section 4).

An account is written to *directly* when its sessions all take messages at once and acknowledge nothing: a frame is
appended to each session, and that is all. The frames are written at the end of the batch, and only then reported
(:meth:`Deliveries.written`).

For every other account there is a :class:`~bester.core.model.Delivery` for each message. A session gets it

- at once, when the session is live and its socket has room. It *has* the message when it has acknowledged it; without
  ``ack``, when the socket has taken it;
- from the session's short queue, when its socket is full or too many messages are not acknowledged;
- through the mailbox, behind the letters there, when the queue takes too long or is full, or the session still reads
  its mailbox.

The first session that has the message settles its result. When a session ends, the messages that it was given and does
not have go to the mailbox.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from bester.core.batch import Batch
from bester.core.effects import CutOff, PresenceChanged, Share
from bester.core.endpoint import Endpoint
from bester.core.model import Delivery, Envelope
from bester.core.presence import AccountPresence, Presence, takes
from bester.core.redelivery import ACK_S, Redelivery
from bester.core.replay import MailboxReplay
from bester.core.reports import Reports
from bester.core.session import Change, Phase, Session
from bester.core.window import UnackedWindow, size_of
from bester.errors import InvalidName, UnknownAccount
from bester.protocol import frames
from bester.protocol.messages import Data
from bester.protocol.names import username

SERVER_S = 1.0
"""How long a report to another server waits for an acknowledgement. Then the message also goes to the mailbox, because
the server's link carries only so many messages without a report."""
UNREAD_S = 2.0
"""How long a message waits in a full socket, or behind too many that are not acknowledged, before it goes to the
mailbox."""
CUT_OFF_S = 30.0
"""How long a session may leave its socket full after that, before it is cut off as a slow consumer."""
QUEUE_MESSAGES = 4096
QUEUE_BYTES = 1024 * 1024
"""The size of a session's queue in memory; further messages go to the mailbox."""


class DirectWrite(Struct, gc=False, eq=False):
    """Frames for accounts that are written to directly; the report follows at the end of the batch."""

    envelope: Envelope
    names: list[str]
    """All recipients as the handler wrote them, including those that are not written to directly."""
    first: int
    """The index of their first result."""
    type: str
    data: Data
    transient: bool
    place: str
    id: str = ""
    """The ``deliveryId``, if another node has chosen one."""

    def find(self, account: str) -> tuple[int, str] | None:
        """Returns an account's index in the results, and its name as the handler wrote it."""
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


class Deliveries:
    """Decides which session gets which message, and when."""

    __slots__ = ("_unread", "batch", "direct_writes", "presence", "redelivery", "replay", "reports", "window")

    def __init__(
        self,
        batch: Batch,
        reports: Reports,
        presence: Presence,
        window: UnackedWindow,
        replay: MailboxReplay,
        redelivery: Redelivery,
    ) -> None:
        self.batch = batch
        self.reports = reports
        self.presence = presence
        self.window = window
        self.replay = replay
        self.redelivery = redelivery
        self.direct_writes: list[DirectWrite] = []
        """The writes of this batch, which are reported when it is written."""
        self._unread: dict[Session, float] = {}
        """Sessions that are stalled with a full socket, with the time since which they are."""

    # -- sessions ------------------------------------------------------------------------------------------------

    def add_session(self, session: Session, *, has_mail: bool = False) -> None:
        """A client has authenticated; ``has_mail`` says whether its mailbox may hold something."""
        account = session.username
        if session.takes is not None and not session.takes:
            self.presence.add(session)
            return
        if has_mail or account in self.replay.depositing:
            session.change(Change.MAIL_WAITS)
        awaited = self._awaited(session)
        if self.presence.add(session):
            self.batch.effects.append(PresenceChanged(account, True))
        if session.phase is Phase.CATCHING_UP:
            self.replay.read(session)
        for delivery in awaited:
            self.hand_to_all([session], delivery)

    def remove_session(self, session: Session) -> None:
        """A client's session has ended.

        The messages that it sent go on, without reports; those that it does not have go to the mailbox.
        """
        session.closed = True
        # Its account's last session goes with frames that nobody writes any more: they become deliveries, and letters.
        if session.out and self.direct_writes and len(self.presence.sessions(session.username)) == 1:
            self._follow(session.username)
        if self.presence.remove(session):
            self.batch.effects.append(PresenceChanged(session.username, False))
        self.replay.take_back(session)
        session.late.clear()  # a message of its own may be among these: a circle that nobody else breaks (model.py)
        self._unread.pop(session, None)

    def session_blocked(self, session: Session) -> None:
        """The session's socket has not taken everything that was just written."""
        session.blocked = True
        if self.direct_writes:
            self._follow(session.username)
        for delivery in session.unacked.values():
            self.window.wait_for_recipient(delivery)
        self.presence.refresh(session)

    def session_unblocked(self, session: Session) -> None:
        """The session's socket has taken everything."""
        session.blocked = False
        self._unread.pop(session, None)
        if session.closed:
            return
        if not session.acknowledges:
            self.window.received_all(session)
        self._go_on(session)

    def give_up_waiting(self) -> None:
        """Puts everything that sessions do not have into the mailboxes at once, because the server stops."""
        for session in list(self.window.owing):
            self._stall(session)

    def share(self, username: str, shared: bool) -> None:
        """Notes whether an account with a session here has sessions on other nodes, too."""
        account = self.presence.find(username)
        if account is not None:
            account.shared = shared
            account.refresh()

    # -- direct writes -------------------------------------------------------------------------------------------

    def written(self) -> None:
        """All frames have been written to their sockets; sessions have everything that their socket took."""
        window = self.window
        if window.in_sockets:
            sessions, window.in_sockets = window.in_sockets, []
            for session in dict.fromkeys(sessions):  # once each: further frames are not written yet
                if not session.blocked and not session.closed:
                    window.received_all(session)
                    self._go_on(session)
        writes, self.direct_writes = self.direct_writes, []
        for entry in writes:
            self.reports.step_done(entry.envelope)

    def _follow(self, username: str) -> None:
        """Turns an account's direct writes of this batch into deliveries, because a session may not get them."""
        sessions = self.presence.sessions(username)
        for entry in self.direct_writes:
            found = entry.find(username)
            envelope = entry.envelope
            # The sender's own session reads it before the report, on the same connection.
            if found is None or envelope.origin in sessions or not envelope.results or not envelope.results[found[0]]:
                continue
            slot, to = found
            envelope.results[slot] = b""
            envelope.pending += 1
            self.batch.counters.deliveries -= 1  # it is counted when it is settled
            delivery = self.window.new_delivery(
                envelope, slot, to, username, entry.type, entry.data, entry.transient, entry.place
            )
            if entry.id:
                delivery.id = entry.id
            for session in sessions:
                self.window.record_given(session, delivery)

    # -- deliveries ----------------------------------------------------------------------------------------------

    def deliver(
        self,
        envelope: Envelope,
        to: str,
        account: AccountPresence,
        type: str,
        data: Data,
        transient: bool,
        place: str,
    ) -> None:
        """Brings a message to a connected account that is not written to directly."""
        slot = self.reports.await_result(envelope)
        delivery = self.window.new_delivery(envelope, slot, to, account.username, type, data, transient, place)
        takers = account.takers(type)
        if not takers:
            self.replay.deposit(delivery)
            return
        self.hand_to_all(takers, delivery)
        origin = envelope.origin
        if isinstance(origin, Session) and delivery.id in origin.unacked:
            # The sender's own session reads it before the report, on the same connection, and may wait for the report.
            self.window.settle(delivery, "delivered")
        if account.shared:
            self.batch.effects.append(Share(delivery))

    def recipient_away(
        self, envelope: Envelope, name: str, type: str, data: Data, transient: bool, place: str, served: set[str]
    ) -> None:
        """A recipient has no session here: its message goes the way of the mailbox.

        There the server finds out whether the account exists, and whether the message may be kept at all.

        Args:
            envelope, type, data, transient, place: the message.
            name: the recipient, as the handler wrote it.
            served: the accounts that have been served already; this one is added.
        """
        try:
            account = username(name)
        except InvalidName:
            account = name
            if account not in served:
                self.reports.add_result(envelope, name, "failed", UnknownAccount())
        else:
            if account not in served:
                slot = self.reports.await_result(envelope)
                self.replay.deposit(
                    self.window.new_delivery(envelope, slot, name, account, type, data, transient, place)
                )
        served.add(account)

    def reply(self, session: Endpoint, type: str, data: Data, asked: bytes) -> None:
        """Brings a handler's reply to a session at once: before the report, which waits for no acknowledgement of it.

        ``asked`` is the id that the session gave the message that is answered, as JSON. It means nothing to other
        sessions, so a session that gets the reply from the mailbox is not told.
        """
        assert isinstance(session, Session)
        reply_to = asked if session.reply_to else None
        if session.acknowledges:
            id = self.batch.new_id()
            delivery = Delivery(None, 0, session.username, session.username, id, type, data, settled=True)
            self.window.give(session, delivery, reply_to)
        elif reply_to is None:
            self.batch.write(session, frames.received(frames.received_head(type), data))
        else:
            self.batch.write(session, frames.received_reply(frames.received_head(type), data, reply_to))

    def _awaited(self, coming: Session) -> list[Delivery]:
        """Returns the messages for a new session that others of the account were given and none has, oldest first.

        The new session gets them, too; otherwise those that the others do not take would reach it later, behind newer
        messages.
        """
        account = coming.username
        sessions = self.presence.sessions(account)
        if not sessions:
            return []
        if self.direct_writes:
            self._follow(account)
        # Any session that takes all types will do: what it was not given is in the mailbox, or on its way there.
        sessions = [session for session in sessions if session.takes is None][:1] or sessions
        given = {one.id: one for session in sessions for one in (*session.unacked.values(), *session.queue)}
        awaited = [one for one in given.values() if not one.settled and not one.in_mailbox and takes(coming, one.type)]
        return sorted(awaited, key=lambda one: one.number)

    def hand_to_all(self, sessions: Sequence[Session], delivery: Delivery) -> None:
        """Gives a delivery to sessions, and puts it into the mailbox if some of them cannot take it now."""
        keep = False
        for session in sessions:
            if not self._hand(session, delivery):
                keep = True
        if keep and delivery.transient:
            keep = not self._give_out_of_order(sessions, delivery)
        if keep:
            self.replay.deposit(delivery)

    def _hand(self, session: Session, delivery: Delivery) -> bool:
        """Gives a delivery to a session, now or from its queue; returns False if it must go through the mailbox."""
        if session.phase is not Phase.LIVE:
            return False
        if not session.blocked and not session.queue and self.window.has_room(session):
            self.window.give(session, delivery)
            return True
        size = size_of(delivery)
        if len(session.queue) >= QUEUE_MESSAGES or session.queue_bytes + size > QUEUE_BYTES:
            self.replay.catch_up(session)
            return False
        delivery.since = self.batch.now
        session.queue.append(delivery)
        session.queue_bytes += size
        if len(session.queue) == 1:
            self.presence.refresh(session)
        self.window.owing[session] = None
        self.window.wait_for_recipient(delivery)
        return True

    def _give_out_of_order(self, sessions: Sequence[Session], delivery: Delivery) -> bool:
        """Gives a transient delivery to sessions that still read their mailbox; returns False if there are none."""
        ready = [one for one in sessions if one.phase is Phase.CATCHING_UP and not one.blocked]
        for session in ready:
            self.window.give(session, delivery)
        return bool(ready)

    def acknowledged(self, session: Session, ids: Sequence[str]) -> None:
        """A session has acknowledged these delivery ids; unknown ones are ignored."""
        self.redelivery.acknowledged(session, ids)
        self._go_on(session)

    def _go_on(self, session: Session) -> None:
        """Gives a session that may have room again more from its queue, then from its mailbox."""
        if session.closed or session.blocked:
            return
        window = self.window
        while session.queue and window.has_room(session):
            delivery = session.queue.popleft()
            session.queue_bytes -= size_of(delivery)
            window.give(session, delivery)
        if not session.unacked and not session.queue:
            window.owing.pop(session, None)
        if session.phase is Phase.STALLED:
            session.change(Change.READS_AGAIN)
        if session.phase is Phase.CATCHING_UP and self.replay.has_room(session):
            self.replay.read(session)
        if not session.acknowledges:
            self.presence.refresh(session)

    # -- time ----------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Looks at the sessions that owe an acknowledgement, or do not read; called a few times a second."""
        now = self.batch.now
        owing = self.window.owing
        for session in list(owing):
            if not session.unacked and not session.queue:
                del owing[session]
                continue
            oldest = next(iter(session.unacked.values()), None) or session.queue[0]
            if now - oldest.since >= (ACK_S if session.acknowledges else UNREAD_S):
                if session.blocked or not session.acknowledges:
                    self._stall(session)
                else:
                    self.redelivery.let_pass(session)
                    self._go_on(session)
            elif session.queue and now - session.queue[0].since >= UNREAD_S:
                self.replay.catch_up(session)
            else:
                self._keep_for_servers(session)
        self.redelivery.sweep()
        self.replay.sweep()
        for session, since in list(self._unread.items()):
            if now - since >= CUT_OFF_S:
                del self._unread[session]
                self.batch.effects.append(CutOff(session))

    def _keep_for_servers(self, session: Session) -> None:
        """Puts what other servers sent into the mailbox, if it is not acknowledged after :data:`SERVER_S`."""
        for delivery in [*session.unacked.values(), *session.queue]:
            if self.batch.now - delivery.since < SERVER_S:
                continue
            envelope = delivery.envelope
            if envelope is not None and not delivery.settled and envelope.origin.scope == "server":
                self.replay.deposit(delivery)

    def _stall(self, session: Session) -> None:
        """Sends a session's messages through the mailbox: it does not read or acknowledge, or the server stops."""
        session.change(Change.STOPS_READING)
        self.replay.take_back(session)
        if session.blocked:
            self._unread.setdefault(session, self.batch.now)
        self.presence.refresh(session)
