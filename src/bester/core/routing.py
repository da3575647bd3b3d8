"""The handlers of one type, and the requests that wait for them.

A request is handed over at once if a handler has room. Otherwise it waits in its *sender's queue*. Senders with waiting
requests take turns, so that one busy sender does not keep the others out; within a queue, requests are in the order of
arrival. A classic handler gets one request at a time of each sender, which keeps a session's messages in order although
each has a connection of its own. All connections of a server that has proven its name are one sender: what comes over a
new link waits behind what the last one brought.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from msgspec import Struct

from bester.core.endpoint import Endpoint, Peer
from bester.core.metrics import TypeMetrics
from bester.core.model import Envelope
from bester.core.rules import TypeRules
from bester.core.trail import Step
from bester.errors import BesterError
from bester.protocol import frames
from bester.protocol.messages import Data, HandlerMessage

HANDED_BYTES = 256 * 1024
"""How many bytes a handler is handed before it must be known whether its socket takes more."""


class SenderQueue:
    """One sender's waiting requests for one type."""

    __slots__ = ("busy", "key", "origin", "ready", "waiting")

    def __init__(self, key: Endpoint | str, origin: Endpoint) -> None:
        self.key = key
        """Its key among the type's ``queues``."""
        self.origin = origin
        self.waiting: deque[Request] = deque()
        self.ready = False
        """Whether it is in the type's ``ready``."""
        self.busy = False
        """Whether a classic handler has a message of this sender."""


class Request(Struct, gc=False, eq=False):
    """One request to the handlers of one type."""

    envelope: Envelope
    route: TypeRoute
    data: Data
    hops: int
    since: float
    """When it was accepted; later, when it was handed over; in seconds of the exchange's clock."""
    size: int = 0
    """How many bytes it holds while it waits."""
    queue: SenderQueue | None = None
    """The queue that it keeps busy, for a classic handler."""
    place: str = ""
    """Its place among the requests of a ``once`` message, equal each time that this is handled."""
    step: Step | None = None
    """Its step in the route, if that is recorded."""
    epoch: int = 0
    """The epoch of its sender's order, while another node is asked that may carry out the answer; else 0."""

    def header_part(self, trace: str, parts: int = -1) -> bytes:
        """Returns the optional members of its header (:func:`bester.protocol.frames.request_part`)."""
        trail = self.envelope.trail
        return frames.request_part(trace, trail is not None and trail.dry, parts)

    def unanswered(self, error: BesterError | None) -> bool:
        """Takes that there is no answer; without an error, because nobody takes part in dry runs. Returns whether there
        is nothing to report, as with a question."""
        return False


class Question(Request, gc=False, eq=False):
    """A request that asks a guard about a message (:mod:`bester.core.gate`)."""

    guards: str = ""
    """The type of the message."""
    number: int = 0
    timeout_s: float = 0.0
    judge: Callable[[Question, HandlerMessage | None, BesterError | None], None] | None = None
    """Takes the guard's answer, or why there is none; neither if the guard takes no part in dry runs."""

    def header_part(self, trace: str, parts: int = -1) -> bytes:
        trail = self.envelope.trail
        return frames.request_part(trace, trail is not None and trail.dry, parts, self.guards)

    def unanswered(self, error: BesterError | None) -> bool:
        assert self.judge is not None
        self.judge(self, None, error)
        return True


