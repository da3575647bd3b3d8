"""Messages for accounts whose sessions are on other nodes (docs/scale.md).

A message for an account without a session here is brought to the account's subject. Where no node listens, NATS says
so at once, and it goes to the mailbox. Where some do, each says that it has *taken* it, and answers for it from then
on: it reports that a session has it, or that it put it into the mailbox, or that the session is *gone*. The first that
has it decides. A message that nobody took in time, or only nodes that are gone meanwhile, is brought again; a session
that has it twice then sees the same ``deliveryId``.

Where an account was found last is remembered: the next messages for it are *handed* to that node, in one NATS message
with all other items for it. That is a guess, and a wrong one costs time alone: that node says that the session is gone.
"""

from __future__ import annotations

import logging

from bester.bus.errors import BusDown
from bester.cluster.items import Bring, Kind, numbers, pack
from bester.core.effects import Deposit
from bester.core.model import Delivery
from bester.core.redelivery import ACK_S
from bester.errors import BesterError, Internal, Overloaded, error_of
from bester.protocol.reports import decode_result
from bester.server.cluster.batcher import Batcher
from bester.server.cluster.membership import Membership
from bester.server.mailboxes import Mailboxes
from bester.server.runtime import Runtime

log = logging.getLogger("bester.nodes")

TAKE_S = 2.0
"""How long it may take until a node has taken a message."""
TAKE_SILENT_S = 0.25
"""How long it may take while a node is silent, which may be the one that has the session."""
GIVEN_UP_S = 5.0
"""How long the messages of an account that nobody took, while a node was silent, go to the mailbox at once."""
REPORT_S = ACK_S + 10.0
"""How long a node that has taken a message may take to tell its outcome."""
GONE_S = 0.1
"""How long other nodes may still take a message after a node without a session got it."""
TRIES = 3
"""How often a message is brought, before it goes to the mailbox; once, where a node that may have its account says
nothing."""
JOINING_S = 1.0
"""How long after NATS was lost here other nodes may still be on their way back to it, so that nobody listens yet."""
AGAIN_S = 0.1
"""When a message is brought again then."""
MAX_PLACES = 100_000
"""Of how many accounts the place where they were found is remembered."""


class _Brought:
    """A message that is on its way to other nodes."""

    __slots__ = (
        "deadline",
        "delivery",
        "effect",
        "error",
        "fallen",
        "guessed",
        "handed",
        "number",
        "pausing",
        "takers",
        "tries",
    )

    def __init__(self, number: int, effect: Deposit) -> None:
        self.number = number
        """Its number for the other nodes, the same at each try."""
        self.effect = effect
        self.delivery: Delivery = effect.delivery
        self.takers: set[str] = set()
        """The nodes that answer for it."""
        self.tries = 0
        self.handed = False
        """Whether one node alone got it."""
        self.guessed = False
        """Whether that node has not said anything yet: it may have no session, and then this is brought again."""
        self.pausing = False
        """Whether it is brought again at its deadline, and not before."""
        self.fallen = False
        """Whether it goes to the mailbox, behind older messages."""
        self.deadline = 0.0
        self.error: BesterError | None = None


