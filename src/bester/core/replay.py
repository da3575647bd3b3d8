"""Brings messages into mailboxes, and out of them to sessions that catch up (docs/protocol.md, section 4).

As long as a session catches up, new messages go behind the older ones in its account's mailbox. The mailbox is read
page by page from the beginning. The session has caught up when a page is empty and no message is on its way into the
mailbox.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

from msgspec import Raw

from bester.core.batch import Batch
from bester.core.effects import Deposit, ReadMailbox, RemoveLetter
from bester.core.metrics import Drop
from bester.core.model import Delivery, Late
from bester.core.presence import Presence, takes
from bester.core.session import Change, Phase, Session
from bester.core.window import WINDOW_BYTES, WINDOW_MESSAGES, UnackedWindow
from bester.errors import BesterError

_MAX_PAGE = 256
_MIN_PAGE = 16
_MIN_PAGE_BYTES = 64 * 1024
MAX_LATE = 10_000
"""The most messages of a session that are remembered as late; usually more than there are."""


class Letter(NamedTuple):
    """A message from a mailbox, as the exchange takes it."""

    position: int
    id: str
    type: str
    data: bytes


class MailboxReplay:
    """Moves messages into mailboxes, and out of them to sessions."""

    __slots__ = ("_failed", "batch", "depositing", "presence", "window")

    def __init__(self, batch: Batch, presence: Presence, window: UnackedWindow) -> None:
        self.batch = batch
        self.presence = presence
        self.window = window
        self.depositing: dict[str, int] = {}
        """How many messages are on their way to a mailbox, by account."""
        self._failed: dict[Session, None] = {}
        """Sessions whose mailbox could not be read since the last sweep."""

    # -- into mailboxes ------------------------------------------------------------------------------------------

    def deposit(self, delivery: Delivery) -> None:
        """Puts a message into its account's mailbox, once, behind everything that its sessions were given before it.

        So the mailbox keeps the order of the messages, whichever of the sessions end.
        """
        if delivery.in_mailbox:
            return
        for session in self.presence.sessions(delivery.username):
            if session.phase is Phase.LIVE:  # the other sessions have everything in the mailbox
                for older in _outside_before(session, delivery):
                    self._deposit(older)
        self._deposit(delivery)

    def _deposit(self, delivery: Delivery) -> None:
        delivery.in_mailbox = True
        username = delivery.username
        self.depositing[username] = self.depositing.get(username, 0) + 1
        self.batch.effects.append(Deposit(delivery))

    def deposit_again(self, delivery: Delivery) -> Delivery:
        """Puts a message that one session does not have into the mailbox, even if another session has it."""
        if delivery.received:
            if delivery.transient:
                return delivery
            username, id = delivery.username, delivery.id
            delivery = Delivery(None, 0, username, username, id, delivery.type, delivery.data, settled=True)
            self._deposit(delivery)  # in no order with others: the account has had it
            return delivery
        was_there = delivery.in_mailbox
        self.deposit(delivery)
        # A reply is settled from the beginning, and the other sessions were not given it.
        if not delivery.transient and not (was_there and delivery.settled):
            self._send_others_to_mailbox(delivery)
        return delivery

    def deposited(self, delivery: Delivery, status: str, error: BesterError | None = None) -> None:
        """A Deposit has ended; its outcome is ``stored``, ``skipped`` or ``failed``."""
        username = delivery.username
        if status == "stored":
            delivery.stored = True
            if delivery.received:
                self.batch.effects.append(RemoveLetter(username, delivery.id))
        else:
            delivery.in_mailbox = False
            delivery.refused = True
            if delivery.settled and not delivery.received:  # no report tells of it
                drop = Drop.LETTER_TRANSIENT if error is None else Drop.LETTER_NOT_KEPT
                self.batch.counters.drops.count(drop, code=error.code if error is not None else "")
        self.window.settle(delivery, status, error)
        self.depositing[username] -= 1
        if not self.depositing[username]:
            del self.depositing[username]
            for session in self.presence.sessions(username):
                if session.phase is Phase.CATCHING_UP and self.has_room(session):
                    self.read(session)

    def _send_others_to_mailbox(self, delivery: Delivery) -> None:
        """Lets the sessions that were not given a message catch up, so that they get it before newer ones."""
        for session in self.presence.sessions(delivery.username):
            if (
                session.phase is Phase.LIVE
                and takes(session, delivery.type)
                and delivery.id not in session.unacked
                and not any(waiting is delivery for waiting in session.queue)
            ):
                self.catch_up(session)

    def catch_up(self, session: Session) -> None:
        """Lets a session read its mailbox until that is empty.

        Messages that it was given and does not have yet are put there first, because they are older.
        """
        session.change(Change.MAIL_WAITS)
        queue, session.queue = session.queue, deque()
        session.queue_bytes = 0
        for delivery in session.unacked.values():
            if not delivery.received and not delivery.transient:
                self.deposit(delivery)
        for delivery in queue:
            self.deposit_again(delivery)
        self.presence.refresh(session)
        self.read(session)

    def take_back(self, session: Session) -> None:
        """Puts everything that a session was given and does not have, and its queue, into the mailbox."""
        for late in session.late.values():
            late.due = 0.0  # the session finds it in the mailbox, with the rest
        unacked, session.unacked = session.unacked, {}
        session.unacked_bytes = 0
        queue, session.queue = session.queue, deque()
        session.queue_bytes = 0
        for delivery in unacked.values():
            if session.acknowledges or not delivery.settled:
                self.let_wait(session, self.deposit_again(delivery), 0.0)
        for delivery in queue:
            self.deposit_again(delivery)
        self.window.owing.pop(session, None)

    def let_wait(self, session: Session, delivery: Delivery, due: float) -> None:
        """Remembers a message that its session took too long for; it waits in the mailbox until it is due."""
        late = session.late
        if len(late) >= MAX_LATE:
            del late[next(iter(late))]  # a late acknowledgement of that one is ignored, and it is given again
        late[delivery.id] = Late(delivery, due)

    # -- out of mailboxes ----------------------------------------------------------------------------------------

    def read(self, session: Session) -> None:
        """Reads the next page, unless a page is being read already."""
        if session.reading_mail or session.closed or session.blocked:
            return
        session.reading_mail = True
        session.read_from = session.position
        messages, size = self._page(session)
        self.batch.effects.append(ReadMailbox(session, session.position, messages, size))

    def has_room(self, session: Session) -> bool:
        """Whether a session has room for another page."""
        _, size = self._page(session)
        most = max(2 * _MIN_PAGE, WINDOW_MESSAGES // 2 // self._sharing(session))
        return len(session.unacked) <= most and session.unacked_bytes <= size // 2

    def _page(self, session: Session) -> tuple[int, int]:
        """Returns the size of a page, in messages and in bytes."""
        sharing = self._sharing(session)
        return max(_MIN_PAGE, _MAX_PAGE // sharing), max(_MIN_PAGE_BYTES, WINDOW_BYTES // sharing)

    def _sharing(self, session: Session) -> int:
        """Returns how many sessions of the account share the space of one."""
        account = self.presence.find(session.username)
        return max(1, len(account.sessions)) if account is not None else 1

    def page(self, session: Session, letters: Sequence[Letter]) -> None:
        """A ReadMailbox has found the letters after the session's position; none if there are no more."""
        session.reading_mail = False
        received, session.received_meanwhile = session.received_meanwhile, set()
        if session.closed or session.phase is not Phase.CATCHING_UP:
            return
        if session.position != session.read_from:
            self.read(session)  # the session has begun anew since the page was asked for
            return
        passed_over = True
        for position, id, type, data in letters:
            session.position = position
            # A late message may be a reply, whose type the session need not take.
            if id in received or not (takes(session, type) or id in session.late):
                continue
            passed_over = False
            self._give(session, id, type, data)
        if not letters and session.more_mail:
            session.more_mail = False
            self.read(session)
        elif not letters and session.username not in self.depositing:
            session.change(Change.MAILBOX_EMPTY)
            if session.late:  # messages that are due and were not found have left the mailbox
                session.late = {id: late for id, late in session.late.items() if late.due}
            self.presence.refresh(session)
        elif letters and (passed_over or (session.acknowledges and self.has_room(session))):
            self.read(session)

    def _give(self, session: Session, id: str, type: str, data: bytes) -> None:
        """Gives a letter to a session, unless it was given it already or the letter is late and not due yet."""
        late = session.late.get(id)
        if late is not None and late.due <= self.batch.now:
            del session.late[id]
            late = None
            self.batch.counters.given_again += 1
        if late is None and id not in session.unacked:
            delivery = Delivery(None, 0, session.username, session.username, id, type, Raw(data))
            delivery.in_mailbox = delivery.stored = delivery.settled = True
            self.window.give(session, delivery)

    def mail_came(self, username: str, types: Sequence[str] = ()) -> None:
        """Mail of these types (empty: any) may have come for an account without passing its sessions here."""
        for session in self.presence.sessions(username):
            if types and session.takes is not None and session.takes.isdisjoint(types):
                continue
            if session.phase is Phase.LIVE:
                self.catch_up(session)
            elif session.reading_mail:
                session.more_mail = True

    def failed(self, session: Session) -> None:
        """A ReadMailbox has failed; it is tried again with the next sweep."""
        session.reading_mail = False
        session.received_meanwhile.clear()
        self._failed[session] = None

    def sweep(self) -> None:
        """Reads mailboxes again that could not be read; called a few times a second."""
        failed, self._failed = self._failed, {}
        for session in failed:
            self.read(session)


def _outside_before(session: Session, delivery: Delivery) -> list[Delivery]:
    """Returns what a live session was given before a message and is not in the mailbox.

    If the session was not given the message, everything counts as before it. A message in the mailbox has no message
    before it that is not, so only the newest are looked at.
    """
    found: list[Delivery] = []
    for one in chain(reversed(session.queue), reversed(session.unacked.values())):
        if one is delivery:
            found.clear()
        elif one.in_mailbox or one.refused:
            break
        elif not one.received and not one.transient:
            found.append(one)
    found.reverse()
    return found
