"""Brings messages into mailboxes, and out of them to sessions that catch up (docs/protocol.md, section 4).

As long as a session catches up, new messages go behind the older ones in its account's mailbox. It is read page by page
from the beginning, and is at its end when a page is empty and nothing is on its way into it.
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
"""Of how many messages in the mailbox it is known that a session had them before: as many as there are, usually."""


class Letter(NamedTuple):
    """A message from a mailbox, as the exchange takes it."""

    position: int
    id: str
    type: str
    data: bytes


class MailboxReplay:
    """Knows what is on its way into a mailbox, or out of it."""

    __slots__ = ("_failed", "batch", "depositing", "presence", "window")

    def __init__(self, batch: Batch, presence: Presence, window: UnackedWindow) -> None:
        self.batch = batch
        self.presence = presence
        self.window = window
        self.depositing: dict[str, int] = {}
        """How many messages are on their way to a mailbox, by account."""
        self._failed: dict[Session, None] = {}
        """Sessions whose mailbox could not be read just now."""

    # -- into it -------------------------------------------------------------------------------------------------

    def deposit(self, delivery: Delivery) -> None:
        """Brings a message into its account's mailbox, once, behind all that its sessions were given before it.

        The account gets the mailbox in that order, whichever of its sessions end.
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
        """Puts what one session does not have into the mailbox, though another session may have it."""
        if delivery.received:
            if delivery.transient:
                return delivery
            username, id = delivery.username, delivery.id
            delivery = Delivery(None, 0, username, username, id, delivery.type, delivery.data, settled=True)
            self._deposit(delivery)  # it stands behind nothing: the account has had it
            return delivery
        self.deposit(delivery)
        if not delivery.settled and not delivery.transient:
            self._send_others_to_mailbox(delivery)
        return delivery

    def deposited(self, delivery: Delivery, status: str, error: BesterError | None = None) -> None:
        """A Deposit has its outcome: ``stored``, ``skipped`` or ``failed``."""
        username = delivery.username
        if status == "stored":
            delivery.stored = True
            if delivery.received:
                self.batch.effects.append(RemoveLetter(username, delivery.id))
        else:
            delivery.in_mailbox = False
            delivery.refused = True
            if delivery.settled and not delivery.received:  # nobody waits for a report that could say it
                drop = Drop.LETTER_TRANSIENT if error is None else Drop.LETTER_NOT_KEPT
                self.batch.counters.drops.count(drop, code=error.code if error is not None else "")
        self.window.settle(delivery, status, error)
        self.depositing[username] -= 1
        if not self.depositing[username]:
            del self.depositing[username]
            for session in self.presence.sessions(username):
                if session.phase is Phase.CATCHING_UP:
                    self.read(session)

    def _send_others_to_mailbox(self, delivery: Delivery) -> None:
        """No session has it, and it goes to the mailbox: those that came later find it there, before newer ones."""
        for session in self.presence.sessions(delivery.username):
            if (
                session.phase is Phase.LIVE
                and takes(session, delivery.type)
                and delivery.id not in session.unacked
                and not any(waiting is delivery for waiting in session.queue)
            ):
                self.catch_up(session)

    def catch_up(self, session: Session) -> None:
        """Gives a session its messages from the mailbox, until there are no more.

        What it was given and does not have yet is put there before them: it is older.
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
        """Puts what a session was given and does not have into the mailbox, with what waits for its room."""
        for late in session.late.values():
            late.due = 0.0  # it finds that in the mailbox, with the rest
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
        """Lets a message wait in the mailbox until it is due: its session took too long for it."""
        late = session.late
        if len(late) >= MAX_LATE:
            del late[next(iter(late))]  # if that is acknowledged after all, it is passed over, and given again
        late[delivery.id] = Late(delivery, due)

    # -- out of it -----------------------------------------------------------------------------------------------

    def read(self, session: Session) -> None:
        """Reads the next page, if it is not being read already."""
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
        """Returns how many messages, and bytes, are read at a time."""
        sharing = self._sharing(session)
        return max(_MIN_PAGE, _MAX_PAGE // sharing), max(_MIN_PAGE_BYTES, WINDOW_BYTES // sharing)

    def _sharing(self, session: Session) -> int:
        """Returns how many sessions of the account share what one alone would hold."""
        account = self.presence.find(session.username)
        return max(1, len(account.sessions)) if account is not None else 1

    def page(self, session: Session, letters: Sequence[Letter]) -> None:
        """A ReadMailbox found letters behind the position, or none, if there are no more."""
        session.reading_mail = False
        received, session.received_meanwhile = session.received_meanwhile, set()
        if session.closed or session.phase is not Phase.CATCHING_UP:
            return
        if session.position != session.read_from:
            self.read(session)  # it has begun anew since it was asked
            return
        passed_over = True
        for position, id, type, data in letters:
            session.position = position
            # A reply may be late that is of a type that the session does not take.
            if id in received or not (takes(session, type) or id in session.late):
                continue
            passed_over = False
            self._give(session, id, type, data)
        if not letters and session.more_mail:
            session.more_mail = False
            self.read(session)
        elif not letters and session.username not in self.depositing:
            session.change(Change.MAILBOX_EMPTY)
            if session.late:  # what is due and was not found is in the mailbox no more
                session.late = {id: late for id, late in session.late.items() if late.due}
            self.presence.refresh(session)
        elif letters and (passed_over or (session.acknowledges and self.has_room(session))):
            self.read(session)

    def _give(self, session: Session, id: str, type: str, data: bytes) -> None:
        """Gives a letter to a session, unless that has it already, or is not to get it before it is due."""
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
        """Mail may have come for an account, of these types or any, that none of its sessions here knows of."""
        for session in self.presence.sessions(username):
            if types and session.takes is not None and session.takes.isdisjoint(types):
                continue
            if session.phase is Phase.LIVE:
                self.catch_up(session)
            elif session.reading_mail:
                session.more_mail = True

    def failed(self, session: Session) -> None:
        """A ReadMailbox could not read; it is tried again with the next sweep."""
        session.reading_mail = False
        session.received_meanwhile.clear()
        self._failed[session] = None

    def sweep(self) -> None:
        """Reads again what could not be read."""
        failed, self._failed = self._failed, {}
        for session in failed:
            self.read(session)


def _outside_before(session: Session, delivery: Delivery) -> list[Delivery]:
    """Returns what a live session was given before a message and is not in the mailbox, or all, if it was not given it.

    Whatever is in the mailbox has nothing before it that is not, so that only the newest are looked at.
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
