"""The way of a message, recorded where it was asked for (docs/protocol.md, section 7).

A :class:`Trail` belongs to one envelope. Its steps stand in the order in which they began. What becomes of a recipient
is in the envelope's results, so a recipient's step only keeps the place there, and is completed when the report is
written. In a dry run nothing is done: the results are the plan, and are not reported themselves.
"""

from __future__ import annotations

from typing import Any

from msgspec import Raw, Struct
from msgspec.json import Decoder

from bester.protocol.frames import encode_text

MAX_STEPS = 1000
"""Steps of one message that are recorded on one server; it may have many more recipients."""
MAX_ROUTE_BYTES = 512 * 1024
"""What other servers' routes may add to one message's, in bytes."""

_PLACES = {"stored": "mailbox", "queued": "outbox"}
"""Where a recipient's step ended, if not where it began, by what became of it."""


class _Error(Struct):
    code: str = ""


class _Result(Struct):
    to: str
    status: str
    error: _Error | None = None


_result = Decoder(_Result)


class Step:
    """One thing that was done with a message."""

    __slots__ = ("began", "ended", "inner", "kind", "name", "slot", "status")

    def __init__(self, kind: str, name: str, began: float, status: str = "", slot: int = -1) -> None:
        self.kind = kind
        self.name = name
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

    __slots__ = ("_inner_bytes", "_slots", "dry", "steps")

    def __init__(self, dry: bool = False) -> None:
        self.dry = dry
        """Whether nothing is to be done, and the steps are the plan."""
        self.steps: list[Step] = []
        self._slots: dict[int, Step] = {}
        self._inner_bytes = 0

    def add(self, kind: str, name: str, now: float, status: str = "") -> Step:
        """Begins a step; beyond :data:`MAX_STEPS` it is not told of."""
        step = Step(kind, name, now, status)
        if len(self.steps) < MAX_STEPS:
            self.steps.append(step)
        return step

    def add_recipients(self, kind: str, first: int, end: int, now: float) -> None:
        """The recipients with these places in the results are being served."""
        for slot in range(first, min(end, first + MAX_STEPS - len(self.steps))):
            step = self._slots[slot] = Step(kind, "", now, slot=slot)
            self.steps.append(step)

    def settled(self, slot: int, now: float, inner: bytes) -> None:
        """A recipient has its outcome; ``inner`` is another server's route as JSON, checked."""
        step = self._slots.get(slot)
        if step is not None:
            step.ended = now
            if self._inner_bytes + len(inner) <= MAX_ROUTE_BYTES:
                self._inner_bytes += len(inner)
                step.inner = inner

    def as_json(self, server: str, results: list[bytes] | None) -> bytes:
        """Returns the route as it stands in a report."""
        return encode_text([self._shown(step, server, results or []) for step in self.steps])

    def _shown(self, step: Step, server: str, results: list[bytes]) -> dict[str, Any]:
        kind, name, status = step.kind, step.name, step.status
        if step.slot >= 0:
            result = _result.decode(results[step.slot])
            name = result.to
            kind = _PLACES.get(result.status, kind)
            status = result.error.code if result.error is not None else result.status
            if self.dry and status in _PLACES:
                status = "planned"
        ms = round((step.ended - step.began) * 1000, 3)
        shown: dict[str, Any] = {"server": server, "step": kind, "name": name, "ms": ms, "status": status}
        if step.inner:
            shown["route"] = Raw(step.inner)
        return shown
