"""Which accounts have sessions here, as NATS knows it by this node's interest in their subjects (docs/scale.md).

A node that has a session of an account listens on the account's subject, and says there that it does; the other nodes
that have one answer. So they know of each other, and a node that delivers to its own session sends the others a copy.
That knowledge is never needed for reaching an account that has no session here: NATS is asked for it each time.

A node asks before a client's login is reported good, so that what is sent from then on reaches all sessions, wherever
it is sent. It asks before it listens itself, so that NATS says at once where nobody does, which is nearly always. Where
some do, each answers when it knows of this node, and names the others that it knows: all have been told when all that
were named have answered. Two nodes that ask at the same moment may both hear that nobody is there. They learn better
within moments, and until then each publishes copies without knowing whether anybody wants them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bester.bus.errors import BusDown
from bester.cluster.items import Kind, Named, Seen, numbers, pack
from bester.errors import BesterError
from bester.server.cluster.batcher import Batcher
from bester.server.cluster.membership import Membership
from bester.server.runtime import Runtime
from bester.store.ports import MessageStore
from bester.timeouts import within

if TYPE_CHECKING:
    from bester.bus.subscription import MessageCallback, Subscription

log = logging.getLogger("bester.nodes")

HAS_SESSION, NO_SESSION = b"1", b"0"
LOOK_AGAIN_S = 1.0
"""How long after an account's first session came its mailbox is read again, for letters from a node whose NATS server
had not heard of the session yet."""
LISTEN_ON_S = 1.0
MEET_S = 1.0
"""How long a login waits at most for the other nodes that have the account."""
MEET_SILENT_S = 0.25
"""How long it waits while a node is silent, which may be the one that does not answer."""
UNCERTAIN_S = 0.25
"""How long after an account's first session came others may have one that have not heard of it."""
LOOKS_AT_ONCE = 100
"""How many mailboxes are looked into with each sweep."""


class _Meeting:
    """A question who else has sessions of an account."""

    def __init__(self) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.named: set[str] = set()
        self.answered: set[str] = set()

    def end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)


