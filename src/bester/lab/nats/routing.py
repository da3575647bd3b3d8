"""Routing: the subscriptions at all servers of a cluster, and which of these servers reach each other."""

from __future__ import annotations

from random import Random
from typing import Protocol

from bester.lab.nats.subjects import SubjectTree, is_pattern
from bester.lab.nats.wire import Message


class Member:
    """A server, as the others know it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.running = False
        self.starts = 0
        """How often it was started."""
        self.retiring = False
        """Whether it sends its clients away to other servers."""
        self.address = ""
        """Where its clients can connect; empty if they are not told."""


class Subscription(Protocol):
    """Interest in messages."""

    subject: str
    """The subject, or the pattern that matches the subjects."""
    queue: str
    """The queue group, one of which gets each message; empty if this gets every message."""

    def member(self) -> Member | None:
        """Returns the server where it is; None while it is nowhere."""
        ...

    def deliver(self, message: Message, via: Member, origin: object) -> bool:
        """Takes a message; False if it turns out not to be interested.

        Args:
            message: the message.
            via: the server that it was published at.
            origin: the connection that it came from; None if a server made it.
        """
        ...


class Router:
    """Carries messages between the servers of one cluster, without delay and in order.

    Args:
        random: chooses the members of queue groups.
    """

    def __init__(self, random: Random) -> None:
        self.members: dict[str, Member] = {}
        self._random = random
        self._literal: dict[str, dict[Subscription, None]] = {}
        self._patterns: SubjectTree[dict[Subscription, None]] = SubjectTree()
        self._cuts: dict[tuple[str, str], None] = {}
        """The pairs of servers of which the second does not hear the first."""

    # -- routes --------------------------------------------------------------------------------------------------------

    def cut(self, speaker: str, hearer: str) -> None:
        """Lets a server no longer hear what another one says."""
        self._cuts[speaker, hearer] = None

    def heal(self) -> None:
        """Lets all servers hear each other."""
        self._cuts.clear()

    def reaches(self, one: Member, other: Member | None) -> bool:
        """Whether messages get from one server to another one."""
        if one is other:
            return True
        if other is None or not other.running:
            return False
        return not self._cuts or (one.name, other.name) not in self._cuts

    # -- subscriptions ---------------------------------------------------------------------------------------------

    def add(self, subscription: Subscription) -> None:
        subject = subscription.subject
        if not is_pattern(subject):
            self._literal.setdefault(subject, {})[subscription] = None
            return
        found = self._patterns.get(subject)
        if found is None:
            found = {}
            self._patterns.set(subject, found)
        found[subscription] = None

    def remove(self, subscription: Subscription) -> None:
        """Removes a subscription; the second time it does nothing."""
        subject = subscription.subject
        literal = not is_pattern(subject)
        found = self._literal.get(subject) if literal else self._patterns.get(subject)
        if found is None:
            return
        found.pop(subscription, None)
        if not found:
            if literal:
                del self._literal[subject]
            else:
                self._patterns.remove(subject)

    # -- messages --------------------------------------------------------------------------------------------------

    def publish(self, message: Message, via: Member, origin: object = None, to: str = "") -> bool:
        """Gives a message to all that hear it, and to one of each queue group.

        Args:
            message: the message.
            via: the server that it is published at.
            origin: the connection that it came from.
            to: the subject whose subscriptions hear it, if it is not the message's own.

        Returns:
            whether anything heard it.
        """
        subject = to or message.subject
        hearing = [*self._literal.get(subject, ())]
        for some in self._patterns.of_patterns(subject):
            hearing += some
        heard = False
        groups: dict[str, list[Subscription]] = {}
        for one in hearing:
            if not self.reaches(via, one.member()):
                continue
            if one.queue:
                groups.setdefault(one.queue, []).append(one)
            elif one.deliver(message, via, origin):
                heard = True
        for group in groups.values():
            near = [one for one in group if one.member() is via] or group
            if self._random.choice(near).deliver(message, via, origin):
                heard = True
        return heard
