"""The tap of a type: copies what its handlers are asked and answer, for an operator who records it (section 5.3).

A type without a tap pays for one comparison, and only for requests off the shortest path: a tapped type has a gate
(:mod:`bester.core.gate`), so that its messages take the longer path. A request that the tap takes is no longer
``untracked``, so that its answer is not carried out the shortest way either.

A request is recorded when it has its outcome. If the tap asks ``twice``, and a handler that takes part in dry runs is
free, that handler is first asked again, in a dry run of the tap's own; nobody else sees its outcome. What is asked of
other nodes is left to their taps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Raw, Struct
from msgspec.json import Decoder

from bester.core.batch import Batch
from bester.core.dispatch import Dispatcher
from bester.core.endpoint import Endpoint
from bester.core.gate import Gates
from bester.core.model import Envelope, Relayed
from bester.core.routing import Question, Request
from bester.core.trail import Trail
from bester.errors import BesterError
from bester.protocol import frames
from bester.protocol.messages import NULL, HandlerMessage
from bester.protocol.outcomes import Outcome, failed, outcome_of, verdict_of

MAX_AWAITED = 1024
"""How many requests of one tap may be without their outcome; further ones are lost to it."""
MAX_AWAITED_BYTES = 16 * 1024 * 1024
"""How many bytes of data those may have, with the parts of their answers."""
_OVERHEAD = 256
"""About how many bytes a command takes beside its data."""
MAX_AGAIN = 16
"""How many of one tap's own dry runs may be outstanding; further requests are asked once."""
_OWN = ("messageType", "id", "traceparent", "dryRun")
"""Members of a request's header that are the server's own and no truth about the sender."""


class _Payload(Struct):
    id: str = ""


class _Asked(Struct):
    header: dict[str, Raw]
    payload: _Payload


_decode_asked = Decoder(_Asked).decode


class Taken(Struct, eq=False):
    """A request that is recorded, until it has its outcome."""

    began: float
    """When it was handed to the dispatcher, in seconds of the exchange's clock."""
    envelope: Envelope
    hops: int
    data: Raw
    size: int
    """How many bytes are held for it."""
    guards: str = ""
    """The type about whose message a guard is asked, if one is."""
    took_s: float = 0.0
    parts: list[dict[str, Any]] | None = None
    """The commands of parts of the answer."""
    outcome: Outcome | None = None


