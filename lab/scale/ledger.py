"""The ledger of a world's messages: what was sent, where it came, and what was reported.

A message's data begins with its number. Numbers grow in the order of sending, so a recipient to whom a sender's numbers
come growing has none twice, and all in order.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from hashlib import blake2b

GOOD, BAD = 1, 2


class Ledger:
    """All messages of one world."""

    def __init__(self) -> None:
        self.sender = array("i")
        self.target = array("i")
        """The server whose client is to get it; -1: the members of a group."""
        self.wanted = array("i")
        """How many are to get it."""
        self.got = array("i")
        self.sent_at = array("d")
        self.reported = array("b")
        self.reported_at = array("d")
        self.latencies = array("d")
        """One for each delivery."""
        self.arrived = array("d")
        """When each delivery came."""
        self.hops = array("b")
        """One for each request of a last handler."""
        self.twice = 0
        self.out_of_order = 0
        self._last: dict[int, int] = {}
        """The last number that came, by recipient and sender."""

    def send(self, sender: int, target: int, wanted: int, now: float) -> int:
        """Notes that a message is sent; returns its number."""
        self.sender.append(sender)
        self.target.append(target)
        self.wanted.append(wanted)
        self.got.append(0)
        self.sent_at.append(now)
        self.reported.append(0)
        self.reported_at.append(0.0)
        return len(self.sender) - 1

    def receive(self, number: int, recipient: int, now: float) -> None:
        """Notes that a recipient has a message."""
        self.got[number] += 1
        self.latencies.append(now - self.sent_at[number])
        self.arrived.append(now)
        key = recipient << 32 | self.sender[number]
        last = self._last.get(key, -1)
        if number > last:
            self._last[key] = number
        elif number == last:
            self.twice += 1
        else:
            self.out_of_order += 1

    def report(self, number: int, good: bool, now: float) -> None:
        """Notes a message's report."""
        if self.reported[number]:
            self.twice += 1
        self.reported[number] = GOOD if good else BAD
        self.reported_at[number] = now

    # -- what is checked at the end ------------------------------------------------------------------------------

    def count(self, status: int) -> int:
        """Returns how many messages were reported so; 0 stands for no report."""
        return self.reported.count(status)

    @property
    def lost(self) -> int:
        """How many messages were reported good, and did not come to everyone."""
        return sum(
            got < wanted
            for got, wanted, reported in zip(self.got, self.wanted, self.reported, strict=True)
            if reported == GOOD
        )

    @property
    def surplus(self) -> int:
        """How many came more often than they were to."""
        return sum(got > wanted for got, wanted in zip(self.got, self.wanted, strict=True))

    def faults(self) -> list[str]:
        """Returns which promises were broken, in words."""
        found = {
            "reported good, and lost": self.lost,
            "seen twice": self.twice + self.surplus,
            "out of order": self.out_of_order,
            "without a report": self.count(0),
        }
        return [f"{number:,} {what}" for what, number in found.items() if number]

    def digest(self, more: Iterable[object] = ()) -> str:
        """Returns what is equal if, and only if, all happened alike."""
        summed = blake2b(digest_size=8)
        for column in (self.got, self.reported, self.sent_at, self.reported_at, self.arrived, self.hops):
            summed.update(column.tobytes())
        summed.update(repr(list(more)).encode())
        return summed.hexdigest()
