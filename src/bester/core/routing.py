"""The handlers of one type, and who waits for them.

A message is handed over at once where a handler has room. Otherwise it waits in the *queue of its sender*; senders with
work take turns, so that one busy sender does not keep the others out, and within a queue the order is the order of
arrival. A classic handler gets one message at a time per sender, which keeps one session's messages in order although
each has a connection of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from msgspec import Raw, Struct

from bester.core.endpoint import Endpoint
from bester.core.metrics import TypeMetrics
from bester.core.model import Envelope
from bester.core.rules import TypeRules
from bester.core.trail import Step
from bester.protocol import frames

HANDED_BYTES = 256 * 1024
"""What a handler is handed, at least, before its socket must say whether it takes more."""


class SenderQueue:
    """One sender's waiting requests for one type."""

    __slots__ = ("busy", "origin", "ready", "waiting")

    def __init__(self, origin: Endpoint) -> None:
        self.origin = origin
        self.waiting: deque[Request] = deque()
        self.ready = False
        """Whether it stands in the type's ``ready``."""
        self.busy = False
        """Whether a classic handler has a message of this sender."""


class Request(Struct, gc=False):
    """One question to one type's handler."""

    envelope: Envelope
    route: TypeRoute
    data: Raw
    hops: int
    since: float
    """When it was accepted, then when it was handed over, in seconds of the exchange's clock."""
    size: int = 0
    """Bytes that it holds while it waits."""
    queue: SenderQueue | None = None
    """The queue that it keeps busy, for a classic handler."""
    place: str = ""
    """Where it stands among the requests of a ``once`` message: the same each time that it is handled."""
    step: Step | None = None
    """Its step in the route, where that is recorded."""
    epoch: int = 0
    """The epoch of its sender's order, while another node is asked that may carry out the answer itself."""


class AttachedHandler(Endpoint):
    """A handler process's connection: requests go to it, answers and pushes come from it."""

    __slots__ = (
        "blocked",
        "concurrency",
        "detached",
        "dry_types",
        "full",
        "name",
        "outstanding",
        "room",
        "since",
        "types",
    )

    scope = "handler"
    is_remote = False
    """Whether it stands for another node."""

    def __init__(self, name: str, server: str, concurrency: int, since: float = 0.0, writer: Any = None) -> None:
        super().__init__(frames.origin_part("handler", None, server, True), writer)
        self.name = name
        self.concurrency = concurrency
        self.since = since
        self.types: tuple[TypeRoute, ...] = ()
        self.dry_types: frozenset[str] = frozenset()
        """The types for which it says what it would do, without doing it (section 7.2)."""
        self.outstanding: dict[str, Request] = {}
        """By request id, the oldest first."""
        self.blocked = False
        """Whether its socket takes no more for now, or is :attr:`full`."""
        self.full = False
        """Whether it gets no more before what it was handed is written, and its socket says whether it takes that."""
        self.room = HANDED_BYTES
        """How many bytes it may be handed until then."""
        self.detached = False
        """Whether it asked for no more requests."""

    @property
    def free(self) -> bool:
        """Whether another request may be handed over now."""
        return len(self.outstanding) < self.concurrency and not self.blocked


class RemoteHandler(AttachedHandler):
    """Stands for another node of this server, and one type that it serves."""

    __slots__ = ("carrying", "node")

    is_remote = True

    def __init__(self, node: str, server: str, concurrency: int, since: float = 0.0) -> None:
        super().__init__(node, server, concurrency, since)
        self.node = node
        self.carrying: dict[str, Request] = {}
        """By request id: what was answered there, and is being carried out there."""