class AccountInterest:
    """The accounts that one node listens for.

    Args:
        runtime: its exchange has the sessions.
        messages: the mailboxes.
        batcher: how the other nodes are reached.
        membership: who they are.
        heard: called with what comes on the subject of an account.
    """

    def __init__(
        self, runtime: Runtime, messages: MessageStore, batcher: Batcher, membership: Membership, heard: MessageCallback
    ) -> None:
        self._runtime = runtime
        self._messages = messages
        self._batcher = batcher
        self._membership = membership
        self._heard = heard
        self._listening: dict[str, tuple[Subscription, int]] = {}
        """By account, and for how many reasons: it has sessions, or one is being made."""
        self._here: dict[str, None] = {}
        """The accounts with sessions here."""
        self._elsewhere: dict[str, set[str]] = {}
        """The nodes that have sessions too, by account that is listened to; only where there are any."""
        self._uncertain: dict[str, float] = {}
        """The accounts that other nodes may have too without knowing of it, and until when, the oldest first."""
        self._leaving: deque[tuple[float, str]] = deque()
        """The accounts whose sessions were being made, and until when their subjects are listened to for that."""
        self._arrived: Counter[str] = Counter()
        """How often each of them stands in ``_leaving`` for a session that has not come."""
        self._inbox = f"{batcher.bus.inbox}s"
        self._next = numbers().__next__
        self._meetings: dict[str, _Meeting] = {}
        self._asked: dict[int, _Meeting] = {}
        """By the number that comes with NATS's answer."""
        self._looks: deque[tuple[float, str]] = deque()
        """The mailboxes that are read again, and when."""

    def open(self) -> None:
        """Begins to hear from NATS that nobody listens."""
        self._batcher.bus.subscribe(f"{self._inbox}.*", self._nobody)
        self._runtime.exchange.presence.begins_shared = True

    async def meet(self, username: str) -> None:
        """Returns when the other nodes with sessions of an account know that it is about to have one here.

        It is not waited for longer than ``MEET_S``, and nobody is asked while NATS is away.
        """
        if username in self._listening:
            return  # the others know
        meeting = self._meetings.get(username)
        if meeting is None:
            number = self._next()
            item = pack(Kind.HERE, 0, Named(username))
            try:
                self._batcher.publish(self._batcher.subjects.account(username), [item], f"{self._inbox}.{number}")
            except BusDown:
                return
            self._tell_all_if_silent(username)
            self._runtime.turn()
            meeting = self._meetings[username] = self._asked[number] = _Meeting()
            meeting.over.add_done_callback(lambda _: self._met(username, number))
        try:
            async with within(MEET_SILENT_S if self._membership.some_silent else MEET_S):
                await asyncio.shield(meeting.over)
        except TimeoutError:
            log.info("not all nodes that have %s answered in time", ascii(username))
            meeting.end()

    def _tell_all_if_silent(self, username: str) -> None:
        """While a node is silent, others may have given up an account that was there."""
        if self._membership.some_silent:
            self._batcher.to_all(Kind.HERE, Named(username))

    def _met(self, username: str, number: int) -> None:
        del self._meetings[username], self._asked[number]

    def _nobody(self, subject: str, reply: str, headers: bytes, data: bytes) -> None:
        """Hears from NATS that no other node listens."""
        meeting = self._asked.get(int(subject.rpartition(".")[2]))
        if meeting is not None:
            meeting.end()

    @contextmanager
    def arriving(self, username: str) -> Iterator[None]:
        """While a session is being made: what is brought from now on is for it. NATS hears of it before anything that
        is asked after this, such as what is in the mailbox."""
        self._listen(username)
        try:
            yield
        finally:
            # Not at once: the session is announced a moment later, and its account must not be without a listener.
            self._leaving.append((self._runtime.clock() + LISTEN_ON_S, username))
            self._arrived[username] += 1

    def presence_changed(self, username: str, online: bool) -> None:
        """Tells the others that an account's first session came, or its last one went."""
        if online:
            self._here[username] = None
            self._listen(username)
            self._stop_waiting_for(username)
            now = self._runtime.exchange.batch.now
            self._uncertain.pop(username, None)
            self._uncertain[username] = now + UNCERTAIN_S
            self._batcher.to_account(username, Kind.HERE, Named(username))
            self._tell_all_if_silent(username)
            self._looks.append((now + LOOK_AGAIN_S, username))
        elif username in self._here:
            del self._here[username]
            self._uncertain.pop(username, None)
            self._unlisten(username)
        self._batcher.to_watchers(Seen(username))

    def _listen(self, username: str) -> None:
        known = self._listening.get(username)
        if known is None:
            listening = self._batcher.bus.subscribe(self._batcher.subjects.account(username), self._heard)
            self._listening[username] = (listening, 1)
        else:
            self._listening[username] = (known[0], known[1] + 1)

    def _unlisten(self, username: str) -> None:
        listening, reasons = self._listening[username]
        if reasons > 1:
            self._listening[username] = (listening, reasons - 1)
        else:
            del self._listening[username]
            self._batcher.bus.unsubscribe(listening)
            self._batcher.to_account(username, Kind.BYE, Named(username))
            self._elsewhere.pop(username, None)

    def _stop_waiting_for(self, username: str) -> None:
        """Forgets the sessions of an account that were being made, because one has come."""
        for _ in range(self._arrived.pop(username, 0)):
            self._unlisten(username)

    def here(self, node: str, note: Named) -> None:
        """Notes that another node has sessions of an account."""
        username = note.username
        meeting = self._meetings.get(username)
        if meeting is None and username not in self._listening:
            return
        others = self._elsewhere.setdefault(username, set())
        others.add(node)
        self._runtime.exchange.deliveries.share(username, True)
        if not note.answer:
            self._batcher.to_node(node, Kind.HERE, 0, Named(username, True, sorted(others - {node})))
        elif meeting is not None:
            meeting.answered.add(node)
            meeting.named |= {one for one in note.also if one != self._batcher.node and one in self._membership.others}
            if meeting.named <= meeting.answered:
                meeting.end()

    def is_shared(self, username: str) -> bool:
        """Whether other nodes may have sessions of the account too."""
        return username in self._elsewhere or username in self._uncertain

    def bye(self, node: str, username: str) -> None:
        """Notes that another node has no sessions of an account any more."""
        others = self._elsewhere.get(username)
        if others is not None:
            others.discard(node)
            if not others:
                del self._elsewhere[username]
                self._runtime.exchange.deliveries.share(username, username in self._uncertain)

    def ping_answer(self, subject: str) -> bytes:
        """Returns the answer to an empty message: on an account's subject, whether it has a session here."""
        prefix = self._batcher.subjects.account_prefix
        if not subject.startswith(prefix):
            return b""
        return HAS_SESSION if bytes.fromhex(subject[len(prefix) :]).decode() in self._here else NO_SESSION

    def counted_here(self) -> int:
        """Returns how many accounts with sessions here this node counts; a shared account is counted by one node."""
        others = sum(min(nodes) < self._batcher.node for name, nodes in self._elsewhere.items() if name in self._here)
        return len(self._runtime.exchange.presence.usernames()) - others

    def node_gone(self, node: str) -> None:
        """Notes that a node is gone, with all its sessions."""
        for meeting in list(self._meetings.values()):
            meeting.named.discard(node)
            if meeting.answered and meeting.named <= meeting.answered:
                meeting.end()
        for username in [name for name, nodes in self._elsewhere.items() if node in nodes]:
            self.bye(node, username)

    def node_back(self, node: str) -> None:
        """Tells a node anew what it may not have heard, and reads mailboxes for what this node may not have heard."""
        self.node_gone(node)
        for username in self._here:
            self._batcher.to_node(node, Kind.HERE, 0, Named(username))
        self._look_at_all()

    def bus_down(self) -> None:
        """Forgets the other nodes, because NATS is away."""
        for username in list(self._elsewhere):
            self._runtime.exchange.deliveries.share(username, False)
        self._elsewhere.clear()
        for meeting in self._meetings.values():
            meeting.end()

    def bus_up(self) -> None:
        """Tells the others anew which accounts are here, and reads mailboxes for what came meanwhile."""
        for username in self._here:
            self._batcher.to_account(username, Kind.HERE, Named(username))
        self._look_at_all()

    def _look_at_all(self) -> None:
        now = self._runtime.exchange.batch.now
        waiting = {username for _, username in self._looks}
        self._looks.extend((now, username) for username in self._here if username not in waiting)

    def leave(self) -> None:
        """Listens for no account any more, because this node stops."""
        here, self._here = self._here, {}
        for username in here:
            self._unlisten(username)

    def sweep(self, now: float) -> None:
        """Reads mailboxes again, and stops listening for sessions that did not come, when it is time."""
        while self._leaving and self._leaving[0][0] <= now:
            username = self._leaving.popleft()[1]
            if self._arrived[username] > 0:
                self._arrived[username] -= 1
                self._unlisten(username)
            if not self._arrived[username]:
                del self._arrived[username]
        while self._uncertain:
            username, until = next(iter(self._uncertain.items()))
            if now < until:
                break
            del self._uncertain[username]
            self._runtime.exchange.deliveries.share(username, username in self._elsewhere)
        names: dict[str, None] = {}
        while self._looks and self._looks[0][0] <= now and len(names) < LOOKS_AT_ONCE:
            names[self._looks.popleft()[1]] = None
        for username in names:
            if username in self._here:
                self._runtime.spawn(self._look(username))

    async def _look(self, username: str) -> None:
        try:
            # Read, and not only asked for: while the stream has no leader, that tells what a replica knows.
            has_mail = bool(await self._messages.read_mailbox(username, 0, 1, 1, self._runtime.steady.now()))
        except BesterError as error:
            log.info("the mailbox of %s was not looked into again: %s", ascii(username), error.inside)
            self._looks.append((self._runtime.clock() + LOOK_AGAIN_S, username))
            return
        if has_mail:
            self._runtime.turn().replay.mail_came(username)
