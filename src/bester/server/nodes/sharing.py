"""Which accounts have sessions here, as NATS knows it by this node's interest in their subjects (docs/scale.md).

Who has a session of an account listens on its subject, and says there that it does; the others that do answer. So they
know of each other, and whoever delivers to its own session sends the others a copy. That knowledge is never needed for
reaching an account that has no session here: that is asked of NATS, each time.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bester.cluster.items import Kind, Named, Seen
from bester.errors import BesterError
from bester.server.nodes.post import Post

if TYPE_CHECKING:
    from bester.bus.wire import Heard, Listening
    from bester.server.hall import Hall

log = logging.getLogger("bester.nodes")

HAS_SESSION, NO_SESSION = b"1", b"0"
LOOK_AGAIN_S = 1.0
"""When the mailbox of an account is looked into again after its first session came: for what was put there by a node
whose NATS server had not heard of the session yet."""
LISTEN_ON_S = 1.0
LOOKS_AT_ONCE = 100
"""How many mailboxes are looked into with each sweep."""


class Sharing:
    """Those of one node.

    Args:
        hall: whose sessions they are.
        post: how the other nodes are reached.
        heard: called with what comes on the subject of an account.
    """

    def __init__(self, hall: Hall, post: Post, heard: Heard) -> None:
        self.hall = hall
        self.post = post
        self._heard = heard
        self._listening: dict[str, tuple[Listening, int]] = {}
        """By account, and for how many reasons: it has sessions, or one is being made."""
        self._here: set[str] = set()
        """The accounts with sessions here."""
        self._elsewhere: dict[str, set[str]] = {}
        """The nodes that have sessions too, by account; only where there are any."""
        self._leaving: deque[tuple[float, str]] = deque()
        """Whose sessions were being made, and until when their accounts' subjects are listened to for that."""
        self._looks: deque[tuple[float, str]] = deque()
        """Which mailboxes are looked into again, and when."""

    @contextmanager
    def arriving(self, username: str) -> Iterator[None]:
        """While a session is being made: what is brought from now on is for it. NATS hears of it before anything that
        is asked after this, such as what is in the mailbox."""
        self._listen(username)
        try:
            yield
        finally:
            # Not at once: the session is announced a moment later, and its account must not be without a listener.
            self._leaving.append((self.hall.clock() + LISTEN_ON_S, username))

    def presence_changed(self, username: str, online: bool) -> None:
        """An account's first session came, or its last one went."""
        if online:
            self._here.add(username)
            self._listen(username)
            self.post.to_account(username, Kind.HERE, Named(username))
            self._looks.append((self.hall.exchange.now + LOOK_AGAIN_S, username))
        elif username in self._here:
            self._here.discard(username)
            self._unlisten(username)
            self.post.to_account(username, Kind.BYE, Named(username))
            self._elsewhere.pop(username, None)
        self.post.to_watchers(Seen(username))

    def _listen(self, username: str) -> None:
        known = self._listening.get(username)
        if known is None:
            listening = self.post.bus.listen(self.post.subjects.account(username), self._heard)
            self._listening[username] = (listening, 1)
        else:
            self._listening[username] = (known[0], known[1] + 1)

    def _unlisten(self, username: str) -> None:
        listening, reasons = self._listening[username]
        if reasons > 1:
            self._listening[username] = (listening, reasons - 1)
        else:
            del self._listening[username]
            self.post.bus.unlisten(listening)

    def here(self, node: str, note: Named) -> None:
        """Another node has sessions of the account."""
        username = note.username
        if username not in self._here:
            return
        self._elsewhere.setdefault(username, set()).add(node)
        self.hall.exchange.share(username, True)
        if not note.answer:
            self.post.to_node(node, Kind.HERE, 0, Named(username, answer=True))

    def is_shared(self, username: str) -> bool:
        """Whether other nodes have sessions of the account too."""
        return username in self._elsewhere

    def bye(self, node: str, username: str) -> None:
        """Another node has none any more."""
        others = self._elsewhere.get(username)
        if others is not None:
            others.discard(node)
            if not others:
                del self._elsewhere[username]
                self.hall.exchange.share(username, False)

    def ping_answer(self, subject: str) -> bytes:
        """What is said to an empty message: whether an account has a session here, on its subject."""
        prefix = self.post.subjects.account_prefix
        if not subject.startswith(prefix):
            return b""
        return HAS_SESSION if bytes.fromhex(subject[len(prefix) :]).decode() in self._here else NO_SESSION

    def counted_here(self) -> int:
        """How many of the accounts with sessions here are counted by this node: those shared with others by one."""
        others = sum(min(nodes) < self.post.node for nodes in self._elsewhere.values())
        return len(self.hall.exchange.presence.usernames()) - others

    def node_gone(self, node: str) -> None:
        """All that it had is gone."""
        for username in [name for name, nodes in self._elsewhere.items() if node in nodes]:
            self.bye(node, username)

    def node_back(self, node: str) -> None:
        """What one has not heard of the other may be lost: it is said anew, and asked for, and looked for."""
        self.node_gone(node)
        for username in self._here:
            self.post.to_node(node, Kind.HERE, 0, Named(username))
        self._look_at_all()

    def bus_down(self) -> None:
        """There are no others, as far as anyone here knows."""
        for username in list(self._elsewhere):
            self.hall.exchange.share(username, False)
        self._elsewhere.clear()

    def bus_up(self) -> None:
        """The others hear anew who is here, and what came meanwhile is looked for."""
        for username in self._here:
            self.post.to_account(username, Kind.HERE, Named(username))
        self._look_at_all()

    def _look_at_all(self) -> None:
        now = self.hall.exchange.now
        waiting = {username for _, username in self._looks}
        self._looks.extend((now, username) for username in self._here - waiting)

    def leave(self) -> None:
        """This node stops: nothing more is brought here."""
        for username in self._here:
            self._unlisten(username)
            self.post.to_account(username, Kind.BYE, Named(username))
        self._here.clear()

    def sweep(self, now: float) -> None:
        """Looks into mailboxes again, and listens to what nobody came for no longer, when it is time."""
        while self._leaving and self._leaving[0][0] <= now:
            self._unlisten(self._leaving.popleft()[1])
        names: set[str] = set()
        while self._looks and self._looks[0][0] <= now and len(names) < LOOKS_AT_ONCE:
            names.add(self._looks.popleft()[1])
        for username in names & self._here:
            self.hall.spawn(self._look(username))

    async def _look(self, username: str) -> None:
        try:
            # Read, and not only asked for: while the stream has no leader, that tells what a replica knows.
            has_mail = bool(await self.hall.messages.read_mailbox(username, 0, 1, 1, self.hall.steady.now()))
        except BesterError as error:
            log.info("the mailbox of %s was not looked into again: %s", ascii(username), error.inside)
            self._looks.append((self.hall.clock() + LOOK_AGAIN_S, username))
            return
        if has_mail:
            self.hall.exchange.now = self.hall.clock()
            self.hall.exchange.mail_came(username)
            self.hall.flush_soon()
