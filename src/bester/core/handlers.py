"""The handlers of one type, and who waits for them.

A message is handed over at once where a handler has room. Otherwise it waits in the *lane* of its sender; lanes with
work take turns, so that one busy sender does not keep the others out, and within a lane the order is the order of
arrival. A classic handler gets one message at a time per lane, which keeps one session's messages in order although
each has a connection of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bester.core.tallies import Tally
from bester.protocol import frames
from bester.protocol.messages import COMMANDS

if TYPE_CHECKING:
    from bester.core.endpoints import AttachedHandler, Endpoint
    from bester.core.work import Request


@dataclass(frozen=True, slots=True)
class Allow:
    """Who may send a type (docs/protocol.md, section 10, ``handlers.typeMap.T.allow``)."""

    accounts: bool = True
    servers: bool = True
    roles: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    """Canonical usernames and servers' names."""


@dataclass(frozen=True, slots=True)
class TypeRules:
    """What the configuration says of a type."""

    timeout_s: float = 30.0
    classic_socket: str | None = None
    """The path of the classic handler's socket."""
    classic_concurrency: int = 16
    transient: bool = False
    """Whether nothing is kept for recipients that are away."""
    allow: Allow | None = None
    """None: accounts and servers."""
    may: Mapping[str, type] = field(default_factory=lambda: COMMANDS)
    """The commands that its handlers may use, as :func:`bester.protocol.messages.commands_of` takes them."""


OTHERS = ""
"""Stands for the types that the configuration does not name, where rules are given by type; no type has this name."""


class Lane:
    """One sender's waiting messages for one type."""

    __slots__ = ("busy", "origin", "ready", "waiting")

    def __init__(self, origin: Endpoint) -> None:
        self.origin = origin
        self.waiting: deque[Request] = deque()
        self.ready = False
        """Whether it stands in the type's ``ready``."""
        self.busy = False
        """Whether a classic handler has a message of this lane."""


class HandlerType:
    """A type and all that serve it."""

    __slots__ = (
        "active",
        "attached",
        "configured",
        "elsewhere",
        "lanes",
        "last_error",
        "name",
        "progress",
        "ready",
        "received",
        "request",
        "rules",
        "tally",
    )

    def __init__(self, name: str, rules: TypeRules, tally: Tally, *, configured: bool) -> None:
        self.name = name
        self.rules = rules
        self.configured = configured
        """Whether the configuration names the type; else it is gone with its last handler."""
        self.attached: list[AttachedHandler] = []
        self.elsewhere: list[AttachedHandler] = []
        """Those that stand for other nodes of this server, which are asked when no attached one has room."""
        self.active = 0
        """Classic connections that are open."""
        self.lanes: dict[Endpoint, Lane] = {}
        self.ready: deque[Lane] = deque()
        self.progress = 0.0
        """When the last answer came: a type that goes on answering does not let those in its queue time out."""
        self.request = frames.type_part(name)
        self.received = frames.received_head(name)
        self.tally = tally
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
        lane = self.lanes.get(origin)
        if lane is None:
            lane = self.lanes[origin] = Lane(origin)
        lane.waiting.append(request)
        self.mark_ready(lane)

    def take(self) -> Request:
        """Returns the next request of the lane whose turn it is; there must be one."""
        lane = self.ready.popleft()
        request = lane.waiting.popleft()
        lane.ready = False
        if self.classic:
            lane.busy = True
            request.lane = lane
        else:
            self.mark_ready(lane)
            self.forget_if_idle(lane)
        return request

    def take_own(self) -> Request | None:
        """The same for what may go to another node: not what came from one."""
        ready = self.ready
        for _ in range(len(ready)):
            if ready[0].origin.scope != "node":
                return self.take()
            ready.rotate(-1)
        return None

    def done(self, lane: Lane) -> None:
        """Says that a classic handler is done with a lane's message."""
        lane.busy = False
        self.mark_ready(lane)
        self.forget_if_idle(lane)

    def mark_ready(self, lane: Lane) -> None:
        """Gives the lane a turn if it has work that may be handed over."""
        if lane.waiting and not lane.ready and not (lane.busy and self.classic):
            lane.ready = True
            self.ready.append(lane)

    def mark_all_ready(self) -> None:
        """Gives turns anew after a change of who serves the type; for a classic handler, not to busy lanes."""
        if self.classic:
            for lane in [lane for lane in self.ready if lane.busy]:
                lane.ready = False
                self.ready.remove(lane)
        for lane in self.lanes.values():
            self.mark_ready(lane)

    def forget_if_idle(self, lane: Lane) -> None:
        """Drops a lane that has neither waiting nor outstanding work."""
        if not lane.waiting and not lane.busy:
            self.lanes.pop(lane.origin, None)

    def waiting_since(self, before: float) -> list[Request]:
        """Removes and returns what has been waiting since before that time."""
        expired: list[Request] = []
        for lane in list(self.lanes.values()):
            while lane.waiting and lane.waiting[0].since < before:
                expired.append(lane.waiting.popleft())
            if not lane.waiting:
                if lane.ready:
                    lane.ready = False
                    self.ready.remove(lane)
                self.forget_if_idle(lane)
        return expired


def _least_busy(handlers: list[AttachedHandler]) -> AttachedHandler | None:
    best: AttachedHandler | None = None
    for handler in handlers:
        if handler.free and (best is None or len(handler.outstanding) < len(best.outstanding)):
            best = handler
    return best
