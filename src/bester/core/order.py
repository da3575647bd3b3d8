"""Keeps one sender's messages in order while handlers of other nodes are asked."""

from __future__ import annotations


class Order:
    """Keeps the order of one sender's messages where handlers of other nodes are asked.

    Such a node carries out by itself what an answer says (:mod:`bester.core.nodes`), but leaves some to this one. What
    is carried out there must not overtake what was left: so nothing is to be carried out there while something that was
    left is under way, or may yet be left. What had been asked before that was known is recognised by its epoch.
    """

    __slots__ = ("asked", "epoch", "left", "number", "older")

    def __init__(self, number: int) -> None:
        self.number = number
        """What other nodes know the sender by."""
        self.epoch = 1
        """Larger each time that something was left unexpectedly."""
        self.left = 0
        """How many messages are under way that this node carries out."""
        self.asked = 0
        """How many requests are outstanding that may be carried out there."""
        self.older = 0
        """How many are of an earlier epoch, and so may be left."""

    def begin(self) -> None:
        """Something was left unexpectedly: so may be all that is outstanding."""
        self.epoch += 1
        self.older += self.asked
        self.asked = 0

    def answered(self, epoch: int) -> None:
        """A request of this epoch has its answer, or will have none."""
        if epoch == self.epoch:
            self.asked -= 1
        else:
            self.older -= 1
