"""A handler's standard input and output (docs/protocol.md, section 6.11): lines, and answers without ids.

A line is a frame's body and a line end. In a body, line ends can stand only as white space between JSON's tokens, where
a space says as much.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

from bester.errors import Malformed, TooLarge
from bester.protocol.framing import PREFIX, Framer
from bester.protocol.messages import BadAnswer, HandlerMessage, decode_classic, decode_handler_message
from bester.protocol.strictjson import EXTRA_DEPTH, MAX_DEPTH, decode

_unpack = PREFIX.unpack_from
_SPACES: Final = bytes.maketrans(b"\r\n", b"  ")
_object = msgspec.json.Decoder(dict[str, Raw])


def as_lines(frames: list[bytes]) -> bytes:
    """Returns whole frames as lines."""
    data = b"".join(frames)
    lines: list[bytes] = []
    position = 0
    while position < len(data):
        (size,) = _unpack(data, position)
        position += PREFIX.size
        lines.append(data[position : position + size].translate(_SPACES))
        position += size
    return b"".join([line + b"\n" for line in lines])


class LineFramer(Framer):
    """Cuts a stream into lines, as :class:`Framer` does into frames; empty lines are passed over."""

    __slots__ = ("_searched",)

    def __init__(self, max_size: int) -> None:
        super().__init__(max_size)
        self._searched = 0
        """How many of the buffered bytes have no line end among them."""

    def feed(self, data: bytes, at_most: int = -1) -> list[bytes]:
        bodies: list[bytes] = []
        if self.failure is None:
            self._rest += data
            self._cut(bodies, at_most)
        self.whole = len(bodies)
        return bodies

    def _cut(self, bodies: list[bytes], at_most: int) -> None:
        rest = self._rest
        self.looked_at = len(rest)
        position = 0
        while at_most:
            end = rest.find(b"\n", max(position, self._searched))
            size = (len(rest) if end < 0 else end) - position
            if size > self.max_size:
                self.failure = TooLarge(f"a line of at least {size} bytes; at most {self.max_size} are allowed")
                position = len(rest)
            if end < 0 or self.failure is not None:
                self._searched = len(rest) - position
                break
            line = bytes(rest[position:end])
            position = end + 1
            self._searched = 0
            if line.strip():
                bodies.append(line)
                at_most -= 1
        self.taken += position
        if position:
            del rest[:position]
        self.buffered = len(rest)


def read_answer(body: bytes) -> HandlerMessage | str:
    """Decodes what a handler has written; its answer may have no id. A string is the id of a ``detach``.

    Raises:
        BadAnswer: an answer of a wrong form; the error's id is empty if the answer has none.
        Malformed: no JSON object.
    """
    try:
        return decode_classic(body)
    except BadAnswer as error:
        decode(_object, body, MAX_DEPTH + EXTRA_DEPTH)
        try:
            return decode_handler_message(body)
        except Malformed:
            raise error from None
