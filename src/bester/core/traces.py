"""The W3C traceparents of messages (docs/protocol.md, section 7.5), and whether some of them are traced.

For a message that came without a traceparent nothing is formatted. The id of its first request, a number, is the end of
the trace's id; the digits before it are constant while the server runs. So a frame begins with ``head``, the number,
``tail``, and the number once more.

All messages have one parent id. A message that comes with a traceparent is passed on with it, as W3C asks of servers
that record no spans, so no two steps of a trace have their parent from this server. While tracing is ``on``, a recorder
chooses some messages, which have ids of their own (:mod:`bester.core.spans`).
"""

from __future__ import annotations

from bester.core.model import Envelope
from bester.core.spans import SpanRecorder
from bester.core.trail import Trail
from bester.protocol import frames

DIGITS = 13
"""How many of a trace's 32 digits the number has: enough for 6 years with 50,000 messages a second."""
SHARED_DIGITS = 32 - DIGITS + 16


class Traces:
    """Makes traceparents.

    Args:
        digits: the 35 hexadecimal digits that all of them share; random, so that none repeats after a restart.
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
        """The first number with more digits; :meth:`widen` must be called before it is used."""
        self.on = False
        """Whether messages are traced."""
        self.recorder: SpanRecorder | None = None
        self.record(None)

    def record(self, recorder: SpanRecorder | None) -> None:
        """Begins to trace the messages that a recorder chooses; None ends it.

        The traceparents of all other messages say that they are not traced.
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
        """Makes room for numbers with as many digits as this one has."""
        length = len(str(number))
        start = f"{self._prefix}{'0' * (DIGITS - length)}"
        self.head = frames.trace_head(start)
        self.part_head = frames.trace_part_head(start)
        self.until = 10**length

    def begin(self, trace: str, trail: Trail | None, now: float) -> tuple[str, Trail | None]:
        """Decides whether a message is traced, and returns its traceparent and its trail.

        Args:
            trace: the traceparent that it came with, checked; or ``""``.
            trail: records its route, if its sender asked for it.
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
        """Returns a stand-in for the number of a message without a request; a letter distinguishes it from numbers."""
        self._last += 1
        return f"f{self._last:0{DIGITS - 1}x}"

    def whole(self, trace: str) -> str:
        """Returns the traceparent of a number or its stand-in; returns a traceparent as it is."""
        return trace if len(trace) > DIGITS else f"{self._prefix}{trace:0>{DIGITS}}{self._suffix}"

    def of(self, envelope: Envelope, place: int = 0) -> str:
        """Returns a message's traceparent: the one that came with it, or its own.

        Args:
            envelope: the message.
            place: the place of the step with which it goes out; each step of a traced message has its own.
        """
        trail = envelope.trail
        if trail is not None and trail.spans is not None:
            return trail.spans.traceparent(place)
        if not envelope.trace:
            envelope.trace = self.new()
        return self.whole(envelope.trace)