class RemoteDelivery:
    """Brings messages to sessions on other nodes.

    Args:
        runtime: its exchange is told the outcomes.
        mailboxes: take the messages that no other node has a session for.
        batcher: how the other nodes are reached.
        membership: who they are.
    """

    def __init__(self, runtime: Runtime, mailboxes: Mailboxes, batcher: Batcher, membership: Membership) -> None:
        self._runtime = runtime
        self._mailboxes = mailboxes
        self._batcher = batcher
        self._membership = membership
        self.bus = batcher.bus
        self.brought = 0
        """Messages that other nodes' sessions have, since the start."""
        self._inbox = f"{self.bus.inbox}b"
        self._next = numbers().__next__
        self._under_way: dict[int, _Brought] = {}
        self._lines: dict[str, dict[int, _Brought]] = {}
        """By account, the oldest first: the order in which they go to the mailbox, or are brought again."""
        self._falling: set[str] = set()
        """The accounts of which some messages have fallen."""
        self._fresh: dict[str, list[tuple[int, Delivery]]] = {}
        """By account: the messages that are brought at the end of this turn; copies have the number 0."""
        self._places: dict[str, str] = {}
        """By account: the node where it was found last."""
        self._given_up: dict[str, float] = {}
        """The accounts whose node is silent, it seems, and until when they are not looked for."""
        self._asked: dict[int, list[int]] = {}
        """By the number that comes with NATS's answer: the messages brought in one, until a node has taken them."""
        self._joined_at = -JOINING_S

    def open(self) -> None:
        """Begins to hear from NATS that nobody listens."""
        self.bus.subscribe(f"{self._inbox}.*", self._nobody)

    # -- out -----------------------------------------------------------------------------------------------------

    def bring(self, effect: Deposit) -> bool:
        """Brings a message to other nodes, before it goes to the mailbox; False if it must go there at once."""
        delivery = effect.delivery
        runtime = self._runtime
        here = runtime.exchange.presence.find(delivery.username)
        if here is not None and here.shared and not here.takers(delivery.type):
            here = None  # the sessions here take other types alone
        line = self._lines.get(delivery.username)
        keeps = self._mailboxes.keeps(delivery.username)
        if (
            not self.bus.up
            or here is not None
            or (keeps and line is None)
            or (self._given_up and self._is_given_up(delivery.username))
        ):
            return False
        brought = _Brought(self._next(), effect)
        if keeps:  # it goes to the mailbox, but behind older ones that are still looking for a session
            assert line is not None
            brought.deadline = runtime.exchange.batch.now + GONE_S
            line[brought.number] = self._under_way[brought.number] = brought
            self._fall_back(brought.number)
            return True
        if line is None:
            line = self._lines[delivery.username] = {}
        elif (before := next(reversed(line.values()))).pausing or before.fallen:
            brought.pausing = True
            brought.deadline = before.deadline if before.pausing else self._runtime.exchange.batch.now + GONE_S
        line[brought.number] = self._under_way[brought.number] = brought
        if not brought.pausing:
            self._send(brought)
        return True

    def _is_given_up(self, username: str) -> bool:
        if not self._membership.some_silent:
            self._given_up.clear()
            return False
        return self._runtime.exchange.batch.now < self._given_up.get(username, 0.0) and username not in self._lines

    def found(self, username: str) -> None:
        """Notes that a node has a session of the account."""
        self._given_up.pop(username, None)

    def share(self, delivery: Delivery) -> None:
        """Brings a copy to an account's sessions on other nodes, without an outcome."""
        self._fresh.setdefault(delivery.username, []).append((0, delivery))

    def _send(self, brought: _Brought) -> None:
        brought.tries += 1
        brought.takers.clear()
        brought.handed = brought.guessed = brought.pausing = False
        brought.deadline = self._runtime.exchange.batch.now + (
            TAKE_SILENT_S if self._membership.some_silent else TAKE_S
        )
        self._fresh.setdefault(brought.delivery.username, []).append((brought.number, brought.delivery))

    def flush(self) -> None:
        """Sends what has gathered: one NATS message for each account, or for the node where it was found last."""
        if not self._fresh:
            return
        fresh, self._fresh = self._fresh, {}
        for username, entries in fresh.items():
            numbers = [number for number, _ in entries if number]
            node = self._places.get(username)
            if node is not None and len(numbers) == len(entries):
                for number, delivery in entries:
                    brought = self._under_way[number]
                    brought.handed = brought.guessed = True
                    brought.takers.add(node)  # so that its death is noticed
                    self._batcher.to_node(node, Kind.HAND, number, _note(delivery), delivery.data)
                continue
            items = [
                pack(Kind.BRING, number, _note(delivery, not number), delivery.data) for number, delivery in entries
            ]
            token = self._next()
            reply = f"{self._inbox}.{token}" if numbers else ""
            try:
                self._batcher.publish(self._batcher.subjects.account(username), items, reply)
            except BusDown:
                for number in numbers:
                    self._fall_back(number)
            else:
                if numbers:
                    self._asked[token] = numbers

    # -- what becomes of it --------------------------------------------------------------------------------------

    def _nobody(self, subject: str, reply: str, headers: bytes, data: bytes) -> None:
        """Hears from NATS that no node has a session of the account."""
        numbers = self._asked.pop(int(subject.rpartition(".")[2]), [])
        now = self._runtime.turn().batch.now
        joining = now - self._joined_at < JOINING_S
        for number in numbers:
            brought = self._under_way.get(number)
            if joining and brought is not None and brought.tries < TRIES:
                self._pause(brought, AGAIN_S)
            else:
                self._fall_back(number)

    def _fall_back(self, number: int) -> None:
        """Lets a message go to the mailbox, or to a session that came here meanwhile: no other node has one."""
        brought = self._under_way.get(number)
        if brought is not None:
            brought.fallen = True
            self._falling.add(brought.delivery.username)
            self._let_fall(brought.delivery.username)

    def _let_fall(self, username: str) -> None:
        """Puts fallen messages into the mailbox, behind older ones.

        Nobody may have taken an older one yet, which does not take long; nor may the node that it was handed to have
        answered. Or a node has just taken it, whose session is gone: that node puts it into the mailbox, and soon says
        so.
        """
        just = self._runtime.exchange.batch.now + REPORT_S - TAKE_S
        for brought in list(self._lines.get(username, {}).values()):
            if brought.fallen:
                self._remove(brought)
                self._mailboxes.deposit(brought.effect)
            elif not brought.takers:
                self._pause(brought, GONE_S)
                return
            elif brought.guessed or brought.deadline > just:
                return
        self._falling.discard(username)

    def _pause(self, brought: _Brought, most_s: float) -> None:
        brought.pausing = True
        brought.deadline = min(brought.deadline, self._runtime.exchange.batch.now + most_s)

    def _remove(self, brought: _Brought) -> None:
        del self._under_way[brought.number]
        username = brought.delivery.username
        line = self._lines[username]
        del line[brought.number]
        if not line:
            del self._lines[username]

    def taken(self, node: str, number: int) -> None:
        """Notes that a node answers for a message from now on."""
        brought = self._under_way.get(number)
        if brought is not None:
            brought.takers.add(node)
            brought.guessed = brought.pausing = False
            brought.deadline = self._runtime.exchange.batch.now + REPORT_S

    def gone(self, node: str, number: int) -> None:
        """Notes that the account's session is not at that node any more."""
        brought = self._under_way.get(number)
        if brought is not None:
            brought.takers.discard(node)
            self._places.pop(brought.delivery.username, None)
            if brought.takers:
                return
            if brought.handed:
                self._again(brought)
            else:
                self._pause(brought, GONE_S)

    def came_back(self, number: int) -> None:
        """Notes that this node listens for the account too by now: its session is here, or just comes."""
        brought = self._under_way.get(number)
        if brought is not None and not brought.takers:
            self._pause(brought, GONE_S)

    def outcome(self, node: str, number: int, result: bytes) -> None:
        """Settles a message as a node says; ``result`` is an entry of a report's results, or empty: delivered."""
        brought = self._under_way.get(number)
        if brought is None:
            return
        if not result:
            places = self._places
            if places.get(brought.delivery.username) != node:
                if len(places) >= MAX_PLACES:
                    places.clear()
                places[brought.delivery.username] = node
            self._settle(brought, "delivered", None)
            return
        found = decode_result(result)
        brought.takers.discard(node)
        if found.error is not None:
            brought.error = error_of(found.error.code, found.error.message)
        if found.status in ("delivered", "stored"):
            self._settle(brought, found.status, None)
        elif not brought.takers:
            self._settle(brought, found.status, brought.error)

    def _settle(self, brought: _Brought, status: str, error: BesterError | None) -> None:
        self._remove(brought)
        if status == "delivered":
            self.brought += 1
        if status == "failed" and error is None:
            error = Internal()
        self._runtime.exchange.replay.deposited(brought.delivery, status, error)
        if brought.delivery.username in self._falling:
            self._let_fall(brought.delivery.username)

    def _again(self, brought: _Brought) -> None:
        username = brought.delivery.username
        self._places.pop(username, None)
        wanted = self._runtime.exchange.presence.find(username) is None  # else it is for the session that came here
        # What was said of a newer one holds for this one, too: they went the same way. Unless it is not asked for yet.
        nobody = (username in self._falling and brought.tries > 0) or self._mailboxes.keeps(username)
        heard = self._membership.all_heard(TAKE_S)
        if brought.tries < TRIES and self.bus.up and heard and wanted and not nobody:
            self._send(brought)
            self._runtime.turn()
        else:
            if not heard and len(self._given_up) < MAX_PLACES:
                self._given_up[username] = self._runtime.exchange.batch.now + GIVEN_UP_S
            self._fall_back(brought.number)

    def node_leaves(self, node: str) -> None:
        """Hands nothing more to that node."""
        self._places = {username: place for username, place in self._places.items() if place != node}

    def node_gone(self, node: str, *, silent: bool = False) -> None:
        """Brings again the messages that this node alone answered for, and soon those that nobody answers for yet.

        Args:
            node: which.
            silent: whether it may live on, cut off from here: then it is in vain to look for its sessions elsewhere.
        """
        self.node_leaves(node)
        for number, brought in list(self._under_way.items()):
            if node in brought.takers and silent:
                brought.takers.discard(node)
                if not brought.takers:
                    self._fall_back(number)
            elif node in brought.takers:
                self.gone(node, number)
            elif not brought.takers:
                self._pause(brought, GONE_S)

    def bus_up(self) -> None:
        """Notes that NATS is there again; the others may still be on their way back to it."""
        self._joined_at = self._runtime.exchange.batch.now

    def bus_down(self) -> None:
        """Fails all messages under way, whose outcome nobody knows; their senders may try again."""
        under_way, self._under_way = self._under_way, {}
        self._lines.clear()
        self._falling.clear()
        self._asked.clear()
        self._fresh.clear()
        self._places.clear()
        self._given_up.clear()
        for brought in under_way.values():
            error = Overloaded("this server's nodes cannot reach each other now")
            self._runtime.exchange.replay.deposited(brought.delivery, "failed", error)

    def sweep(self, now: float) -> None:
        """Brings messages again that nobody took, or reported, in time."""
        for brought in list(self._under_way.values()):
            if now >= brought.deadline and brought.number in self._under_way:
                self._again(brought)
        if len(self._asked) > 2 * len(self._under_way) + 100:
            known = self._under_way
            self._asked = {token: all for token, all in self._asked.items() if any(one in known for one in all)}


def _note(delivery: Delivery, copy: bool = False) -> Bring:
    return Bring(delivery.username, delivery.id, delivery.type, delivery.to, delivery.transient, copy)
