"""The W3C traceparents of messages that came without one (docs/protocol.md, section 7.5).

Nothing is formatted for a message: the id of its first request, which is a number, ends the trace's id, behind digits
that are the same from start to stop. What begins a frame is then ``head``, that id, ``tail``, and the id once more.

The parent's id is the same for all: a message that comes with a traceparent is passed on with it, as W3C asks of those
who record no spans, so no two steps of a trace have theirs from this server. Where ``traced`` is there, some messages
are traced, and have ids of their own from :mod:`bester.core.spans`.
"""

from __future__ import annotations

from bester.core.spans import Traced
from bester.protocol import frames

DIGITS = 13
"""Of a trace's 32 digits, those for the number: enough for 6 years of 50,000 messages in each second."""
SHARED_DIGITS = 32 - DIGITS + 16


class Traces:
    """Makes them.

    Args:
        digits: the 35 hexadecimal digits that all of them share; random, else they repeat after a restart.
        traced: traces some messages; of the others, those who get them learn that they are not traced.
    """

    __slots__ = ("_last", "_prefix", "_suffix", "head", "part_head", "part_tail", "tail", "traced", "until")

    def __init__(self, digits: str, traced: Traced | None = None) -> None:
        self.traced = traced
        self._prefix = f"00-{digits[: 32 - DIGITS]}"
        self._suffix = f"-{digits[32 - DIGITS : SHARED_DIGITS]}-{'01' if traced is None else '00'}"
        self._last = 0
        self.tail = frames.trace_tail(self._suffix)
        self.head = b""
        """Both as :func:`bester.protocol.frames.traced_request` takes them."""
        self.part_tail = frames.trace_part_tail(self._suffix)
        self.part_head = b""
        """The same for :func:`bester.protocol.frames.request_head`: what stands before and after the id."""
        self.until = 0
        """The first number that is longer: :meth:`widen` before it is used."""
        self.widen(1)

    def widen(self, number: int) -> None:
        """Numbers are as long as this one from now on."""
        length = len(str(number))
        start = f"{self._prefix}{'0' * (DIGITS - length)}"
        self.head = frames.trace_head(start)
        self.part_head = frames.trace_part_head(start)
        self.until = 10**length

    def new(self) -> str:
        """Returns a number's stand-in for a message without a request; its letter keeps it apart from numbers."""
        self._last += 1
        return f"f{self._last:0{DIGITS - 1}x}"

    def whole(self, trace: str) -> str:
        """Returns the traceparent for a number or its stand-in; one that is whole already as it is."""
        return trace if len(trace) > DIGITS else f"{self._prefix}{trace:0>{DIGITS}}{self._suffix}"
