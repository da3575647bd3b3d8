"""The way of a message, recorded where it was asked for (docs/protocol.md, section 7), and the ids of its spans.

A :class:`Trail` belongs to one envelope. Its steps stand in the order in which they began. What becomes of a recipient
is in the envelope's results, so a recipient's step only keeps the place there, and is completed when the report is
written. In a dry run nothing is done: the results are the plan, and are not reported themselves. A trail that is not
``told`` stands in no report: it is what a traced message's spans are made from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec import Raw

from bester.protocol.frames import encode_text
from bester.protocol.reports import decode_result

MAX_STEPS = 1000
"""Steps of one message that are recorded on one server; it may have many more recipients."""

MAX_TRACED_RECIPIENTS = 100
"""Steps up to which recipients are added to a trail that is not told."""

MAX_ROUTE_BYTES = 512 * 1024
"""What other servers' routes may add to one message's, in bytes."""

_PLACES = {"stored": "mailbox", "queued": "outbox"}
"""Where a recipient's step ended, if not where it began, by what became of it."""


class Spans(NamedTuple):
    """The ids of one message's spans on this server."""

    trace: str
    """The trace's 32 digits."""
    parent: str
    """The 16 digits of the span that it came from, or ``""``."""
    first: int
    """The id of the server's own span."""
    began: float
    """In seconds of the exchange's clock."""

    def traceparent(self, place: int = 0) -> str:
        """Returns what goes out with the step of this place; 0: with the message as a whole."""
        return f"00-{self.trace}-{self.first + place:016x}-01"


class Step:
    """One thing that was done with a message."""

    __slots__ = ("began", "ended", "inner", "kind", "name", "place", "slot", "status")

    def __init__(self, kind: str, name: str, began: float, place: int, status: str = "", slot: int = -1) -> None:
        self.kind = kind
        self.name = name
        self.place = place
        """What its span's id is made from: different from the message's other steps' here, and above 0."""
        self.began = began
        """In seconds of the exchange's clock."""
        self.ended = began
        self.status = status
        self.slot = slot
        """A recipient's place in the envelope's results, or -1."""
        self.inner = b""
        """What went on at the other server, as JSON."""

    def end(self, now: float, status: str) -> None:
        """It is done: ``good``, or the code of what went wrong."""
        self.ended = now
        self.status = status


class Trail:
    """The steps of one message on this server."""

    __slots__ = ("_inner_bytes", "_others", "_slots", "dry", "spans", "steps", "told")

    def __init__(self, dry: bool = False, told: bool = True) -> None:
        self.dry = dry
        """Whether nothing is to be done, and the steps are the plan."""
        self.told = told
        """Whether the report tells it."""
        self.spans: Spans | None = None
        """The ids of its steps' spans, where the message is traced."""
        self.steps: list[Step] = []
        self._slots: dict[int, Step] = {}
        self._others = 0
        """Steps that are no recipients, also those that are not told of."""
        self._inner_bytes = 0

    def add(self, kind: str, name: str, now: float, status: str = "") -> Step:
        """Begins a step; beyond :data:`MAX_STEPS` it is not told of."""
        self._others += 1
        step = Step(kind, name, now, 2 * self._others, status)
        if len(self.steps) < MAX_STEPS:
            self.steps.append(step)
        return step

    def add_recipients(self, kind: str, first: int, end: int, now: float) -> None:
        """The recipients with these places in the results are being served."""
        most = MAX_STEPS if self.told else MAX_TRACED_RECIPIENTS
        for slot in range(first, min(end, first + most - len(self.steps))):
            step = self._slots[slot] = Step(kind, "", now, place_of(slot), slot=slot)
            self.steps.append(step)

    def settled(self, slot: int, now: float, inner: bytes) -> None:
        """A recipient has its outcome; ``inner`` is another server's route as JSON, checked."""
        step = self._slots.get(slot)
        if step is not None:
            step.ended = now
            if self._inner_bytes + len(inner) <= MAX_ROUTE_BYTES:
                self._inner_bytes += len(inner)
                step.inner = inner

    @property
    def slots(self) -> int:
        """How many results there are, from the first, that steps need."""
        return max(self._slots, default=-1) + 1

    def as_json(self, server: str, results: list[bytes] | None) -> bytes:
        """Returns the route as it stands in a report."""
        return encode_text([self._shown(step, server, results or []) for step in self.steps])

    def resolved(self, step: Step, results: Sequence[bytes]) -> tuple[str, str, str]:
        """Returns a step's kind, name and status, with what became of it where it is a recipient's."""
        if step.slot < 0:
            return step.kind, step.name, step.status
        result = decode_result(results[step.slot])
        kind = _PLACES.get(result.status, step.kind)
        status = result.error.code if result.error is not None else result.status
        return kind, result.to, "planned" if self.dry and status in _PLACES else status

    def _shown(self, step: Step, server: str, results: list[bytes]) -> dict[str, Any]:
        kind, name, status = self.resolved(step, results)
        ms = round((step.ended - step.began) * 1000, 3)
        shown: dict[str, Any] = {"server": server, "step": kind, "name": name, "ms": ms, "status": status}
        if step.inner:
            shown["route"] = Raw(step.inner)
        return shown


def place_of(slot: int) -> int:
    """Returns the place of the step of the recipient with this place in the results."""
    return 2 * slot + 1