class AttachedHandler(Endpoint):
    """A handler process's connection: requests go to it, answers and pushes come from it."""

    __slots__ = (
        "address",
        "blocked",
        "cancels",
        "concurrency",
        "detached",
        "dry_types",
        "full",
        "name",
        "outstanding",
        "over",
        "parts",
        "room",
        "since",
        "turn",
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
        self.over = "socket"
        """How it is connected, for operators: ``socket``, ``stdio``, or ``tls``, and then from :attr:`address`."""
        self.address = ""
        self.types: tuple[TypeRoute, ...] = ()
        self.turn = -1
        """Which of them is first to get the handler's room when several wait for it; it goes round."""
        self.dry_types: frozenset[str] = frozenset()
        """The types for which it takes part in dry runs (section 7.2)."""
        self.parts = False
        """Whether it may answer in parts (section 6.7)."""
        self.cancels = False
        """Whether it is told what is cancelled (section 6.8)."""
        self.outstanding: dict[str, Request] = {}
        """By request id, oldest first."""
        self.blocked = False
        """Whether its socket takes no more for now, or it is :attr:`full`."""
        self.full = False
        """Whether it gets no more requests before the batch is written and its socket has taken that."""
        self.room = HANDED_BYTES
        """How many more bytes it may be handed before it is full."""
        self.detached = False
        """Whether it has asked for no more requests."""

    @property
    def free(self) -> bool:
        """Whether another request may be handed over now."""
        return len(self.outstanding) < self.concurrency and not self.blocked


class RemoteHandler(AttachedHandler):
    """Another node of this server, as a handler of one type that it serves."""

    __slots__ = ("carrying", "node")

    is_remote = True

    def __init__(self, node: str, server: str, concurrency: int, since: float = 0.0) -> None:
        super().__init__(node, server, concurrency, since)
        self.node = node
        self.carrying: dict[str, Request] = {}
        """By request id: the requests that were answered there, and are being carried out there."""


class Watcher(Protocol):
    """Sees the requests of one type, and their outcomes (:mod:`bester.core.tap`)."""

    def take(self, request: Request) -> None:
        """A request is about to be handed to a handler."""

    def forget(self, request: Request) -> None:
        """Another node is asked, or its outcome will not be the handler's own."""

    def part(self, request: Request, message: HandlerMessage) -> None:
        """A handler has sent a part of its answer, which is well formed."""

    def answered(self, request: Request, message: HandlerMessage) -> bool:
        """A handler has answered; returns whether nothing more is to be done about it."""

    def failed(self, request: Request, error: BesterError) -> bool:
        """The request has failed; returns whether nothing more is to be done about it."""


class TypeRoute:
    """A type and all that serve it."""

    __slots__ = (
        "active",
        "attached",
        "configured",
        "gate",
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
        "tap",
    )

    def __init__(self, name: str, rules: TypeRules, metrics: TypeMetrics, *, configured: bool) -> None:
        self.name = name
        self.rules = rules
        self.configured = configured
        """Whether the configuration names the type; if not, the type ends with its last handler."""
        self.gate: Callable[[Request], None] | None = None
        """Takes the requests of clients and other servers, in place of the dispatcher, and hands on what may pass; None
        for most types (:mod:`bester.core.gate`)."""
        self.tap: Watcher | None = None
        """Sees all that handlers are asked and answer; None for most types. A type with a tap has a gate."""
        self.attached: list[AttachedHandler] = []
        self.remote: list[RemoteHandler] = []
        """Other nodes of this server, which are asked when no attached handler has room."""
        self.active = 0
        """How many classic connections are open."""
        self.queues: dict[Endpoint | str, SenderQueue] = {}
        """By endpoint; those of other servers by the name that they have proven."""
        self.ready: deque[SenderQueue] = deque()
        self.progress = 0.0
        """When the last answer came; waiting requests do not time out while the type goes on answering."""
        self.request = frames.type_part(name)
        self.received = frames.received_head(name)
        self.metrics = metrics
        self.last_error = ""

    @property
    def available(self) -> bool:
        """Whether there is any handler, with or without room."""
        return bool(self.attached) or self.rules.classic_socket is not None or bool(self.remote)

    @property
    def classic(self) -> bool:
        """Whether messages go to the classic handler."""
        return not self.attached and self.rules.classic_socket is not None

    def free_handler(self) -> AttachedHandler | None:
        """Returns the attached handler with room that has the fewest outstanding requests, else such another node.

        A handler that is full until the batch is written is waited for: another node would answer behind it.
        """
        attached = self.attached
        if len(attached) == 1 and not self.remote:
            handler = attached[0]
            return handler if len(handler.outstanding) < handler.concurrency and not handler.blocked else None
        free = self.free_attached()
        if free is None and self.remote and not any(handler.full for handler in attached):
            return _least_busy(self.remote)
        return free

    def free_attached(self) -> AttachedHandler | None:
        """Returns the handler with room that has the fewest outstanding requests, of those that are attached here."""
        return _least_busy(self.attached)

    def put(self, request: Request) -> None:
        """Lets a request wait in its sender's queue."""
        origin = request.envelope.origin
        key = _key_of(origin)
        queue = self.queues.get(key)
        if queue is None:
            queue = self.queues[key] = SenderQueue(key, origin)
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
        """Returns the next request that may go to another node, because it did not come from one."""
        ready = self.ready
        for _ in range(len(ready)):
            if ready[0].origin.scope != "node":
                return self.take()
            ready.rotate(-1)
        return None

    def done(self, queue: SenderQueue) -> None:
        """Notes that a classic handler is done with a sender's message."""
        queue.busy = False
        self.mark_ready(queue)
        self.forget_if_idle(queue)

    def mark_ready(self, queue: SenderQueue) -> None:
        """Gives a sender a turn if it has a request that may be handed over."""
        if queue.waiting and not queue.ready and not (queue.busy and self.classic):
            queue.ready = True
            self.ready.append(queue)

    def mark_all_ready(self) -> None:
        """Gives turns anew after a change of the type's handlers; for a classic handler, not to busy senders."""
        if self.classic:
            for queue in [queue for queue in self.ready if queue.busy]:
                queue.ready = False
                self.ready.remove(queue)
        for queue in self.queues.values():
            self.mark_ready(queue)

    def forget_if_idle(self, queue: SenderQueue) -> None:
        """Drops a queue that has neither waiting nor outstanding requests."""
        if not queue.waiting and not queue.busy:
            self.queues.pop(queue.key, None)

    def withdraw_one(self, request: Request) -> bool:
        """Removes a request that waits; returns whether it did."""
        queue = self.queues.get(_key_of(request.envelope.origin))
        if queue is None or request not in queue.waiting:
            return False
        queue.waiting.remove(request)
        self._forget_if_empty(queue)
        return True

    def waiting_since(self, before: float) -> list[Request]:
        """Removes and returns the requests that have waited since before a time."""
        expired: list[Request] = []
        for queue in list(self.queues.values()):
            while queue.waiting and queue.waiting[0].since < before:
                expired.append(queue.waiting.popleft())
            self._forget_if_empty(queue)
        return expired

    def withdraw(self, queue: SenderQueue, unwanted: Callable[[Request], bool]) -> list[Request]:
        """Removes and returns requests of one sender."""
        found: list[Request] = []
        kept: deque[Request] = deque()
        for request in queue.waiting:
            (found if unwanted(request) else kept).append(request)
        queue.waiting = kept
        self._forget_if_empty(queue)
        return found

    def _forget_if_empty(self, queue: SenderQueue) -> None:
        if not queue.waiting:
            if queue.ready:
                queue.ready = False
                self.ready.remove(queue)
            self.forget_if_idle(queue)


def _key_of(origin: Endpoint) -> Endpoint | str:
    return origin.name if isinstance(origin, Peer) and origin.name is not None else origin


def _least_busy(handlers: Sequence[AttachedHandler]) -> AttachedHandler | None:
    best: AttachedHandler | None = None
    for handler in handlers:
        if handler.free and (best is None or len(handler.outstanding) < len(best.outstanding)):
            best = handler
    return best
