"""What must hold at the end of a play: the promises of docs/protocol.md (sections 2.8, 4, 7.2) and docs/reliability.md.

An account is *sure* if all of its sessions acknowledge: nothing that was reported good for it may be lost. A session
that does not acknowledge has what its socket took, which nobody can judge once a connection of it was lost.

Copies that went to another server are judged if the servers prove their names, or if nothing has befallen them: the ids
of unproven servers count per connection, and one that closes without a word counts as one that took the message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from faults.wire import decode

from lab.ledger import Attempt, Copy, Receipt, way_on
from lab.plan import LASTING, Errand, account_name
from lab.sessions import SessionPlayer
from lab.stage import Stage

MAX_DEPTH = 20
ROOM = 32 * 1024
"""About how many bytes a client may write before it waits."""


class Left(NamedTuple):
    """What a server's database has at the end."""

    letters: list[tuple[str, str, Any]]
    """Username, delivery id and data."""
    outgoing: list[tuple[str, int, Any]]
    """Destination, whether it was given up, and data."""
    problems: list[str]
    """What is wrong with the file."""


class Judge:
    """Compares what was seen with what was promised.

    Args:
        stage: the play.
        sessions: its sessions.
        struck: the servers that faults struck, which is known at the end.
    """

    def __init__(self, stage: Stage, sessions: Sequence[SessionPlayer], struck: set[int]) -> None:
        self._stage = stage
        self._plan = stage.plan
        self._ledger = stage.ledger
        self._sessions = sessions
        self._struck = struck
        self._of_account: dict[tuple[int, str], list[SessionPlayer]] = {}
        for session in sessions:
            self._of_account.setdefault((session.server, session.account), []).append(session)

    def judge(self, left: Sequence[Left]) -> None:
        """Adds all violations to the ledger."""
        for server, one in enumerate(left):
            for problem in one.problems:
                self._ledger.violation(f"database of server {server}: {problem}")
        for copy in self.missing(left):
            self._ledger.violation(f"lost: {self._shown(copy)} was reported good")
        self._reports()
        self._twice()
        self._refused()
        self._dry(left)
        self._order()

    def _shown(self, copy: Copy) -> str:
        return f"message {copy.message}{copy.way} for {copy.account} of server {copy.server}"

    # -- nothing good is lost ------------------------------------------------------------------------------------

    def missing(self, left: Sequence[Left] | None) -> list[Copy]:
        """Returns what was reported good, did not come, and is not on disk; before the end, without the disks."""
        kept = set() if left is None else set(self._kept(left))
        found: list[Copy] = []
        for number, attempts in self._ledger.attempts.items():
            outcome = attempts[-1]
            if outcome.good and not self._plan.messages[number].dry:
                due = [copy for copy in self._due(number, outcome) if copy not in self._ledger.received]
                found += [copy for copy in due if copy not in kept and not self._on_way(copy, kept)]
        return found

    def _due(self, number: int, outcome: Attempt) -> Iterator[Copy]:
        """Yields the copies that a good report speaks of and that can be judged."""
        message = self._plan.messages[number]
        home = self._plan.accounts[self._plan.sessions[message.by].account].server
        statuses: dict[str, list[str]] = {}
        for to, status, _, _ in outcome.results:
            statuses.setdefault(to, []).append(status)
        yield from self._copies(number, message.errand, "", home, statuses, 0)

    def _copies(
        self, number: int, errand: Errand, way: str, server: int, statuses: dict[str, list[str]] | None, depth: int
    ) -> Iterator[Copy]:
        """Yields what an errand leads to; ``statuses`` are known at the first server alone."""
        if depth > MAX_DEPTH or errand.lie in LASTING:
            return
        for name in errand.clients:
            sessions = self._of_account.get((server, name))
            told = None if statuses is None else statuses.get(name, [])
            if sessions and self._sure(sessions) and not errand.transient and told != []:
                if statuses is not None and self._counts_once_written(number, name):
                    continue
                yield Copy(number, way, server, name)
        then = errand if errand.circle else errand.then or Errand()
        for other in errand.servers:
            if self._plan.proven or not self._struck:
                on = way_on(way, None)[:-1] + f"s{other}"
                yield from self._copies(number, then, on, other, None, depth + 1)
        if errand.handler:
            yield from self._copies(number, then, way_on(way, None), server, statuses, depth + 1)

    def _counts_once_written(self, number: int, name: str) -> bool:
        """Whether an account sent a message to itself, so that nobody can say whether it must have it.

        That counts as delivered as soon as it is written (section 4.1): the report on a repeat speaks of the first
        time, and until it is acknowledged a death of the server, or a mailbox that is full, may lose it.
        """
        by = self._plan.sessions[self._plan.messages[number].by].account
        limits = self._plan.servers[self._plan.accounts[by].server].settings.get("limits", {})
        again = len(self._ledger.sent[number]) > 1
        return account_name(by) == name and (again or "mailboxMessages" in limits or bool(self._struck))

    def _sure(self, sessions: Sequence[SessionPlayer]) -> bool:
        return all(one.session.ack or not one.session.mail for one in sessions) and any(
            one.session.mail for one in sessions
        )

    @staticmethod
    def _kept(left: Sequence[Left]) -> Iterator[Any]:
        """Yields copies in mailboxes, and (message, way, server) of what waits in outboxes."""
        for server, one in enumerate(left):
            for username, _, raw in one.letters:
                data = decode(raw)
                yield Copy(data["m"], data["w"], server, username)
            for _, _, raw in one.outgoing:
                data = decode(raw)
                yield data["m"], data["w"]

    @staticmethod
    def _on_way(copy: Copy, kept: set[Any]) -> bool:
        """Whether what leads to a copy waits in an outbox."""
        return any((copy.message, copy.way[:at]) in kept for at in range(1, len(copy.way) + 1))

    # -- reports -------------------------------------------------------------------------------------------------

    def _reports(self) -> None:
        ledger = self._ledger
        for number, message in enumerate(self._plan.messages):
            if number not in ledger.sent:
                ledger.violation(f"lab: message {number} was never sent")
            elif message.once and not message.dry and not ledger.settled(number) and not ledger.is_full(number):
                ledger.violation(f"message {number} has no final report: {ledger.outcome(number)}")
        for connection, number in ledger.awaited():
            ledger.violation(f"message {number} has no report on connection {connection}, which was not lost")

    def _refused(self) -> None:
        """Who was reported not to have a message, and for good, must not have it."""
        for number, attempts in self._ledger.attempts.items():
            outcome = attempts[-1]
            message = self._plan.messages[number]
            if outcome.good or outcome.temporary or len(attempts) > 1 or len(self._ledger.sent[number]) > 1:
                continue  # an earlier try may have reached some
            home = self._plan.accounts[self._plan.sessions[message.by].account].server
            failed = {to for to, status, _, temporary in outcome.results if status == "failed" and not temporary}
            for copy in self._ledger.received:
                here = copy.message == number and copy.server == home and "s" not in copy.way
                if here and (not outcome.results or copy.account in failed):
                    self._ledger.violation(f"refused: {self._shown(copy)} ({outcome.code}), and it came")

    # -- nothing twice -------------------------------------------------------------------------------------------

    def _twice(self) -> None:
        for copy, receipts in self._ledger.received.items():
            if "s" in copy.way and not self._plan.proven:
                continue
            sessions = self._of_account[copy.server, copy.account]
            if not self._sure(sessions):
                continue
            ids = {receipt.delivery_id for receipt in receipts}
            if len(ids) > 1:
                self._ledger.violation(f"twice: {self._shown(copy)} came with {len(ids)} delivery ids")
            self._library_twice(copy, receipts)

    def _library_twice(self, copy: Copy, receipts: list[Receipt]) -> None:
        """A client that drops repeats by itself gives each message out once; its connection is a process here."""
        connections: set[int] = set()
        for receipt in receipts:
            if self._plan.sessions[receipt.session].library:
                if receipt.connection in connections:
                    self._ledger.violation(f"twice: {self._shown(copy)} was given out again by the library")
                connections.add(receipt.connection)

    def _dry(self, left: Sequence[Left]) -> None:
        dry = {number for number, message in enumerate(self._plan.messages) if message.dry}
        for copy in self._ledger.received:
            if copy.message in dry:
                self._ledger.violation(f"dry run: {self._shown(copy)} came")
        for one in self._kept(left):
            if one[0] in dry:
                self._ledger.violation(f"dry run: message {one[0]} is on disk")

    # -- order ---------------------------------------------------------------------------------------------------

    def _order(self) -> None:
        """What a session sends of one type over one connection comes to a handler in that order."""
        sizes: Counter[int] = Counter()
        for message in self._plan.messages:
            sizes[message.by] += message.size
        # Calls that wait until there is room to write need not go on in their order.
        crowded = {by for by, size in sizes.items() if size > ROOM and self._plan.sessions[by].library}
        newest: dict[tuple[int, int, int, str], int] = {}
        places: dict[tuple[int, int], int] = {}
        seen: set[tuple[int, int]] = set()
        for at, (number, sent) in enumerate(self._ledger.sent.items()):
            for _, connection in sent:
                places[connection, number] = at
        for one in self._ledger.handled:
            sent = self._ledger.sent[one.message]
            message = self._plan.messages[one.message]
            again = (one.message, one.connection) in seen  # the library's handlers outlive their server
            seen.add((one.message, one.connection))
            if again or one.way or len(sent) != 1 or message.dry or message.by in crowded:
                continue
            key = one.hand, one.connection, sent[0][1], message.type
            place = places[sent[0][1], one.message]
            if place < newest.get(key, -1):
                self._ledger.violation(f"order: handler {one.hand} got message {one.message} late")
            newest[key] = max(place, newest.get(key, -1))
