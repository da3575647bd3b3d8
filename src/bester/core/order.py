"""The order of one sender's messages while handlers of other nodes are asked.

Such a node carries out by itself what an answer says (:mod:`bester.core.remote`), but sends some answers back, and this
node carries those out *locally*. What is carried out there must not overtake what is answered locally: so nothing is to
be carried out there while something that is answered locally is under way, or may yet be. What had been asked before
that was known is recognised by its epoch.
"""

from __future__ import annotations


class Order:
    """Counts one sender's requests to other nodes, by whether this node or the other carries out the answers."""

    __slots__ = ("answered_locally", "asked", "epoch", "number", "older")

    def __init__(self, number: int) -> None:
        self.number = number
        """By which other nodes know the sender."""
        self.epoch = 1
        """Grows each time that an answer came back unexpectedly."""
        self.answered_locally = 0
        """How many messages are under way that this node carries out."""
        self.asked = 0
        """How many requests are outstanding that may be carried out there."""
        self.older = 0
        """How many are of an earlier epoch, so that their answers may come back."""

    def begin(self) -> None:
        """An answer came back unexpectedly: so may those of all that is outstanding."""
        self.epoch += 1
        self.older += self.asked
        self.asked = 0

    def answered(self, epoch: int) -> None:
        """Counts off a request of this epoch: it has its answer, or will have none."""
        if epoch == self.epoch:
            self.asked -= 1
        else:
            self.older -= 1
