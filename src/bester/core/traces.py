"""The W3C traceparents of messages (docs/protocol.md, section 7.5), and whether some of them are traced.

For a message that came without a traceparent nothing is formatted: the id of its first request, which is a number,
ends the trace's id, behind digits that are the same from start to stop. A frame then begins with ``head``, that id,
``tail``, and the id once more.

The parent's id is the same for all: a message that comes with a traceparent is passed on with it, as W3C asks of
servers that record no spans, so no two steps of a trace have their parent from this server. While tracing is ``on``, a
recorder chooses some messages, which have ids of their own (:mod:`bester.core.spans`).
"""

from __future__ import annotations

from bester.core.model import Envelope
from bester.core.spans import SpanRecorder
from bester.core.trail import Trail
from bester.protocol import frames

DIGITS = 13
"""Of a trace's 32 digits, those for the number: enough for 6 years of 50,000 messages in each second."""
SHARED_DIGITS = 32 - DIGITS + 16


class Traces:
    """Makes the traceparents.

    Args:
        digits: the 35 hexadecimal digits that all of them share; random, else they repeat after a restart.
    """

    __slots__ = (
        "_digits",
        "_last",
        "_prefix",
        "_suffix",
        "head",
        "on",
        "part_head",
        "part_tail",
        "recorder",
        "tail",
        "until",
    )

    def __init__(self, digits: str) -> None:
        self._digits = digits
        self._prefix = f"00-{digits[: 32 - DIGITS]}"
        self._last = 0
        self.until = 0
        """The first number that is longer: :meth:`widen` before it is used."""
        self.on = False
        """Whether messages are traced."""
        self.recorder: SpanRecorder | None = None
        self.record(None)

    def record(self, recorder: SpanRecorder | None) -> None:
        """Begins to trace the messages that the recorder chooses, or ends it.

        The receivers of the other messages learn from the flags that these are not traced.
        """
        self.recorder = recorder
        self.on = recorder is not None
        self._suffix = f"-{self._digits[32 - DIGITS : SHARED_DIGITS]}-{'00' if self.on else '01'}"
        self.tail = frames.trace_tail(self._suffix)
        self.head = b""
        """Both as :func:`bester.protocol.frames.traced_request` takes them."""
        self.part_tail = frames.trace_part_tail(self._suffix)
        self.part_head = b""
        """Both as :func:`bester.protocol.frames.request_head` takes them: before and after the id."""
        self.widen(max(1, self.until - 1))

    def widen(self, number: int) -> None:
        """Makes numbers as long as this one from now on."""
        length = len(str(number))
        start = f"{self._prefix}{'0' * (DIGITS - length)}"
        self.head = frames.trace_head(start)
        self.part_head = frames.trace_part_head(start)
        self.until = 10**length

    def begin(self, trace: str, trail: Trail | None, now: float) -> tuple[str, Trail | None]:
        """Decides whether a message is traced, and returns its traceparent and its trail.

        Args:
            trace: the traceparent that it came with, checked; or ``""``.
            trail: takes its route, if its sender asked for that.
            now: the exchange's time.
        """
        spans = self.recorder.begin(trace, now) if self.recorder is not None else None
        if spans is None:
            return trace, trail
        if trail is None:
            trail = Trail(told=False)
        trail.spans = spans
        return spans.traceparent(), trail

    def new(self) -> str:
        """Returns a number's stand-in for a message without a request; its letter keeps it apart from numbers."""
        self._last += 1
        return f"f{self._last:0{DIGITS - 1}x}"

    def whole(self, trace: str) -> str:
        """Returns the traceparent for a number or its stand-in; one that is whole already as it is."""
        return trace if len(trace) > DIGITS else f"{self._prefix}{trace:0>{DIGITS}}{self._suffix}"

    def of(self, envelope: Envelope, place: int = 0) -> str:
        """Returns a message's traceparent: the one that came with it, or its own.

        Args:
            envelope: the message.
            place: the place of the step that it goes out with; of a traced message, each step has its own.
        """
        trail = envelope.trail
        if trail is not None and trail.spans is not None:
            return trail.spans.traceparent(place)
        if not envelope.trace:
            envelope.trace = self.new()
        return self.whole(envelope.trace)