class TypeRoute:
    """A type and all that serve it."""

    __slots__ = (
        "active",
        "attached",
        "configured",
        "last_error",
        "metrics",
        "name",
        "progress",
        "queues",
        "ready",
        "received",
        "remote",
        "request",
        "rules",
    )

    def __init__(self, name: str, rules: TypeRules, metrics: TypeMetrics, *, configured: bool) -> None:
        self.name = name
        self.rules = rules
        self.configured = configured
        """Whether the configuration names the type; else it is gone with its last handler."""
        self.attached: list[AttachedHandler] = []
        self.remote: list[RemoteHandler] = []
        """Those that stand for other nodes of this server, which are asked when no attached one has room."""
        self.active = 0
        """Classic connections that are open."""
        self.queues: dict[Endpoint, SenderQueue] = {}
        self.ready: deque[SenderQueue] = deque()
        self.progress = 0.0
        """When the last answer came: a type that goes on answering does not let those in its queue time out."""
        self.request = frames.type_part(name)
        self.received = frames.received_head(name)
        self.metrics = metrics
        self.last_error = ""

    @property
    def available(self) -> bool:
        """Whether there is anyone to ask, now or later."""
        return bool(self.attached) or self.rules.classic_socket is not None or bool(self.remote)

    @property
    def classic(self) -> bool:
        """Whether messages go to the classic handler."""
        return not self.attached and self.rules.classic_socket is not None

    def free_handler(self) -> AttachedHandler | None:
        """Returns the attached handler with the fewest outstanding requests that has room for one more; where none
        has, another node that has."""
        attached = self.attached
        if len(attached) == 1 and not self.remote:
            handler = attached[0]
            return handler if len(handler.outstanding) < handler.concurrency and not handler.blocked else None
        return _least_busy(attached) or _least_busy(self.remote)

    def put(self, request: Request) -> None:
        """Lets a request wait in its sender's queue."""
        origin = request.envelope.origin
        queue = self.queues.get(origin)
        if queue is None:
            queue = self.queues[origin] = SenderQueue(origin)
        queue.waiting.append(request)
        self.mark_ready(queue)

    def take(self) -> Request:
        """Returns the next request of the sender whose turn it is; there must be one."""
        queue = self.ready.popleft()
        request = queue.waiting.popleft()
        queue.ready = False
        if self.classic:
            queue.busy = True
            request.queue = queue
        else:
            self.mark_ready(queue)
            self.forget_if_idle(queue)
        return request

    def take_own(self) -> Request | None:
        """Returns the next request that may go to another node: one that did not come from a node."""
        ready = self.ready
        for _ in range(len(ready)):
            if ready[0].origin.scope != "node":
                return self.take()
            ready.rotate(-1)
        return None

    def done(self, queue: SenderQueue) -> None:
        """Says that a classic handler is done with a sender's message."""
        queue.busy = False
        self.mark_ready(queue)
        self.forget_if_idle(queue)

    def mark_ready(self, queue: SenderQueue) -> None:
        """Gives the sender a turn if it has work that may be handed over."""
        if queue.waiting and not queue.ready and not (queue.busy and self.classic):
            queue.ready = True
            self.ready.append(queue)

    def mark_all_ready(self) -> None:
        """Gives turns anew after a change of who serves the type; for a classic handler, not to busy senders."""
        if self.classic:
            for queue in [queue for queue in self.ready if queue.busy]:
                queue.ready = False
                self.ready.remove(queue)
        for queue in self.queues.values():
            self.mark_ready(queue)

    def forget_if_idle(self, queue: SenderQueue) -> None:
        """Drops a queue that has neither waiting nor outstanding work."""
        if not queue.waiting and not queue.busy:
            self.queues.pop(queue.origin, None)

    def waiting_since(self, before: float) -> list[Request]:
        """Removes and returns the requests that have been waiting since before that time."""
        expired: list[Request] = []
        for queue in list(self.queues.values()):
            while queue.waiting and queue.waiting[0].since < before:
                expired.append(queue.waiting.popleft())
            if not queue.waiting:
                if queue.ready:
                    queue.ready = False
                    self.ready.remove(queue)
                self.forget_if_idle(queue)
        return expired


def _least_busy(handlers: Sequence[AttachedHandler]) -> AttachedHandler | None:
    best: AttachedHandler | None = None
    for handler in handlers:
        if handler.free and (best is None or len(handler.outstanding) < len(best.outstanding)):
            best = handler
    return best
