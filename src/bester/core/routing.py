"""The handlers of one type, and who waits for them.

A message is handed over at once where a handler has room. Otherwise it waits in the *queue of its sender*; senders with
work take turns, so that one busy sender does not keep the others out, and within a queue the order is the order of
arrival. A classic handler gets one message at a time per sender, which keeps one session's messages in order although
each has a connection of its own.
"""

from __future__ import annotations

from collections import deque
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
    """One sender's waiting messages for one type."""

    __slots__ = ("busy", "origin", "ready", "waiting")

    def __init__(self, origin: Endpoint) -> None:
        self.origin = origin
        self.waiting: deque[Request] = deque()
        self.ready = False
        """Whether it stands in the type's ``ready``."""
        self.busy = False
        """Whether a classic handler has a message of this lane."""


class Request(Struct, gc=False):
    """One question to one type's handler."""

    envelope: Envelope
    handlers: TypeRoute
    data: Raw
    hops: int
    since: float
    """When it was accepted, then when it was handed over, in seconds of the exchange's clock."""
    size: int = 0
    """Bytes that it holds while it waits."""
    sender_queue: SenderQueue | None = None
    """The lane that it keeps busy, for a classic handler."""
    place: str = ""
    """Where it stands among the requests of a ``once`` message: the same each time that it is handled."""
    step: Step | None = None
    """Its step in the route, where that is recorded."""
    epoch: int = 0
    """Of its sender's order, while a handler elsewhere is asked whose node may carry out the answer."""


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
    elsewhere = False
    """Whether it stands for another node."""

    def __init__(self, name: str, server: str, concurrency: int, since: float = 0.0, carrier: Any = None) -> None:
        super().__init__(frames.origin_part("handler", None, server, True), carrier)
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

    elsewhere = True

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
        "elsewhere",
        "last_error",
        "metrics",
        "name",
        "progress",
        "ready",
        "received",
        "request",
        "rules",
        "sender_queues",
    )

    def __init__(self, name: str, rules: TypeRules, metrics: TypeMetrics, *, configured: bool) -> None:
        self.name = name
        self.rules = rules
        self.configured = configured
        """Whether the configuration names the type; else it is gone with its last handler."""
        self.attached: list[AttachedHandler] = []
        self.elsewhere: list[AttachedHandler] = []
        """Those that stand for other nodes of this server, which are asked when no attached one has room."""
        self.active = 0
        """Classic connections that are open."""
        self.sender_queues: dict[Endpoint, SenderQueue] = {}
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
        return bool(self.attached) or self.rules.classic_socket is not None or bool(self.elsewhere)

    @property
    def classic(self) -> bool:
        """Whether messages go to the classic handler."""
        return not self.attached and self.rules.classic_socket is not None

    def free_handler(self) -> AttachedHandler | None:
        """Returns the attached handler with the fewest outstanding requests that has room for one more; where none
        has, another node that has."""
        attached = self.attached
        if len(attached) == 1 and not self.elsewhere:
            handler = attached[0]
            return handler if len(handler.outstanding) < handler.concurrency and not handler.blocked else None
        return _least_busy(attached) or _least_busy(self.elsewhere)

    def put(self, request: Request) -> None:
        """Lets a request wait in its sender's lane."""
        origin = request.envelope.origin
        sender_queue = self.sender_queues.get(origin)
        if sender_queue is None:
            sender_queue = self.sender_queues[origin] = SenderQueue(origin)
        sender_queue.waiting.append(request)
        self.mark_ready(sender_queue)

    def take(self) -> Request:
        """Returns the next request of the lane whose turn it is; there must be one."""
        sender_queue = self.ready.popleft()
        request = sender_queue.waiting.popleft()
        sender_queue.ready = False
        if self.classic:
            sender_queue.busy = True
            request.sender_queue = sender_queue
        else:
            self.mark_ready(sender_queue)
            self.forget_if_idle(sender_queue)
        return request

    def take_own(self) -> Request | None:
        """The same for what may go to another node: not what came from one."""
        ready = self.ready
        for _ in range(len(ready)):
            if ready[0].origin.scope != "node":
                return self.take()
            ready.rotate(-1)
        return None

    def done(self, sender_queue: SenderQueue) -> None:
        """Says that a classic handler is done with a lane's message."""
        sender_queue.busy = False
        self.mark_ready(sender_queue)
        self.forget_if_idle(sender_queue)

    def mark_ready(self, sender_queue: SenderQueue) -> None:
        """Gives the lane a turn if it has work that may be handed over."""
        if sender_queue.waiting and not sender_queue.ready and not (sender_queue.busy and self.classic):
            sender_queue.ready = True
            self.ready.append(sender_queue)

    def mark_all_ready(self) -> None:
        """Gives turns anew after a change of who serves the type; for a classic handler, not to busy lanes."""
        if self.classic:
            for sender_queue in [sender_queue for sender_queue in self.ready if sender_queue.busy]:
                sender_queue.ready = False
                self.ready.remove(sender_queue)
        for sender_queue in self.sender_queues.values():
            self.mark_ready(sender_queue)

    def forget_if_idle(self, sender_queue: SenderQueue) -> None:
        """Drops a lane that has neither waiting nor outstanding work."""
        if not sender_queue.waiting and not sender_queue.busy:
            self.sender_queues.pop(sender_queue.origin, None)

    def waiting_since(self, before: float) -> list[Request]:
        """Removes and returns what has been waiting since before that time."""
        expired: list[Request] = []
        for sender_queue in list(self.sender_queues.values()):
            while sender_queue.waiting and sender_queue.waiting[0].since < before:
                expired.append(sender_queue.waiting.popleft())
            if not sender_queue.waiting:
                if sender_queue.ready:
                    sender_queue.ready = False
                    self.ready.remove(sender_queue)
                self.forget_if_idle(sender_queue)
        return expired


def _least_busy(handlers: list[AttachedHandler]) -> AttachedHandler | None:
    best: AttachedHandler | None = None
    for handler in handlers:
        if handler.free and (best is None or len(handler.outstanding) < len(best.outstanding)):
            best = handler
    return best
