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

from bester.core.effects import Deposit, ReadMailbox, RemoveLetter
from bester.core.giving import GIVEN_BYTES, GIVEN_MESSAGES, Giving
from bester.core.limits import Limits
from bester.core.metrics import Drop
from bester.core.model import Delivery, Late
from bester.core.presence import takes
from bester.core.session import Phase, Session
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


class Keeping(Giving):
    """What is on its way into a mailbox, or out of it."""

    def __init__(self, server_name: str, limits: Limits, boot: str) -> None:
        super().__init__(server_name, limits, boot)
        self._mail_failed: dict[Session, None] = {}
        """Sessions whose mailbox could not be read just now."""
        self.depositing: dict[str, int] = {}
        """How many messages are on their way to a mailbox, by account."""

    # -- into it -------------------------------------------------------------------------------------------------

    def deposit(self, delivery: Delivery) -> None:
        """Brings a message into its account's mailbox, once, behind all that its sessions were given before it.

        The account gets the mailbox in that order, whichever of its sessions end.
        """
        if delivery.kept:
            return
        for session in self.presence.sessions(delivery.username):
            if session.phase is Phase.LIVE:  # of others, all is kept
                for older in _unkept_before(session, delivery):
                    self._deposit(older)
        self._deposit(delivery)

    def _deposit(self, delivery: Delivery) -> None:
        delivery.kept = True
        username = delivery.username
        self.depositing[username] = self.depositing.get(username, 0) + 1
        self.effects.append(Deposit(delivery))

    def deposit_again(self, delivery: Delivery) -> Delivery:
        """Keeps what one session does not have, though another one may."""
        if delivery.done:
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
            if delivery.done:
                self.effects.append(RemoveLetter(username, delivery.id))
        else:
            delivery.kept = False
            delivery.refused = True
            if delivery.settled and not delivery.done:  # nobody waits for a report that could say it
                drop = Drop.LETTER_TRANSIENT if error is None else Drop.LETTER_NOT_KEPT
                self.counters.drops.count(drop, code=error.code if error is not None else "")
        self.settle(delivery, status, error)
        self.depositing[username] -= 1
        if not self.depositing[username]:
            del self.depositing[username]
            for session in self.presence.sessions(username):
                if session.phase is Phase.CATCHING_UP:
                    self.read_mail(session)

    def _send_others_to_mailbox(self, delivery: Delivery) -> None:
        """No session has it, and it goes to the mailbox: those that came later find it there, before newer ones."""
        for session in self.presence.sessions(delivery.username):
            if (
                session.phase is Phase.LIVE
                and takes(session, delivery.type)
                and delivery.id not in session.given
                and not any(waiting is delivery for waiting in session.queue)
            ):
                self.queue_to_mailbox(session)

    def queue_to_mailbox(self, session: Session) -> None:
        """The session gets its messages from the mailbox, until there are no more.

        What it was given and does not have yet is kept before them: it is older.
        """
        session.phase = Phase.CATCHING_UP
        session.position = 0
        queue, session.queue = session.queue, deque()
        session.queue_bytes = 0
        for delivery in session.given.values():
            if not delivery.done and not delivery.transient:
                self.deposit(delivery)
        for delivery in queue:
            self.deposit_again(delivery)
        self.refresh(session)
        self.read_mail(session)

    def take_back(self, session: Session) -> None:
        """What a session was given and does not have goes to the mailbox, with what waits for its room."""
        for late in session.late.values():
            late.due = 0.0  # it finds that in the mailbox, with the rest
        given, session.given = session.given, {}
        session.given_bytes = 0
        queue, session.queue = session.queue, deque()
        session.queue_bytes = 0
        for delivery in given.values():
            if session.acknowledges or not delivery.settled:
                self.let_wait(session, self.deposit_again(delivery), 0.0)
        for delivery in queue:
            self.deposit_again(delivery)
        self.owing.pop(session, None)

    def let_wait(self, session: Session, delivery: Delivery, due: float) -> None:
        """A session took too long for what it was given; from now on it is in the mailbox until it is due."""
        late = session.late
        if len(late) >= MAX_LATE:
            del late[next(iter(late))]  # if that is acknowledged after all, it is passed over, and given again
        late[delivery.id] = Late(delivery, due)

    # -- out of it -----------------------------------------------------------------------------------------------

    def read_mail(self, session: Session) -> None:
        """Reads the next page, if it is not being read already."""
        if session.reading_mail or session.closed or session.blocked:
            return
        session.reading_mail = True
        session.read_from = session.position
        messages, size = self._page(session)
        self.effects.append(ReadMailbox(session, session.position, messages, size))

    def wants_mail(self, session: Session) -> bool:
        """Whether there is room for another page."""
        _, size = self._page(session)
        most = max(2 * _MIN_PAGE, GIVEN_MESSAGES // 2 // self._sharing(session))
        return len(session.given) <= most and session.given_bytes <= size // 2

    def _page(self, session: Session) -> tuple[int, int]:
        """How many messages, and bytes, are read at a time."""
        sharing = self._sharing(session)
        return max(_MIN_PAGE, _MAX_PAGE // sharing), max(_MIN_PAGE_BYTES, GIVEN_BYTES // sharing)

    def _sharing(self, session: Session) -> int:
        """How many sessions of the account share what one alone would hold."""
        attendance = self.presence.find(session.username)
        return max(1, len(attendance.sessions)) if attendance is not None else 1

    def mail(self, session: Session, letters: Sequence[Letter]) -> None:
        """What a CatchUp found: letters behind the position, or none, if there are no more."""
        session.reading_mail = False
        had, session.had = session.had, set()
        if session.closed or session.phase is not Phase.CATCHING_UP:
            return
        if session.position != session.read_from:
            self.read_mail(session)  # it has begun anew since it was asked
            return
        passed_over = True
        for position, id, type, data in letters:
            session.position = position
            if id in had or not (takes(session, type) or id in session.late):  # it had a reply that it does not take
                continue
            passed_over = False
            late = session.late.get(id)
            if late is not None and late.due <= self.now:
                del session.late[id]
                late = None
                self.counters.given_again += 1
            if late is None and id not in session.given:
                delivery = Delivery(None, 0, session.username, session.username, id, type, Raw(data))
                delivery.kept = delivery.stored = delivery.settled = True
                self.give(session, delivery)
        if not letters and session.more_mail:
            session.more_mail = False
            self.read_mail(session)
        elif not letters and session.username not in self.depositing:
            session.phase = Phase.LIVE
            if session.late:  # what is due and was not found is in the mailbox no more
                session.late = {id: late for id, late in session.late.items() if late.due}
            self.refresh(session)
        elif letters and (passed_over or (session.acknowledges and self.wants_mail(session))):
            self.read_mail(session)

    def mail_failed(self, session: Session) -> None:
        """A CatchUp could not read; it is tried again with the next sweep."""
        session.reading_mail = False
        session.had.clear()
        self._mail_failed[session] = None

    def read_failed_mail(self) -> None:
        """Tries again what could not be read."""
        failed, self._mail_failed = self._mail_failed, {}
        for session in failed:
            self.read_mail(session)


def _unkept_before(session: Session, delivery: Delivery) -> list[Delivery]:
    """Returns what a live session was given before a message, or all where it was not given that, and is not kept.

    Whatever is kept has nothing before it that is not, so that only the newest are looked at.
    """
    found: list[Delivery] = []
    for one in chain(reversed(session.queue), reversed(session.given.values())):
        if one is delivery:
            found.clear()
        elif one.kept or one.refused:
            break
        elif not one.done and not one.transient:
            found.append(one)
    found.reverse()
    return found
