"""Keeps in memory who is connected: here by the informer, elsewhere by the other servers' chats.

What is told of is sent once and never kept: a chat that comes back tells all of its people again, and one that cannot
be reached any more has nobody connected.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from bester_gadgets.chat.wire import MAX_ITEMS, Online, Presence, PresenceEvent, Probe

MAX_SEEN = 4 * MAX_ITEMS
"""People elsewhere whom one account sees."""


@dataclass
class Moves:
    """The messages to send after a change: to accounts here, and to other servers."""

    told: list[tuple[list[str], PresenceEvent]] = field(default_factory=list)
    passing: list[tuple[str, Presence | Probe]] = field(default_factory=list)


class Around:
    """The people who are connected here, and the people elsewhere whom they see."""

    def __init__(self) -> None:
        self.own = ""
        self.known = False
        """Whether the informer is there; without it everybody counts as connected."""
        self._here: set[str] = set()
        self._seen: dict[str, set[str]] = {}

    def here(self, user: str) -> bool:
        """Says whether an account is connected, or may be."""
        return not self.known or user in self._here

    def certainly(self, user: str) -> bool:
        return user in self._here

    def came(self, user: str) -> bool:
        """An account is connected; returns whether that is new."""
        new = user not in self._here
        self._here.add(user)
        return new

    def went(self, user: str) -> None:
        self._here.discard(user)
        self._seen.pop(user, None)

    def forget(self) -> list[str]:
        """The informer is gone; returns who was connected."""
        gone = list(self._here)
        self._here.clear()
        self._seen.clear()
        self.known = False
        return gone

    def retain(self, users: Iterable[str]) -> None:
        """Replaces the set of people who are connected."""
        self._here = set(users)
        self.known = True

    def people(self) -> list[str]:
        return sorted(self._here)

    # -- elsewhere ----------------------------------------------------------------------------------------------

    def saw(self, user: str, people: list[Online]) -> None:
        """An account here was told of people elsewhere."""
        seen = self._seen.setdefault(user, set())
        for one in people:
            if not one.online:
                seen.discard(one.who)
            elif len(seen) < MAX_SEEN:
                seen.add(one.who)

    def sees(self, user: str) -> set[str]:
        return self._seen.get(user, set())

    def servers(self) -> set[str]:
        """Returns the servers that somebody is seen of."""
        return {who.rpartition("@")[2] for seen in self._seen.values() for who in seen}

    def lost(self, server: str) -> Moves:
        """Another server cannot be reached: nobody of it is connected, as far as anybody can tell."""
        moves = Moves()
        for user, seen in self._seen.items():
            gone = sorted(who for who in seen if who.rpartition("@")[2] == server)
            seen.difference_update(gone)
            if gone:
                moves.told.append(([user], PresenceEvent(people=[Online(who, False) for who in gone])))
        return moves


def announce(own: str, audience: list[str], who: str, online: bool) -> Moves:
    """Returns what to tell those who may see somebody of this server.

    Args:
        own: this server's name.
        audience: their addresses.
        who: the account's address.
        online: whether it is connected now.
    """
    moves = Moves()
    people = [Online(who, online)]
    servers: dict[str, list[str]] = {}
    for address in audience:
        name, _, server = address.rpartition("@")
        servers.setdefault(server, []).append(name if server == own else address)
    for server, some in servers.items():
        if server == own:
            moves.told.append((some, PresenceEvent(people=people)))
            continue
        for at in range(0, len(some), MAX_ITEMS):
            moves.passing.append((server, Presence(to=some[at : at + MAX_ITEMS], people=people)))
    return moves