class Tap:
    """Copies requests of one type, from :meth:`Taps.open` to :meth:`Taps.close`.

    Args:
        type: the type.
        batch, dispatcher: those of the exchange.
        endpoint: gets the records; its connection keeps what waits there within bounds.
        head: the start of a record's frame, as :func:`bester.protocol.frames.received` takes it.
        choose: tells whether the next request is recorded.
        twice: whether handlers are asked again.
        ahead_s: the difference between the time of day and the exchange's clock.
    """

    __slots__ = (
        "_again",
        "_ahead_s",
        "_asked",
        "_batch",
        "_choose",
        "_dispatcher",
        "_endpoint",
        "_head",
        "_held_bytes",
        "_twice",
        "lost",
        "type",
    )

    def __init__(
        self,
        type: str,
        batch: Batch,
        dispatcher: Dispatcher,
        endpoint: Endpoint,
        head: bytes,
        choose: Callable[[], bool],
        twice: bool,
        ahead_s: float,
    ) -> None:
        self.type = type
        self.lost = 0
        """How many chosen requests were not recorded, because too many were awaited."""
        self._batch = batch
        self._dispatcher = dispatcher
        self._endpoint = endpoint
        self._head = head
        self._choose = choose
        self._twice = twice
        self._ahead_s = ahead_s
        self._asked: dict[Request, Taken] = {}
        self._again: dict[Request, Taken] = {}
        """The requests of the tap's own dry runs."""
        self._held_bytes = 0

    def take(self, request: Request) -> None:
        """Takes a request that is about to be handed to a handler, if it is chosen; dry runs never are."""
        envelope = request.envelope
        trail = envelope.trail
        if (trail is not None and trail.dry) or not self._choose():
            return
        size = len(request.data)
        if len(self._asked) + len(self._again) >= MAX_AWAITED or self._held_bytes + size > MAX_AWAITED_BYTES:
            self.lost += 1
            return
        envelope.untracked = False
        self._held_bytes += size
        # A copy: the data may be a part of all that was read with it.
        taken = Taken(self._batch.now, envelope, request.hops, Raw(bytes(request.data)), size)
        if isinstance(request, Question):
            taken.guards = request.guards
        self._asked[request] = taken

    def forget(self, request: Request) -> None:
        """Leaves a request to another node, or to nobody."""
        taken = self._asked.pop(request, None)
        if taken is not None:
            self._held_bytes -= taken.size

    def part(self, request: Request, message: HandlerMessage) -> None:
        """A handler has sent a part of its answer; the commands of all parts are one outcome."""
        taken = self._asked.get(request)
        if taken is None:
            return
        commands = outcome_of(message, self.type, request.route.rules.may)["commands"]
        size = sum(_OVERHEAD + len(command.get("payload", {}).get("data", b"")) for command in commands)
        if self._held_bytes + size > MAX_AWAITED_BYTES:
            self.forget(request)
            self.lost += 1
            return
        taken.size += size
        self._held_bytes += size
        taken.parts = taken.parts or []
        taken.parts += commands

    def answered(self, request: Request, message: HandlerMessage) -> bool:
        """A handler has answered; returns whether the request was the tap's own, so that nothing is carried out."""
        if request in self._asked or request in self._again:
            return self._ended(request, self._outcome_of(request, message))
        return False

    def _outcome_of(self, request: Request, message: HandlerMessage) -> Outcome:
        if _is_question(request):
            return verdict_of(message)
        return outcome_of(message, self.type, request.route.rules.may)

    def failed(self, request: Request, error: BesterError) -> bool:
        """A request has failed; returns whether it was the tap's own, so that nothing is reported."""
        if request in self._asked or request in self._again:
            return self._ended(request, failed(error))
        return False

    def close(self) -> None:
        """Forgets the tap's own dry runs; their answers come too late."""
        for handler in self._dispatcher.handlers:
            for id in [id for id, request in handler.outstanding.items() if request in self._again]:
                del handler.outstanding[id]
                self._dispatcher.pump_all(handler)
        self._asked.clear()
        self._again.clear()

    def _ended(self, request: Request, outcome: Outcome) -> bool:
        taken = self._asked.pop(request, None)
        if taken is None:
            taken = self._again.pop(request)
            self._write(taken, outcome)
            return True
        taken.took_s = self._batch.now - request.since
        if taken.parts is not None and "commands" in outcome:
            outcome["commands"] = [*taken.parts, *outcome["commands"]]
        taken.outcome = outcome
        if not (self._twice and self._ask_again(request, taken)):
            self._write(taken, None)
        return False

    def _ask_again(self, request: Request, taken: Taken) -> bool:
        """Asks a free handler in a dry run; returns whether there is one."""
        envelope, route = taken.envelope, request.route
        if (
            isinstance(request, Question)
            or isinstance(envelope, Relayed)
            or route.ready
            or route.tap is not self
            or len(self._again) >= MAX_AGAIN
        ):
            return False
        if not any(route.name in one.dry_types and one.free for one in route.attached):
            return False
        dry = Envelope(envelope.origin, envelope.id, envelope.type, self._batch.now)
        dry.trail = Trail(dry=True, told=False)
        dry.untracked = False
        again = Request(dry, route, taken.data, taken.hops, self._batch.now)
        self._again[again] = taken
        self._dispatcher.hand_on(again)
        return True

    def _write(self, taken: Taken, again: Outcome | None) -> None:
        self._held_bytes -= taken.size
        record: dict[str, object] = {
            "at": round(taken.began + self._ahead_s, 6),
            "request": _truth(taken),
            "outcome": taken.outcome,
            "ms": round(taken.took_s * 1000, 3),
        }
        if again is not None:
            record["again"] = again
        self._batch.write(self._endpoint, frames.received(self._head, frames.encode_text(record)))


def _truth(taken: Taken) -> dict[str, object]:
    """Returns what the handler was told of the request and its sender."""
    envelope = taken.envelope
    if isinstance(envelope, Relayed):
        frame = frames.relayed_request("", envelope.head, NULL)
    else:
        type = frames.type_part(envelope.type)
        guards = frames.request_part("", False, -1, taken.guards) if taken.guards else b""
        frame = frames.request("", envelope.origin.origin, taken.hops, type, envelope.id, NULL, guards)
    asked = _decode_asked(frame[4:])
    truth: dict[str, object] = {name: value for name, value in asked.header.items() if name not in _OWN}
    truth["id"] = asked.payload.id
    truth["data"] = taken.data
    return truth


def _is_question(request: Request) -> bool:
    """Whether it asks a guard, here or for another node."""
    envelope = request.envelope
    return isinstance(request, Question) or (isinstance(envelope, Relayed) and envelope.guards)


class Taps:
    """The taps of all types, at most one for each."""

    __slots__ = ("_batch", "_dispatcher", "_gates")

    def __init__(self, batch: Batch, dispatcher: Dispatcher, gates: Gates) -> None:
        self._batch = batch
        self._dispatcher = dispatcher
        self._gates = gates

    def open(
        self, type: str, endpoint: Endpoint, head: bytes, choose: Callable[[], bool], *, twice: bool, ahead_s: float
    ) -> Tap:
        """Taps a type that has no tap, whether it is served or not; the arguments are those of :class:`Tap`."""
        tap = Tap(type, self._batch, self._dispatcher, endpoint, head, choose, twice, ahead_s)
        self._dispatcher.taps[type] = tap
        self._gates.tap(type, True)
        route = self._dispatcher.types.get(type)
        if route is not None:
            route.tap = tap
        return tap

    def close(self, tap: Tap) -> None:
        """Ends a tap; what it took and has no outcome is not recorded."""
        route = self._dispatcher.types.get(tap.type)
        if route is not None:
            route.tap = None
        del self._dispatcher.taps[tap.type]
        self._gates.tap(tap.type, False)
        tap.close()
