"""The batch: what the events of one turn of the server's loop lead to.

Every part of the exchange writes here. ``dirty`` lists the endpoints that have frames to be written, ``effects`` lists
what else the server must do, and ``moved`` lists the senders of which fewer messages are under way, so that what waits
behind them may be let in. All are drained once, at the end of the batch.
"""

from __future__ import annotations

from bester.core.effects import Effect, Pause, Resume
from bester.core.endpoint import Endpoint
from bester.core.limits import Limits
from bester.core.metrics import Counters, Drop

_NEVER_PAUSED = ("handler", "node")
"""A handler's answers are what the others wait for, and another node asks for no more than it was told it may."""
_HELD_OVERHEAD = 256
"""What a waiting message takes beside its own bytes, about."""


class Batch:
    """What is shared by all parts of the exchange.

    Args:
        limits: the bounds that the exchange keeps.
        boot: begins the ids that are made here: different each time that a server starts.
    """

    __slots__ = (
        "_last_number",
        "boot",
        "counters",
        "dirty",
        "effects",
        "limits",
        "moved",
        "now",
        "unwritten",
    )

    def __init__(self, limits: Limits, boot: str) -> None:
        self.now = 0.0
        """The server's clock in seconds, set by the server before each batch."""
        self.limits = limits
        self.counters = Counters()
        self.dirty: list[Endpoint] = []
        self.effects: list[Effect] = []
        self.moved: dict[Endpoint, None] = {}
        self.unwritten = False
        """Whether something waits until the batch is written (``Exchange.written``)."""
        self.boot = boot
        self._last_number = 0

    def new_number(self) -> int:
        """Returns a number that is larger than those before it."""
        self._last_number += 1
        return self._last_number

    def new_id(self) -> str:
        """Returns an id that no other message has, over restarts too."""
        return f"{self.boot}-{self.new_number():x}"

    # -- frames --------------------------------------------------------------------------------------------------

    def write(self, endpoint: Endpoint, frame: bytes) -> None:
        """Lets a whole frame be written to an endpoint, after what is already there."""
        endpoint.out.append(frame)
        if not endpoint.listed:
            endpoint.listed = True
            self.dirty.append(endpoint)

    def tell(self, origin: Endpoint, report: bytes) -> None:
        """Writes a report to its sender, if it is still there."""
        if not origin.closed:
            self.write(origin, report)
        else:
            self.counters.drops.count(Drop.REPORT_UNWANTED)

    # -- senders -------------------------------------------------------------------------------------------------

    def fewer_under_way(self, origin: Endpoint) -> None:
        """Fewer messages of a sender are under way: at the batch's end, what waits is let in, or it is closed."""
        if origin.backlog or origin.closing:
            self.moved[origin] = None

    def hold(self, origin: Endpoint, size: int) -> None:
        """Counts the bytes of a message that waits; beyond the limit its sender's socket is not read."""
        origin.held_bytes += size + _HELD_OVERHEAD
        if origin.held_bytes > self.limits.max_held_bytes and not origin.paused and origin.scope not in _NEVER_PAUSED:
            origin.paused = True
            self.effects.append(Pause(origin))

    def release(self, origin: Endpoint, size: int) -> None:
        """Counts a message off that waits no longer."""
        origin.held_bytes -= size + _HELD_OVERHEAD
        if origin.paused and origin.held_bytes <= self.limits.max_held_bytes // 2:
            origin.paused = False
            self.effects.append(Resume(origin))
