"""The batch: the output of the exchange during one turn of the server's loop.

Every part of the exchange writes here. ``dirty`` lists the endpoints that have frames to be written, ``effects`` lists
what else the server must do, and ``freed`` lists the senders that have fewer messages under way, so that their backlog
may be taken. All are drained once, at the end of the batch.
"""

from __future__ import annotations

from bester.core.effects import Effect, Pause, Resume
from bester.core.endpoint import Endpoint
from bester.core.limits import Limits
from bester.core.metrics import Counters, Drop

_NEVER_PAUSED = ("handler", "node", "consented")
"""Everybody waits for handlers' answers, another node asks for no more than it was told it may, and what was held comes
from no socket."""
_HELD_OVERHEAD = 256
"""About how many bytes a waiting message takes beside its own."""


class Batch:
    """The state that all parts of the exchange share.

    Args:
        limits: the bounds that the exchange keeps.
        boot: the prefix of the ids that are made here; different at each start of a server.
    """

    __slots__ = (
        "_last_number",
        "awaits_write",
        "boot",
        "counters",
        "dirty",
        "effects",
        "freed",
        "limits",
        "now",
    )

    def __init__(self, limits: Limits, boot: str) -> None:
        self.now = 0.0
        """The server's clock in seconds, set by the server before each batch."""
        self.limits = limits
        self.counters = Counters()
        self.dirty: list[Endpoint] = []
        self.effects: list[Effect] = []
        self.freed: dict[Endpoint, None] = {}
        self.awaits_write = False
        """Whether something waits until the batch is written (``Exchange.written``)."""
        self.boot = boot
        self._last_number = 0

    def new_number(self) -> int:
        """Returns a number that is larger than all before it."""
        self._last_number += 1
        return self._last_number

    def new_id(self) -> str:
        """Returns an id that no other message has, not even after a restart."""
        return f"{self.boot}-{self.new_number():x}"

    # -- frames --------------------------------------------------------------------------------------------------

    def write(self, endpoint: Endpoint, frame: bytes) -> None:
        """Appends a whole frame to an endpoint's output."""
        endpoint.out.append(frame)
        if not endpoint.listed:
            endpoint.listed = True
            self.dirty.append(endpoint)

    def tell(self, origin: Endpoint, report: bytes) -> None:
        """Writes a report to the sender, if it is still connected."""
        if not origin.closed:
            self.write(origin, report)
        else:
            self.counters.drops.count(Drop.REPORT_UNWANTED)

    # -- senders -------------------------------------------------------------------------------------------------

    def fewer_under_way(self, origin: Endpoint) -> None:
        """Notes that a sender has fewer messages under way: the batch's end takes from its backlog, or closes it."""
        if origin.backlog or origin.closing:
            self.freed[origin] = None

    def hold(self, origin: Endpoint, size: int) -> None:
        """Adds a waiting message to its sender's held bytes; beyond the limit the sender's socket is not read."""
        origin.held_bytes += size + _HELD_OVERHEAD
        if origin.held_bytes > self.limits.max_held_bytes and not origin.paused and origin.scope not in _NEVER_PAUSED:
            origin.paused = True
            self.effects.append(Pause(origin))

    def release(self, origin: Endpoint, size: int) -> None:
        """Subtracts a message that waits no longer from its sender's held bytes."""
        origin.held_bytes -= size + _HELD_OVERHEAD
        if origin.paused and origin.held_bytes <= self.limits.max_held_bytes // 2:
            origin.paused = False
            self.effects.append(Resume(origin))
