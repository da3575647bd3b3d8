"""The route of a message, recorded if its sender asks for it (docs/protocol.md, section 7), and the ids of its spans.

A :class:`Trail` belongs to one envelope. Its steps are in the order in which they began. A recipient's outcome is in
the envelope's results, so the recipient's step only has the index there, and is completed when the report is written.
In a dry run nothing is done: the steps are the plan, and the results are not reported. A trail that is not ``told`` is
in no report; a traced message's spans are made from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec import Raw

from bester.errors import Dropped
from bester.protocol.frames import encode_text
from bester.protocol.reports import decode_result

MAX_STEPS = 1000
"""How many steps of one message are recorded on one server; it may have many more recipients."""

MAX_TRACED_RECIPIENTS = 100
"""How many steps a trail that is not told may have before no more recipients are added."""

MAX_ROUTE_BYTES = 512 * 1024
"""How many bytes other servers' routes may add to one message's route."""

_PLACES = {"stored": "mailbox", "queued": "outbox"}
"""The kind of a recipient's step at its end, by the recipient's status, if it is not the kind at its beginning."""


class Spans(NamedTuple):
    """The ids of one message's spans on this server."""

    trace: str
    """The 32 digits of the trace."""
    parent: str
    """The 16 digits of the parent span, or ``""``."""
    first: int
    """The id of the server's own span."""
    began: float
    """When the message came, in seconds of the exchange's clock."""

    def traceparent(self, place: int = 0) -> str:
        """Returns the traceparent of the step with this place; 0 stands for the message as a whole."""
        return f"00-{self.trace}-{self.first + place:016x}-01"


class Step:
    """One step of a message's route."""

    __slots__ = ("began", "ended", "inner", "kind", "name", "parts", "place", "slot", "status")

    def __init__(self, kind: str, name: str, began: float, place: int, status: str = "", slot: int = -1) -> None:
        self.kind = kind
        self.name = name
        self.place = place
        """The number from which its span's id is made: above 0, and unique among the message's steps here."""
        self.began = began
        """When it began, in seconds of the exchange's clock."""
        self.ended = began
        self.status = status
        self.slot = slot
        """The index of a recipient's result in the envelope's, or -1."""
        self.inner = b""
        """The other server's route, as JSON."""
        self.parts = 0
        """How many parts the handler has sent before its last answer."""

    def end(self, now: float, status: str) -> None:
        """Ends the step; ``status`` is ``good``, or the error's code."""
        self.ended = now
        self.status = status


class Trail:
    """The steps of one message on this server."""

    __slots__ = ("_inner_bytes", "_others", "_slots", "dry", "spans", "steps", "told")

    def __init__(self, dry: bool = False, told: bool = True) -> None:
        self.dry = dry
        """Whether nothing is done, and the steps are the plan."""
        self.told = told
        """Whether the report contains it."""
        self.spans: Spans | None = None
        """The ids of its steps' spans, if the message is traced."""
        self.steps: list[Step] = []
        self._slots: dict[int, Step] = {}
        self._others = 0
        """How many steps are no recipients, including those beyond :data:`MAX_STEPS`."""
        self._inner_bytes = 0

    def add(self, kind: str, name: str, now: float, status: str = "") -> Step:
        """Begins a step; one beyond :data:`MAX_STEPS` is not recorded."""
        self._others += 1
        step = Step(kind, name, now, 2 * self._others, status)
        if len(self.steps) < MAX_STEPS:
            self.steps.append(step)
        return step

    def add_recipients(self, kind: str, first: int, end: int, now: float) -> None:
        """Begins the steps of the recipients with these indexes in the results."""
        most = MAX_STEPS if self.told else MAX_TRACED_RECIPIENTS
        for slot in range(first, min(end, first + most - len(self.steps))):
            step = self._slots[slot] = Step(kind, "", now, place_of(slot), slot=slot)
            self.steps.append(step)

    def settled(self, slot: int, now: float, inner: bytes) -> None:
        """A recipient has its result; ``inner`` is another server's route as JSON, checked."""
        step = self._slots.get(slot)
        if step is not None:
            step.ended = now
            if self._inner_bytes + len(inner) <= MAX_ROUTE_BYTES:
                self._inner_bytes += len(inner)
                step.inner = inner

    @property
    def slots(self) -> int:
        """How many of the first results the steps need."""
        return max(self._slots, default=-1) + 1

    def as_json(self, server: str, results: list[bytes] | None) -> bytes:
        """Returns the route as a report contains it."""
        return encode_text([self._shown(step, server, results or []) for step in self.steps])

    def resolved(self, step: Step, results: Sequence[bytes]) -> tuple[str, str, str]:
        """Returns a step's kind, name and status; a recipient's from its result."""
        if step.slot < 0:
            return step.kind, step.name, step.status
        result = decode_result(results[step.slot])
        kind = _PLACES.get(result.status, step.kind)
        status = result.error.code if result.error is not None else result.status
        return kind, result.to, "planned" if self.dry and status in _PLACES else status

    def _shown(self, step: Step, server: str, results: list[bytes]) -> dict[str, Any]:
        kind, name, status = self.resolved(step, results)
        if kind == "guard" and status == Dropped.code:
            status = "accept"  # operators alone are told
        ms = round((step.ended - step.began) * 1000, 3)
        shown: dict[str, Any] = {"server": server, "step": kind, "name": name, "ms": ms, "status": status}
        if step.parts:
            shown["parts"] = step.parts
        if step.inner:
            shown["route"] = Raw(step.inner)
        return shown


def place_of(slot: int) -> int:
    """Returns the place of a recipient's step, from the index of its result."""
    return 2 * slot + 1
