"""The order of one sender's messages while handlers of other nodes are asked.

Another node carries out most answers of its handlers by itself (:mod:`bester.core.remote`). It sends some back, and
this node carries those out *locally*. An answer that is carried out there must not overtake an earlier one that is
carried out locally. So the other node may carry out nothing while a message of the sender is, or may still be, answered
locally. When an answer comes back unexpectedly, a new epoch begins; the requests of earlier epochs are those that were
sent before this node knew.
"""

from __future__ import annotations


class Order:
    """Counts one sender's requests to other nodes, by whether this node or the other carries out the answers."""

    __slots__ = ("answered_locally", "asked", "epoch", "number", "older")

    def __init__(self, number: int) -> None:
        self.number = number
        """The number by which other nodes know the sender."""
        self.epoch = 1
        """Grows each time that an answer comes back unexpectedly."""
        self.answered_locally = 0
        """How many messages are under way whose answers this node carries out."""
        self.asked = 0
        """How many outstanding requests of this epoch the other nodes may carry out."""
        self.older = 0
        """How many outstanding requests are of an earlier epoch, so that their answers may come back."""

    def begin(self) -> None:
        """Begins a new epoch: an answer came back unexpectedly, so those of all outstanding requests may."""
        self.epoch += 1
        self.older += self.asked
        self.asked = 0

    def answered(self, epoch: int) -> None:
        """Counts off a request of this epoch, which has its answer or will have none."""
        if epoch == self.epoch:
            self.asked -= 1
        else:
            self.older -= 1
